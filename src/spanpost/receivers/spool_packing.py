"""Packs spans, events and log records into spool records, in the agent's thread.

Rules: only values of known types are written as they are; no method of a foreign object is called (its repr
might block, raise or lie). Unpacked values are repaired by the same code as values that were never in a
file, with the same result. So a value that `spanpost.text.repair` treats specially keeps its special type
(`Odd`). A record larger than `MAX_RECORD` is refused: examining it would cost the agent more than the loss
of durability for one span.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from spanpost.receivers.spans import attributes_of, event_name_of, ring_of
from spanpost.text.repair import mend, mend_value

#: About the largest record, in characters and bytes of text.
MAX_RECORD = 4 * 1024 * 1024
#: Record kinds. Stored in files: never renumber.
HEADER, ORIGIN, END, START, EVENT, LOG, GAP, INTERRUPTED, CLOSED = range(9)

_MAX_NODES = 20_000
#: Deeper than `spanpost.text.repair` ever reads.
_DEEP = 56
_MAX_ITEMS = 64
_INT64 = 2**63
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_SHORT = frozenset({int, float, bool, type(None)})

encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
Ext = msgspec.msgpack.Ext


class RecordTooLarge(Exception):
    """A record would be larger than `MAX_RECORD`."""


class Odd:
    """Extension type codes for values that MessagePack cannot express. Stored in files: never renumber."""

    #: UTF-8: the text to which a foreign value was repaired.
    TEXT = 1
    #: A whole number of any size, big endian, signed.
    NUMBER = 2
    #: Text with lone surrogates, as `surrogatepass` writes it.
    SURROGATES = 3
    #: A packed list or map whose type was a subclass of `list`, `tuple`, `set` or `dict`.
    CONTAINER = 4
    #: A map as a packed list of pairs.
    PAIRS = 5


class PackedText(str):
    """The text to which a foreign value was repaired: repairing it again gives the same text and the same
    flag.
    """


class Sequence(list[Any]):
    """A list whose type was a subclass."""


class Map(dict[Any, Any]):
    """A map whose type was a subclass."""


def unpack_odd(code: int, data: memoryview) -> Any:
    """Decoder hook: return the value of an extension type."""
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
    """Packs one value, within limits: the nodes and characters that are left."""

    __slots__ = ("left", "nodes")

    def __init__(self) -> None:
        self.nodes = _MAX_NODES
        self.left = MAX_RECORD

    def pack(self, value: Any, depth: int = 0) -> Any:
        self.nodes -= 1
        if self.nodes < 0 or self.left < 0:
            raise RecordTooLarge
        t = type(value)
        if t is str:
            self.left -= len(value)
            if self.left < 0:
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
            self.left -= size
            if self.left < 0:
                raise RecordTooLarge
            return Ext(Odd.NUMBER, value.to_bytes(size, "big", signed=True))
        if t is float or t is bool or value is None:
            return value
        if t is bytes or t is bytearray:
            self.left -= len(value)
            if self.left < 0:
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
        if isinstance(value, (bytes, bytearray, memoryview, str)) and len(value) > self.left:
            raise RecordTooLarge
        return Ext(Odd.TEXT, str(mend_value(value)[0]).encode("utf-8", "replace"))

    def map(self, value: dict[Any, Any], depth: int) -> Any:
        if depth >= _DEEP:
            return {}
        packed: dict[Any, Any] = {}
        pairs: list[Any] = []
        for key, item in list(dict.items(value)):
            if type(key) is str and key.isascii():
                self.left -= len(key)
                packed[key] = self.pack(item, depth + 1)
                continue
            odd = self.pack(key if type(key) in _PLAIN else PackedText(next(iter(mend({key: None})[0]))))
            if type(odd) is Ext:  # not possible as a map key: write pairs instead
                pairs.append([odd, self.pack(item, depth + 1)])
                packed[len(pairs), Ext] = None
            else:
                packed[odd] = self.pack(item, depth + 1)
        if not pairs:
            return packed
        next_pair = iter(pairs)
        return Ext(Odd.PAIRS, encode([next(next_pair) if type(k) is tuple else [k, v] for k, v in packed.items()]))

    @staticmethod
    def odd(value: Any) -> Any:
        return Ext(Odd.CONTAINER, encode(value))


def _attributes(held: dict[str, Any]) -> Any:
    """Return attributes in a form that the encoder accepts: unchanged if all values are plain."""
    left = MAX_RECORD
    for value in held.values():
        t = type(value)
        if t is str:
            left -= len(value)
        elif t not in _SHORT and (t is not tuple or not _is_plain(value)):
            break
    else:
        if left >= 0:
            return held
        raise RecordTooLarge
    return _Tree().map(held, 0)


def _is_plain(values: tuple[Any, ...]) -> bool:
    # The common case: finish reasons, tool names.
    return len(values) <= _MAX_ITEMS and all(type(v) in _SHORT or (type(v) is str and len(v) <= 4096) for v in values)


def _record(values: tuple[Any, ...]) -> bytes:
    try:
        return encode(values)
    except (UnicodeEncodeError, OverflowError, TypeError):
        # A surrogate, a huge number, or a key or time of a foreign type.
        return encode(_Tree().pack(values))


def _name(name: Any) -> Any:
    if isinstance(name, str):
        return name if type(name) is str else str.__str__(name)
    raise TypeError("a name that is no text")  # str() would call foreign code


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
    """Return the record of a span in its present state; an ended one with all its events."""
    # Private fields of the SDK: its properties would double the cost.
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
            [
                (x.context.trace_id.to_bytes(16, "big"), x.context.span_id.to_bytes(8, "big"))
                for x in links
                if x.context is not None
            ]
            if links
            else (),
            dropped,
            events,
        )
    )


def pack_event(origin: int, span: Any, event: Any, index: int) -> bytes:
    """Return the record of an event of a live span."""
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


def pack_header(version: int, tenant: str, producer: str, destination: str) -> bytes:
    """Return the first record of a file."""
    return encode((HEADER, version, tenant, producer, destination, os.getpid()))


def pack_origin(number: int, resource: Any, scope: str, version: str) -> bytes:
    """Return the record that numbers a resource and a scope for the rest of the file."""
    return _record((ORIGIN, number, _attributes(dict(resource or {})), scope, version))


def pack_interruption(trace_id: bytes, span_id: bytes, name: str, at_ns: int, origin: int) -> bytes:
    """Return the record of a span that was open when its process ended."""
    return _record((INTERRUPTED, trace_id, span_id, name, at_ns, origin))
