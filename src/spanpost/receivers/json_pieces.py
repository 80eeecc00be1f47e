"""Cuts OTLP/JSON bodies into pieces: parsed JSON takes ten times its size, hostile JSON thirty times.

A large body is never parsed as a whole. Its levels are opened one by one, and everything below stays bytes;
then small groups of spans, log records or metrics are parsed, each as a small request. `elements` has the
limits.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate
from typing import Final

import msgspec
from msgspec import Raw

from spanpost.receivers.decoded import Spoiled, Undecodable
from spanpost.receivers.elements import (
    JSON_VALUES,
    KEPT_BYTES,
    LARGEST,
    MILD,
    SHARED,
    VALUES,
    TooHeavy,
    allowed,
    too_dense,
    too_large_entry,
    too_large_shared,
    too_many_values,
    values_of,
)
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.otlp_json import LEVELS

_BOM: Final = b"\xef\xbb\xbf"
#: Bytes read in one step; a step must not end in the middle of an escape.
_STEP: Final = 256 * 1024
_ESCAPES: Final = re.compile(rb"\\*")
#: Limited because reading a number takes quadratic time.
_LONG_NUMBER: Final = re.compile(rb"[0-9]{100}")


class NotStrict(Undecodable):
    """The JSON is invalid, but small enough for the lenient parser."""


def _level(*names: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Level", [(name, Raw, Raw()) for name in names])


_OPENED: Final = {
    signal: (_level(outer), _level("resource", middle), _level("scope", inner))
    for signal, (outer, middle, inner) in LEVELS.items()
}


def count_json(body: bytes) -> Iterator[None]:
    """Count the objects and values of JSON; yield where a pause is allowed.

    Raises `BodyTooLarge` for too many.
    """
    most = allowed(len(body))
    is_dense = body.count(b"{") > most
    yield
    if not is_dense and body.count(b",") <= JSON_VALUES:
        return
    objects = values = 0
    for step in _outside(body):
        objects += step.count(b"{")
        values += step.count(b",")
        if objects > most:
            raise too_dense(len(body))
        if values > JSON_VALUES:
            raise BodyTooLarge(
                len(body), f"the body holds more than {JSON_VALUES} JSON values; send smaller batches, or protobuf"
            )
        yield


def cut_json(signal: str, body: bytes, most: int, least: int) -> Iterator[bytes | Spoiled | None]:
    """Yield requests of about `most` bytes that together equal `body`.

    A span, log record or metric counts at least `least` bytes; one beyond the limits is yielded as spoiled.
    Malformed parts are passed on unchanged. None is yielded where a pause is allowed. Raises `BodyTooLarge`
    for a resource or scope that is too large, and `Undecodable` or `NotStrict`, before anything is yielded,
    for invalid JSON.
    """
    body = body.removeprefix(_BOM)
    request, of_resource, _ = _OPENED[signal]
    outer, middle, _ = LEVELS[signal]
    try:
        opened = msgspec.json.decode(body, type=request)
    except (msgspec.DecodeError, RecursionError, ValueError) as refusal:
        raise (NotStrict if len(body) <= MILD else Undecodable)(f"not OTLP/JSON: {refusal}") from None
    yield None
    resources = _entries(getattr(opened, outer), body)
    if resources is None:
        yield b'{"%s":1}' % outer.encode()  # malformed: the decoder counts it
    for resource in resources or ():
        yield None
        whose = _open(resource, of_resource)
        yield None
        scopes = None if whose is None else _entries(getattr(whose, middle), body)
        if whose is None or scopes is None:
            yield _within(outer, [resource])  # so is that
            continue
        yield from _requests(signal, body, whose.resource, scopes, most, least)  # type: ignore[attr-defined]


def _requests(
    signal: str, body: bytes, resource: Raw, scopes: Sequence[Raw], most: int, least: int
) -> Iterator[bytes | Spoiled | None]:
    """Yield the entries of a resource in small requests; each repeats resource and scope, at most a quarter
    of it.
    """
    outer, middle, inner = LEVELS[signal]
    some: list[bytes] = []
    size = 0

    def request(scopes: Sequence[bytes]) -> bytes:
        return _within(outer, [_object({"resource": resource, middle: _listed(scopes)})])

    for number, scope in enumerate(scopes):
        is_long = number % 256 == 0 or len(memoryview(scope)) > MILD
        if is_long:
            yield None
        held = _open(scope, _OPENED[signal][2])
        if is_long:
            yield None
        entries = None if held is None else _entries(getattr(held, inner), body)
        if held is None or entries is None:
            some.append(bytes(scope))  # it is misshapen
            size += len(some[-1])
            continue
        of_scope: Raw = held.scope  # type: ignore[attr-defined]
        shared = [len(memoryview(resource)), len(memoryview(of_scope))]
        if max(shared) > SHARED:
            raise too_large_shared()
        left = max(most, 4 * sum(shared))
        if is_long:
            yield None
        run: list[Raw] = []
        for entry in entries:
            length = len(memoryview(entry))
            if length > VALUES:
                refusal = yield from _refusal(entry, values_of(signal))
                if refusal is not None:
                    yield Spoiled(bytes(memoryview(entry)[:KEPT_BYTES]), refusal)
                    continue
            if size + length > left and size:  # a large one comes alone
                yield request([*some, _object({"scope": of_scope, inner: _listed(run)})])
                some, run, size = [], [], 0
            run.append(entry)
            size += max(length, least)
        if run:
            some.append(_object({"scope": of_scope, inner: _listed(run)}))
            size += shared[1]
    if some:
        yield request(some)


def _refusal(entry: Raw, values: int) -> Generator[None, None, Undecodable | None]:
    """Return why a large entry exceeds the limits; None: it does not. Yield where a pause is allowed."""
    length = len(memoryview(entry))
    if length > LARGEST:
        return too_large_entry(length)
    found = 0
    for step in _outside(bytes(entry)):
        found += step.count(b",")
        if found > values:
            return too_many_values(values)
        if length > MILD and _LONG_NUMBER.search(step):
            return TooHeavy(
                f"one span, log record or metric of more than {MILD} bytes holds a number of more than 100 digits"
            )
        yield
    return None


def has_more_values(body: bytes, most: int) -> bool:
    """Whether JSON has more than about `most` values, by counting commas."""
    return body.count(b",") > most and any(found > most for found in _values(body))


def _values(body: bytes) -> Iterator[int]:
    """Yield the number of values so far, step by step."""
    return accumulate(step.count(b",") for step in _outside(body))


def _outside(body: bytes) -> Iterator[bytes]:
    """Yield the JSON outside of strings, step by step: the contents of strings cost nothing and must not be
    counted.
    """
    at = 0
    is_within = False
    while at < len(body):
        end = _ESCAPES.match(body, at + _STEP).end() + 1  # type: ignore[union-attr]
        texts = body[at:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b"".join(texts[is_within::2])
        is_within ^= len(texts) % 2 == 0
        at = end


def _open(raw: Raw, kind: type[msgspec.Struct]) -> msgspec.Struct | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def _entries(raw: Raw, body: bytes) -> list[Raw] | None:
    """Return a list's entries as bytes; None: not a list. Raises `BodyTooLarge` for too many of any type."""
    if not memoryview(raw) or bytes(memoryview(raw)[:5]).strip() == b"null":
        return []
    try:
        found = msgspec.json.decode(raw, type=list[Raw])
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    if len(found) > allowed(len(body)):
        raise too_dense(len(body))
    return found


def _within(outer: str, entries: Sequence[Raw | bytes]) -> bytes:
    return _object({outer: _listed(entries)})


def _listed(entries: Sequence[Raw | bytes]) -> bytes:
    return b"[" + b",".join(map(bytes, entries)) + b"]"


def _object(fields: dict[str, Raw | bytes]) -> bytes:
    held = ((name, bytes(value)) for name, value in fields.items())
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in held if value) + b"}"
