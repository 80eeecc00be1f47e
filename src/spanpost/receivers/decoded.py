"""The contents of a payload, and the rules that convert raw spans and records to observations any store can
keep.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from spanpost import semconv as c
from spanpost.model.errors import SpanpostError
from spanpost.model.observations import MAX_NS, NO_ORIGIN, Observation, Origin, Part, Repair, Status, log_index
from spanpost.readers import is_silent
from spanpost.receivers.thrown import exceptions_of, thrown_of
from spanpost.text.repair import mend, mend_text, mend_value

MAX_EVENTS = 128
MAX_LINKS = 32
#: Work between two pauses of a decoder: attributes and values read; a span, a record or an event counts
#: `EACH`.
STRIDE: Final = 2000
EACH: Final = 8
#: Bound once: looking up an enum member is slow.
_ENDED, _STARTED, _EVENT, _UNSET = Part.ENDED, Part.STARTED, Part.EVENT, Status.UNSET
#: The attribute that marks Logfire's early copy of a span.
PENDING = "logfire.span_type"
STATUSES = (Status.UNSET, Status.OK, Status.ERROR)
_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}


class Undecodable(SpanpostError, ValueError):
    """The whole payload cannot be read; the message says why. Sending it again will not help."""


class Spoiled(NamedTuple):
    """An unreadable span, log record or metric, or several (`entries`) of one resource, as a request; and
    the error.

    The error has no traceback, which would keep the decoder's frames alive.
    """

    body: bytes
    error: Undecodable
    entries: int = 1


class Decoded(msgspec.Struct, kw_only=True):
    """The observations of a payload or of a part of it, and counts of unreadable input by reason."""

    observations: list[Observation] = []
    dropped: dict[str, int] = {}
    #: Number of metric data points that no dialect reads.
    metric_points: int = 0
    spoiled: list[Spoiled] = []

    def lose(self, reason: str, count: int = 1) -> None:
        """Count unreadable input."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def spoil(self, entry: bytes, error: Undecodable, entries: int = 1) -> None:
        """Keep an unreadable entry."""
        self.spoiled.append(Spoiled(entry, error.with_traceback(None), entries))

    def add(self, more: Decoded) -> None:
        """Add the contents of another one."""
        self.observations += more.observations
        self.metric_points += more.metric_points
        self.spoiled += more.spoiled
        for reason, count in more.dropped.items():
            self.lose(reason, count)


class DecodedEvent(msgspec.Struct, kw_only=True):
    """A span event as sent."""

    name: str = ""
    at_ns: int = 0
    attributes: dict[str, Any] = {}
    #: The attributes are known to need no mending.
    is_clean: bool = False


class DecodedSpan(msgspec.Struct, kw_only=True):
    """A span as sent, not repaired."""

    trace_id: bytes = b""
    span_id: bytes = b""
    parent_id: bytes = b""
    name: str = ""
    kind: int = 0
    start_ns: int = 0
    end_ns: int = 0
    status: int = 0
    status_message: str = ""
    attributes: dict[str, Any] = {}
    #: Number of attributes that the decoder did not read; then `attributes` is empty.
    unread: int = 0
    #: The attributes are known to need no mending.
    is_clean: bool = False
    events: list[DecodedEvent] = []
    #: Number of events beyond `MAX_EVENTS` that the decoder did not read.
    more_events: int = 0
    links: list[tuple[bytes, bytes]] = []


class DecodedRecord(msgspec.Struct, kw_only=True):
    """A log record as sent, not repaired."""

    trace_id: bytes = b""
    span_id: bytes = b""
    name: str = ""
    at_ns: int = 0
    observed_ns: int = 0
    severity: int = 0
    body: Any = None
    attributes: dict[str, Any] = {}


def origin_of(resource: dict[str, Any], scope: str, version: str) -> Origin:
    """Return the origin of a repaired resource and an unrepaired scope."""
    if not resource and not scope:
        return NO_ORIGIN
    return Origin(resource=resource, scope=mend_text(scope, 256)[0], scope_version=mend_text(version, 256)[0])


def is_strange(scope: str, keys: tuple[str, ...]) -> bool:
    """Whether the attributes of a span with an id can stay unread: their values would not be recorded.

    For a span without an id they are read, because its id is derived from its content.
    """
    return is_silent(scope, keys) and PENDING not in keys


def is_whole(trace_id: bytes, span_id: bytes) -> bool:
    """Whether a span's ids are valid."""
    return len(trace_id) == 16 and len(span_id) == 8 and trace_id != _NO_TRACE and span_id != NO_SPAN


