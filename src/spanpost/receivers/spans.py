"""Converts OpenTelemetry's span and log objects to observations. Runs in the worker's thread, never in the
agent's.

Snapshots read the SDK's private containers if they exist: ``span._attributes._dict.copy()`` is atomic under
the interpreter lock and five times cheaper than the public view, which moreover is live (measured with
1.45.2).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.observations import MAX_NS, NO_ORIGIN, Observation, Origin, Part, Repair, Status, log_index
from spanpost.receivers.thrown import exception_words
from spanpost.text.repair import mend, mend_text, mend_value

_MAX_NAME = 1024
_MAX_MESSAGE = 16 * 1024
_MAX_ORIGINS = 256
_MAX_EQUALS = 256
_NO_ATTRIBUTES: dict[str, Any] = {}


#: spanpost's own scopes are never followed, except the agent helpers' scope: its spans are the agent's.
HELPERS_SCOPE = "spanpost.agent"


def is_ours(scope_name: str | None) -> bool:
    """Whether a scope is spanpost's own."""
    name = scope_name or ""
    return name == "spanpost" or (name.startswith("spanpost.") and not name.startswith(HELPERS_SCOPE))


class Origins:
    """Remembers the origin of each (resource, scope), so that the observations of one tracer share it."""

    def __init__(self) -> None:
        # Keyed by identity because Resource.__hash__ serialises the whole resource; the value keeps the
        # resource alive.
        self._known: dict[tuple[int, str, str], tuple[Any, Origin]] = {}

    def of(self, resource: Any, scope: Any) -> Origin:
        name = (getattr(scope, "name", None) or "") if scope is not None else ""
        version = (getattr(scope, "version", None) or "") if scope is not None else ""
        key = (id(resource), name, version)
        known = self._known.get(key)
        if known is not None:
            return known[1]
        attributes = getattr(resource, "attributes", None)
        if not attributes and not name:
            return NO_ORIGIN
        origin = Origin(resource=mend(dict(attributes or {}))[0], scope=name, scope_version=version)
        if len(self._known) >= _MAX_ORIGINS:
            self._known.clear()
        self._known[key] = (resource, origin)
        return origin


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return a copy of the present attributes of a span, an event or a log record."""
    container = getattr(thing, "_attributes", None)
    if container is None:
        container = getattr(thing, "attributes", None)
    if not container:
        return _NO_ATTRIBUTES
    inner = getattr(container, "_dict", container)
    if type(inner) is dict:
        return inner.copy()
    for _ in range(3):
        try:
            return dict(inner)
        except RuntimeError:  # changed during the copy, on builds without the interpreter lock
            continue
    return dict(list(inner.items()))


def ring_of(span: Any) -> tuple[int, Sequence[Any]]:
    """Return the number of events a span has dropped, and those it has.

    An event's index is dropped + position.
    """
    container = span._events if hasattr(span, "_events") else span.events
    dropped = getattr(container, "dropped", 0)
    inner = getattr(container, "_dq", container)
    if not inner:
        return dropped, ()
    for _ in range(3):
        ring = tuple(inner)
        now_dropped = getattr(container, "dropped", 0)
        if now_dropped == dropped:
            break
        dropped = now_dropped
    return dropped, ring


def span_key(span: Any) -> tuple[bytes, bytes]:
    """Return (trace id, span id)."""
    return context_key(span.get_span_context())


def context_key(context: Any) -> tuple[bytes, bytes]:
    """Return (trace id, span id) of a span context."""
    return context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")


def time_of(value: Any, otherwise: int = 0) -> tuple[int, int]:
    """Return a timestamp of any type as ns that OTLP can hold, and repair bits."""
    if type(value) is int and 0 < value <= MAX_NS:
        return value, 0
    if value is None:
        return otherwise, 0
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        return otherwise, Repair.TIME
    return (min(whole, MAX_NS) if whole > 0 else otherwise), Repair.TIME


def observe_span(
    span: Any,
    part: Part,
    origins: Origins,
    tenant: str,
    *,
    is_cancelled: bool = False,
    producer: str = "",
    seq: int = 0,
    seen_ns: int = 0,
    unchanged: Collection[str] = (),
) -> Observation:
    """Return a span's present state: not yet ended (`Part.STARTED`) or ended (`Part.ENDED`).

    `seen_ns` is the time of a later scan of a live span, `unchanged` the attributes that this scan leaves
    out.
    """
    trace_id, span_id = span_key(span)
    parent = span.parent
    raw = attributes_of(span)
    if unchanged:
        raw = {k: v for k, v in raw.items() if k not in unchanged}
    if is_cancelled and c.STATUS not in raw:
        raw = {**raw, c.SPAN_CANCELLED: True}
    attributes, repairs = mend(raw)
    name, bits = mend_text(span.name if type(span.name) is str else str(span.name), _MAX_NAME)
    repairs |= bits
    start, bits = time_of(span.start_time)
    repairs |= bits
    end, bits = time_of(span.end_time, start) if part is Part.ENDED else (0, 0)
    repairs |= bits
    status = span.status
    message, bits = mend_text(status.description or "", _MAX_MESSAGE)
    repairs |= bits
    raised = [e for e in ring_of(span)[1] if e.name == c.EVENT_EXCEPTION] if part is Part.ENDED else []
    links = span.links
    return Observation(
        part=part,
        trace_id=trace_id,
        span_id=span_id,
        tenant=tenant,
        parent_id=parent.span_id.to_bytes(8, "big") if parent is not None and parent.span_id else b"",
        name=name,
        kind=span.kind.value + 1,  # the SDK counts from INTERNAL = 0, OTLP from INTERNAL = 1
        at_ns=end or max(start, seen_ns),
        start_ns=start,
        end_ns=end,
        status=Status(status.status_code.value),
        status_message=message,
        attributes=attributes,
        origin=origins.of(span.resource, span.instrumentation_scope),
        links=tuple(context_key(link.context) for link in links if link.context is not None) if links else (),
        exceptions=len(raised),
        thrown=exception_words(attributes_of(raised[-1])) if raised else (),
        producer=producer,
        seq=seq,
        repairs=repairs,
    )


class Equals:
    """Numbers the events of one span with equal name and time, from 0: the same live and at the end."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}

    def ordinal(self, name: str, at_ns: int) -> int:
        """Return an event's number among its equals. Call it once per event, in the span's order."""
        key = (name, at_ns)
        number = self._next.pop(key, 0)
        self._next[key] = number + 1
        if len(self._next) > _MAX_EQUALS:
            del self._next[next(iter(self._next))]  # equals are neighbours: the oldest entry is finished
        return number


