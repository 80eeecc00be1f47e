"""Decodes bodies in pieces: a large body is never parsed as a whole, and a bad span does not affect the
others.

Elements are counted before they are built (`elements`), and the caller can pause every few milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from spanpost.receivers import decode
from spanpost.receivers.decoded import Decoded, Spoiled, Undecodable
from spanpost.receivers.elements import KEPT, KEPT_BYTES, Elements, TooHeavy, values_of
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.json_pieces import NotStrict, count_json, cut_json, has_more_values
from spanpost.receivers.otlp_classes import entry_descriptor
from spanpost.receivers.otlp_protobuf import why_not
from spanpost.receivers.protobuf_pieces import count, cut, sift

#: Approximate bytes of a piece: 20 to 30 ms of decoding.
PIECE: Final = 256 * 1024
#: Bodies up to this are one piece.
WHOLE: Final = 384 * 1024
#: The field of a span that holds its events: each becomes an observation.
_EVENTS: Final = 11
#: Bytes that one span or record counts at least: the smallest takes a kilobyte when decoded.
LEAST: Final = 128


class Piece(msgspec.Struct, kw_only=True):
    """The contents of a piece of a body, and its weight in bytes."""

    decoded: Decoded
    size: int


def pieces(signal: str, body: bytes, tenant: str, *, is_json: bool) -> Iterator[Piece | None]:
    """Yield a body in pieces, and None where the caller may pause: every few milliseconds.

    Raises `Undecodable` if nothing of the body can be read, and `BodyTooLarge` beyond the limits. Pieces
    yielded before stay valid.
    """
    elements = Elements(len(body))
    spoiled: list[Spoiled] = []
    kept = 0
    is_good = False
    for part in _parts(signal, body, elements, is_json):
        if part is None:
            yield None
            continue
        piece = Piece(decoded=Decoded(), size=0)
        for some in _decoded(signal, part, tenant, elements, is_json):
            for each in some.spoiled:
                kept += 1
                if kept <= KEPT or not spoiled:
                    spoiled.append(each._replace(body=each.body[:KEPT_BYTES] if kept <= KEPT else b""))
                else:
                    spoiled[-1] = spoiled[-1]._replace(entries=spoiled[-1].entries + each.entries)
            some.spoiled = []
            is_good = is_good or bool(some.observations or some.metric_points or some.dropped)
            piece.decoded.add(some)
            yield None
        # The parsed objects are freed by now: between two pieces only the body's bytes are in memory.
        piece.size = max(len(part) if isinstance(part, bytes) else 0, LEAST * len(piece.decoded.observations))
        if is_good:
            piece.decoded.spoiled, spoiled = spoiled, []
        yield piece
    if spoiled:
        refusal, is_heavy = str(spoiled[0].error), isinstance(spoiled[0].error, TooHeavy)
        raise BodyTooLarge(len(body), refusal) if is_heavy else Undecodable(refusal)


def _parts(signal: str, body: bytes, elements: Elements, is_json: bool) -> Iterator[bytes | Spoiled | None]:
    """Yield a body, whole or in pieces, after counting its elements."""
    is_whole = len(body) <= WHOLE
    if not is_json:
        most = elements.left
        yield from count(body, elements, _EVENTS if signal == "traces" else 0)
        is_whole = is_whole and LEAST * (most - elements.left) <= WHOLE
        yield from (body,) if is_whole else cut(body, PIECE, LEAST, entry_descriptor(signal), values_of(signal))
        return
    yield from count_json(body)
    if is_whole and not has_more_values(body, values_of(signal)):
        yield body
        return
    try:
        yield from cut_json(signal, body, PIECE, LEAST)
    except NotStrict:
        yield body


def _decoded(signal: str, part: bytes | Spoiled, tenant: str, elements: Elements, is_json: bool) -> Iterator[Decoded]:
    """Yield the contents of a part of a body, unreadable entries included."""
    if isinstance(part, Spoiled):
        yield Decoded(spoiled=[part])
        return
    try:
        yield from decode.read(signal, part, tenant, elements, is_json=is_json)
    except Undecodable as error:  # nothing was yielded before
        refusal = error.with_traceback(None)
    else:
        return
    if is_json:
        yield Decoded(spoiled=[Spoiled(part, refusal)])
    else:
        yield from _sifted(signal, part, tenant, elements)


def _sifted(signal: str, part: bytes, tenant: str, elements: Elements) -> Iterator[Decoded]:
    """Yield the contents of a part that the parser refused as a whole, entry by entry."""
    for some in cut(part, PIECE, LEAST):
        for each in sift(some, lambda request: why_not(signal, request)) if isinstance(some, bytes) else ():
            if isinstance(each, bytes):
                yield from decode.read(signal, each, tenant, elements, is_json=False)
            else:
                yield Decoded(spoiled=[each] if each else [])
