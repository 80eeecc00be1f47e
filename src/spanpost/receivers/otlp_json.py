"""Converts OTLP/JSON bodies to spans and records, as lenient as the specification requires (OTLP 1.11, "JSON
Protobuf Encoding").

Ids are hex in any case, 64-bit integers are numbers or strings, enums numbers or names, unknown fields are
ignored, missing wrappers are empty. A document that msgspec refuses (lone surrogates, invalid UTF-8,
integers of thousands of digits, NaN literals) is tried with the slower, more lenient parser of the standard
library before the body is undecodable.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import msgspec

from spanpost.model.observations import Repair
from spanpost.receivers.decoded import (
    EACH,
    MAX_EVENTS,
    MAX_LINKS,
    STRIDE,
    Decoded,
    DecodedEvent,
    DecodedRecord,
    DecodedSpan,
    Undecodable,
    add_record,
    add_span,
    origin_of,
)
from spanpost.receivers.elements import MILD
from spanpost.receivers.points import DataPoint, add_point, is_meter
from spanpost.text.repair import mend

_BOM = b"\xef\xbb\xbf"
_KINDS = {"UNSPECIFIED": 0, "INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_TEMPORALITIES = {"UNSPECIFIED": 0, "DELTA": 1, "CUMULATIVE": 2}
_STATUSES = {"UNSET": 0, "OK": 1, "ERROR": 2}
_SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}
#: The lists of a request, by signal.
LEVELS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}
#: Far below the interpreter's recursion limit, far above the depth that the repair keeps.
_DEPTH = 200


def parse(body: bytes, mild: int = MILD) -> tuple[dict[str, Any], int]:
    """Return the document and its repair bits; raises `Undecodable`.

    JSON of up to `mild` bytes need not be strict.
    """
    body = body.removeprefix(_BOM)
    repairs = 0
    if not body.strip():
        return {}, 0
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError) as refusal:
        if len(body) > mild:
            raise Undecodable(f"not OTLP/JSON: {refusal}") from None
        try:
            text = body.decode("utf-8", "replace")
            if "\ufffd" in text:
                repairs = Repair.NOT_UTF8
            texts: list[str] = []

            def integer(digits: str) -> int | str:
                read = _integer(digits)
                if isinstance(read, str):
                    texts.append(read)
                return read

            document = json.loads(text, parse_int=integer)
            if texts:
                repairs |= Repair.NUMBER
        except (ValueError, RecursionError):
            raise Undecodable(f"not OTLP/JSON: {refusal}") from None
    if not isinstance(document, dict):
        raise Undecodable(f"not OTLP/JSON: an object was expected, this is {_word(document)}")
    return document, repairs


def read_traces(body: bytes, tenant: str) -> Iterator[Decoded]:
    """Yield the observations of a traces request, a few milliseconds of work at a time."""
    return spans_of(*parse(body), tenant)


def read_logs(body: bytes, tenant: str) -> Iterator[Decoded]:
    """Yield the observations of a logs request, as `read_traces` does."""
    return records_of(*parse(body), tenant)


def read_metrics(body: bytes, tenant: str) -> Iterator[Decoded]:
    """Yield the observations of data points that a dialect reads, like `read_traces`; count the others."""
    return points_of(parse(body)[0], tenant)


def spans_of(document: dict[str, Any], repairs: int, tenant: str) -> Iterator[Decoded]:
    """Yield the observations of a parsed traces request."""
    decoded, work = Decoded(), 0
    for resource_spans in _list(document, "resourceSpans", decoded):
        resource = mend(_attributes(_map(resource_spans, "resource").get("attributes")))[0]
        for scope_spans in _list(resource_spans, "scopeSpans", decoded):
            origin = origin_of(resource, *_scope(scope_spans))
            work += EACH
            for span in _list(scope_spans, "spans", decoded):
                work += EACH
                try:
                    read = _span(span)
                    work += EACH * len(read.events) + len(read.attributes)
                    add_span(decoded, read, origin, tenant, repairs)
                except Exception:
                    decoded.lose("bad_span")
                if work > STRIDE:
                    yield decoded
                    decoded, work = Decoded(), 0
    yield decoded


def records_of(document: dict[str, Any], repairs: int, tenant: str) -> Iterator[Decoded]:
    """Yield the observations of a parsed logs request."""
    decoded, work = Decoded(), 0
    for resource_logs in _list(document, "resourceLogs", decoded):
        resource = mend(_attributes(_map(resource_logs, "resource").get("attributes")))[0]
        for scope_logs in _list(resource_logs, "scopeLogs", decoded):
            origin = origin_of(resource, *_scope(scope_logs))
            work += EACH
            for record in _list(scope_logs, "logRecords", decoded):
                work += EACH
                try:
                    read = _record(record)
                    work += len(read.attributes)
                    add_record(decoded, read, origin, tenant, repairs)
                except Exception:
                    decoded.lose("bad_record")
                if work > STRIDE:
                    yield decoded
                    decoded, work = Decoded(), 0
    yield decoded


def points_of(document: dict[str, Any], tenant: str) -> Iterator[Decoded]:
    """Yield the observations of a parsed metrics request's data points that a dialect reads; count the
    others.
    """
    decoded, work = Decoded(), 0
    for resource_metrics in _list(document, "resourceMetrics", decoded):
        resource = mend(_attributes(_map(resource_metrics, "resource").get("attributes")))[0]
        for scope_metrics in _list(resource_metrics, "scopeMetrics", decoded):
            origin = origin_of(resource, *_scope(scope_metrics))
            work += EACH
            for metric in _list(scope_metrics, "metrics", decoded):
                name = _text(metric.get("name"))
                for kind in ("gauge", "sum", "histogram", "exponentialHistogram", "summary"):
                    data = _map(metric, kind)
                    points = _list(data, "dataPoints", decoded)
                    work += 1
                    if kind != "sum" or not is_meter(name):
                        decoded.metric_points += len(points)
                        continue
                    temporality = _enum(data.get("aggregationTemporality"), _TEMPORALITIES)
                    for point in points:
                        try:
                            add_point(decoded, name, temporality, _point(point), origin, tenant)
                        except Exception:
                            decoded.lose("bad_point")
                        work += EACH
                        if work > STRIDE:
                            yield decoded
                            decoded, work = Decoded(), 0
    yield decoded


def _point(point: dict[str, Any]) -> DataPoint:
    get = point.get
    value = _wide(get("asInt")) if get("asInt") is not None else _double(get("asDouble"))
    return DataPoint(
        start_ns=_int(get("startTimeUnixNano")),
        at_ns=_int(get("timeUnixNano")),
        value=value,
        flags=_int(get("flags")),
        attributes=_attributes(get("attributes")),
    )


def _span(span: dict[str, Any]) -> DecodedSpan:
    get = span.get
    status = _map(span, "status")
    events = get("events") or ()
    return DecodedSpan(
        trace_id=_hex(get("traceId")),
        span_id=_hex(get("spanId")),
        parent_id=_hex(get("parentSpanId")),
        name=_text(get("name")),
        kind=_enum(get("kind"), _KINDS),
        start_ns=_int(get("startTimeUnixNano")),
        end_ns=_int(get("endTimeUnixNano")),
        status=_enum(status.get("code"), _STATUSES),
        status_message=_text(status.get("message")),
        attributes=_attributes(get("attributes")),
        events=[
            DecodedEvent(
                name=_text(e.get("name")),
                at_ns=_int(e.get("timeUnixNano")),
                attributes=_attributes(e.get("attributes")),
            )
            for e in events[:MAX_EVENTS]
            if isinstance(e, dict)
        ],
        more_events=max(len(events) - MAX_EVENTS, 0),
        links=[
            (_hex(link.get("traceId")), _hex(link.get("spanId")))
            for link in (get("links") or ())[: MAX_LINKS + 1]
            if isinstance(link, dict)
        ],
    )


def _record(record: dict[str, Any]) -> DecodedRecord:
    get = record.get
    return DecodedRecord(
        trace_id=_hex(get("traceId")),
        span_id=_hex(get("spanId")),
        name=_text(get("eventName")),
        at_ns=_int(get("timeUnixNano")),
        observed_ns=_int(get("observedTimeUnixNano")),
        severity=_severity(get("severityNumber")),
        body=_value(get("body"), 0),
        attributes=_attributes(get("attributes")),
    )


def _scope(holder: dict[str, Any]) -> tuple[str, str]:
    scope = _map(holder, "scope")
    return _text(scope.get("name")), _text(scope.get("version"))


def _list(holder: dict[str, Any], key: str, decoded: Decoded) -> list[Any]:
    found = holder.get(key)
    if not found:
        return []
    if not isinstance(found, list):
        decoded.lose("bad_shape")
        return []
    good = [item for item in found if isinstance(item, dict)]
    if len(good) < len(found):
        decoded.lose("bad_shape", len(found) - len(good))
    return good


def _map(holder: dict[str, Any], key: str) -> dict[str, Any]:
    found = holder.get(key)
    return found if isinstance(found, dict) else {}


def _attributes(pairs: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if isinstance(pairs, list):
        for pair in pairs:
            if isinstance(pair, dict):
                attributes[_text(pair.get("key"))] = _value(pair.get("value"), 0)
    return attributes


def _value(value: Any, depth: int) -> Any:
    if not isinstance(value, dict):
        return value  # a sender omitted the wrapper; the meaning is clear
    if "stringValue" in value:
        return value["stringValue"]
    for kind, content in value.items():
        if kind == "intValue":
            return _wide(content)
        if kind == "doubleValue":
            return _double(content)
        if kind == "boolValue":
            return content if isinstance(content, bool) else str(content).lower() == "true"
        if kind == "bytesValue":
            return _bytes(content)
        if depth < _DEPTH and isinstance(content, dict):
            if kind == "arrayValue":
                values = content.get("values")
                return [_value(v, depth + 1) for v in values] if isinstance(values, list) else []
            if kind == "kvlistValue":
                pairs = content.get("values")
                return {
                    _text(p.get("key")): _value(p.get("value"), depth + 1)
                    for p in (pairs if isinstance(pairs, list) else ())
                    if isinstance(p, dict)
                }
    return None


def _hex(text: Any) -> bytes:
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex(text)
    except ValueError:
        # Not hex, but still an id. Its wrong length makes it a synthetic one, equal for equal text.
        return b"?" + text.encode("utf-8", "replace")[:255]


def _int(number: Any) -> int:
    wide = _wide(number)
    return wide if type(wide) is int else 0


def _wide(number: Any) -> Any:
    """Return the integer of a number or of its text; any other value unchanged."""
    if type(number) is int:
        return number
    if isinstance(number, str):
        try:
            return _integer(number.strip())
        except ValueError:
            return number
    if isinstance(number, float):
        return int(number) if math.isfinite(number) and number.is_integer() else number
    return number


def _integer(digits: str) -> int | str:
    # Beyond 4,300 digits CPython refuses, and before that it is slow: kept as text.
    return int(digits) if len(digits) < 100 else digits


def _double(number: Any) -> Any:
    if isinstance(number, str):
        try:
            return float(number)
        except ValueError:
            return number
    return number


def _bytes(text: Any) -> Any:
    try:
        return b64decode(text)
    except (TypeError, ValueError):
        return text


def _text(text: Any) -> str:
    return text if isinstance(text, str) else "" if text is None else str(text)


def _enum(value: Any, names: dict[str, int]) -> int:
    if isinstance(value, str):
        return names.get(value.rpartition("_")[2].upper(), 0) if not value.isdecimal() else _int(value)
    return _int(value)


def _severity(value: Any) -> int:
    if isinstance(value, str) and not value.isdecimal():
        word = value.rpartition("_")[2].upper()
        level = word.rstrip("0123456789")
        rest = word[len(level) :]
        return _SEVERITIES[level] + (int(rest) - 1 if rest else 0) if level in _SEVERITIES and len(rest) < 3 else 0
    return _int(value)


def _word(value: Any) -> str:
    return {list: "a list", str: "text", int: "a number", float: "a number", bool: "a boolean"}.get(type(value), "null")