def observe_event(
    event: Any,
    index: int,
    key: tuple[bytes, bytes],
    origin: Origin,
    tenant: str,
    *,
    equals: Equals,
    span_ns: int,
    producer: str = "",
    seq: int = 0,
) -> Observation:
    """Return a span event; its own timestamp is copied verbatim, because it identifies the occurrence.

    `span_ns` is the start of its span, the time of an event without one.
    """
    attributes, repairs = mend(attributes_of(event))
    at_ns, bits = time_of(event.timestamp or 0, span_ns)
    repairs |= bits
    name, bits = mend_text(event.name if type(event.name) is str else str(event.name), _MAX_NAME)
    return Observation(
        part=Part.EVENT,
        trace_id=key[0],
        span_id=key[1],
        tenant=tenant,
        index=index,
        ordinal=equals.ordinal(name, at_ns),
        name=name,
        at_ns=at_ns,
        attributes=attributes,
        origin=origin,
        producer=producer,
        seq=seq,
        repairs=repairs | bits,
    )


def event_name_of(record: Any) -> str:
    """Return a log record's event name: the field, or the attribute of older instrumentations; empty: none."""
    name = getattr(record, "event_name", None)
    if not name:
        attributes = record.attributes
        name = attributes.get("event.name") if attributes else None
    return name if type(name) is str else ""


def observe_log(data: Any, origins: Origins, tenant: str) -> Observation:
    """Return a log record; its trace and span ids are copied unchecked."""
    record = data.log_record
    resource = getattr(data, "resource", None) or getattr(record, "resource", None)
    attributes, repairs = mend(attributes_of(record))
    name, bits = mend_text(event_name_of(record), _MAX_NAME)
    repairs |= bits
    at_ns, bits = time_of(record.timestamp or record.observed_timestamp)
    body, more = mend_value(record.body)
    severity = getattr(record.severity_number, "value", 0)
    return with_log_index(
        Observation(
            part=Part.LOG,
            trace_id=record.trace_id.to_bytes(16, "big") if record.trace_id else b"",
            span_id=record.span_id.to_bytes(8, "big") if record.span_id else b"",
            tenant=tenant,
            name=name,
            at_ns=at_ns,
            attributes=attributes,
            origin=origins.of(resource, data.instrumentation_scope),
            body=body,
            severity=severity if type(severity) is int and 0 <= severity <= 24 else 0,
            repairs=repairs | bits | more,
        )
    )


def observe_interruption(
    trace_id: bytes,
    span_id: bytes,
    name: str,
    at_ns: int,
    origin: Origin,
    tenant: str,
    *,
    producer: str = "",
    seq: int = 0,
) -> Observation:
    """Return the record of a span whose process ended before it."""
    return with_log_index(
        Observation(
            part=Part.LOG,
            trace_id=trace_id,
            span_id=span_id,
            tenant=tenant,
            name=c.EVENT_SPAN_INTERRUPTED,
            at_ns=at_ns,
            attributes={c.SPAN_NAME: name},
            origin=origin,
            producer=producer,
            seq=seq,
        )
    )


def with_log_index(observation: Observation) -> Observation:
    """Return the log observation with its index, the hash of its own content."""
    return msgspec.structs.replace(observation, index=log_index(observation))
