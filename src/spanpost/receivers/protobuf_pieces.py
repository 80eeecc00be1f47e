"""Counts and cuts OTLP/protobuf bodies without the parser, which builds everything at once and so gets small
pieces.

Traces, logs and metrics share one structure: a request holds resources, those hold scopes, those hold
entries (spans, log records or metrics), each in field 2 beside fields that describe the resource or scope.
Protobuf joins repeated messages, so each piece is a request.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import cache
from typing import Any, Final

from spanpost.receivers.decoded import MAX_EVENTS, Spoiled, Undecodable
from spanpost.receivers.elements import (
    KEPT_BYTES,
    LARGEST,
    SHARED,
    VALUES,
    Elements,
    too_large_entry,
    too_large_shared,
    too_many_values,
)

_ENTRY: Final = 2
_LENGTH_DELIMITED: Final = 2
#: Fields skipped between two pauses: about a millisecond.
_STRIDE: Final = 4096
#: Bodies up to this many bytes may be copied.
_COPIED: Final = 1024 * 1024
#: How deep messages are followed. The parser itself gives up at 100.
_DEPTH: Final = 100


def count(body: bytes, elements: Elements, inner: int = 0) -> Iterator[None]:
    """Count the resources, scopes and entries of a request, and all fields beside them; yield where a pause
    is allowed.

    `inner`: number of an entry's field whose messages count as elements too; 0: none. Raises `BodyTooLarge`
    for too many, and `Undecodable` if the body is no message or is truncated.
    """
    steps = 0
    for number, begin, start, end in fields(body, 0, len(body)):
        steps += 1
        if number == 1 and body[begin] & 7 == _LENGTH_DELIMITED:
            for middle, middle_begin, at, stop in fields(body, start, end):
                steps += 1
                if middle == _ENTRY and body[middle_begin] & 7 == _LENGTH_DELIMITED:
                    while at < stop:
                        steps += 1
                        at = _after(body, at, stop)
                        if steps >= _STRIDE:
                            elements.take(steps)
                            steps = 0
                            yield
                if steps >= _STRIDE:
                    elements.take(steps)
                    steps = 0
                    yield
        if steps >= _STRIDE:
            elements.take(steps)
            steps = 0
            yield
    elements.take(steps)
    if not inner:
        return
    yield
    if most_inner(body, inner) > elements.left:
        yield from _count_inner(body, Elements(len(body), elements.left), inner)


def most_inner(body: bytes, inner: int) -> int:
    """Return how many messages of an entry's field `inner` a request may hold at most.

    The first byte of each has the field's number and type, whatever the rest of its tag: nearly no body has
    so many of these.
    """
    first = inner << 3 | _LENGTH_DELIMITED
    return _occurrences(body, first) + _occurrences(body, first | 128)


def _occurrences(body: bytes, byte: int) -> int:
    # To replace a rare byte is eight times as fast as to count it, and copies the body.
    one = bytes((byte,))
    return len(body) - len(body.replace(one, b"")) if len(body) <= _COPIED else body.count(one)


def _count_inner(body: bytes, elements: Elements, inner: int) -> Iterator[None]:
    steps = 0
    for start, end in messages_in(body, 0, len(body), 1):
        for scope_start, scope_end in messages_in(body, start, end, _ENTRY):
            for entry_start, entry_end in messages_in(body, scope_start, scope_end, _ENTRY):
                found = 0
                for number, begin, _, _ in fields(body, entry_start, entry_end):
                    steps += 1
                    if steps % _STRIDE == 0:
                        yield
                    found += number == inner and body[begin] & 7 == _LENGTH_DELIMITED
                elements.take(min(found, MAX_EVENTS))


def cut(
    body: bytes, most: int, least: int = 1, entry: Any = None, values: int = VALUES
) -> Iterator[bytes | Spoiled | None]:
    """Yield requests of about `most` bytes that together equal `body`. An entry counts at least `least`
    bytes.

    With the descriptor of an `entry`, an entry beyond the limits is yielded as spoiled. None is yielded
    where a pause is allowed. Raises `Undecodable` like `count`, and `BodyTooLarge` for a resource or scope
    that is too large.
    """
    held: list[bytes] = []
    size = steps = 0
    for start, end in messages_in(body, 0, len(body), 1):
        steps += 1
        if steps % 256 == 0:
            yield None
        whose = yield from fields_beside(body, start, end)
        scopes: list[bytes] = []
        for scope_start, scope_end in messages_in(body, start, end, _ENTRY):
            steps += 1
            if steps % 256 == 0:
                yield None
            scope = yield from fields_beside(body, scope_start, scope_end)
            # Each piece repeats the resource and scope, which may be at most a quarter of it.
            section = max(most, 4 * (len(whose) + len(scope)))
            run: list[bytes] = []
            for entry_start, entry_end in messages_in(body, scope_start, scope_end, _ENTRY):
                if entry is not None and entry_end - entry_start > VALUES:
                    refusal = yield from _refusal(body, entry_start, entry_end, entry, values)
                    if refusal is not None:
                        yield refusal
                        continue
                run.append(wrap(_ENTRY, body[entry_start:entry_end]))
                size += max(entry_end - entry_start, least)
                if size > section:
                    scopes.append(wrap(_ENTRY, scope + b"".join(run)))
                    held.append(wrap(1, whose + b"".join(scopes)))
                    yield b"".join(held)
                    held, scopes, run, size = [], [], [], 0
            if run:
                scopes.append(wrap(_ENTRY, scope + b"".join(run)))
                size += len(scope)
        if scopes:
            held.append(wrap(1, whose + b"".join(scopes)))
            size += len(whose)
    if held:
        yield b"".join(held)


def _refusal(body: bytes, start: int, end: int, entry: Any, values: int) -> Generator[None, None, Spoiled | None]:
    """Return a large entry as spoiled if it exceeds the limits; yield where a pause is allowed."""
    if end - start > LARGEST:
        return Spoiled(body[start : start + KEPT_BYTES], too_large_entry(end - start))
    try:
        found = yield from _count_fields(body, start, end, entry, values)
        if found <= values:
            return None
        error: Undecodable = too_many_values(values)
    except Undecodable as wrong:
        error = wrong.with_traceback(None)
    return Spoiled(body[start : min(end, start + KEPT_BYTES)], error)


def sift(body: bytes, check: Callable[[bytes], str]) -> Iterator[bytes | Spoiled | None]:
    """Yield the entries that `check` refuses as spoiled, then a request of the others.

    `check` gets each entry as a request and returns the reason, empty: readable. None is yielded where a
    pause is allowed.
    """
    resources: list[bytes] = []
    steps = 0
    for start, end in messages_in(body, 0, len(body), 1):
        whose = yield from fields_beside(body, start, end)
        why_whose = check(wrap(1, whose))
        scopes: list[bytes] = []
        for scope_start, scope_end in messages_in(body, start, end, _ENTRY):
            scope = yield from fields_beside(body, scope_start, scope_end)
            why_all = why_whose or check(wrap(1, wrap(_ENTRY, scope)))
            run: list[bytes] = []
            for entry_start, entry_end in messages_in(body, scope_start, scope_end, _ENTRY):
                steps += 1
                if steps % 256 == 0:
                    yield None
                entry = wrap(_ENTRY, body[entry_start:entry_end])
                alone = wrap(1, wrap(_ENTRY, entry))
                if why := why_all or check(alone):
                    yield Spoiled(alone, Undecodable(why))
                else:
                    run.append(entry)
            if run:
                scopes.append(wrap(_ENTRY, scope + b"".join(run)))
        if scopes:
            resources.append(wrap(1, whose + b"".join(scopes)))
    yield b"".join(resources)


def has_more_fields(message: bytes, descriptor: Any, most: int) -> bool:
    """Whether a message has more than `most` fields, inner messages included.

    Raises `Undecodable` if it is no message.
    """
    counting = _count_fields(message, 0, len(message), descriptor, most)
    while True:
        try:
            next(counting)
        except StopIteration as done:
            return int(done.value) > most


def _count_fields(
    body: bytes, at: int, end: int, descriptor: Any, most: int, depth: int = 0
) -> Generator[None, None, int]:
    if depth > _DEPTH:
        raise Undecodable("messages are nested too deep")
    inner = _messages(descriptor)
    found = 0
    while at < end and found <= most:
        found += 1
        if found % _STRIDE == 0:
            yield
        if body[at] > 127 or body[at] >> 3 in inner:
            number, begin, content, at = _field(body, at, end)
            if content < at and number in inner and body[begin] & 7 == _LENGTH_DELIMITED:
                found += yield from _count_fields(body, content, at, inner[number], most - found, depth + 1)
        else:
            at = _after(body, at, end)
    return found


@cache
def _messages(descriptor: Any) -> dict[int, Any]:
    """Return the descriptors of a message's inner messages, by field number."""
    return {
        number: field.message_type
        for number, field in descriptor.fields_by_number.items()
        if field.message_type is not None
    }


