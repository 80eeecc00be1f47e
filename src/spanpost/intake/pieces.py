"""Bodies, decoded piece by piece: a large one never stands in memory as a whole, and one bad span spoils itself alone.

An OTLP request in protobuf is cut along its structure, which traces, logs and metrics share: requests hold resources, those
hold scopes, those hold spans, records or metrics, each in field 2 beside fields that say whose they are. Protobuf joins what is repeated, so
that every piece is a request of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from spanpost.intake import decode, otlp_json
from spanpost.intake.decoded import Decoded, Undecodable

#: Bytes of a piece, about: some 20 to 30 ms of decoding.
PIECE: Final = 256 * 1024
#: Bodies up to this are one piece.
WHOLE: Final = 384 * 1024
_REPEATED: Final = 2


class Piece(msgspec.Struct, kw_only=True):
    """What a piece of a body held, and the spans or records of it that cannot be decoded, each as a request, with why."""

    decoded: Decoded
    size: int
    spoiled: list[tuple[bytes, str]] = []


def pieces(signal: str, body: bytes, tenant: str, *, is_json: bool) -> Iterator[Piece]:
    """Yield a body in pieces. Raises `Undecodable` when it, or what is left of it, cannot be read at all."""
    if is_json and signal != "metrics" and len(body) > WHOLE:
        yield from _json_pieces(signal, body, tenant)
        return
    if is_json:
        yield Piece(decoded=_decode(signal, body, tenant, is_json), size=len(body))
        return
    for part in cut(body, PIECE) if len(body) > WHOLE else (body,):
        yield _piece(signal, part, tenant)


def _json_pieces(signal: str, body: bytes, tenant: str) -> Iterator[Piece]:
    """Yield a JSON body in pieces: it is parsed whole, and its spans are let go of as they are read."""
    document, repairs = otlp_json.parse(body)
    read = otlp_json.read_traces if signal == "traces" else otlp_json.read_logs
    lists = otlp_json.entries(signal, document)
    count = sum(len(entries) for _, _, entries in lists)
    most = max(1, count * PIECE // len(body))
    for resource, scope, entries in lists:
        entries.reverse()
        while entries:
            some = [entries.pop() for _ in range(min(most, len(entries)))]
            decoded = read(otlp_json.request(signal, resource, scope, some), repairs, tenant)
            yield Piece(decoded=decoded, size=len(body) * len(some) // count)
    # What is left has no entries: it may still be misshapen, which is counted.
    yield Piece(decoded=read(document, repairs, tenant), size=0)


def _piece(signal: str, part: bytes, tenant: str) -> Piece:
    try:
        return Piece(decoded=_decode(signal, part, tenant, False), size=len(part))
    except Undecodable as refusal:
        piece = Piece(decoded=Decoded(), size=len(part))
        singles = 0
        for single in cut(part, 0):
            singles += 1
            try:
                one = _decode(signal, single, tenant, False)
            except Undecodable as error:
                piece.spoiled.append((single, str(error)))
                continue
            piece.decoded.observations += one.observations
            piece.decoded.metric_points += one.metric_points
            for reason, count in one.lost.items():
                piece.decoded.lose(reason, count)
        if len(piece.spoiled) == singles:
            raise refusal  # nothing of it is good: it is no OTLP, whatever its bytes look like
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
        whose, scopes = _split(body, start, end)
        for _, scope_start, scope_end in scopes:
            scope, entries = _split(body, scope_start, scope_end)
            run: list[bytes] = []
            for entry_start, _, entry_end in entries:
                run.append(body[entry_start:entry_end])
                size += entry_end - entry_start
                if size > most:
                    held.append(_wrap(1, whose + _wrap(2, scope + b"".join(run))))
                    yield b"".join(held)
                    held, run, size = [], [], 0
            if run:
                held.append(_wrap(1, whose + _wrap(2, scope + b"".join(run))))
    if held:
        yield b"".join(held)


def _split(body: bytes, start: int, end: int) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Return the fields beside the repeated one, and of each of that its begin, the begin of its content and its end."""
    beside: list[bytes] = []
    repeated: list[tuple[int, int, int]] = []
    for number, begin, content, stop in _fields(body, start, end):
        if number == _REPEATED:
            repeated.append((begin, content, stop))
        else:
            beside.append(body[begin:stop])
    return b"".join(beside), repeated


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
