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
from spanpost.receivers.otlp_protobuf import elements_of, why_not
from spanpost.receivers.protobuf_pieces import count, cut, most_inner, sift

#: Approximate bytes of a piece: 20 to 30 ms of decoding.
PIECE: Final = 256 * 1024
#: Bodies up to this are one piece.
WHOLE: Final = 384 * 1024
#: The field of a span that holds its events: each becomes an observation.
_EVENTS: Final = 11
#: Bytes that one span or record counts at least: the smallest takes a kilobyte when decoded.
LEAST: Final = 128
#: Objects of OTLP/JSON that an entry has at least, about: itself, its attributes and their values.
_OBJECTS: Final = 8


class Piece(msgspec.Struct, kw_only=True):
    """The contents of a piece of a body, and its weight in bytes."""

    decoded: Decoded
    size: int


class CheckedPiece(msgspec.Struct, kw_only=True):
    """A piece of a body as a request that can be parsed, and what was left out of it.

    `entries`: about how many spans, records or metrics it holds.
    """

    body: bytes
    entries: int
    spoiled: list[Spoiled] = []


class _SpoiledEntries:
    """The unreadable entries of a body, until a readable one is found: only then they are reported."""

    def __init__(self) -> None:
        self._kept = 0
        self._waiting: list[Spoiled] = []

    def add(self, each: Spoiled) -> None:
        """Add an entry. The beginnings of the first `KEPT` are kept, the others are counted."""
        self._kept += 1
        if self._kept <= KEPT or not self._waiting:
            self._waiting.append(each._replace(body=each.body[:KEPT_BYTES] if self._kept <= KEPT else b""))
        else:
            self._waiting[-1] = self._waiting[-1]._replace(entries=self._waiting[-1].entries + each.entries)

    def take(self) -> list[Spoiled]:
        """Return the entries since the last call."""
        taken, self._waiting = self._waiting, []
        return taken

    def refuse(self, size: int) -> None:
        """Raise `Undecodable` or `BodyTooLarge` if entries are left: nothing of the body could be read."""
        if self._waiting:
            refusal, is_heavy = str(self._waiting[0].error), isinstance(self._waiting[0].error, TooHeavy)
            raise BodyTooLarge(size, refusal) if is_heavy else Undecodable(refusal)


def pieces(signal: str, body: bytes, tenant: str, *, is_json: bool, is_part: bool = False) -> Iterator[Piece | None]:
    """Yield a body in pieces, and None where the caller may pause: every few milliseconds.

    Raises `Undecodable` if nothing of the body can be read, unless it `is_part` of a request, whose rest may
    be readable; and `BodyTooLarge` beyond the limits. Pieces yielded before stay valid.
    """
    elements = Elements(len(body))
    spoiled = _SpoiledEntries()
    is_good = is_part
    for part in _parts(signal, body, elements, is_json):
        if part is None:
            yield None
            continue
        piece = Piece(decoded=Decoded(), size=0)
        for some in _decoded(signal, part, tenant, elements, is_json):
            for each in some.spoiled:
                spoiled.add(each)
            some.spoiled = []
            is_good = is_good or bool(some.observations or some.metric_points or some.dropped)
            piece.decoded.add(some)
            yield None
        # The parsed objects are freed by now: between two pieces only the body's bytes are in memory.
        piece.size = max(len(part) if isinstance(part, bytes) else 0, LEAST * len(piece.decoded.observations))
        if is_good:
            piece.decoded.spoiled = spoiled.take()
        yield piece
    spoiled.refuse(len(body))


def checked_pieces(signal: str, body: bytes, *, is_json: bool) -> Iterator[CheckedPiece | None]:
    """Yield a body in pieces that a parser accepts, without building anything of them; raises as `pieces`.

    A piece is at most `WHOLE` bytes, unless one entry is larger. `NotStrict` is raised for JSON that only the
    lenient parser reads.
    """
    elements = Elements(len(body))
    most = elements.left
    if not is_json and len(body) <= WHOLE:
        # The parser counts a small body five times as fast. All else takes the way of large ones.
        entries = elements_of(signal, body, min(most, WHOLE // LEAST))
        if entries and (signal != "traces" or most_inner(body, _EVENTS) + entries <= most):
            yield CheckedPiece(body=body, entries=entries)
            return
    spoiled = _SpoiledEntries()
    is_good = False
    for part in _parts(signal, body, elements, is_json, is_strict=True):
        is_refused = isinstance(part, bytes) and not is_json and why_not(signal, part)
        for each in _parsable(signal, part) if is_refused else (part,):
            if isinstance(each, Spoiled):
                spoiled.add(each)
            elif each:
                is_good = True
                share = each.count(b"{") // _OBJECTS if is_json else (most - elements.left) * len(each) // len(body)
                yield CheckedPiece(body=each, entries=share + 1, spoiled=spoiled.take())
            else:
                yield None
    if is_good:
        yield CheckedPiece(body=b"", entries=0, spoiled=spoiled.take())
    spoiled.refuse(len(body))


def _parts(
    signal: str, body: bytes, elements: Elements, is_json: bool, *, is_strict: bool = False
) -> Iterator[bytes | Spoiled | None]:
    """Yield a body, whole or in pieces, after counting its elements. `is_strict`: valid JSON only."""
    is_whole = len(body) <= WHOLE
    if not is_json:
        most = elements.left
        yield from count(body, elements, _EVENTS if signal == "traces" else 0)
        is_whole = is_whole and LEAST * (most - elements.left) <= WHOLE
        yield from (body,) if is_whole else cut(body, PIECE, LEAST, entry_descriptor(signal), values_of(signal))
        return
    yield from count_json(body)
    if is_whole and not is_strict and not has_more_values(body, values_of(signal)):
        yield body
        return
    try:
        yield from cut_json(signal, body, PIECE, LEAST)
    except NotStrict:
        if is_strict:
            raise
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
        return
    for each in _parsable(signal, part):
        if isinstance(each, bytes):
            yield from decode.read(signal, each, tenant, elements, is_json=False)
        else:
            yield Decoded(spoiled=[each] if each else [])


def _parsable(signal: str, part: bytes | Spoiled | None) -> Iterator[bytes | Spoiled | None]:
    """Yield a part that the parser refused as a whole: the entries that it refuses, and the others as requests."""
    for some in cut(part, PIECE, LEAST) if isinstance(part, bytes) else ():
        if isinstance(some, bytes):
            yield from sift(some, lambda request: why_not(signal, request))
        else:
            yield some