def fields_beside(body: bytes, start: int, end: int) -> Generator[None, None, bytes]:
    """Return the fields beside the repeated one; yield where a pause is allowed.

    Raises `BodyTooLarge` beyond the limit.
    """
    found: list[bytes] = []
    size = 0
    for step, (number, begin, _, stop) in enumerate(fields(body, start, end), 1):
        if step % _STRIDE == 0:
            yield
        if number != _ENTRY or body[begin] & 7 != _LENGTH_DELIMITED:
            found.append(body[begin:stop])
            size += stop - begin
            if size > SHARED:
                raise too_large_shared()
    return b"".join(found)


def messages_in(body: bytes, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each message in the field `wanted`, lazily: a body may hold many."""
    return (
        (content, stop)
        for number, begin, content, stop in fields(body, start, end)
        if number == wanted and body[begin] & 7 == _LENGTH_DELIMITED
    )


def count_messages(body: bytes, at: int, end: int, wanted: int) -> Generator[None, None, int]:
    """Return the number of messages in the field `wanted`, below 16; yield where a pause is allowed."""
    tag = wanted << 3 | _LENGTH_DELIMITED
    found = steps = 0
    while at < end:
        steps += 1
        if steps % _STRIDE == 0:
            yield
        if body[at] == tag:
            found += 1
        elif body[at] > 127:  # it may be written in more bytes
            number, begin, _, at = _field(body, at, end)
            found += number == wanted and body[begin] & 7 == _LENGTH_DELIMITED
            continue
        at = _after(body, at, end)
    return found


def fields(body: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, begin, begin of the content, end) of each field of a message; raises `Undecodable` if
    it is none.
    """
    while at < end:
        found = _field(body, at, end)
        yield found
        at = found[3]


def _after(body: bytes, at: int, end: int) -> int:
    """Return the end of a field; nearly all lengths take one byte or two."""
    tag, left = body[at], end - at
    if tag & 0x87 == _LENGTH_DELIMITED and left > 2 and tag > 7:
        size = body[at + 1]
        if size < 128:
            stop = at + 2 + size
        elif (high := body[at + 2]) < 128:
            stop = at + 3 + (size & 127) + (high << 7)
        else:
            return _field(body, at, end)[3]
        if stop <= end:
            return stop
    return _field(body, at, end)[3]


def _field(body: bytes, begin: int, end: int) -> tuple[int, int, int, int]:
    tag = body[begin]
    at = begin + 1
    if tag > 127:
        tag, at = _varint(body, begin, end)
    kind = tag & 7
    if kind == _LENGTH_DELIMITED:
        if at < end and body[at] < 128:
            stop = at + 1 + body[at]
            at += 1
        else:
            length, at = _varint(body, at, end)
            stop = at + length
    elif kind == 0:
        _, stop = _varint(body, at, end)
    elif kind in (1, 5):
        stop = at + (8 if kind == 1 else 4)
    else:
        raise Undecodable("not a message in protobuf")
    if stop > end or not tag >> 3:
        raise Undecodable("not a message in protobuf, or cut off in the middle")
    return tag >> 3, begin, at, stop


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise Undecodable("not a message in protobuf, or cut off in the middle")


def wrap(number: int, content: bytes) -> bytes:
    """Return a field that holds a message."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes((number << 3 | 2, *length, size)) + content
