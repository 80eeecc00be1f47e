"""OTLP protobuf bodies into spans and records. Needs ``opentelemetry-proto`` (the extra ``spanpost[otlp]``).

Of the time that a body takes, parsing is a tenth and the walk over attributes the rest. So after a span that was not an
agent's the names are looked at first: where none is an agent's again, no value is read. And the walk asks for text first, and
looks at each value once: what needs no mending is not looked at again.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import msgspec

from spanpost.domain.errors import ConfigError
from spanpost.domain.observations import Repair
from spanpost.fold.mend import GOOD_KEYS, MAX_ATTRIBUTES, MAX_INT, SHORT, is_clean_list
from spanpost.intake.decoded import (
    MAX_EVENTS,
    MAX_LINKS,
    Decoded,
    Event,
    Record,
    Span,
    Undecodable,
    add_record,
    add_span,
    is_strange,
    origin_of,
)
from spanpost.intake.points import Point, add_point, is_meter

_PACKAGES = {"traces": "trace.v1.trace_service", "logs": "logs.v1.logs_service", "metrics": "metrics.v1.metrics_service"}
_REQUESTS = {"traces": "ExportTraceServiceRequest", "logs": "ExportLogsServiceRequest", "metrics": "ExportMetricsServiceRequest"}
_NOT_UTF8 = "\ufffd"


@cache
def _request(signal: str) -> Any:
    try:
        module = import_module(f"opentelemetry.proto.collector.{_PACKAGES[signal]}_pb2")
    except ImportError as error:
        raise ConfigError(
            "OTLP protobuf cannot be read: opentelemetry-proto is missing. Install it: pip install 'spanpost[otlp]'"
        ) from error
    return getattr(module, _REQUESTS[signal])


def parse(signal: str, body: bytes) -> tuple[Any, int]:
    """Return the parsed request and the repairs that reading it took; raises `Undecodable`."""
    kind = _request(signal)
    try:
        return kind.FromString(body), 0
    except Exception as error:  # protobuf's DecodeError, or a UnicodeDecodeError of its pure Python twin
        try:
            return kind.FromString(_salvaged(signal, body)), Repair.NOT_UTF8
        except Exception:
            raise Undecodable(f"not an OTLP {signal} request in protobuf: {error}") from None


def decode_traces(body: bytes, tenant: str) -> Decoded:
    """Return the observations of a traces request."""
    request, repairs = parse("traces", body)
    decoded = Decoded()
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope
            origin = origin_of(resource, scope.name, scope.version)
            name, was_strange = origin.scope, False
            for span in scope_spans.spans:
                try:
                    read = _span(span, name, repairs == 0, was_strange)
                    was_strange = read.unread > 0
                    add_span(decoded, read, origin, tenant, repairs and _not_utf8(read))
                except Exception:
                    decoded.lose("bad_span")
    return decoded


def decode_logs(body: bytes, tenant: str) -> Decoded:
    """Return the observations of a logs request."""
    request, repairs = parse("logs", body)
    decoded = Decoded()
    for resource_logs in request.resource_logs:
        resource = _attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            scope = scope_logs.scope
            origin = origin_of(resource, scope.name, scope.version)
            for record in scope_logs.log_records:
                try:
                    read = Record(
                        trace_id=record.trace_id,
                        span_id=record.span_id,
                        name=record.event_name,
                        at_ns=record.time_unix_nano,
                        observed_ns=record.observed_time_unix_nano,
                        severity=record.severity_number,
                        body=_value(record.body),
                        attributes=_attributes(record.attributes),
                    )
                    add_record(decoded, read, origin, tenant, repairs and _not_utf8(read))
                except Exception:
                    decoded.lose("bad_record")
    return decoded


def decode_metrics(body: bytes, tenant: str) -> Decoded:
    """Return the observations of the data points of a metrics request that are read, and count the others."""
    request, _ = parse("metrics", body)
    decoded = Decoded()
    for resource_metrics in request.resource_metrics:
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
                    origin = origin_of(_attributes(resource_metrics.resource.attributes), scope.name, scope.version)
                for point in data.data_points:
                    try:
                        add_point(decoded, metric.name, data.aggregation_temporality, _point(point), origin, tenant)
                    except Exception:
                        decoded.lose("bad_point")
    return decoded


def _point(point: Any) -> Point:
    kind = point.WhichOneof("value")
    return Point(
        start_ns=point.start_time_unix_nano,
        at_ns=point.time_unix_nano,
        value=getattr(point, kind) if kind else None,
        flags=point.flags,
        attributes=_attributes(point.attributes),
    )


def _span(span: Any, scope: str, is_utf8: bool, is_doubtful: bool) -> Span:
    events = span.events
    status = span.status
    pairs = span.attributes
    trace_id, span_id = span.trace_id, span.span_id
    attributes: dict[str, Any] = {}
    unread, is_clean = 0, False
    if is_doubtful and is_strange(scope, keys := tuple([pair.key for pair in pairs]), trace_id, span_id):
        unread = len(frozenset(keys))
    else:
        is_clean = _walk(pairs, attributes) and is_utf8
        if is_strange(scope, tuple(attributes), trace_id, span_id):
            attributes, unread = {}, len(attributes)
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=span.parent_span_id,
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=status.code,
        status_message=status.message,
        attributes=attributes,
        unread=unread,
        is_clean=is_clean,
        events=[
            Event(name=e.name, at_ns=e.time_unix_nano, attributes=_attributes(e.attributes))
            for e in (events if len(events) <= MAX_EVENTS else events[:MAX_EVENTS])
        ]
        if events
        else [],
        more_events=max(len(events) - MAX_EVENTS, 0) if events else 0,
        links=[(link.trace_id, link.span_id) for link in span.links[: MAX_LINKS + 1]] if span.links else [],
    )


def _walk(pairs: Any, attributes: dict[str, Any]) -> bool:
    """Fill in the attributes; return whether `mend` would surely leave them as they are. The rules are `mend`'s.

    Text and integers are looked at all at once, in their JSON: a third of the cost of asking each.
    """
    is_clean = True
    for pair in pairs:
        value = pair.value
        found = value.string_value or value.int_value
        if found:
            attributes[pair.key] = found
            continue
        found = attributes[pair.key] = _value(value)
        kind = type(found)
        if kind is list:
            if is_clean:
                is_clean = is_clean_list(found)
        elif kind is not str and kind is not bool and kind is not int and found is not None:
            is_clean = False
    if not is_clean or len(attributes) > MAX_ATTRIBUTES or not GOOD_KEYS.issuperset(attributes):
        return False
    packed = _json(attributes)
    return len(packed) <= SHORT and b"\\u0000" not in packed and _LEAST not in packed


_json = msgspec.json.Encoder().encode
#: The one integer that OTLP can hold and `mend` does not.
_LEAST = str(-MAX_INT - 1).encode()


def _attributes(pairs: Any) -> dict[str, Any]:
    attributes = {}
    for pair in pairs:
        value = pair.value
        attributes[pair.key] = value.string_value or value.int_value or _value(value)
    return attributes


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [v.string_value or v.int_value or _value(v) for v in content.values]
    if kind == "kvlist_value":
        return _attributes(content.values)
    return content


def _not_utf8(read: Span | Record) -> int:
    # Which of the batch was meant is seen by the mark that the salvage left in it.
    return Repair.NOT_UTF8 if _NOT_UTF8 in msgspec.json.encode(read, enc_hook=repr).decode() else 0


def _salvaged(signal: str, body: bytes) -> bytes:
    """Return the body with invalid UTF-8 replaced by U+FFFD; protobuf refuses a whole request for one bad string."""
    message = _lenient(signal).FromString(body)
    _clean(message, _request(signal).DESCRIPTOR)
    return bytes(message.SerializeToString())


def _clean(message: Any, strict: Any) -> None:
    for field, value in message.ListFields():
        twin = strict.fields_by_number.get(field.number)
        if twin is None:
            continue
        is_many = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        if twin.type == twin.TYPE_MESSAGE:
            for part in value if is_many else (value,):
                _clean(part, twin.message_type)
        elif twin.type == twin.TYPE_STRING:
            if is_many:
                value[:] = [_utf8(v) for v in value]
            elif _utf8(value) != value:
                setattr(message, field.name, _utf8(value))


def _utf8(raw: bytes) -> bytes:
    return raw.decode("utf-8", "replace").encode()


@cache
def _lenient(signal: str) -> Any:
    """Build the request's class anew with every string as bytes, in a pool of its own."""
    descriptor_pb2, descriptor_pool, message_factory = (
        import_module(f"google.protobuf.{name}") for name in ("descriptor_pb2", "descriptor_pool", "message_factory")
    )
    pool = descriptor_pool.DescriptorPool()
    known: set[str] = set()

    def add(file: Any) -> None:
        if file.name in known:
            return
        known.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        for message in proto.message_type:
            loosen(message)
        pool.Add(proto)

    def loosen(message: Any) -> None:
        for field in message.field:
            if field.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING:
                field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
        for nested in message.nested_type:
            loosen(nested)

    strict = _request(signal).DESCRIPTOR
    add(strict.file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(strict.full_name))
