"""Converts OTLP protobuf bodies to spans and records. Needs ``opentelemetry-proto`` (the extra
``spanpost[otlp]``).

Parsing takes a tenth of a body's time and walking its attributes the rest, so each attribute is looked up by
its bytes (`otlp_pairs`). After a span that was not an agent's, the next span's attribute names are compared
first: if they are the same, no value is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from spanpost.model.observations import MAX_NS, Observation, Origin, Part, Repair
from spanpost.receivers.decoded import (
    EACH,
    MAX_EVENTS,
    MAX_LINKS,
    NO_SPAN,
    PENDING,
    STATUSES,
    STRIDE,
    Decoded,
    DecodedEvent,
    DecodedRecord,
    DecodedSpan,
    Undecodable,
    add_events,
    add_record,
    add_span,
    is_strange,
    is_whole,
    origin_of,
)
from spanpost.receivers.elements import Elements
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.otlp_classes import lazy_point, lazy_request
from spanpost.receivers.otlp_pairs import Pairs
from spanpost.receivers.points import DataPoint, add_point, is_meter
from spanpost.receivers.protobuf_pieces import wrap
from spanpost.receivers.thrown import exceptions_of, thrown_of
from spanpost.text.repair import mend

#: Fields of the repeated messages: resources, scopes, and entries.
LEVELS: Final = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
}
_ENDED = Part.ENDED


def parse(signal: str, body: bytes) -> Any:
    """Return the parsed request, with text, attributes and data points as bytes; raises `Undecodable`."""
    try:
        return lazy_request(signal).FromString(body)
    except Exception as error:  # protobuf's DecodeError
        raise Undecodable(f"not an OTLP {signal} request in protobuf: {error}") from None


def why_not(signal: str, body: bytes) -> str:
    """Return why a request cannot be parsed; empty: it can."""
    try:
        lazy_request(signal).FromString(body)
    except Exception as error:  # protobuf's DecodeError
        return f"not an OTLP {signal} request in protobuf: {error}"
    return ""


def elements_of(signal: str, body: bytes, most: int) -> int:
    """Return the number of resources, scopes and entries of a request; 0 if it cannot be parsed or has more
    than `most`. Builds all of them: for small bodies only.
    """
    try:
        parsed = lazy_request(signal).FromString(body)
    except Exception:  # protobuf's DecodeError
        return 0
    outer, middle, inner = LEVELS[signal]
    found = len(resources := getattr(parsed, outer))
    if found > most:
        return 0
    for resource in resources:
        scopes = getattr(resource, middle)
        found += len(scopes)
        if found > most:
            return 0
        found += sum(len(getattr(scope, inner)) for scope in scopes)
    return found if found <= most else 0


def read_traces(body: bytes, tenant: str, elements: Elements) -> Iterator[Decoded]:
    """Yield the observations of a traces request, a few milliseconds of work at a time."""
    parsed = parse("traces", body)
    decoded, pairs, work = Decoded(), Pairs(), 0
    for resource_spans in parsed.resource_spans:
        pairs.begin()
        try:
            resource = mend(pairs.attributes(resource_spans.resource.attributes))[0]
        except Undecodable as error:
            count = sum(len(each.spans) for each in resource_spans.scope_spans)
            decoded.spoil(wrap(1, resource_spans.SerializeToString()), error, count)
            continue
        for scope_spans in resource_spans.scope_spans:
            origin = _origin(resource, scope_spans.scope, pairs)
            strange: dict[tuple[bytes, ...], int] = {}
            work += EACH
            for span in scope_spans.spans:
                pairs.is_utf8, pairs.values_read = True, 0
                try:
                    work += _take(decoded, span, pairs, strange, origin, tenant, elements)
                except Undecodable as error:
                    decoded.spoil(_alone(span), error)
                    work += EACH + len(span.attributes)
                except BodyTooLarge:
                    raise
                except Exception:
                    decoded.lose("bad_span")
                    work += EACH + len(span.attributes)
                if work > STRIDE:
                    yield decoded
                    decoded, work = Decoded(), 0
    yield decoded


def read_logs(body: bytes, tenant: str, elements: Elements) -> Iterator[Decoded]:
    """Yield the observations of a logs request, as `read_traces` does."""
    parsed = parse("logs", body)
    decoded, pairs, work = Decoded(), Pairs(), 0
    for resource_logs in parsed.resource_logs:
        pairs.begin()
        try:
            resource = mend(pairs.attributes(resource_logs.resource.attributes))[0]
        except Undecodable as error:
            count = sum(len(each.log_records) for each in resource_logs.scope_logs)
            decoded.spoil(wrap(1, resource_logs.SerializeToString()), error, count)
            continue
        for scope_logs in resource_logs.scope_logs:
            origin = _origin(resource, scope_logs.scope, pairs)
            work += EACH
            for record in scope_logs.log_records:
                pairs.begin()
                try:
                    read = DecodedRecord(
                        trace_id=record.trace_id,
                        span_id=record.span_id,
                        name=pairs.text(record.event_name),
                        at_ns=record.time_unix_nano,
                        observed_ns=record.observed_time_unix_nano,
                        severity=record.severity_number,
                        body=pairs.value(record.body),
                        attributes=pairs.attributes(record.attributes),
                    )
                    add_record(decoded, read, origin, tenant, 0 if pairs.is_utf8 else Repair.NOT_UTF8)
                except Undecodable as error:
                    decoded.spoil(_alone(record), error)
                except Exception:
                    decoded.lose("bad_record")
                work += EACH + len(record.attributes) + pairs.values_read
                if work > STRIDE:
                    yield decoded
                    decoded, work = Decoded(), 0
    yield decoded


def read_metrics(body: bytes, tenant: str, elements: Elements) -> Iterator[Decoded]:
    """Yield the observations of data points that a dialect reads, like `read_traces`; count the others."""
    parsed = parse("metrics", body)
    decoded, pairs, work = Decoded(), Pairs(), 0
    for resource_metrics in parsed.resource_metrics:
        resource: dict[str, Any] | None = None
        for scope_metrics in resource_metrics.scope_metrics:
            origin = None
            for metric in scope_metrics.metrics:
                work += 1
                kind = metric.WhichOneof("data")
                if not kind:
                    continue
                data = getattr(metric, kind)
                pairs.begin()
                name = pairs.text(metric.name)
                if kind != "sum" or not is_meter(name):
                    decoded.metric_points += len(data.data_points)
                    continue
                elements.take(len(data.data_points))
                for raw in data.data_points:
                    pairs.begin()
                    try:
                        if resource is None:
                            resource = mend(pairs.attributes(resource_metrics.resource.attributes))[0]
                        if origin is None:
                            origin = _origin(resource, scope_metrics.scope, pairs)
                        point = lazy_point().FromString(raw)
                        add_point(decoded, name, data.aggregation_temporality, _point(point, pairs), origin, tenant)
                    except Exception:
                        decoded.lose("bad_point")
                    work += EACH
                    if work > STRIDE:
                        yield decoded
                        decoded, work = Decoded(), 0
    yield decoded


def _origin(resource: dict[str, Any], scope: Any, pairs: Pairs) -> Origin:
    return origin_of(resource, pairs.text(scope.name), pairs.text(scope.version))


def _alone(entry: Any) -> bytes:
    """Return one span or record as its own request, without resource and scope."""
    return wrap(1, wrap(2, wrap(2, entry.SerializeToString())))


def _point(point: Any, pairs: Pairs) -> DataPoint:
    kind = point.WhichOneof("value")
    return DataPoint(
        start_ns=point.start_time_unix_nano,
        at_ns=point.time_unix_nano,
        value=getattr(point, kind) if kind else None,
        flags=point.flags,
        attributes=pairs.attributes(point.attributes),
    )


def _take(
    decoded: Decoded,
    span: Any,
    pairs: Pairs,
    strange: dict[tuple[bytes, ...], int],
    origin: Origin,
    tenant: str,
    elements: Elements,
) -> int:
    """Append the observations of a span; return the amount of work.

    `strange`: sets of attribute names that marked spans of the scope as not an agent's. A plain span, as
    nearly all are, is converted here, with the same result as `add_span`.
    """
    raw, trace_id, span_id = span.attributes, span.trace_id, span.span_id
    has_ids = is_whole(trace_id, span_id)
    attributes: dict[str, Any] = {}
    unread, is_clean = 0, False
    if strange and has_ids:
        unread = strange.get(_heads(raw), 0)
    if not unread:
        attributes = pairs.attributes(raw)
        is_clean = pairs.is_clean
        if has_ids and is_strange(origin.scope, tuple(attributes)):
            attributes, unread = {}, len(attributes)
            names = _heads(raw)
            if all(name[0] == 0x0A and name[1] < 128 for name in names):
                strange[names] = unread
    parent_id, name, kind, links = span.parent_span_id, pairs.text(span.name), span.kind, span.links
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    status, sent = span.status, span.events
    code, message = status.code, status.message
    if message:
        message = pairs.text(message)
    more, events = 0, []
    work = EACH + len(raw)
    if sent:
        count = len(sent)
        if count > MAX_EVENTS:
            count, more = MAX_EVENTS, count - MAX_EVENTS
        elements.take(count)
        events = [_event(e, pairs) for e in (sent[:MAX_EVENTS] if more else sent)]
        work += EACH * count
    if (
        (is_clean or unread)
        and has_ids
        and 0 < start <= end <= MAX_NS
        and (not parent_id or (len(parent_id) == 8 and parent_id != NO_SPAN))
        and not (links or message or more)
        and pairs.is_utf8
        and len(name) <= 1024
        and name.isascii()
        and "\0" not in name
        and 0 <= kind <= 5
        and 0 <= code <= 2
        and PENDING not in attributes
    ):
        seen = Observation(
            part=_ENDED,
            trace_id=trace_id,
            span_id=span_id,
            tenant=tenant,
            parent_id=parent_id,
            name=name,
            kind=kind,
            at_ns=end,
            start_ns=start,
            end_ns=end,
            status=STATUSES[code],
            attributes=attributes,
            origin=origin,
            exceptions=exceptions_of(events) if events else 0,
            thrown=thrown_of(events) if events else (),
            unread=unread,
        )
        decoded.observations.append(seen)
        if events:
            add_events(decoded, events, 0, seen)
        return work + pairs.values_read
    read = DecodedSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        kind=kind,
        start_ns=start,
        end_ns=end,
        status=code,
        status_message=message or "",
        attributes=attributes,
        unread=unread,
        is_clean=is_clean,
        events=events,
        more_events=more,
        links=[(link.trace_id, link.span_id) for link in links[: MAX_LINKS + 1]] if links else [],
    )
    add_span(decoded, read, origin, tenant, 0 if pairs.is_utf8 else Repair.NOT_UTF8)
    return work + pairs.values_read


def _event(event: Any, pairs: Pairs) -> DecodedEvent:
    attributes = pairs.attributes(event.attributes)
    return DecodedEvent(
        name=pairs.text(event.name), at_ns=event.time_unix_nano, attributes=attributes, is_clean=pairs.is_clean
    )


def _heads(raw: Any) -> tuple[bytes, ...]:
    """Return the bytes of each attribute's name, if all names come first and are short; otherwise empty."""
    try:
        return tuple([pair[: pair[1] + 2] for pair in raw])
    except IndexError:
        return ()
