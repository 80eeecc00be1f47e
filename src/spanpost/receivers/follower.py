"""What the worker knows of the spans it follows: what was told of each, so that each occurrence is told once.

Rules
- An event's index is its position among all events of its span, dropped ones included: the same live and at the end.
- Every index below `_Followed.count` has been told, or is in `gaps`: the SDK dropped that event before anybody looked, and its
  item is still to come (or was lost and counted). Whoever looks further than the item in hand (a look, an end, an event that
  overtook another thread's) tells all that is there and remembers it in `told_ahead`, so that the items still queued for those
  events tell nothing twice.
- An event that is in no ring any more has the oldest gap, else the next index: exact where one thread adds a span's events, and
  in any case unique.
- A span is told as started when its item is taken and again when a look finds it changed. One that has ended by then is not:
  its end says all of it, at half the rows.

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
#: Ends remembered where an exporter may hand them in again: more than wait between a span's end and its export (2,048, unless
#: ``OTEL_BSP_MAX_QUEUE_SIZE`` says otherwise). One that is forgotten is told twice, and is still one when it is recorded.
_MAX_ENDS = 16_384
#: What a span says of the moment: the newest stands, whichever span or event says it.
_NOW = (c.STATUS, c.PROGRESS, c.ACTION, c.STEP_NAME, c.STEP_INDEX, c.STEP_COUNT, c.CONTEXT_USED, c.CONTEXT_WINDOW)


def is_plumbing(scope_name: str | None) -> bool:
    """True for loggers whose records would feed back: spanpost's own and the SDK's."""
    name = scope_name or ""
    return is_ours(name) or name == "opentelemetry" or name.startswith("opentelemetry.")


def _is_same(before: Any, now: Any) -> bool:
    return type(before) is type(now) and bool(before == now)


#: Is handed each ended span beside its observation.
TellEnd = Callable[[Any, Observation], None]
#: Open roots that a heartbeat names at most.
_MAX_ROOTS = 1024


class _FollowedSpan:
    """One live span."""

    __slots__ = ("count", "equals", "gaps", "has_ended", "key", "span", "told", "told_ahead")

    def __init__(self, span: Any) -> None:
        self.span = span
        self.key = span_key(span)
        #: Events told so far: the index of the next.
        self.count = 0
        self.gaps: deque[int] = deque(maxlen=_MAX_GAPS)
        #: What the last STARTED observation showed: (name, attributes, status); None before the first.
        self.told: tuple[Any, ...] | None = None
        #: Events told before their item was taken, by identity; holds them, so that no id is used again.
        self.told_ahead: dict[int, Any] = {}
        #: Numbers of events that are equal in name and time; made with the first event.
        self.equals: Equals | None = None
        #: A look found it ended, with nothing queued any more that could say so.
        self.has_ended = False


class Follower:
    """Turns the queue's items, and looks at living spans, into observations."""

    def __init__(self, tenant: str, producer: str, losses: Losses, tell_end: TellEnd | None = None) -> None:
        self.tenant = tenant
        self._tell_end = tell_end
        self.producer = producer
        self.losses = losses
        self._origins = Origins()
        self._followed: dict[int, _FollowedSpan] = {}
        self._seq = 0
        #: Spans whose end was told, the latest ones, by id; None where no exporter hands ends in again.
        self._ends: dict[int, None] | None = None

    def remember_ends(self) -> None:
        """Remember from now on whose end was told."""
        if self._ends is None:
            self._ends = {}

    def __len__(self) -> int:
        return len(self._followed)

    def convert(self, item: Item) -> list[Observation]:
        """Return what an item tells; nothing, and one loss counted, when it cannot be read."""
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
        """Look at every living span for attributes that were set late and for a new name."""
        seen: list[Observation] = []
        for followed in list(self._followed.values()):
            try:
                seen.extend(self._changed(followed))
            except Exception:
                self.losses.count(Loss.CONVERT)
        return seen

    def look(self, *, is_drained: bool) -> list[Observation]:
        """Look at every living span: events that no hook told, an end whose item was lost.

        `is_drained`: nothing was queued just before, so that an end which was queued has been told.
        """
        seen: list[Observation] = []
        for span_id, followed in list(self._followed.items()):
            try:
                if followed.span.end_time is not None:
                    if is_drained and followed.has_ended:  # since the last look, too
                        del self._followed[span_id]
                        seen.extend(self._finish(followed, followed.span, is_cancelled=False))
                    followed.has_ended = is_drained
                    continue
                if is_drained:  # or an event would be told before what is queued of the time before it
                    seen.extend(self._catch_up(followed, *ring_of(followed.span), remember=True))
            except Exception:
                self.losses.count(Loss.CONVERT)
        return seen

    def interrupt(self) -> list[Observation]:
        """Say of every span still open that it is gone with its process, after all that is known of it; forget them."""
        told: list[Observation] = []
        now = time.time_ns()
        for followed in list(self._followed.values()):
            try:
                span = followed.span
                if span.end_time is not None:
                    told.extend(self._finish(followed, span, is_cancelled=False))
                    continue
                told.extend(self._changed(followed))
                told.extend(self._catch_up(followed, *ring_of(followed.span), remember=False))
                told.append(
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
        return told

    def beat(self, interval: float) -> Observation:
        """Return the heartbeat of this process, with its open roots; the next comes in `interval` seconds."""
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
        """Tell a span as it is now, unless that was told or it has ended."""
        span = followed.span
        if span.end_time is not None:
            return
        attributes = attributes_of(span)
        state = (span.name, attributes, span.status)
        before = followed.told
        if state == before:
            return
        followed.told = state
        seen_ns = 0
        unsaid: tuple[str, ...] = ()
        if before is not None:
            # What is new was set about now. Progress that is not new must not seem so: an event may have said more since.
            seen_ns = time.time_ns()
            known = before[1]
            unsaid = tuple(name for name in _NOW if name in attributes and _is_same(known.get(name), attributes[name]))
        yield observe_span(
            span,
            Part.STARTED,
            self._origins,
            self.tenant,
            producer=self.producer,
            seq=self._next(),
            seen_ns=seen_ns,
            unsaid=unsaid,
        )

    def _event(self, span: Any, event: Any) -> Iterator[Observation]:
        span_id = span.get_span_context().span_id
        followed = self._followed.get(span_id)
        if followed is None:
            # Its START item was lost, or its end was told (and this event with it), or it is ours.
            if span.end_time is not None or is_ours(getattr(span.instrumentation_scope, "name", None)):
                return
            followed = self._followed[span_id] = _FollowedSpan(span)
            yield from self._changed(followed)
        if followed.told_ahead.pop(id(event), None) is not None:
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
        yield self._tell(followed, event, index)

    def _catch_up(self, followed: _FollowedSpan, dropped: int, ring: Sequence[Any], *, remember: bool) -> Iterator[Observation]:
        """Tell the events from `count` on that are in the ring; what the ring has dropped unseen becomes a gap."""
        followed.gaps.extend(range(followed.count, dropped))
        total = dropped + len(ring)
        for index in range(max(followed.count, dropped), total):
            event = ring[index - dropped]
            if remember:
                followed.told_ahead[id(event)] = event
            yield self._tell(followed, event, index)
        followed.count = max(followed.count, total)

    def _tell(self, followed: _FollowedSpan, event: Any, index: int) -> Observation:
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
                self._is_told(readable.get_span_context().span_id)
                yield from self._ended(readable, is_cancelled)
            return
        yield from self._finish(followed, readable, is_cancelled=is_cancelled)

    def _finish(self, followed: _FollowedSpan, readable: Any, *, is_cancelled: bool) -> Iterator[Observation]:
        self._is_told(readable.get_span_context().span_id)
        yield from self._catch_up(followed, *ring_of(readable), remember=False)
        yield self._observe_end(readable, is_cancelled)

    def _observe_end(self, readable: Any, is_cancelled: bool) -> Observation:
        ended = observe_span(readable, Part.ENDED, self._origins, self.tenant, is_cancelled=is_cancelled)
        if self._tell_end is not None:
            self._tell_end(readable, ended)
        return ended

    def _exported(self, readable: Any) -> Iterator[Observation]:
        """Tell what an exporter was handed, unless a processor of ours told of it, or will: that one knows more."""
        span_id = readable.get_span_context().span_id
        if span_id not in self._followed and not self._is_told(span_id):
            yield from self._ended(readable)

    def _is_told(self, span_id: int) -> bool:
        """Say whether a span's end was told before; from now on it was."""
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
        """Tell an ended span and its events without having followed it."""
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
