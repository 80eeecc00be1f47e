"""OTLP/JSON bodies, decoded piece by piece: parsed, JSON takes ten times its size, and hostile JSON thirty times.

A large body is never parsed as a whole. Its levels are opened one by one, with everything below left as bytes; then spans,
records or metrics are parsed by the handful, each handful a small request of its own. What the bytes alone can say of how much
they would become is asked first: a list of empty objects is refused by its commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from spanpost.intake.decoded import Undecodable
from spanpost.intake.encodings import TooLarge

#: Bytes of a body for each value in it, at least: an attribute with a name of one letter and a small number has 17.
_SPARSE: Final = 12
#: Values of one span, record or metric. (What is kept of a span has at most a thousand attributes.)
_VALUES: Final = 200_000
#: Bytes of a resource, and of a scope.
_SHARED: Final = 1024 * 1024
#: Bytes of a body up to which the milder and greedier parser is asked where JSON is not as it should be.
_MILD: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
#: Bytes that are looked at in one step; what follows must not begin in the middle of an escape.
_STEP: Final = 1024 * 1024
_ESCAPES: Final = re.compile(rb"\\*")

_LEVELS: Final = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


class NotStrict(Undecodable):
    """It is not JSON as it should be, and small enough for a parser that takes that milder."""


def _level(*names: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Level", [(name, Raw, Raw()) for name in names])


_OPENED: Final = {
    signal: (_level(outer), _level("resource", middle), _level("scope", inner))
    for signal, (outer, middle, inner) in _LEVELS.items()
}


def cut_json(signal: str, body: bytes, most: int, least: int = 1) -> Iterator[bytes]:
    """Yield requests of about `most` bytes that hold together what `body` holds; of one span, record or metric each for 0.
    Each of these counts for `least` bytes at least.

    One that is misshapen is handed on as it is. Raises `TooLarge` for what would become too much, before anything is yielded
    where that can be told, and `Undecodable` or `NotStrict` for what is no JSON.
    """
    body = body.removeprefix(_BOM)
    if has_more_values(body, len(body) // _SPARSE):
        raise TooLarge(len(body), f"the body holds more than one JSON value in {_SPARSE} bytes; send smaller batches, or protobuf")
    request, of_resource, of_scope = _OPENED[signal]
    outer, middle, inner = _LEVELS[signal]
    try:
        opened = msgspec.json.decode(body, type=request)
    except (msgspec.DecodeError, RecursionError, ValueError) as refusal:
        raise (NotStrict if len(body) <= _MILD else Undecodable)(f"not OTLP/JSON: {refusal}") from None
    resources = _entries(getattr(opened, outer))
    if resources is None:
        yield b'{"%s":1}' % outer.encode()  # it is misshapen, which is counted
    for resource in resources or ():
        whose = _open(resource, of_resource)
        scopes = None if whose is None else _entries(getattr(whose, middle))
        if whose is None or scopes is None:
            yield _within(outer, [resource])  # so is that
            continue
        for scope in scopes:
            held = _open(scope, of_scope)
            entries = None if held is None else _entries(getattr(held, inner))
            if held is None or entries is None:
                yield _within(outer, [_object({"resource": whose.resource, middle: _listed([scope])})])  # type: ignore[attr-defined]
                continue
            yield from _requests(signal, whose.resource, held.scope, entries, most, least)  # type: ignore[attr-defined]


def _requests(signal: str, resource: Raw, scope: Raw, entries: Sequence[Raw], most: int, least: int) -> Iterator[bytes]:
    """Yield the entries of a scope by the handful; what they share is read anew for each, and is a quarter of it at most."""
    outer, middle, inner = _LEVELS[signal]
    for shared in (resource, scope):
        if len(memoryview(shared)) > _SHARED:
            raise TooLarge(_SHARED, f"a resource or scope is larger than {_SHARED} bytes; what belongs to spans goes into them")
    most = max(most, 4 * (len(bytes(resource)) + len(bytes(scope)))) if most else 0
    some: list[Raw] = []
    size = 0

    def request() -> bytes:
        held = _object({"scope": scope, inner: _listed(some)})
        return _within(outer, [_object({"resource": resource, middle: _listed([held])})])

    for entry in entries:
        some.append(entry)
        size += max(len(memoryview(entry)), least)
        if size > most:
            yield request()
            some, size = [], 0
    if some:
        yield request()


def has_more_values(body: bytes, most: int) -> bool:
    """Tell whether JSON has more values than that, about: lists and objects have a comma between two."""
    if body.count(b",") <= most:
        return False
    # Text may be full of commas, and costs nothing: those outside of it count. All of it in steps that are C's.
    found = at = 0
    is_within = False
    while at < len(body) and found <= most:
        end = _ESCAPES.match(body, at + _STEP).end() + 1  # type: ignore[union-attr]
        texts = body[at:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        found += b"".join(texts[is_within::2]).count(b",")
        is_within ^= len(texts) % 2 == 0
        at = end
    return found > most


def is_heavy(request: bytes) -> bool:
    """Tell whether a request of one entry would become too much."""
    return has_more_values(request, _VALUES)


def _open(raw: Raw, kind: type[msgspec.Struct]) -> msgspec.Struct | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def _entries(raw: Raw) -> list[Raw] | None:
    """Return a list's entries, each as its bytes; None for what is no list."""
    if not memoryview(raw) or bytes(memoryview(raw)[:5]).strip() == b"null":
        return []
    try:
        return msgspec.json.decode(raw, type=list[Raw])
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def _within(outer: str, entries: Sequence[Raw | bytes]) -> bytes:
    return _object({outer: _listed(entries)})


def _listed(entries: Sequence[Raw | bytes]) -> bytes:
    return b"[" + b",".join(map(bytes, entries)) + b"]"


def _object(fields: dict[str, Raw | bytes]) -> bytes:
    held = ((name, bytes(value)) for name, value in fields.items())
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in held if value) + b"}"
