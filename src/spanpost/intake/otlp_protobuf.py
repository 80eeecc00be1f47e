"""OTLP protobuf bodies into spans and records. Needs ``opentelemetry-proto`` (the extra ``spanpost[otlp]``).

Of the time that a body takes, parsing is a tenth and the walk over attributes the rest: each attribute is therefore looked up
by its bytes (`otlp_pairs`). And after a span that was not an agent's the names are looked at first: where they are the same
again, no value is read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanpost.domain.observations import MAX_NS, Observation, Origin, Part, Repair
from spanpost.intake.decoded import (
    MAX_EVENTS,
    MAX_LINKS,
    NO_SPAN,
    PENDING,
    STATUSES,
    Decoded,
    Event,
    Record,
    Span,
    Undecodable,
    add_events,
    add_record,
    add_span,
    exceptions_of,
    is_strange,
    is_whole,
    origin_of,
)
from spanpost.intake.otlp_classes import request, request_of_pairs, salvaged
from spanpost.intake.otlp_pairs import Pairs, value_of
from spanpost.intake.points import Point, add_point, is_meter

_NOT_UTF8 = "\ufffd"
_ENDED = Part.ENDED


def parse(signal: str, body: bytes) -> tuple[Any, int]:
    """Return the parsed request, attributes as bytes, and the repairs that reading it took; raises `Undecodable`."""
    kind = request_of_pairs(signal)
    try:
        return kind.FromString(body), 0
    except Exception as error:  # protobuf's DecodeError, or a UnicodeDecodeError of its pure Python twin
        try:
            return kind.FromString(salvaged(request(signal), body)), Repair.NOT_UTF8
        except Exception:
            raise Undecodable(f"not an OTLP {signal} request in protobuf: {error}") from None


def decode_traces(body: bytes, tenant: str) -> Decoded:
    """Return the observations of a traces request."""
    parsed, repairs = parse("traces", body)
    decoded, pairs = Decoded(), Pairs()
    for resource_spans in parsed.resource_spans:
        resource = pairs.attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope
            origin = origin_of(resource, scope.name, scope.version)
            strange: dict[tuple[bytes, ...], int] = {}
            for span in scope_spans.spans:
                try:
                    pairs.is_utf8 = True
                    _take(decoded, span, pairs, strange, origin, tenant, repairs)
                except Undecodable:
                    raise
                except Exception:
                    decoded.lose("bad_span")
    return decoded


def decode_logs(body: bytes, tenant: str) -> Decoded:
    """Return the observations of a logs request."""
    parsed, repairs = parse("logs", body)
    decoded, pairs = Decoded(), Pairs()
    for resource_logs in parsed.resource_logs:
        resource = pairs.attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            scope = scope_logs.scope
            origin = origin_of(resource, scope.name, scope.version)
            for record in scope_logs.log_records:
                try:
                    pairs.is_utf8 = True
                    read = Record(
                        trace_id=record.trace_id,
                        span_id=record.span_id,
                        name=record.event_name,
                        at_ns=record.time_unix_nano,
                        observed_ns=record.observed_time_unix_nano,
                        severity=record.severity_number,
                        body=value_of(record.body),
                        attributes=pairs.attributes(record.attributes),
                    )
                    add_record(decoded, read, origin, tenant, (repairs and _not_utf8(read)) if pairs.is_utf8 else Repair.NOT_UTF8)
                except Undecodable:
                    raise
                except Exception:
                    decoded.lose("bad_record")
    return decoded


def decode_metrics(body: bytes, tenant: str) -> Decoded:
    """Return the observations of the data points of a metrics request that are read, and count the others."""
    parsed, _ = parse("metrics", body)
    decoded, pairs = Decoded(), Pairs()
    for resource_metrics in parsed.resource_metrics:
        origin = None
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                if not kind:
                    continue
                data = getattr(metric, kind)
                if kind != "sum" or not is_meter(metric.name):
                    decoded.metric_points += len(data.data_points)
                    continue
                scope = scope_metrics.scope
                if origin is None or origin.scope != scope.name:
                    origin = origin_of(pairs.attributes(resource_metrics.resource.attributes), scope.name, scope.version)
                for point in data.data_points:
                    try:
                        add_point(decoded, metric.name, data.aggregation_temporality, _point(point, pairs), origin, tenant)
                    except Exception:
                        decoded.lose("bad_point")
    return decoded


def _point(point: Any, pairs: Pairs) -> Point:
    kind = point.WhichOneof("value")
    return Point(
        start_ns=point.start_time_unix_nano,
        at_ns=point.time_unix_nano,
        value=getattr(point, kind) if kind else None,
        flags=point.flags,
        attributes=pairs.attributes(point.attributes),
    )


def _take(
    decoded: Decoded, span: Any, pairs: Pairs, strange: dict[tuple[bytes, ...], int], origin: Origin, tenant: str, repairs: int
) -> None:
    """Append the observations of a span.

    `strange` are the names of attributes by which spans of the scope were found not to be an agent's. What is plain, as
    nearly all spans are, is made an observation here: the same one that `add_span` would make of it.
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
    parent_id, name, kind, links = span.parent_span_id, span.name, span.kind, span.links
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    status, sent = span.status, span.events
    code, message = status.code, status.message
    more = len(sent) - MAX_EVENTS if len(sent) > MAX_EVENTS else 0
    events = [_event(e, pairs) for e in (sent[:MAX_EVENTS] if more else sent)] if sent else []
    if (
        (is_clean or unread)
        and has_ids
        and 0 < start <= end <= MAX_NS
        and (not parent_id or (len(parent_id) == 8 and parent_id != NO_SPAN))
        and not (links or message or more or repairs)
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
            unread=unread,
        )
        decoded.observations.append(seen)
        if events:
            add_events(decoded, events, 0, seen)
        return
    read = Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        kind=kind,
        start_ns=start,
        end_ns=end,
        status=code,
        status_message=message,
        attributes=attributes,
        unread=unread,
        is_clean=is_clean,
        events=events,
        more_events=more,
        links=[(link.trace_id, link.span_id) for link in links[: MAX_LINKS + 1]] if links else [],
    )
    add_span(decoded, read, origin, tenant, (repairs and _not_utf8(read)) if pairs.is_utf8 else Repair.NOT_UTF8)


def _event(event: Any, pairs: Pairs) -> Event:
    attributes = pairs.attributes(event.attributes)
    return Event(name=event.name, at_ns=event.time_unix_nano, attributes=attributes, is_clean=pairs.is_clean)


def _heads(raw: Any) -> tuple[bytes, ...]:
    """Return of each attribute the bytes that hold its name, where that stands first and is short; empty where one has none."""
    try:
        return tuple([pair[: pair[1] + 2] for pair in raw])
    except IndexError:
        return ()


def _not_utf8(read: Span | Record) -> int:
    # Which of the batch was meant is seen by the mark that the salvage left in it.
    return Repair.NOT_UTF8 if _NOT_UTF8 in msgspec.json.encode(read, enc_hook=repr).decode() else 0
