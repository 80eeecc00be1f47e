# ruff: noqa: UP031  # JSON is full of braces
"""Hostile OTLP bodies: each shape makes a body of about so many bytes, and has the expected verdict.

`SHAPES` are the known ones, by name; `nested()` makes others by hypothesis, out of the same parts. `PACKED`
has the encodings of a hostile sender.
"""

# ruff: noqa: UP031 (JSON is full of braces)
from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st

#: Verdicts: all of the body is read, a part is left out, it holds more than allowed, or it cannot be read.
READ, PART, TOO_LARGE, UNDECODABLE = "read", "part", "too large", "undecodable"
READ_METRIC = b"claude_code.token.usage"
_IDS = b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8


class Shape(NamedTuple):
    """A way to make a body. `verdict` is that of a body of 120,000 bytes; a smaller one may get a milder
    one.
    """

    signal: str
    is_json: bool
    make: Callable[[int], bytes]
    verdict: str


# --- protobuf -------------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """Return a number as a varint."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def field(number: int, content: bytes) -> bytes:
    """Return a field that is a message or text."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def pair(key: bytes, value: bytes) -> bytes:
    """Return the content of a KeyValue; `value` is an AnyValue."""
    return field(1, key) + field(2, value)


def text(content: bytes) -> bytes:
    """Return an AnyValue of text."""
    return field(1, content)


def request(*entries: bytes, resource: bytes = b"", scope: bytes = b"") -> bytes:
    """Return a request of one scope; the same for the three signals."""
    inner = field(1, scope) if scope else b""
    return field(
        1, (field(1, resource) if resource else b"") + field(2, inner + b"".join(field(2, entry) for entry in entries))
    )


def span(*more: bytes) -> bytes:
    """Return a span with ids and times."""
    return (
        _IDS
        + field(5, b"chat")
        + b"\x39"
        + (10**18).to_bytes(8, "little")
        + b"\x41"
        + (10**18).to_bytes(8, "little")
        + b"".join(more)
    )


def times(unit: bytes, size: int) -> bytes:
    """Return a unit repeated to about a size."""
    return unit * max(size // len(unit), 1)


def numbered(unit: Callable[[bytes], bytes], size: int) -> bytes:
    """Return different units to about a size; each gets a name of its own."""
    out, held, number = [], 0, 0
    while held < size:
        out.append(unit(b"%x" % number))
        held += len(out[-1])
        number += 1
    return b"".join(out)


def _entries(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: field(1, field(2, times(field(2, unit), size)))


def _in_span(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: request(span(times(unit, size)))


def _in_spans(unit: bytes, each: int) -> Callable[[int], bytes]:
    return _entries(span(unit * each))


def _in_value(unit: bytes, kind: int = 5) -> Callable[[int], bytes]:
    return lambda size: request(span(field(9, pair(b"gen_ai.k", field(kind, times(unit, size))))))


def _in_sum(unit: bytes, kind: int = 7) -> Callable[[int], bytes]:
    return lambda size: request(field(1, READ_METRIC) + field(kind, times(field(1, unit), size)))


def _deep(wrap: Callable[[bytes], bytes], depth: int) -> bytes:
    value = text(b"x")
    for _ in range(depth):
        value = wrap(value)
    return value


_GROUP = b"\xf3\x03\xf4\x03"  # field 62, begun and ended
_FAULTY = field(9, b"\x0a\x7fx")  # an attribute whose key is longer than the attribute
_RANDOM = random.Random(7).randbytes(1024)

PROTOBUF: dict[str, Shape] = {
    "empty resources": Shape("traces", False, lambda n: times(b"\x0a\x00", n), TOO_LARGE),
    "empty scopes": Shape("traces", False, lambda n: field(1, times(b"\x12\x00", n)), TOO_LARGE),
    "empty spans": Shape("traces", False, _entries(b""), TOO_LARGE),
    "empty log records": Shape("logs", False, _entries(b""), TOO_LARGE),
    "empty metrics": Shape("metrics", False, _entries(b""), TOO_LARGE),
    "empty values in one attribute": Shape("traces", False, _in_value(b"\x0a\x00"), TOO_LARGE),
    "empty pairs in one attribute": Shape("traces", False, _in_value(b"\x0a\x00", 6), TOO_LARGE),
    "empty attributes of a resource": Shape(
        "traces", False, lambda n: request(span(), resource=times(b"\x0a\x00", n)), READ
    ),
    "empty attributes of a scope": Shape("traces", False, lambda n: request(span(), scope=times(b"\x1a\x00", n)), READ),
    "empty attributes of a span": Shape("traces", False, _in_span(b"\x4a\x00"), READ),
    "different attributes of a span": Shape(
        "traces", False, lambda n: request(span(numbered(lambda name: field(9, pair(name, b"\x18\x01")), n))), READ
    ),
    "attributes with the value first": Shape(
        "traces",
        False,
        lambda n: request(span(numbered(lambda name: field(9, b"\x12\x02\x18\x01" + field(1, name)), n))),
        READ,
    ),
    "new attribute names in each span": Shape(
        "traces",
        False,
        lambda n: request(
            *(
                span(numbered(lambda name, s=s: field(9, pair(b"%x." % s + name, b"\x18\x01")), 1200))
                for s in range(max(n // 1260, 1))
            )
        ),
        READ,
    ),
    "128 attributes in each span": Shape("traces", False, _in_spans(b"\x4a\x00", 128), READ),
    "empty events": Shape("traces", False, _in_span(b"\x5a\x00"), READ),
    "128 empty events in each span": Shape("traces", False, _in_spans(b"\x5a\x00", 128), TOO_LARGE),
    "empty attributes of an event": Shape(
        "traces", False, lambda n: request(span(field(11, times(b"\x1a\x00", n)))), READ
    ),
    "128 events of 100 attributes": Shape("traces", False, _in_spans(field(11, b"\x1a\x00" * 100), 128), READ),
    "empty links": Shape("traces", False, _in_span(b"\x6a\x00"), READ),
    "status again and again": Shape("traces", False, _in_span(b"\x7a\x00"), READ),
    "names again and again": Shape("traces", False, _in_span(b"\x2a\x01x"), READ),
    "a resource again and again": Shape(
        "traces", False, lambda n: field(1, times(b"\x0a\x00", n) + field(2, field(2, span()))), TOO_LARGE
    ),
    "a value again and again": Shape(
        "traces",
        False,
        lambda n: request(span(field(9, field(1, b"gen_ai.k") + times(b"\x12\x02\x2a\x00", n)))),
        TOO_LARGE,
    ),
    "a value of changing kind": Shape(
        "traces", False, lambda n: request(span(field(9, pair(b"gen_ai.k", times(b"\x2a\x00\x32\x00", n))))), TOO_LARGE
    ),
    "unknown fields of the request": Shape("traces", False, lambda n: times(b"\x78\x01", n), TOO_LARGE),
    "unknown fields of a resource": Shape("traces", False, lambda n: field(1, times(b"\x78\x01", n)), TOO_LARGE),
    "unknown fields of a span": Shape("traces", False, _in_span(b"\xb8\x02\x01"), READ),
    "unknown text of a span": Shape("traces", False, _in_span(b"\xba\x02\x00"), READ),
    "unknown groups of a span": Shape("traces", False, _in_span(_GROUP), READ),
    "unknown groups of the request": Shape("traces", False, lambda n: times(_GROUP, n), UNDECODABLE),
    "tags that are longer than they need be": Shape("traces", False, _in_spans(b"\xda\x80\x00\x00", 128), TOO_LARGE),
    "groups within groups": Shape("traces", False, lambda n: request(span(b"\xf3\x03" * (n // 2))), UNDECODABLE),
    "messages within messages": Shape(
        "traces", False, _entries(span(field(9, pair(b"gen_ai.k", _deep(lambda v: field(5, field(1, v)), 45))))), READ
    ),
    "maps within maps": Shape(
        "traces",
        False,
        _entries(span(field(9, pair(b"gen_ai.k", _deep(lambda v: field(6, field(1, pair(b"", v))), 30))))),
        READ,
    ),
    "nested too deep, each": Shape(
        "traces",
        False,
        _entries(span(field(9, pair(b"gen_ai.k", _deep(lambda v: field(5, field(1, v)), 120))))),
        UNDECODABLE,
    ),
    "a scope of its own for each span": Shape(
        "traces",
        False,
        lambda n: field(1, numbered(lambda name: field(2, field(1, field(1, name)) + field(2, span())), n)),
        READ,
    ),
    "a resource of its own for each span": Shape(
        "traces",
        False,
        lambda n: numbered(
            lambda name: field(1, field(1, field(1, pair(b"k", text(name)))) + field(2, field(2, span()))), n
        ),
        READ,
    ),
    "a large resource for tiny scopes": Shape(
        "traces",
        False,
        lambda n: field(
            1,
            field(1, field(1, pair(b"k", text(b"x" * min(n // 2, 100_000)))))
            + times(field(2, field(2, span())), n - min(n // 2, 100_000)),
        ),
        READ,
    ),
    "a resource that is too large": Shape(
        "traces", False, lambda n: request(span(), resource=field(1, pair(b"k", text(b"x" * n)))), READ
    ),
    "spans of twelve bytes": Shape("traces", False, _entries(field(5, b"chatchatch")), READ),
    "spans with ids and times": Shape("traces", False, _entries(span()), READ),
    "attributes that are no messages": Shape(
        "traces", False, _entries(span(field(9, pair(b"gen_ai.k", text(b"x"))), _FAULTY)), UNDECODABLE
    ),
    "every other span is no message": Shape(
        "traces",
        False,
        lambda n: field(1, field(2, times(field(2, span()) + field(2, b"\x0a\x7fxxxxxxxxxx"), n))),
        PART,
    ),
    "a large resource for tiny scopes that are no messages": Shape(
        "traces",
        False,
        lambda n: field(
            1,
            field(1, field(1, pair(b"k", text(b"x" * min(n // 2, 100_000)))))
            + times(field(2, field(2, b"\x0a\x7fxxxxxxxxxx")), n - min(n // 2, 100_000)),
        ),
        UNDECODABLE,
    ),
    "no span is a message": Shape("traces", False, _entries(b"\x0a\x7fxxxxxxxxxx"), UNDECODABLE),
    "text that is not UTF-8": Shape(
        "traces", False, _entries(span(field(9, pair(b"gen_ai.\xff", text(b"\xff" * 8))))), READ
    ),
    "one long text": Shape("traces", False, lambda n: request(span(field(9, pair(b"gen_ai.k", text(b"x" * n))))), READ),
    "one long text that is not ASCII": Shape(
        "traces", False, lambda n: request(span(field(9, pair(b"gen_ai.k", text("é".encode() * (n // 2)))))), READ
    ),
    "one long text of NUL": Shape(
        "traces", False, lambda n: request(span(field(9, pair(b"gen_ai.k", text(bytes(n)))))), READ
    ),
    "one long text that is not UTF-8": Shape(
        "traces", False, lambda n: request(span(field(9, pair(b"gen_ai.k", text(b"\xff" * n))))), READ
    ),
    "one long name": Shape("traces", False, lambda n: request(span(field(5, b"x" * n))), READ),
    "one long key": Shape("traces", False, lambda n: request(span(field(9, pair(b"x" * n, text(b"x"))))), READ),
    "one long value of bytes": Shape(
        "traces", False, lambda n: request(span(field(9, pair(b"gen_ai.k", field(7, _RANDOM * (n // 1024)))))), READ
    ),
    "many long texts": Shape(
        "traces", False, lambda n: request(span(times(field(9, pair(b"gen_ai.k", text(b"x" * 8000))), n))), READ
    ),
    "noise": Shape("traces", False, lambda n: times(_RANDOM, n), UNDECODABLE),
    "zeros": Shape("traces", False, bytes, UNDECODABLE),
    "records with a time and a delivery": Shape(
        "logs", False, _entries(b"\x59" + (10**18).to_bytes(8, "little") + field(5, text(b"a"))), READ
    ),
    "records of one delivery": Shape("logs", False, _entries(field(5, text(b"a"))), TOO_LARGE),
    "a record with a list": Shape(
        "logs", False, lambda n: request(field(5, field(5, times(b"\x0a\x00", n)))), TOO_LARGE
    ),
    "a record with a map": Shape(
        "logs", False, lambda n: request(field(5, field(6, times(field(1, pair(b"k", b"\x18\x01")), n)))), READ
    ),
    "a record with attributes": Shape("logs", False, lambda n: request(times(b"\x32\x00", n)), READ),
    "a record with a long text": Shape("logs", False, lambda n: request(field(5, text(b"x" * n))), READ),
    "empty points that are read": Shape("metrics", False, _in_sum(b""), TOO_LARGE),
    "points that are read": Shape("metrics", False, _in_sum(b"\x19" + bytes(8) + b"\x31" + bytes(8)), READ),
    "empty points that are not": Shape("metrics", False, _in_sum(b"", 5), READ),
    "points with empty attributes": Shape("metrics", False, _in_sum(b"\x3a\x00" * 60 + b"\x31" + bytes(8)), READ),
    "points with empty exemplars": Shape("metrics", False, _in_sum(b"\x2a\x00" * 60 + b"\x31" + bytes(8)), READ),
    "packed buckets": Shape(
        "metrics", False, lambda n: request(field(10, field(1, field(8, field(2, bytes(n)))))), READ
    ),
    "buckets one by one": Shape(
        "metrics", False, lambda n: request(field(10, field(1, field(8, times(b"\x10\x00", n))))), READ
    ),
    "a point that is no message": Shape("metrics", False, _in_sum(b"\x0a\x7fxxxxxxxxxx"), READ),
}


# --- JSON -----------------------------------------------------------------------------------------------------------

_KEYS = {"traces": ("resourceSpans", "scopeSpans", "spans"), "logs": ("resourceLogs", "scopeLogs", "logRecords")}
_SPAN = '"traceId":"%s","spanId":"%s","name":"chat","startTimeUnixNano":"1","endTimeUnixNano":"2"' % (
    "ab" * 16,
    "cd" * 8,
)


def _json(entries: str, signal: str = "traces") -> bytes:
    outer, middle, inner = _KEYS[signal]
    return f'{{"{outer}":[{{"{middle}":[{{"{inner}":[{entries}]}}]}}]}}'.encode("utf-8", "surrogatepass")


def _list(unit: str, size: int) -> str:
    return ",".join([unit] * max(size // (len(unit) + 1), 1))


def _of_span(more: str, name: str = "attributes") -> str:
    return f'{{{_SPAN},"{name}":{more}}}'


def _in_json(unit: str, name: str = "attributes") -> Callable[[int], bytes]:
    return lambda size: _json(_of_span(f"[{_list(unit, size)}]", name))


def _json_value(value: Callable[[int], str]) -> Callable[[int], bytes]:
    return lambda size: _json(_of_span(f'[{{"key":"gen_ai.k","value":{value(size)}}}]'))


JSON: dict[str, Shape] = {
    "JSON: empty resources": Shape(
        "traces", True, lambda n: b'{"resourceSpans":[%s]}' % _list("{}", n).encode(), TOO_LARGE
    ),
    "JSON: empty scopes": Shape(
        "traces", True, lambda n: b'{"resourceSpans":[{"scopeSpans":[%s]}]}' % _list("{}", n).encode(), TOO_LARGE
    ),
    "JSON: empty spans": Shape("traces", True, lambda n: _json(_list("{}", n)), TOO_LARGE),
    "JSON: numbers for spans": Shape("traces", True, lambda n: _json(_list("1", n)), TOO_LARGE),
    "JSON: empty log records": Shape("logs", True, lambda n: _json(_list("{}", n), "logs"), TOO_LARGE),
    "JSON: spans of twelve bytes": Shape("traces", True, lambda n: _json(_list('{"name":"a"}', n)), READ),
    "JSON: spans with ids and times": Shape("traces", True, lambda n: _json(_list(f"{{{_SPAN}}}", n)), READ),
    "JSON: empty attributes": Shape("traces", True, _in_json("{}"), TOO_LARGE),
    "JSON: numbers for attributes": Shape("traces", True, _in_json("1"), TOO_LARGE),
    "JSON: empty events": Shape("traces", True, _in_json("{}", "events"), TOO_LARGE),
    "JSON: 128 empty events in each span": Shape(
        "traces", True, lambda n: _json(_list(_of_span("[" + ",".join(["{}"] * 128) + "]", "events"), n)), TOO_LARGE
    ),
    "JSON: empty links": Shape("traces", True, _in_json("{}", "links"), TOO_LARGE),
    "JSON: empty values": Shape(
        "traces", True, _json_value(lambda n: f'{{"arrayValue":{{"values":[{_list("{}", n)}]}}}}'), TOO_LARGE
    ),
    "JSON: integers as text": Shape(
        "traces", True, _json_value(lambda n: '{"arrayValue":{"values":[%s]}}' % _list('{"intValue":"1"}', n)), READ
    ),
    "JSON: one key again and again": Shape("traces", True, _json_value(lambda n: "{%s}" % _list('"a":1', n)), READ),
    "JSON: many keys": Shape(
        "traces", True, _json_value(lambda n: "{%s}" % ",".join(f'"{k:x}":1' for k in range(max(n // 9, 1)))), READ
    ),
    "JSON: spans again and again": Shape(
        "traces", True, lambda n: b'{"resourceSpans":[{"scopeSpans":[{%s}]}]}' % _list('"spans":[]', n).encode(), READ
    ),
    "JSON: text full of commas": Shape("traces", True, _json_value(lambda n: '{"stringValue":"%s"}' % ("," * n)), READ),
    "JSON: text full of escapes": Shape(
        "traces", True, _json_value(lambda n: '{"stringValue":"%s"}' % ("\\n" * (n // 2))), READ
    ),
    "JSON: text full of escaped quotes": Shape(
        "traces", True, _json_value(lambda n: '{"stringValue":"%s"}' % ('\\"' * (n // 2))), READ
    ),
    "JSON: text full of backslashes": Shape(
        "traces", True, _json_value(lambda n: '{"stringValue":"%s"}' % ("\\\\" * (n // 2))), READ
    ),
    "JSON: text in hexadecimal": Shape(
        "traces", True, _json_value(lambda n: '{"stringValue":"%s"}' % ("\\u00e9" * (n // 6))), READ
    ),
    "JSON: surrogates, each in pairs": Shape(
        "traces", True, _json_value(lambda n: '{"stringValue":"%s"}' % ("\\ud83d\\ude00" * (n // 12))), READ
    ),
    "JSON: half a pair of surrogates": Shape(
        "traces", True, lambda n: _json(_list(f'{{{_SPAN},"a":"\\ud800"}}', n)), READ
    ),
    "JSON: not a number": Shape("traces", True, lambda n: _json(_list(f'{{{_SPAN},"a":NaN}}', n)), READ),
    "JSON: one long integer": Shape("traces", True, _json_value(lambda n: '{"intValue":%s}' % ("9" * n)), READ),
    "JSON: one long fraction": Shape("traces", True, _json_value(lambda n: '{"doubleValue":0.%s1}' % ("0" * n)), READ),
    "JSON: integers of 4,000 digits": Shape(
        "traces", True, _json_value(lambda n: '{"arrayValue":{"values":[%s]}}' % _list("9" * 4000, n)), READ
    ),
    "JSON: integers of 4,000 digits, as text": Shape(
        "traces",
        True,
        _json_value(lambda n: '{"arrayValue":{"values":[%s]}}' % _list('{"intValue":"%s"}' % ("9" * 4000), n)),
        READ,
    ),
    "JSON: lists within lists": Shape("traces", True, lambda n: b"[" * n, UNDECODABLE),
    "JSON: objects within objects": Shape("traces", True, lambda n: b'{"resourceSpans":' * (n // 17), UNDECODABLE),
    "JSON: values 150 deep": Shape(
        "traces",
        True,
        lambda n: _json(
            _list(_of_span('[{"key":"gen_ai.k","value":%s1%s}]' % ('{"arrayValue":{"values":[' * 150, "]}}" * 150)), n)
        ),
        READ,
    ),
    "JSON: a large resource for tiny scopes": Shape(
        "traces",
        True,
        lambda n: (
            b'{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"stringValue":"%s"}}]},"scopeSpans":[%s]}]}'
            % (b"x" * min(n // 2, 100_000), _list(f'{{"spans":[{{{_SPAN}}}]}}', n - min(n // 2, 100_000)).encode())
        ),
        READ,
    ),
    "JSON: nothing but blanks": Shape("traces", True, lambda n: b" " * n, READ),
    "JSON: blanks between everything": Shape("traces", True, lambda n: _json(" " * n + "{}" + "\n" * n), READ),
    "JSON: not UTF-8": Shape(
        "traces",
        True,
        lambda n: _json(_of_span('[{"key":"gen_ai.k","value":{"stringValue":"@@"}}]')).replace(b"@@", b"\xff" * n),
        READ,
    ),
    "JSON: noise": Shape("traces", True, lambda n: times(_RANDOM, n), UNDECODABLE),
    "JSON: buckets": Shape(
        "metrics",
        True,
        lambda n: (
            b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","histogram":{"dataPoints":[%s]}}]}]}]}'
            % _list('{"bucketCounts":[%s],"count":"0"}' % _list('"0"', 64), n).encode()
        ),
        READ,
    ),
    "JSON: empty points that are read": Shape(
        "metrics",
        True,
        lambda n: (
            b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"%s","sum":{"dataPoints":[%s]}}]}]}]}'
            % (READ_METRIC, _list("{}", n).encode())
        ),
        TOO_LARGE,
    ),
}

SHAPES: dict[str, Shape] = {**PROTOBUF, **JSON}


# --- honest bodies of maximum density -----------------------------------------------------------


def honest(count: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield (name, signal, body) of the densest honest bodies, `count` entries each."""
    at = (10**18).to_bytes(8, "little")
    yield "spans with ids and times", "traces", field(1, field(2, field(2, span()) * count))
    yield (
        "log records of a time and one delivery",
        "logs",
        field(1, field(2, field(2, b"\x59" + at + field(5, text(b"a"))) * count)),
    )
    point = field(1, b"\x19" + at + b"\x31" + at)
    yield "a sum of bare points", "metrics", request(field(1, READ_METRIC) + field(7, point * count))
    yield "a gauge of bare points", "metrics", request(field(1, b"m") + field(5, point * count))
    event = field(11, b"\x09" + at + field(2, b"e"))
    yield "spans with 100 small events", "traces", field(1, field(2, field(2, span(event * 100)) * (count // 100)))
    yield (
        "128 short attributes a span",
        "traces",
        field(1, field(2, field(2, span(field(9, pair(b"k", b"\x18\x01")) * 128)) * (count // 100))),
    )
    tokens = field(9, pair(b"ids", field(5, field(1, b"\x18\x05") * 4000)))
    yield "spans with 4,000 token ids", "traces", field(1, field(2, field(2, span(tokens)) * (count // 1000)))


# --- encodings ------------------------------------------------------------------------------------------------------


def _tiny_blocks(body: bytes, mode: int) -> bytes:
    pressed = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = [pressed.compress(body[i : i + 16]) + pressed.flush(mode) for i in range(0, len(body), 16)]
    return b"".join(out) + pressed.flush()


def zstd(body: bytes) -> bytes:
    """Return a body in one zstd frame."""
    import zstandard

    return zstandard.ZstdCompressor().compress(body)


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "as it is": ("", bytes),
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "zstd": ("zstd", zstd),
    "gzip, not compressed": ("gzip", lambda body: gzip.compress(body, 0)),
    "gzip of tiny blocks": ("gzip", lambda body: _tiny_blocks(body, zlib.Z_FULL_FLUSH)),
    "gzip of many members": (
        "gzip",
        lambda body: b"".join(gzip.compress(body[i : i + 64]) for i in range(0, len(body), 64)),
    ),
    "gzip of empty members": ("gzip", lambda body: gzip.compress(b"") * (len(body) // 20) + gzip.compress(body)),
    "zstd of many frames": ("zstd", lambda body: b"".join(zstd(body[i : i + 64]) for i in range(0, len(body), 64))),
    "zstd of empty frames": ("zstd", lambda body: zstd(b"") * (len(body) // 9) + zstd(body)),
    "zstd of repeated bytes": (
        "zstd",
        lambda body: b"\x28\xb5\x2f\xfd\x00\x58" + b"\x02\x00\x10a" * (len(body) // 4) + b"\x01\x00\x00",
    ),
}


# --- other shapes, by hypothesis ------------------------------------------------------------------------------------


def nested() -> st.SearchStrategy[Callable[[int], bytes]]:
    """Return strategies for bodies: a unit of some fields, repeated in a nested message."""
    tag = st.sampled_from([1, 2, 3, 5, 6, 7, 9, 11, 13, 15, 60])
    unit = st.one_of(
        st.builds(lambda number: field(number, b""), tag),
        st.builds(lambda number, content: field(number, content), tag, st.binary(max_size=12)),
        st.builds(lambda number, value: varint(number << 3) + varint(value), tag, st.integers(0, 300)),
        st.builds(lambda number: varint(number << 3 | 3) + varint(number << 3 | 4), tag),
        st.builds(lambda outer, inner, count: field(outer, field(inner, b"") * count), tag, tag, st.integers(0, 200)),
    )
    path = st.lists(tag, max_size=3).map(lambda more: [1, 2, 2][: len(more) + 1] + more[1:])

    def made(units: list[bytes], path: list[int]) -> Callable[[int], bytes]:
        def make(size: int) -> bytes:
            body = times(b"".join(units), size)
            for number in reversed(path):
                body = field(number, body)
            return body

        return make

    return st.builds(made, st.lists(unit, min_size=1, max_size=3), path)


def nested_json() -> st.SearchStrategy[Callable[[int], bytes]]:
    """Return strategies for JSON bodies: a value, repeated in a list at some level of a request."""
    names = st.sampled_from(
        ["resourceSpans", "scopeSpans", "spans", "attributes", "events", "key", "value", "arrayValue", "values", "a"]
    )
    leaf = st.none() | st.integers() | st.text(max_size=6) | st.floats(allow_nan=False, allow_infinity=False)
    value: st.SearchStrategy[Any] = st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
    )

    def made(unit: Any, path: list[str]) -> Callable[[int], bytes]:
        def make(size: int) -> bytes:
            body = f"[{_list(json.dumps(unit), size)}]"
            for name in reversed(path):
                body = f'[{{"{name}":{body}}}]' if name != path[0] else f'{{"{name}":{body}}}'
            return body.encode()

        return make

    return st.builds(
        made,
        value,
        st.sampled_from(
            [["resourceSpans", "scopeSpans", "spans"][:n] for n in (1, 2, 3)]
            + [
                ["resourceSpans", "scopeSpans", "spans", "attributes"],
                ["resourceSpans", "scopeSpans", "spans", "events"],
            ]
        ),
    )
