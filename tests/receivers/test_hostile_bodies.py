"""Hostile bodies of any content cost work linear in their bytes, by counting, and honest ones are read."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given

from spanpost.http.shares import Sender
from spanpost.model.recorded import Recorded
from spanpost.receivers import decoding
from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.elements import KEPT, SMALL, SPARSE, Elements
from spanpost.receivers.encodings import BodyTooLarge, inflate
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.pieces import LEAST, PIECE, Piece, pieces
from spanpost.receivers.receiver import Receiver
from tests.conftest import ROOT
from tests.hostile_bodies import (
    PACKED,
    PART,
    READ,
    SHAPES,
    TOO_LARGE,
    UNDECODABLE,
    Shape,
    field,
    honest,
    nested,
    nested_json,
    request,
    span,
)
from tests.thorough import thorough

SIZE = 120_000
#: Calls of Python and of C for a byte. An honest body of small spans has 3.
CALLS = 8
#: Calls between two pauses, in any body: a call takes a tenth of a microsecond and more. Most shapes have a
#: tenth of this.
BETWEEN = 260_000
#: Bytes of Python's memory for a byte of a body, and a receiver's own beside them: the pieces that are not
#: recorded yet.
MEMORY, BESIDE = 48, 8 * PIECE


class Calls:
    """Counts calls while it is on."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _called(self, frame: Any, event: str, what: Any) -> None:
        self.count += event in ("call", "c_call")


def steps_of(shape: Shape, body: bytes) -> Iterator[Piece | str | None]:
    """Yield the result of a body, step by step, and its verdict."""
    spoiled = 0
    try:
        for piece in pieces(shape.signal, body, "t", is_json=shape.is_json):
            spoiled += len(piece.decoded.spoiled) if piece else 0
            yield piece
        yield PART if spoiled else READ
    except BodyTooLarge:
        yield TOO_LARGE
    except Undecodable:
        yield UNDECODABLE


def cost(shape: Shape, body: bytes) -> tuple[str, int, int]:
    """Return the verdict, the number of calls, and the most of them between two pauses."""
    verdict, longest, before = "", 0, 0
    coming = steps_of(shape, body)
    with Calls() as calls:
        for step in coming:
            longest, before = max(longest, calls.count - before), calls.count
            verdict = step if isinstance(step, str) else verdict
    return verdict, calls.count, longest


@pytest.fixture(scope="module", autouse=True)
def _ready() -> None:
    """Warm up: classes of protobuf, tables of dialects."""
    for shape in SHAPES.values():
        list(steps_of(shape, shape.make(2000)))