def add_span(decoded: Decoded, span: DecodedSpan, origin: Origin, tenant: str, repairs: int = 0) -> None:
    """Append the observations of a span: itself, then one for each of its events."""
    attributes, unread = span.attributes, span.unread
    if not span.is_clean and not unread:
        if is_whole(span.trace_id, span.span_id) and is_strange(origin.scope, tuple(attributes)):
            attributes, unread = {}, len(attributes)
        else:
            attributes, mended = mend(attributes)
            repairs |= mended
    name, mended = mend_text(span.name, 1024)
    repairs |= mended
    message = ""
    if span.status_message:
        message, mended = mend_text(span.status_message)
        repairs |= mended
    part = _ENDED
    start, end = span.start_ns, span.end_ns
    trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_id
    if attributes.get(PENDING) == "pending_span":
        # Logfire's early copy has its own id; its parent is the started span.
        part, end = _STARTED, 0
        span_id, parent_id = parent_id, _unhex(attributes.get("logfire.pending_parent_id"), 8)
    elif end == 0:
        part = _STARTED
    if not 0 < start <= MAX_NS or not 0 <= end <= MAX_NS or (end and end < start):
        repairs |= Repair.TIME
        start, end = min(max(start, 0), MAX_NS), min(max(end, 0), MAX_NS)
    if not is_whole(trace_id, span_id):
        repairs |= Repair.SYNTHETIC_ID
        seed = _seed(name, str(start), str(end), message, trace_id.hex(), span_id.hex(), parent_id.hex(), attributes)
        trace_id, span_id = _id(trace_id, 16, seed), _id(span_id, 8, seed)
    if parent_id:
        if len(parent_id) != 8:
            repairs |= Repair.SYNTHETIC_ID
            parent_id = _id(parent_id, 8, b"")
        elif parent_id == NO_SPAN:
            parent_id = b""
    links: tuple[tuple[bytes, bytes], ...] = ()
    if span.links:
        links = tuple(link for link in span.links[:MAX_LINKS] if len(link[0]) == 16 and len(link[1]) == 8)
        if len(links) < len(span.links):
            repairs |= Repair.TRUNCATED
    decoded.observations.append(
        Observation(
            part=part,
            trace_id=trace_id,
            span_id=span_id,
            tenant=tenant,
            parent_id=parent_id,
            name=name,
            kind=span.kind if 0 <= span.kind <= 5 else 0,
            at_ns=end or start,
            start_ns=start,
            end_ns=end,
            status=STATUSES[span.status] if 0 <= span.status <= 2 else _UNSET,
            status_message=message,
            attributes=attributes,
            origin=origin,
            links=links,
            exceptions=exceptions_of(span.events[:MAX_EVENTS]),
            thrown=thrown_of(span.events[:MAX_EVENTS]),
            repairs=repairs | (Repair.TRUNCATED if len(span.events) > MAX_EVENTS or span.more_events else 0),
            unread=unread,
        )
    )
    if span.events:
        add_events(decoded, span.events, span.more_events, decoded.observations[-1])


def add_events(decoded: Decoded, events: list[DecodedEvent], more: int, span: Observation) -> None:
    """Append the observations of a span's events; `more`: number of events that the decoder did not read."""
    if more or len(events) > MAX_EVENTS:
        decoded.lose("too_many_events", more + max(len(events) - MAX_EVENTS, 0))
        events = events[:MAX_EVENTS]
    span_ns = span.start_ns or span.end_ns
    equals: dict[tuple[str, int], int] = {}
    for index, event in enumerate(events):
        try:
            seen = _event(event, index, span.trace_id, span.span_id, span_ns, span.origin, span.tenant)
            if 0 < span.end_ns < seen.at_ns:  # LangSmith stamps events at export: cap at the span's end
                seen = msgspec.structs.replace(seen, end_ns=span.end_ns)
            ordinal = equals[seen.name, seen.at_ns] = equals.get((seen.name, seen.at_ns), -1) + 1
            decoded.observations.append(msgspec.structs.replace(seen, ordinal=ordinal) if ordinal else seen)
        except Exception:
            decoded.lose("bad_event")


def _event(
    event: DecodedEvent, index: int, trace_id: bytes, span_id: bytes, span_ns: int, origin: Origin, tenant: str
) -> Observation:
    attributes, repairs = (event.attributes, 0) if event.is_clean else mend(event.attributes)
    name, mended = mend_text(event.name, 1024)
    repairs |= mended
    at_ns = event.at_ns
    if not 0 < at_ns <= MAX_NS:
        repairs |= Repair.TIME
        at_ns = min(at_ns, MAX_NS) if at_ns > 0 else span_ns
    return Observation(
        part=_EVENT,
        trace_id=trace_id,
        span_id=span_id,
        tenant=tenant,
        index=index,
        name=name,
        at_ns=at_ns,
        attributes=attributes,
        origin=origin,
        repairs=repairs,
    )


