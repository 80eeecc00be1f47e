"""Bodies, decoded piece by piece: a large one never stands in memory as a whole, and one bad span spoils itself alone.

An OTLP request in protobuf is cut along its structure, which traces, logs and metrics share: requests hold resources, those
hold scopes, those hold spans, records or metrics, each in field 2 beside fields that say whose they are. Protobuf joins what is repeated, so
that every piece is a request of its own. JSON is cut by `json_pieces`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from spanpost.intake import decode
from spanpost.intake.decoded import Decoded, Undecodable
from spanpost.intake.json_pieces import NotStrict, cut_json, is_heavy

#: Bytes of a piece, about: some 20 to 30 ms of decoding.
PIECE: Final = 256 * 1024
#: Bodies up to this are one piece.
WHOLE: Final = 384 * 1024
#: What one span or record weighs at least, bytes: decoded, the smallest takes a kilobyte.
LEAST: Final = 128
#: Bodies from this on are looked at for being full of next to nothing.
_LOOKED_AT: Final = 16 * 1024
_REPEATED: Final = 2


class Piece(msgspec.Struct, kw_only=True):
    """What a piece of a body held, and the spans or records of it that cannot be decoded, each as a request, with why."""

    decoded: Decoded
    size: int
    spoiled: list[tuple[bytes, str]] = []
    #: All that it held is spoiled.
    is_nothing: bool = False


def pieces(signal: str, body: bytes, tenant: str, *, is_json: bool) -> Iterator[Piece]:
    """Yield a body in pieces. Raises `Undecodable` when it, or what is left of it, cannot be read at all.

    `TooLarge` is raised for JSON that would become too much in memory.
    """
    is_cut = len(body) > WHOLE or _is_crowded(body, is_json=is_json)
    if is_json:
        yield from _json_pieces(signal, body, tenant) if is_cut else (_whole(signal, body, tenant, is_json=True),)
        return
    for part in cut(body, PIECE) if is_cut else (body,):
        try:
            yield _whole(signal, part, tenant, is_json=False)
        except Undecodable as refusal:
            piece = _singles(signal, cut(part, 0), tenant, len(part), is_json=False)
            if piece.is_nothing:
                raise refusal from None  # nothing of it is good: it is no OTLP, whatever its bytes look like
            yield piece


def _is_crowded(body: bytes, *, is_json: bool) -> bool:
    """Tell whether a body may hold more spans or records than its size lets one think."""
    return len(body) > _LOOKED_AT and body.count(b"{" if is_json else b"\x12") * 8 > len(body)


def _whole(signal: str, body: bytes, tenant: str, *, is_json: bool) -> Piece:
    decoded = _decode(signal, body, tenant, is_json)
    return Piece(decoded=decoded, size=max(len(body), LEAST * len(decoded.observations)))


def _json_pieces(signal: str, body: bytes, tenant: str) -> Iterator[Piece]:
    try:
        parts = cut_json(signal, body, PIECE, LEAST)
        part = next(parts, None)
    except NotStrict:
        yield _whole(signal, body, tenant, is_json=True)
        return
    while part is not None:
        try:
            if is_heavy(part):
                raise Undecodable("it holds more JSON values than one span or record may have")
            piece = _whole(signal, part, tenant, is_json=True)
        except Undecodable:
            piece = _singles(signal, cut_json(signal, part, 0), tenant, len(part), is_json=True)
        yield piece
        part = next(parts, None)


def _singles(signal: str, parts: Iterable[bytes], tenant: str, size: int, *, is_json: bool) -> Piece:
    """Decode requests of one span or record each, and set those aside that cannot be."""
    piece = Piece(decoded=Decoded(), size=size, is_nothing=True)
    for single in parts:
        try:
            if is_json and is_heavy(single):
                raise Undecodable("it holds more JSON values than one span or record may have")
            one = _decode(signal, single, tenant, is_json)
        except Undecodable as error:
            piece.spoiled.append((single, str(error)))
            continue
        piece.is_nothing = False
        piece.decoded.observations += one.observations
        piece.decoded.metric_points += one.metric_points
        for reason, count in one.lost.items():
            piece.decoded.lose(reason, count)
    return piece


def _decode(signal: str, body: bytes, tenant: str, is_json: bool) -> Decoded:
    if signal == "traces":
        return decode.decode_traces(body, tenant=tenant, is_json=is_json)
    if signal == "logs":
        return decode.decode_logs(body, tenant=tenant, is_json=is_json)
    return decode.decode_metrics(body, tenant=tenant, is_json=is_json)


def cut(body: bytes, most: int) -> Iterator[bytes]:
    """Yield requests of about `most` bytes that hold together what `body` holds; of one span or record each for 0.

    Raises `Undecodable` where the body is no message, or ends in the middle of one.
    """
    held: list[bytes] = []
    size = 0
    for number, _, start, end in _fields(body, 0, len(body)):
        if number != 1:
            continue
        whose = _beside(body, start, end)
        for scope_start, scope_end in _repeated(body, start, end):
            scope = _beside(body, scope_start, scope_end)
            run: list[bytes] = []
            for entry_start, entry_end in _repeated(body, scope_start, scope_end):
                run.append(_wrap(2, body[entry_start:entry_end]))
                size += max(entry_end - entry_start, LEAST)
                if size > most:
                    held.append(_wrap(1, whose + _wrap(2, scope + b"".join(run))))
                    yield b"".join(held)
                    held, run, size = [], [], 0
            if run:
                held.append(_wrap(1, whose + _wrap(2, scope + b"".join(run))))
    if held:
        yield b"".join(held)


def _beside(body: bytes, start: int, end: int) -> bytes:
    """Return the fields beside the repeated one."""
    return b"".join([body[begin:stop] for number, begin, _, stop in _fields(body, start, end) if number != _REPEATED])


def _repeated(body: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each content of the repeated field, never all at once: a body may hold millions."""
    return ((content, stop) for number, _, content, stop in _fields(body, start, end) if number == _REPEATED)


def _fields(body: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, begin, begin of the content, end) of each field of a message."""
    while at < end:
        begin = at
        tag, at = _varint(body, at, end)
        kind = tag & 7
        if kind == 2:
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
        yield tag >> 3, begin, at, stop
        at = stop


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


def _wrap(number: int, content: bytes) -> bytes:
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes((number << 3 | 2, *length, size)) + content
