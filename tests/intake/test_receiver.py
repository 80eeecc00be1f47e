"""What the doors share: commits of groups, who is answered when, and who is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from spanpost.domain.observations import Observation
from spanpost.intake.admission import Busy, Limits, Seat
from spanpost.intake.pieces import PIECE
from spanpost.intake.receiver import Taken
from spanpost.shares import Sender
from tests.intake.doors import Answer, Door, away, opened, traces


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """Lend a door with one writer."""
    async with opened(Limits(writers=1)) as lent:
        yield lent


async def held(door: Door, number: int = 1) -> asyncio.Task[Answer]:
    """Send a span and wait until its transaction hangs."""
    door.hall.gate.clear()
    door.hall.entered.clear()
    asked = asyncio.create_task(door.post("/v1/traces", traces(number)))
    await door.hall.entered.wait()
    return asked


async def posted(door: Door, *numbers: int) -> list[asyncio.Task[Answer]]:
    """Send a request for each number, and return when they wait for their turn."""
    before = door.receiver.groups.parts
    tasks = [asyncio.create_task(door.post("/v1/traces", traces(number))) for number in numbers]
    while door.receiver.groups.parts < before + len(numbers):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return tasks


async def test_what_waits_is_committed_together(door: Door) -> None:
    """Requests that come while a transaction is under way share the next one, and each is answered after it."""
    first = await held(door)
    rest = await posted(door, *range(2, 12))
    assert not any(task.done() for task in (first, *rest))
    door.hall.gate.set()
    assert {(await task).status for task in (first, *rest)} == {200}
    assert [len(batch) for batch in door.hall.batches] == [1, 10]
    assert door.receiver.in_flight == 0


async def test_two_writers_overlap() -> None:
    """While one transaction is under way another one begins, once half a group has come together for it."""
    async with opened(Limits(writers=2, group=6)) as door:
        first = await held(door, 1)
        door.hall.entered.clear()
        rest = await posted(door, 2, 3)
        assert not door.hall.entered.is_set()
        rest += [asyncio.create_task(door.post("/v1/traces", traces(4)))]
        await door.hall.entered.wait()
        assert not first.done()
        door.hall.gate.set()
        assert {(await task).status for task in (first, *rest)} == {200}
        assert [len(batch) for batch in door.hall.batches] == [1, 3]


async def test_what_is_little_is_taken_by_who_is_done_first() -> None:
    """What waits and is too little for a transaction beside the one under way is taken after that one, by whichever writer."""
    async with opened(Limits(writers=2, group=6)) as door:
        first = await held(door, 1)
        rest = await posted(door, 2, 3)
        door.hall.gate.set()
        assert {(await task).status for task in (first, *rest)} == {200}
        assert [len(batch) for batch in door.hall.batches] == [1, 2]


async def test_a_group_has_bounds() -> None:
    """A transaction takes no more than its bound; a request larger than that is answered after its last part."""
    async with opened(Limits(writers=1, group=10)) as door:
        first = await held(door)
        rest = await posted(door, *range(2, 17))
        big = asyncio.create_task(door.post("/v1/traces", traces(*range(100, 135))))
        await asyncio.sleep(0)
        door.hall.gate.set()
        assert {(await task).status for task in (first, *rest, big)} == {200}
        assert max(len(batch) for batch in door.hall.batches) == 10
        assert door.hall.spans == [*range(1, 17), *range(100, 135)]


@pytest.mark.parametrize(("numbers", "groups"), [((1, 1, 1, 1), [1, 1, 2]), ((1, 2, 3, 4), [1, 1, 1, 1])])
async def test_parts_of_the_same_traces_are_awaited(numbers: tuple[int, ...], groups: list[int]) -> None:
    """Where two groups held parts of one trace, the next waits for as many requests as were under way; of other traces none waits."""
    async with opened(Limits(writers=1, company=1e9)) as door:
        gate, entered = door.hall.gate, door.hall.entered

        def let_one_through() -> None:
            entered.clear()
            gate.set()
            gate.clear()

        first = await held(door, numbers[0])
        [second] = await posted(door, numbers[1])
        let_one_through()
        await entered.wait()
        [third] = await posted(door, numbers[2])
        let_one_through()
        assert (await first).status == (await second).status == 200
        if len(groups) == 4:
            await entered.wait()
        [fourth] = await posted(door, numbers[3])
        gate.set()
        assert (await third).status == (await fourth).status == 200
        assert [len(batch) for batch in door.hall.batches] == groups


async def test_a_request_of_many_parts_is_answered_when_all_are_committed() -> None:
    """The ledger going away between two parts of a request is a 503 for it; its repeat is taken whole."""
    async with opened(Limits(writers=1, group=10)) as door:
        door.hall.fail = lambda batch: away(batch) if any(o.span_id[-1] == 25 for o in batch) else None
        assert (await door.post("/v1/traces", traces(*range(1, 31)))).status == 503
        door.hall.fail = lambda batch: None
        assert (await door.post("/v1/traces", traces(*range(1, 31)))).status == 200
        assert set(door.hall.spans) == set(range(1, 31))


async def test_a_bad_request_does_not_fail_its_neighbours(door: Door) -> None:
    """A fault that one request strikes fails it alone: it is asked to come back, its neighbours are committed."""

    def strikes(batch: Sequence[Observation]) -> Exception | None:
        return RuntimeError("a fault of ours") if any(o.span_id[-1] == 5 for o in batch) else None

    first = await held(door)
    rest = await posted(door, *range(2, 9))
    door.hall.fail = strikes
    door.hall.gate.set()
    assert [(await task).status for task in (first, *rest)] == [200, 200, 200, 200, 503, 200, 200, 200]
    assert door.hall.spans == [1, 2, 3, 4, 6, 7, 8]


async def test_while_the_ledger_is_away_senders_are_asked_to_come_back(door: Door) -> None:
    """503 with Retry-After of 1 to 5 s, alike in header and body; when the ledger is back the next request is taken."""
    door.hall.fail = away
    for _ in range(20):
        answer = await door.post("/v1/traces", traces(1))
        assert answer.status == 503
        assert 1 <= int(answer.headers["retry-after"]) == answer.retry_delay <= 5
    assert door.receiver.trouble
    door.hall.fail = lambda batch: None
    assert (await door.post("/v1/traces", traces(1))).status == 200
    assert not door.receiver.trouble
    assert door.receiver.in_flight == 0


async def test_while_the_ledger_is_away_one_request_tries(door: Door) -> None:
    """Of many that come while the ledger is known to be away one waits for it; the others are sent away unread."""
    door.hall.fail = away
    assert (await door.post("/v1/traces", traces(1))).status == 503
    probe = await held(door, 2)
    headers = {"content-type": "application/x-protobuf", "content-length": "100"}
    assert (await door.ask("POST", "/v1/traces", None, headers)).status == 503
    door.hall.fail = lambda batch: None
    door.hall.gate.set()
    assert (await probe).status == 200


async def test_nobody_waits_for_ever_on_a_ledger_that_hangs() -> None:
    """Without any commit for as long as the patience is, those who wait are sent away, and new ones at once."""
    async with opened(Limits(writers=1, patience=0.05)) as door:
        first = await held(door)
        assert (await first).status == 503
        assert door.receiver.in_flight > 0  # it is still under way
        assert (await door.post("/v1/traces", traces(2))).status == 503
        door.hall.gate.set()
        while door.receiver.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await door.post("/v1/traces", traces(3))).status == 200
        assert door.hall.spans == [1, 3]  # what was sent away is recorded all the same: its repeat is nothing new


async def test_what_is_more_than_a_share_is_sent_away() -> None:
    """Beyond its sender's share of the bytes under way a request is refused before it is read; one body
    alone is always taken."""
    body = traces(1, filler="x" * 3000)
    async with opened(Limits(writers=1, body=len(body), in_flight=1)) as door:
        assert (await door.post("/v1/traces", body)).status == 200
        first = await held(door)
        assert door.receiver.in_flight > 0
        headers = {"content-type": "application/x-protobuf", "content-length": str(len(body))}
        answer = await door.ask("POST", "/v1/traces", None, headers)
        assert (answer.status, 1 <= answer.retry_delay <= 5) == (503, True)
        assert (await door.post("/v1/traces", [body[:-10], body[-10:]])).status == 503  # its length was not said
        door.hall.gate.set()
        assert (await first).status == 200
        assert (await door.post("/v1/traces", body)).status == 200
        assert door.receiver.in_flight == 0


@pytest.mark.parametrize("hostile", [("red", "192.0.2.1"), ("blue", "192.0.2.1")], ids=["another tenant", "another address"])
async def test_who_fills_the_memory_leaves_some_for_others(hostile: tuple[str, str]) -> None:
    """While a sender holds as much as it may, with bodies that never end, another's requests are let in,
    whatever they announce."""
    body = traces(1, filler="x" * 3000)
    async with opened(Limits(in_flight=20_000, body=20_000)) as door:
        seats: list[Seat] = []
        with suppress(Busy):
            while True:
                seats.append(door.receiver.admit(Sender(*hostile), 1000))
                seats[-1].grow(1000)
        assert door.receiver.in_flight == 20_000
        seat = door.receiver.admit(Sender("blue", "192.0.2.2"), len(body))
        seat.grow(len(body))
        assert await door.receiver.take(seat, "traces", body, is_json=False) == Taken()
        assert door.hall.spans == [1]


async def test_what_was_announced_takes_no_memory(door: Door) -> None:
    """Requests that announce all of the memory and send nothing of it hold none: others are let in, of the
    same sender, too."""
    sender = Sender("default", "")
    for _ in range(100):
        door.receiver.admit(sender, door.receiver.limits.body)
    assert door.receiver.in_flight == 0
    assert (await door.post("/v1/traces", traces(1))).status == 200


async def test_a_flood_of_one_tenant_refuses_no_other() -> None:
    """A tenant that has more waiting than can be recorded soon is sent away; another's request is let in
    meanwhile and recorded."""
    size = len(traces(1))
    async with opened(Limits(writers=1, queue=0.0, queue_bytes=3 * size)) as door:
        first = await held(door)
        await posted(door, 2, 3, 4)
        flooding, other = Sender("default", ""), Sender("other", "")
        with pytest.raises(Busy):
            door.receiver.admit(flooding, size)
        seat = door.receiver.admit(other, size)
        taking = asyncio.create_task(door.receiver.take(seat, "traces", traces(5), is_json=False))
        while door.receiver.groups.parts < 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
        door.hall.gate.set()
        assert (await first).status == 200
        assert await taking == Taken()


async def test_more_than_can_be_recorded_in_time_is_sent_away() -> None:
    """What may wait is bounded by the pace of late, so that who is taken is answered soon."""
    size = len(traces(1))
    async with opened(Limits(writers=1, queue=0.0, queue_bytes=3 * size)) as door:
        first = await held(door)
        rest = await posted(door, 2, 3, 4)
        assert (await door.post("/v1/traces", traces(5))).status == 503
        door.hall.gate.set()
        assert {(await task).status for task in (first, *rest)} == {200}
        assert (await door.post("/v1/traces", traces(5))).status == 200


async def test_a_sender_that_gives_up_spoils_nothing(door: Door) -> None:
    """A request whose sender is gone is recorded with the others, and its memory is given back."""
    first = await held(door)
    gone, stays = await posted(door, 2, 3)
    gone.cancel()
    await asyncio.wait((gone,))
    door.hall.gate.set()
    assert (await first).status == (await stays).status == 200
    assert set(door.hall.spans) >= {1, 3}
    assert door.receiver.in_flight == 0


async def test_closing_records_what_waits(door: Door) -> None:
    """At the end what waits is committed and answered; what comes after is sent away."""
    first = await held(door)
    rest = await posted(door, 2, 3)
    closing = asyncio.create_task(door.receiver.close(5.0))
    await asyncio.sleep(0)
    assert (await door.post("/v1/traces", traces(4))).status == 503
    door.hall.gate.set()
    assert await closing
    assert {(await task).status for task in (first, *rest)} == {200}
    assert door.hall.spans == [1, 2, 3]


async def test_closing_waits_no_longer_than_it_may(door: Door) -> None:
    """A ledger that hangs does not keep the process: who waits is told to come back."""
    first = await held(door)
    rest = await posted(door, 2)
    assert not await door.receiver.close(0.01)
    assert {(await task).status for task in (first, *rest)} == {503}
    assert door.receiver.in_flight == 0


async def test_large_bodies_leave_room_for_others() -> None:
    """A large body is decoded in pieces, between which others are answered."""
    body = traces(*range(1, 4000), filler="x" * 200)
    assert len(body) > 3 * PIECE
    async with opened() as door:
        asked = asyncio.create_task(door.post("/v1/traces", body))
        turns = 0
        while not asked.done():
            assert (await door.ask("GET", "/health/live")).status == 200
            await asyncio.sleep(0)
            turns += 1
        assert (await asked).status == 200
        assert turns >= len(body) // PIECE
        assert door.hall.spans == list(range(1, 4000))