@pytest.mark.proves("one-stops-no-other", "crowds")
@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_known_shapes_cost_what_their_bytes_allow(name: str) -> None:
    """Each shape has its verdict and a bounded number of calls a byte, also between two pauses."""
    shape = SHAPES[name]
    small, large = shape.make(SIZE // 4), shape.make(SIZE)
    milder, few, _ = cost(shape, small)
    assert milder in (shape.verdict, READ)
    verdict, many, longest = cost(shape, large)
    assert verdict == shape.verdict
    assert many <= CALLS * len(large)
    assert longest <= BETWEEN
    # Reading a body at once costs less than cutting it, so that a cheap body may have more.
    assert many <= 6 * few + 2 * len(large) or verdict != milder


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_known_shapes_take_memory_for_their_bytes(name: str) -> None:
    """The memory for any body and its result is bounded by its bytes, plus the pieces being decoded."""
    shape = SHAPES[name]
    body = shape.make(SIZE)
    gc.collect()
    tracemalloc.start()
    try:
        for piece in steps_of(shape, body):
            if isinstance(piece, Piece):
                assert len(piece.decoded.observations) * LEAST <= piece.size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY * len(body) + BESIDE


@pytest.mark.slow
@pytest.mark.proves("one-stops-no-other", "crowds")
@thorough(60)
@given(nested())
def test_other_shapes_of_protobuf_are_no_worse(make: Callable[[int], bytes]) -> None:
    """Any repetition within a request is read or refused in a bounded number of calls a byte."""
    _bounded(Shape("traces", False, make, ""))
    _bounded(Shape("logs", False, make, ""))
    _bounded(Shape("metrics", False, make, ""))


@pytest.mark.proves("one-stops-no-other", "crowds", "depth-bomb")
@thorough(60)
@given(nested_json())
def test_other_shapes_of_json_are_no_worse(make: Callable[[int], bytes]) -> None:
    """Any repeated value of a JSON request is read or refused in a bounded number of calls a byte."""
    _bounded(Shape("traces", True, make, ""))


def _bounded(shape: Shape) -> None:
    body = shape.make(20_000)
    verdict, calls, longest = cost(shape, body)
    assert verdict
    assert calls <= CALLS * len(body) + 20_000
    assert longest <= BETWEEN


@pytest.mark.parametrize(
    "name", ["empty spans", "128 empty events in each span", "JSON: empty spans", "empty points that are read"]
)
def test_a_body_of_too_many_elements_is_refused_before_any_is_recorded(name: str) -> None:
    """Elements are counted before recording: nothing of a body with too many was yielded."""
    shape = SHAPES[name]
    coming = pieces(shape.signal, shape.make(SIZE), "t", is_json=shape.is_json)
    found = []
    with pytest.raises(BodyTooLarge, match=rf"one in {SPARSE} bytes.*send batches of at most {SMALL // SPARSE}"):
        found += [piece for piece in coming if piece is not None]
    assert not found


@pytest.mark.parametrize("count", [100, 10_000])
def test_the_densest_honest_bodies_are_read(count: int) -> None:
    """The densest honest bodies, small and large, are read to the last span, record and point."""
    for name, signal, body in honest(count):
        found = [piece.decoded for piece in pieces(signal, body, "t", is_json=False) if piece is not None]
        assert not any(each.spoiled or each.dropped for each in found), name
        assert sum(len(each.observations) + each.metric_points for each in found) >= count // 1000, name


@pytest.mark.slow
def test_recorded_bodies_are_far_from_the_limits() -> None:
    """The densest recorded body of a framework has a fifth of the allowed elements."""
    densest = 0.0
    for path in sorted((ROOT / "tests" / "captures").rglob("*.pb*")):
        raw = path.read_bytes()
        body = zlib.decompress(raw, 31) if path.suffix == ".gz" else raw
        for signal in ("traces", "logs", "metrics"):
            if signal in path.name:
                found = [each.decoded for each in pieces(signal, body, "t", is_json=False) if each is not None]
                densest = max(densest, sum(len(each.observations) + each.metric_points for each in found) / len(body))
    assert 0 < densest * SPARSE < 0.2


def test_what_is_left_out_of_a_body_is_kept_a_little_and_counted_whole() -> None:
    """Of many unreadable spans the first are kept with their bytes, and all are counted."""
    bad = field(2, b"\x0a\x7fxxxxxxxxxx")
    body = field(1, field(2, field(2, span()) + bad * 5000))
    spoiled = [each for piece in pieces("traces", body, "t", is_json=False) if piece for each in piece.decoded.spoiled]
    assert len([each for each in spoiled if each.body]) == KEPT
    assert sum(each.entries for each in spoiled) == 5000
    assert all(each.error.__traceback__ is None for each in spoiled)


@pytest.mark.parametrize("name", PACKED)
def test_encodings_cost_what_their_bytes_allow(name: str) -> None:
    """In any encoding a body is inflated, or refused, in a bounded number of calls a byte."""
    encoding, pack = PACKED[name]
    body = SHAPES["spans with ids and times"].make(100_000)
    for raw in (pack(body[:25_000]), pack(body)):
        with Calls() as calls, suppress(BodyTooLarge):
            assert inflate(raw, encoding, 200_000) in (body, body[:25_000])
        assert calls.count <= len(raw) // 4 + 20_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["spans with ids and times", "empty resources", "no span is a message", "JSON: spans with ids and times"]
)
async def test_others_go_on_while_a_large_body_is_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large body is decoded in many small steps, and the loop runs between any two of them."""
    monkeypatch.setattr(decoding, "_SLICE", 0.0)
    shape = SHAPES[name]
    body = shape.make(600_000)
    steps = sum(1 for step in steps_of(shape, body) if step is None)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    some = pieces(shape.signal, body, "t", is_json=shape.is_json)
    coming = decoding.Decoding().pieces(some, len(body), lambda: False)
    with suppress(BodyTooLarge, Undecodable):
        async for _ in coming:
            continue
    turning.cancel()
    assert steps > 8
    assert turns >= steps


async def test_memory_that_a_small_body_becomes_is_counted() -> None:
    """A small body that becomes many observations counts for more than its bytes in flight."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def record(batch: Any, /, *, is_whole: bool = False) -> Recorded:
        entered.set()
        await gate.wait()
        return Recorded()

    receiver = Receiver(record, limits=AdmissionLimits(writers=1))
    receiver.start()
    body = request(span(field(11, field(2, b"e" * 8)) * 100))
    reservation = receiver.admit(Sender("t", ""), len(body))
    taken = asyncio.create_task(receiver.take(reservation, "traces", body, is_json=False))
    await entered.wait()
    assert receiver.in_flight == 101 * LEAST > 8 * len(body)
    gate.set()
    await taken
    assert receiver.in_flight == 0
    assert await receiver.close(5)


def test_elements_are_counted_down() -> None:
    """A body may hold one element in so many bytes, and a small one as many as a body of 16 KiB."""
    Elements(10).take(SMALL // SPARSE)
    with pytest.raises(BodyTooLarge):
        Elements(10).take(SMALL // SPARSE + 1)
    Elements(120_000).take(10_000)
    with pytest.raises(BodyTooLarge):
        Elements(120_000).take(10_001)
