"""Follows live spans in the worker, and reports each occurrence once.

Rules
- An event's index is its position among all events of its span, dropped ones included: the same live and at
  the end.
- Every index below `_FollowedSpan.count` was reported, or is in `gaps`: the SDK dropped that event before it
  was read, and its item is still to come (or was dropped and counted). A scan, an end, or an event that
  overtook another thread's reads past the item in hand: it reports all events that are there and remembers
  them in `reported_ahead`, so that the items still queued for them report nothing twice.
- An event that is no longer in any ring gets the oldest gap, else the next index: exact if one thread adds a
  span's events, and unique in any case.
- A span is reported as started when its item is taken, and again when a scan finds it changed. A span that
  has ended by then is not: its end contains all of it, with half the rows.

Runs in the worker's thread only; nothing here is locked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from opentelemetry.sdk.trace import Span

from spanpost import semconv as c
from spanpost.model.observations import NO_ORIGIN, Observation, Part
from spanpost.receivers.queue import Item, Loss, Losses, QueuedKind
from spanpost.receivers.spans import (
    Equals,
    Origins,
    attributes_of,
    is_ours,
    observe_event,
    observe_interruption,
    observe_log,
    observe_span,
    ring_of,
    span_key,
    time_of,
    with_log_index,
)

_MAX_GAPS = 4096
#: Ends remembered when an exporter may deliver them again: more than can wait between a span's end and its
#: export (2,048, unless ``OTEL_BSP_MAX_QUEUE_SIZE`` says otherwise). A forgotten end is reported twice;
#: recording ignores the duplicate.
_MAX_ENDS = 16_384
#: Attributes of the present state: the newest value counts, from whichever span or event.
_PRESENT = (c.STATUS, c.PROGRESS, c.ACTION, c.STEP_NAME, c.STEP_INDEX, c.STEP_COUNT, c.CONTEXT_USED, c.CONTEXT_WINDOW)


def is_plumbing(scope_name: str | None) -> bool:
    """Whether a logger's records would feed back: spanpost's own and the SDK's."""
    name = scope_name or ""
    return is_ours(name) or name == "opentelemetry" or name.startswith("opentelemetry.")


def _is_same(before: Any, now: Any) -> bool:
    return type(before) is type(now) and bool(before == now)


#: Receives each ended span with its observation.
TellEnd = Callable[[Any, Observation], None]
#: Most open root spans that a heartbeat lists.
_MAX_ROOTS = 1024


class _FollowedSpan:
    """One live span."""

    __slots__ = ("count", "equals", "gaps", "key", "reported", "reported_ahead", "span", "was_ended")

    def __init__(self, span: Any) -> None:
        self.span = span
        self.key = span_key(span)
        #: Events reported so far: the index of the next one.
        self.count = 0
        self.gaps: deque[int] = deque(maxlen=_MAX_GAPS)
        #: Content of the last STARTED observation: (name, attributes, status); None before the first.
        self.reported: tuple[Any, ...] | None = None
        #: Events reported before their item was taken, by id; holds them, so that no id is reused.
        self.reported_ahead: dict[int, Any] = {}
        #: Numbers events with equal name and time; made with the first event.
        self.equals: Equals | None = None
        #: A scan found the span ended, and no queued item could still report that.
        self.was_ended = False


