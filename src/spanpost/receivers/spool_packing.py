"""Spans, events and log records into the bytes of a spool's record, in the agent's thread.

Rules: only what is of a known type is written as it is, so that nothing foreign is asked for anything (its repr might block,
raise or lie). What unpacking gives back is mended by the same code as what never was in a file, and comes to the same
observation: so what is special to `spanpost.text.repair` keeps its specialty (`_Odd`). What is larger than `MAX_RECORD` is
refused: looking at it would cost the agent more than losing the promise for one span.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from spanpost.receivers.spans import attributes_of, event_name_of, ring_of
from spanpost.text.repair import mend, mend_value

#: About the largest record, in characters and bytes of text.
MAX_RECORD = 4 * 1024 * 1024
#: The kinds of records. Written in files: never renumber.
HEADER, ORIGIN, END, START, EVENT, LOG, GAP, INTERRUPTED, CLOSED = range(9)

_MAX_NODES = 20_000
#: Deeper than what is ever looked at again (`spanpost.text.repair`).
_DEEP = 56
_MAX_ITEMS = 64
_INT64 = 2**63
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_SHORT = frozenset({int, float, bool, type(None)})

encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
Ext = msgspec.msgpack.Ext


class RecordTooLarge(Exception):
    """It is larger than a record may be."""


class Odd:
    """Codes of what MessagePack has no word for, as extension types. Written in files: never renumber."""

    #: UTF-8: what a foreign value was mended to.
    TEXT = 1
    #: A whole number of any size, big endian, signed.
    NUMBER = 2
    #: Text with lone surrogates, as `surrogatepass` writes it.
    SURROGATES = 3
    #: A packed list or map that was of a subclass of `list`, `tuple`, `set` or `dict`.
    CONTAINER = 4
    #: A map as a packed list of pairs.
    PAIRS = 5


class PackedText(str):
    """Text that a foreign value was mended to: mending it again comes to the same, and to the same flag."""


class Sequence(list[Any]):
    """A list that was of a subclass."""


class Map(dict[Any, Any]):
    """A map that was of a subclass."""


def unpack_odd(code: int, data: memoryview) -> Any:
    """Return what an extension type stands for: the decoder's hook."""
    raw = bytes(data)
    if code == Odd.TEXT:
        return PackedText(raw.decode("utf-8", "replace"))
    if code == Odd.NUMBER:
        return int.from_bytes(raw, "big", signed=True)
    if code == Odd.SURROGATES:
        return raw.decode("utf-8", "surrogatepass")
    if code == Odd.CONTAINER:
        inner = decode(raw)
        return Map(inner) if isinstance(inner, dict) else Sequence(inner)
    if code == Odd.PAIRS:
        return dict(decode(raw))
    raise ValueError(f"extension type {code} is of a later version")


decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(ext_hook=unpack_odd).decode


class _Tree:
    """One value on its way into a record: what may still be looked at."""

    __slots__ = ("nodes", "section")

    def __init__(self) -> None:
        self.nodes = _MAX_NODES
        self.section = MAX_RECORD

    def pack(self, value: Any, depth: int = 0) -> Any:
        self.nodes -= 1
        if self.nodes < 0 or self.section < 0:
            raise RecordTooLarge
        t = type(value)
        if t is str:
            self.section -= len(value)
            if self.section < 0:
                raise RecordTooLarge
            try:
                value.encode()
            except UnicodeEncodeError:
                return Ext(Odd.SURROGATES, value.encode("utf-8", "surrogatepass"))
            return value
        if t is int:
            if -_INT64 <= value < _INT64:
                return value
            size = value.bit_length() // 8 + 1
            self.section -= size
            if self.section < 0:
                raise RecordTooLarge
            return Ext(Odd.NUMBER, value.to_bytes(size, "big", signed=True))
        if t is float or t is bool or value is None:
            return value
        if t is bytes or t is bytearray:
            self.section -= len(value)
            if self.section < 0:
                raise RecordTooLarge
            return value
        if t is list or t is tuple:
            return [self.pack(item, depth + 1) for item in value] if depth < _DEEP else []
        if t is dict:
            return self.map(value, depth)
        if t is Ext:  # packed before
            return value
        if isinstance(value, dict):
            return self.odd({} if depth >= _DEEP else self.map(value, depth))
        if isinstance(value, (list, tuple)):
            items = list.copy(value) if isinstance(value, list) else tuple.__getitem__(value, slice(None))
            return self.odd([] if depth >= _DEEP else [self.pack(item, depth + 1) for item in items])
        if t is set or t is frozenset:
            items = list(value)
            if all(type(item) in _PLAIN for item in items):
                try:
                    items = sorted(items)
                except TypeError:
                    items = list(value)
            return self.odd([self.pack(item, depth + 1) for item in items] if depth < _DEEP else [])
        if isinstance(value, (bytes, bytearray, memoryview, str)) and len(value) > self.section:
            raise RecordTooLarge
        return Ext(Odd.TEXT, str(mend_value(value)[0]).encode("utf-8", "replace"))

    def map(self, value: dict[Any, Any], depth: int) -> Any:
        if depth >= _DEEP:
            return {}
        packed: dict[Any, Any] = {}
        pairs: list[Any] = []
        for key, item in list(dict.items(value)):
            if type(key) is str and key.isascii():
                self.section -= len(key)
                packed[key] = self.pack(item, depth + 1)
                continue
            odd = self.pack(key if type(key) in _PLAIN else PackedText(next(iter(mend({key: None})[0]))))
            if type(odd) is Ext:  # which no map can have as a key: this one is written as pairs
                pairs.append([odd, self.pack(item, depth + 1)])
                packed[len(pairs), Ext] = None
            else:
                packed[odd] = self.pack(item, depth + 1)
        if not pairs:
            return packed
        following = iter(pairs)
        return Ext(Odd.PAIRS, encode([next(following) if type(k) is tuple else [k, v] for k, v in packed.items()]))

    @staticmethod
    def odd(value: Any) -> Any:
        return Ext(Odd.CONTAINER, encode(value))