def add_record(decoded: Decoded, record: DecodedRecord, origin: Origin, tenant: str, repairs: int = 0) -> None:
    """Append the observation of a log record; the record of a started span becomes that span's STARTED
    observation.
    """
    raw = record.attributes
    name = record.name or raw.get("event.name") or raw.get("event_name") or ""
    name, mended = mend_text(name if isinstance(name, str) else "", 1024)
    repairs |= mended
    at_ns = record.at_ns or record.observed_ns
    if not 0 < at_ns <= MAX_NS:
        repairs |= Repair.TIME
        at_ns = min(max(at_ns, 0), MAX_NS)
    trace_id, span_id = record.trace_id, record.span_id
    if trace_id or span_id:
        if trace_id == _NO_TRACE[: len(trace_id)] or span_id == NO_SPAN[: len(span_id)]:
            # Some senders write zeros for "outside any span"; half a context counts as none.
            trace_id = span_id = b""
        elif len(trace_id) != 16 or len(span_id) != 8:
            repairs |= Repair.SYNTHETIC_ID
            trace_id, span_id = _id(trace_id, 16, b""), _id(span_id, 8, b"")
    live: dict[str, Any] = {}
    if c.PRODUCER in raw or c.SEQ in raw:
        raw = dict(raw)
        producer, seq = raw.pop(c.PRODUCER, None), _number(raw.pop(c.SEQ, None))
        live["producer"] = mend_text(producer, 256)[0] if isinstance(producer, str) else ""
        live["seq"] = seq if 0 <= seq <= MAX_NS else 0
    if name == c.EVENT_SPAN_STARTED and span_id:
        decoded.observations.append(_started(trace_id, span_id, at_ns, raw, origin, tenant, repairs, live))
        return
    attributes, mended = mend(raw)
    repairs |= mended
    ordinal = attributes.get(c.ORDINAL)
    body, mended = mend_value(record.body) if record.body is not None else (None, 0)
    observation = Observation(
        part=Part.LOG,
        trace_id=trace_id,
        span_id=span_id,
        tenant=tenant,
        name=name,
        at_ns=at_ns,
        attributes=attributes,
        origin=origin,
        body=body,
        severity=record.severity if 0 <= record.severity <= 24 else 0,
        repairs=repairs | mended,
        **live,
    )
    observation = msgspec.structs.replace(observation, index=log_index(observation))
    if type(ordinal) is int and 0 < ordinal <= MAX_NS:
        # The ordinal stays in the index, which distinguishes equal events, and is removed from the
        # attributes.
        rest = {k: v for k, v in attributes.items() if k != c.ORDINAL}
        observation = msgspec.structs.replace(observation, ordinal=ordinal, attributes=rest)
    decoded.observations.append(observation)


def _started(
    trace_id: bytes,
    span_id: bytes,
    at_ns: int,
    raw: dict[str, Any],
    origin: Origin,
    tenant: str,
    repairs: int,
    live: dict[str, Any],
) -> Observation:
    # Remove the envelope first: the span's own attributes are then repaired as in any other form.
    envelope = {k: raw[k] for k in c.ENVELOPE if k in raw}
    attributes, mended = mend({k: v for k, v in raw.items() if k not in c.ENVELOPE} if envelope else raw)
    name, more = mend_text(_text(envelope.get(c.SPAN_NAME)), 1024)
    message, again = mend_text(_text(envelope.get(c.SPAN_STATUS_MESSAGE)))
    kind_value, start = envelope.get(c.SPAN_KIND), _number(envelope.get(c.SPAN_START))
    kind = (
        _KINDS.get(kind_value.lower().removeprefix("span_kind_"), 0)
        if isinstance(kind_value, str)
        else _number(kind_value)
    )
    status = _number(envelope.get(c.SPAN_STATUS))
    start_ns = start if 0 < start <= MAX_NS else at_ns
    return Observation(
        part=Part.STARTED,
        trace_id=trace_id,
        span_id=span_id,
        tenant=tenant,
        parent_id=_unhex(envelope.get(c.SPAN_PARENT_ID), 8),
        name=name,
        kind=kind if 0 <= kind <= 5 else 0,
        # A later report of a live span has its own time, never before the start.
        at_ns=max(at_ns, start_ns),
        start_ns=start_ns,
        status=STATUSES[status] if 0 <= status <= 2 else Status.UNSET,
        status_message=message,
        attributes=attributes,
        links=_links(envelope.get(c.SPAN_LINKS)),
        origin=origin,
        repairs=repairs | mended | more | again,
        **live,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    """Return an integer, also from text (shells send only text, JSON holds nanoseconds badly); -1: anything
    else.
    """
    if type(value) is int:
        return value
    if type(value) is float:  # all numbers of JavaScript
        return int(value) if value.is_integer() else -1
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else -1


def _links(texts: Any) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for text in texts[:MAX_LINKS] if isinstance(texts, list) else ():
        trace, _, span = text.partition("-") if isinstance(text, str) else ("", "", "")
        if (trace_id := _unhex(trace, 16)) and (span_id := _unhex(span, 8)):
            found.append((trace_id, span_id))
    return tuple(found)


_NO_TRACE = b"\0" * 16
NO_SPAN = b"\0" * 8


def _unhex(text: Any, size: int) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except (TypeError, ValueError):
        return b""
    return raw if len(raw) == size and any(raw) else b""


def _seed(*parts: Any) -> bytes:
    return blake2b(msgspec.msgpack.encode(parts, order="deterministic"), digest_size=16).digest()


def _id(sent: bytes, size: int, seed: bytes) -> bytes:
    # Equal ids of a wrong length stay equal; a missing id is derived from the content.
    if len(sent) == size and any(sent):
        return sent
    return blake2b(sent if any(sent) else seed + bytes((size,)), digest_size=size).digest()