class Follower:
    """Converts queued items, and scans of live spans, to observations."""

    def __init__(self, tenant: str, producer: str, losses: Losses, tell_end: TellEnd | None = None) -> None:
        self.tenant = tenant
        self._tell_end = tell_end
        self.producer = producer
        self.losses = losses
        self._origins = Origins()
        self._followed: dict[int, _FollowedSpan] = {}
        self._seq = 0
        #: Ids of the spans whose end was reported last; None: no exporter delivers ends again.
        self._ends: dict[int, None] | None = None

    def remember_ends(self) -> None:
        """Remember from now on which ends were reported."""
        if self._ends is None:
            self._ends = {}

    def __len__(self) -> int:
        return len(self._followed)

    def convert(self, item: Item) -> list[Observation]:
        """Return an item's observations; none, and one drop counted, if it cannot be read."""
        try:
            if type(item) is tuple:
                if len(item) == 2:
                    return list(self._event(*item))
                what, thing, extra = item
                if what == QueuedKind.LOG:
                    return [observe_log(thing, self._origins, self.tenant)]
                if what == QueuedKind.START:
                    return list(self._start(thing))
                if what == QueuedKind.END:
                    return list(self._end(thing, bool(extra)))
                return list(self._exported(thing))
            if isinstance(item, Span):
                return list(self._start(item))
            return list(self._end(item, False))
        except Exception:
            self.losses.count(Loss.CONVERT)
            return []

    def changed(self) -> list[Observation]:
        """Return live spans whose attributes, name or status have changed."""
        found: list[Observation] = []
        for followed in list(self._followed.values()):
            try:
                found.extend(self._changed(followed))
            except Exception:
                self.losses.count(Loss.CONVERT)
        return found

    def scan(self, *, is_drained: bool) -> list[Observation]:
        """Scan every live span for events that no hook reported, and for an end whose item was dropped.

        `is_drained`: the queue was empty just before, so that every queued end has been reported.
        """
        found: list[Observation] = []
        for span_id, followed in list(self._followed.items()):
            try:
                if followed.span.end_time is not None:
                    if is_drained and followed.was_ended:  # already at the last scan
                        del self._followed[span_id]
                        found.extend(self._finish(followed, followed.span, is_cancelled=False))
                    followed.was_ended = is_drained
                    continue
                if is_drained:  # otherwise an event could be reported before older queued items
                    found.extend(self._catch_up(followed, *ring_of(followed.span), remember=True))
            except Exception:
                self.losses.count(Loss.CONVERT)
        return found

    def interrupt(self) -> list[Observation]:
        """Report all open spans as interrupted, after everything else known of them; forget them."""
        reported: list[Observation] = []
        now = time.time_ns()
        for followed in list(self._followed.values()):
            try:
                span = followed.span
                if span.end_time is not None:
                    reported.extend(self._finish(followed, span, is_cancelled=False))
                    continue
                reported.extend(self._changed(followed))
                reported.extend(self._catch_up(followed, *ring_of(followed.span), remember=False))
                reported.append(
                    observe_interruption(
                        *followed.key,
                        str(span.name),
                        now,
                        self._origins.of(span.resource, span.instrumentation_scope),
                        self.tenant,
                        producer=self.producer,
                        seq=self._next(),
                    )
                )
            except Exception:
                self.losses.count(Loss.CONVERT)
        self._followed.clear()
        return reported

    def beat(self, interval: float) -> Observation:
        """Return the heartbeat of this process, with its open root spans; the next one follows in `interval`
        seconds.
        """
        roots: list[str] = []
        origin = NO_ORIGIN
        for followed in list(self._followed.values()):
            parent = followed.span.parent
            if parent is None or parent.span_id not in self._followed:
                trace_id, span_id = followed.key
                roots.append(f"{trace_id.hex()}-{span_id.hex()}")
                origin = self._origins.of(followed.span.resource, None)
                if len(roots) >= _MAX_ROOTS:
                    break
        return with_log_index(
            Observation(
                part=Part.LOG,
                trace_id=b"",
                span_id=b"",
                tenant=self.tenant,
                name=c.EVENT_HEARTBEAT,
                at_ns=time.time_ns(),
                attributes={c.OPEN_ROOTS: roots, c.HEARTBEAT_INTERVAL: interval},
                origin=origin,
                producer=self.producer,
                seq=self._next(),
            )
        )

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _start(self, span: Any) -> Iterable[Observation]:
        scope = span.instrumentation_scope
        if scope is not None and is_ours(scope.name):
            return ()
        followed = self._followed[span.get_span_context().span_id] = _FollowedSpan(span)
        return self._changed(followed)

    def _changed(self, followed: _FollowedSpan) -> Iterator[Observation]:
        """Report a span's present state, unless it is unchanged or the span has ended."""
        span = followed.span
        if span.end_time is not None:
            return
        attributes = attributes_of(span)
        state = (span.name, attributes, span.status)
        before = followed.reported
        if state == before:
            return
        followed.reported = state
        seen_ns = 0
        unchanged: tuple[str, ...] = ()
        if before is not None:
            # New values were set about now. Unchanged progress must not look new: an event may have reported
            # more since.
            seen_ns = time.time_ns()
            known = before[1]
            unchanged = tuple(
                name for name in _PRESENT if name in attributes and _is_same(known.get(name), attributes[name])
            )
        yield observe_span(
            span,
            Part.STARTED,
            self._origins,
            self.tenant,
            producer=self.producer,
            seq=self._next(),
            seen_ns=seen_ns,
            unchanged=unchanged,
        )

    def _event(self, span: Any, event: Any) -> Iterator[Observation]:
        span_id = span.get_span_context().span_id
        followed = self._followed.get(span_id)
        if followed is None:
            # Its START item was dropped, or its end was reported (and this event with it), or it is our own
            # span.
            if span.end_time is not None or is_ours(getattr(span.instrumentation_scope, "name", None)):
                return
            followed = self._followed[span_id] = _FollowedSpan(span)
            yield from self._changed(followed)
        if followed.reported_ahead.pop(id(event), None) is not None:
            return
        dropped, ring = ring_of(span)
        position = followed.count - dropped
        if 0 <= position < len(ring) and ring[position] is event:
            index = followed.count
            followed.count += 1
        elif (position := next((i for i, other in enumerate(ring) if other is event), -1)) >= 0:
            index = dropped + position
            yield from self._catch_up(followed, dropped, ring[:position], remember=True)
            followed.count = max(followed.count, index + 1)
        elif followed.gaps:
            index = followed.gaps.popleft()
        else:
            index = followed.count
            followed.count += 1
        yield self._observe(followed, event, index)

    def _catch_up(
        self, followed: _FollowedSpan, dropped: int, ring: Sequence[Any], *, remember: bool
    ) -> Iterator[Observation]:
        """Report the events in the ring from `count` on; events that the ring dropped unread become gaps."""
        followed.gaps.extend(range(followed.count, dropped))
        total = dropped + len(ring)
        for index in range(max(followed.count, dropped), total):
            event = ring[index - dropped]
            if remember:
                followed.reported_ahead[id(event)] = event
            yield self._observe(followed, event, index)
        followed.count = max(followed.count, total)

    def _observe(self, followed: _FollowedSpan, event: Any, index: int) -> Observation:
        span = followed.span
        origin = self._origins.of(span.resource, span.instrumentation_scope)
        if followed.equals is None:
            followed.equals = Equals()
        return observe_event(
            event,
            index,
            followed.key,
            origin,
            self.tenant,
            equals=followed.equals,
            span_ns=time_of(span.start_time)[0],
            producer=self.producer,
            seq=self._next(),
        )

    def _end(self, readable: Any, is_cancelled: bool) -> Iterator[Observation]:
        followed = self._followed.pop(readable.get_span_context().span_id, None)
        if followed is None:
            if not is_ours(getattr(readable.instrumentation_scope, "name", None)):
                self._note_end(readable.get_span_context().span_id)
                yield from self._ended(readable, is_cancelled)
            return
        yield from self._finish(followed, readable, is_cancelled=is_cancelled)

    def _finish(self, followed: _FollowedSpan, readable: Any, *, is_cancelled: bool) -> Iterator[Observation]:
        self._note_end(readable.get_span_context().span_id)
        yield from self._catch_up(followed, *ring_of(readable), remember=False)
        yield self._observe_end(readable, is_cancelled)

    def _observe_end(self, readable: Any, is_cancelled: bool) -> Observation:
        ended = observe_span(readable, Part.ENDED, self._origins, self.tenant, is_cancelled=is_cancelled)
        if self._tell_end is not None:
            self._tell_end(readable, ended)
        return ended

    def _exported(self, readable: Any) -> Iterator[Observation]:
        """Report an exported span, unless our processor has reported it, or will: the processor knows more."""
        span_id = readable.get_span_context().span_id
        if span_id not in self._followed and not self._note_end(span_id):
            yield from self._ended(readable)

    def _note_end(self, span_id: int) -> bool:
        """Note a span's end as reported; return whether it already was."""
        ends = self._ends
        if ends is None:
            return False
        if span_id in ends:
            return True
        ends[span_id] = None
        if len(ends) > _MAX_ENDS:
            del ends[next(iter(ends))]
        return False

    def _ended(self, readable: Any, is_cancelled: bool = False) -> Iterator[Observation]:
        """Report an ended span that was not followed, and its events."""
        scope = readable.instrumentation_scope
        if scope is not None and is_ours(scope.name):
            return
        origin = self._origins.of(readable.resource, scope)
        key = span_key(readable)
        dropped, ring = ring_of(readable)
        equals, span_ns = Equals(), time_of(readable.start_time)[0]
        for position, event in enumerate(ring):
            yield observe_event(event, dropped + position, key, origin, self.tenant, equals=equals, span_ns=span_ns)
        yield self._observe_end(readable, is_cancelled)