def _attributes(held: dict[str, Any]) -> Any:
    """Return attributes that the encoder takes: themselves, when they are as those of spans are."""
    section = MAX_RECORD
    for value in held.values():
        t = type(value)
        if t is str:
            section -= len(value)
        elif t not in _SHORT and (t is not tuple or not _is_plain(value)):
            break
    else:
        if section >= 0:
            return held
        raise RecordTooLarge
    return _Tree().map(held, 0)


def _is_plain(values: tuple[Any, ...]) -> bool:
    # What is everywhere: finish reasons, names of tools.
    return len(values) <= _MAX_ITEMS and all(type(v) in _SHORT or (type(v) is str and len(v) <= 4096) for v in values)


def _record(values: tuple[Any, ...]) -> bytes:
    try:
        return encode(values)
    except (UnicodeEncodeError, OverflowError, TypeError):
        # A surrogate, a huge number, a key or a time of a type of somebody's own.
        return encode(_Tree().pack(values))


def _name(name: Any) -> Any:
    if isinstance(name, str):
        return name if type(name) is str else str.__str__(name)
    raise TypeError("a name that is no text")  # asking it for its text would be asking a stranger


def _time(value: Any) -> Any:
    if value is None or type(value) in (int, float, str):
        return value
    if isinstance(value, int):
        return int.__int__(value)
    raise TypeError("a time that is no number")


def _events(span: Any) -> tuple[int, Any]:
    dropped, ring = ring_of(span)
    if not ring:
        return dropped, ()
    return dropped, [(_name(e.name), _time(e.timestamp), _attributes(attributes_of(e))) for e in ring]


def pack_span(origin: int, span: Any, is_end: bool, is_cancelled: bool = False) -> bytes:
    """Return the record of a span as it is now; of an ended one with all its events."""
    # The SDK's own fields: its properties cost as much as all the rest.
    context, parent, status, links, name = span._context, span._parent, span._status, span._links, span._name
    start, end = span._start_time, span._end_time
    dropped, events = _events(span) if is_end else (0, ())
    return _record(
        (
            END if is_end else START,
            context[0].to_bytes(16, "big"),
            context[1].to_bytes(8, "big"),
            parent.span_id.to_bytes(8, "big") if parent is not None and parent.span_id else b"",
            name if type(name) is str else _name(name),
            span._kind.value,
            start if type(start) is int else _time(start),
            end if type(end) is int else _time(end),
            status._status_code.value,
            status._description,
            _attributes(attributes_of(span)),
            origin,
            is_cancelled,
            [(x.context.trace_id.to_bytes(16, "big"), x.context.span_id.to_bytes(8, "big")) for x in links if x.context is not None]
            if links
            else (),
            dropped,
            events,
        )
    )


def pack_event(origin: int, span: Any, event: Any, index: int) -> bytes:
    """Return the record of an event of a living span."""
    context = span._context
    return _record(
        (
            EVENT,
            context[0].to_bytes(16, "big"),
            context[1].to_bytes(8, "big"),
            _time(span._start_time),
            index,
            _name(event.name),
            _time(event.timestamp),
            _attributes(attributes_of(event)),
            origin,
        )
    )


def pack_log(origin: int, data: Any) -> bytes:
    """Return the record of a log record."""
    record = data.log_record
    return _record(
        (
            LOG,
            record.trace_id.to_bytes(16, "big") if record.trace_id else b"",
            record.span_id.to_bytes(8, "big") if record.span_id else b"",
            event_name_of(record),
            _time(record.timestamp or record.observed_timestamp),
            getattr(record.severity_number, "value", 0),
            _Tree().pack(record.body),
            _attributes(attributes_of(record)),
            origin,
        )
    )


def pack_origin(number: int, resource: Any, scope: str, version: str) -> bytes:
    """Return the record that gives a resource and a scope a number for the rest of the segment."""
    return _record((ORIGIN, number, _attributes(dict(resource or {})), scope, version))


def pack_interruption(trace_id: bytes, span_id: bytes, name: str, at_ns: int, origin: int) -> bytes:
    """Return the record that says of a span that its process ended before it."""
    return _record((INTERRUPTED, trace_id, span_id, name, at_ns, origin))
