"""Counts the entries of a body before it is recorded: spans, log records and data points, and the traces they name.

A small protobuf body is parsed, whose fields are never built; a larger one is walked over, without the parser. JSON is
opened level by level, as `json_pieces` does it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from spanpost.receivers import otlp_json
from spanpost.receivers.decoded import Spoiled
from spanpost.receivers.elements import LARGEST
from spanpost.receivers.json_pieces import count_json, cut_json
from spanpost.receivers.otlp_protobuf import LEVELS, parse
from spanpost.receivers.pieces import LEAST, PIECE, WHOLE
from spanpost.receivers.protobuf_pieces import count_messages, fields, messages_in

_RESOURCE, _ENTRY, _POINTS = 1, 2, 1
_LENGTH_DELIMITED: Final = 2
#: Entries between two pauses: some milliseconds.
_STRIDE: Final = 256
#: Fields of a metric that hold its points, in protobuf and in JSON.
_KINDS: Final = (5, 7, 9, 10, 11)
_KINDS_JSON: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
#: The field of an entry with its trace, where it has one.
_TRACE: Final = {"traces": 1, "logs": 9}


class Entries:
    """The entries of one body, as `count` finds them."""

    __slots__ = ("number", "traces")

    def __init__(self) -> None:
        self.number = 0
        #: Trace ids of its spans and records, if they were asked for. A record without a trace adds none.
        self.traces: set[bytes] = set()


def count(found: Entries, signal: str, body: bytes, *, is_json: bool, with_traces: bool = False) -> Iterator[None]:
    """Count the entries of a body; yield where a pause is allowed.

    Raises `Undecodable` and `BodyTooLarge` for what would be refused anyway.
    """
    if is_json:
        return _of_json(found, signal, body, with_traces)
    if len(body) <= WHOLE:
        _add_parsed(found, signal, body, with_traces)
        return iter(())
    return _of_protobuf(found, signal, body, with_traces)


def _add_parsed(found: Entries, signal: str, body: bytes, with_traces: bool) -> None:
    outer, middle, inner = LEVELS[signal]
    for resource in getattr(parse(signal, body), outer):
        for scope in getattr(resource, middle):
            entries = getattr(scope, inner)
            if signal == "metrics":
                found.number += sum(_points(metric) for metric in entries)
                continue
            found.number += len(entries)
            if with_traces:
                found.traces.update({entry.trace_id for entry in entries} - {b""})


def _points(metric: Any) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind else 0


def _of_protobuf(found: Entries, signal: str, body: bytes, with_traces: bool) -> Iterator[None]:
    trace = _TRACE.get(signal, 0) if with_traces else 0
    for start, end in messages_in(body, 0, len(body), _RESOURCE):
        for scope_start, scope_end in messages_in(body, start, end, _ENTRY):
            if signal != "metrics" and not trace:
                found.number += yield from count_messages(body, scope_start, scope_end, _ENTRY)
                yield
                continue
            for step, (entry_start, entry_end) in enumerate(messages_in(body, scope_start, scope_end, _ENTRY)):
                if step % _STRIDE == 0:
                    yield
                if trace:
                    found.number += 1
                    _add_trace(found, trace, body, entry_start, entry_end)
                else:
                    found.number += yield from _count_points(body, entry_start, entry_end)


def _count_points(body: bytes, start: int, end: int) -> Generator[None, None, int]:
    points = 0
    for number, begin, at, stop in fields(body, start, end):
        if number in _KINDS and body[begin] & 7 == _LENGTH_DELIMITED:
            points += yield from count_messages(body, at, stop, _POINTS)
    return points


def _add_trace(found: Entries, trace: int, body: bytes, start: int, end: int) -> None:
    for at, stop in messages_in(body, start, end, trace):
        if stop > at:
            found.traces.add(body[at:stop])
        return


class _Entry(msgspec.Struct):
    traceId: Any = None  # noqa: N815  # as OTLP/JSON spells it


def _level(name: str, inner: Any) -> Any:
    return msgspec.defstruct("Level", [(name, list[inner] | None, None)])


def _document(signal: str, entry: Any) -> Any:
    outer, middle, inner = otlp_json.LEVELS[signal]
    return _level(outer, _level(middle, _level(inner, entry)))


_Points = msgspec.defstruct("Points", [("dataPoints", list[Raw] | None, None)])
_Metric = msgspec.defstruct("Metric", [(kind, _Points | None, None) for kind in _KINDS_JSON])
_DOCUMENTS: Final = {signal: _document(signal, Raw) for signal in ("traces", "logs")} | {
    "metrics": _document("metrics", _Metric)
}
_WITH_TRACES: Final = {signal: _document(signal, _Entry) for signal in ("traces", "logs")}


def _of_json(found: Entries, signal: str, body: bytes, with_traces: bool) -> Iterator[None]:
    yield from count_json(body)
    if len(body) <= LARGEST:  # in one call, some milliseconds
        _add_json(found, signal, body, with_traces)
        return
    for part in cut_json(signal, body, PIECE, LEAST):
        if isinstance(part, Spoiled):
            found.number += part.entries
        elif part is not None:
            _add_json(found, signal, part, with_traces)
        yield


def _add_json(found: Entries, signal: str, body: bytes, with_traces: bool) -> None:
    document = (_WITH_TRACES if with_traces and signal != "metrics" else _DOCUMENTS)[signal]
    try:
        opened = msgspec.json.decode(body, type=document)
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError):
        _add_lenient(found, signal, otlp_json.parse(body)[0])
        return
    outer, middle, inner = otlp_json.LEVELS[signal]
    for resource in getattr(opened, outer) or ():
        for scope in getattr(resource, middle) or ():
            entries = getattr(scope, inner) or ()
            if signal == "metrics":
                points = (getattr(metric, kind) for metric in entries for kind in _KINDS_JSON)
                found.number += sum(len(held.dataPoints or ()) for held in points if held is not None)
                continue
            found.number += len(entries)
            if with_traces:
                _add_ids(found, (entry.traceId for entry in entries))


def _add_lenient(found: Entries, signal: str, document: Any) -> None:
    """Count a document that is not strict, or misshapen, as the lenient parser read it."""
    outer, middle, inner = otlp_json.LEVELS[signal]
    for entry in _below(_below(_below([document], outer), middle), inner):
        if signal != "metrics":
            found.number += 1
            _add_ids(found, (entry.get("traceId"),) if isinstance(entry, dict) else ())
            continue
        kinds = [entry.get(kind) for kind in _KINDS_JSON] if isinstance(entry, dict) else []
        found.number += sum(1 for _ in _below(kinds, "dataPoints"))


def _below(above: Any, name: str) -> Iterator[Any]:
    for one in above:
        held = one.get(name) if isinstance(one, dict) else None
        yield from held if isinstance(held, list) else ()


def _add_ids(found: Entries, ids: Any) -> None:
    for given in {id for id in ids if isinstance(id, str) and id}:
        try:
            found.traces.add(bytes.fromhex(given))
        except ValueError:
            found.traces.add(given.encode("utf-8", "replace"))  # no task has it
