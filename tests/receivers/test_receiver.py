"""The receiver behind all endpoints: commits of groups, and which requests are answered or rejected when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from spanpost.http.shares import Sender
from spanpost.model.observations import Observation
from spanpost.receivers.admission import Busy, MemoryReservation
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.pieces import PIECE
from spanpost.receivers.receiver import TakenRequest
from tests.receivers.endpoints import Answer, Endpoint, SetLimits, away, opened, traces


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Lend an endpoint with one writer."""
    async with opened(AdmissionLimits(writers=1)) as lent:
        yield lent


async def held(endpoint: Endpoint, number: int = 1) -> asyncio.Task[Answer]:
    """Send a span and wait until its transaction hangs."""
    endpoint.interaction_store.gate.clear()
    endpoint.interaction_store.entered.clear()
    asked = asyncio.create_task(endpoint.post("/v1/traces", traces(number)))
    await endpoint.interaction_store.entered.wait()
    return asked


async def posted(endpoint: Endpoint, *numbers: int) -> list[asyncio.Task[Answer]]:
    """Send a request for each number, and return when they wait for their turn."""
    before = endpoint.receiver.groups.parts
    tasks = [asyncio.create_task(endpoint.post("/v1/traces", traces(number))) for number in numbers]
    while endpoint.receiver.groups.parts < before + len(numbers):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return tasks


async def test_what_waits_is_committed_together(endpoint: Endpoint) -> None:
    """Requests during a transaction share the next one, and each is answered after it."""
    first = await held(endpoint)
    rest = await posted(endpoint, *range(2, 12))
    assert not any(task.done() for task in (first, *rest))
    endpoint.interaction_store.gate.set()
    assert {(await task).status for task in (first, *rest)} == {200}
    assert [len(batch) for batch in endpoint.interaction_store.batches] == [1, 10]
    assert endpoint.receiver.in_flight == 0


async def test_two_writers_overlap() -> None:
    """During one transaction another one begins, once half a group is waiting for it."""
    async with opened(AdmissionLimits(writers=2, group_size=6)) as endpoint:
        first = await held(endpoint, 1)
        endpoint.interaction_store.entered.clear()
        rest = await posted(endpoint, 2, 3)
        assert not endpoint.interaction_store.entered.is_set()
        rest += [asyncio.create_task(endpoint.post("/v1/traces", traces(4)))]
        await endpoint.interaction_store.entered.wait()
        assert not first.done()
        endpoint.interaction_store.gate.set()
        assert {(await task).status for task in (first, *rest)} == {200}
        assert [len(batch) for batch in endpoint.interaction_store.batches] == [1, 3]


async def test_what_is_little_is_taken_by_who_is_done_first() -> None:
    """Waiting requests too few for a second transaction go to the first writer that is free."""
    async with opened(AdmissionLimits(writers=2, group_size=6)) as endpoint:
        first = await held(endpoint, 1)
        rest = await posted(endpoint, 2, 3)
        endpoint.interaction_store.gate.set()
        assert {(await task).status for task in (first, *rest)} == {200}
        assert [len(batch) for batch in endpoint.interaction_store.batches] == [1, 2]


async def test_a_group_has_bounds() -> None:
    """A transaction takes no more than its limit; a larger request is answered after its last part."""
    async with opened(AdmissionLimits(writers=1, group_size=10)) as endpoint:
        first = await held(endpoint)
        rest = await posted(endpoint, *range(2, 17))
        big = asyncio.create_task(endpoint.post("/v1/traces", traces(*range(100, 135))))
        await asyncio.sleep(0)
        endpoint.interaction_store.gate.set()
        assert {(await task).status for task in (first, *rest, big)} == {200}
        assert max(len(batch) for batch in endpoint.interaction_store.batches) == 10
        assert endpoint.interaction_store.spans == [*range(1, 17), *range(100, 135)]


@pytest.mark.parametrize(("numbers", "groups"), [((1, 1, 1, 1), [1, 1, 2]), ((1, 2, 3, 4), [1, 1, 1, 1])])
async def test_parts_of_the_same_traces_are_awaited(numbers: tuple[int, ...], groups: list[int]) -> None:
    """When two groups hold parts of one trace, the next waits for as many requests as were in progress."""
    async with opened(SetLimits(writers=1, lingering=1e9)) as endpoint:
        gate, entered = endpoint.interaction_store.gate, endpoint.interaction_store.entered

        def let_one_through() -> None:
            entered.clear()
            gate.set()
            gate.clear()

        first = await held(endpoint, numbers[0])
        [second] = await posted(endpoint, numbers[1])
        let_one_through()
        await entered.wait()
        [third] = await posted(endpoint, numbers[2])
        let_one_through()
        assert (await first).status == (await second).status == 200
        if len(groups) == 4:
            await entered.wait()
        [fourth] = await posted(endpoint, numbers[3])
        gate.set()
        assert (await third).status == (await fourth).status == 200
        assert [len(batch) for batch in endpoint.interaction_store.batches] == groups


async def test_a_request_of_many_parts_is_answered_when_all_are_committed() -> None:
    """A store that goes down between two parts of a request gives 503; its repeat is recorded whole."""
    async with opened(AdmissionLimits(writers=1, group_size=10)) as endpoint:
        endpoint.interaction_store.fail = lambda batch: away(batch) if any(o.span_id[-1] == 25 for o in batch) else None
        assert (await endpoint.post("/v1/traces", traces(*range(1, 31)))).status == 503
        endpoint.interaction_store.fail = lambda batch: None
        assert (await endpoint.post("/v1/traces", traces(*range(1, 31)))).status == 200
        assert set(endpoint.interaction_store.spans) == set(range(1, 31))


@pytest.mark.proves("one-bad-span")
async def test_a_bad_request_does_not_fail_its_neighbours(endpoint: Endpoint) -> None:
    """A fault in one request fails it alone: it is asked to repeat, its neighbours are committed."""

    def strikes(batch: Sequence[Observation]) -> Exception | None:
        return RuntimeError("a fault of ours") if any(o.span_id[-1] == 5 for o in batch) else None

    first = await held(endpoint)
    rest = await posted(endpoint, *range(2, 9))
    endpoint.interaction_store.fail = strikes
    endpoint.interaction_store.gate.set()
    assert [(await task).status for task in (first, *rest)] == [200, 200, 200, 200, 503, 200, 200, 200]
    assert endpoint.interaction_store.spans == [1, 2, 3, 4, 6, 7, 8]


@pytest.mark.proves("never-500")
async def test_while_the_store_is_down_senders_are_asked_to_come_back(endpoint: Endpoint) -> None:
    """503 with Retry-After of 1 to 5 s, alike in header and body; when the store is back the next request is
    recorded.
    """
    endpoint.interaction_store.fail = away
    for _ in range(20):
        answer = await endpoint.post("/v1/traces", traces(1))
        assert answer.status == 503
        assert 1 <= int(answer.headers["retry-after"]) == answer.retry_delay <= 5
    assert endpoint.receiver.trouble
    endpoint.interaction_store.fail = lambda batch: None
    assert (await endpoint.post("/v1/traces", traces(1))).status == 200
    assert not endpoint.receiver.trouble
    assert endpoint.receiver.in_flight == 0


async def test_while_the_store_is_down_one_request_tries(endpoint: Endpoint) -> None:
    """While the store is known to be down one request waits for it; the others are rejected unread."""
    endpoint.interaction_store.fail = away
    assert (await endpoint.post("/v1/traces", traces(1))).status == 503
    probe = await held(endpoint, 2)
    headers = {"content-type": "application/x-protobuf", "content-length": "100"}
    assert (await endpoint.ask("POST", "/v1/traces", None, headers)).status == 503
    endpoint.interaction_store.fail = lambda batch: None
    endpoint.interaction_store.gate.set()
    assert (await probe).status == 200


@pytest.mark.proves("never-500")
async def test_no_request_waits_for_ever_on_a_store_that_hangs() -> None:
    """Without a commit for the time limit, waiting requests are rejected, and new ones at once."""
    async with opened(SetLimits(writers=1, commit_timeout=0.05)) as endpoint:
        first = await held(endpoint)
        assert (await first).status == 503
        assert endpoint.receiver.in_flight > 0  # it is still under way
        assert (await endpoint.post("/v1/traces", traces(2))).status == 503
        endpoint.interaction_store.gate.set()
        while endpoint.receiver.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await endpoint.post("/v1/traces", traces(3))).status == 200
        assert endpoint.interaction_store.spans == [
            1,
            3,
        ]  # a rejected request is recorded all the same: its repeat is a duplicate


async def test_what_is_more_than_a_share_is_sent_away() -> None:
    """Beyond its sender's share of the bytes under way a request is refused before it is read; a single body
    is accepted.
    """
    body = traces(1, filler="x" * 3000)
    async with opened(AdmissionLimits(writers=1, max_body=len(body), max_in_flight=1)) as endpoint:
        assert (await endpoint.post("/v1/traces", body)).status == 200
        first = await held(endpoint)
        assert endpoint.receiver.in_flight > 0
        headers = {"content-type": "application/x-protobuf", "content-length": str(len(body))}
        answer = await endpoint.ask("POST", "/v1/traces", None, headers)
        assert (answer.status, 1 <= answer.retry_delay <= 5) == (503, True)
        # its length was not announced
        assert (await endpoint.post("/v1/traces", [body[:-10], body[-10:]])).status == 503
        endpoint.interaction_store.gate.set()
        assert (await first).status == 200
        assert (await endpoint.post("/v1/traces", body)).status == 200
        assert endpoint.receiver.in_flight == 0


@pytest.mark.parametrize(
    "hostile", [("red", "192.0.2.1"), ("blue", "192.0.2.1")], ids=["another tenant", "another address"]
)
async def test_a_sender_that_fills_the_memory_leaves_some_for_others(hostile: tuple[str, str]) -> None:
    """While a sender holds its limit with endless bodies, another's requests are accepted, whatever they
    announce.
    """
    body = traces(1, filler="x" * 3000)
    async with opened(AdmissionLimits(max_in_flight=20_000, max_body=20_000)) as endpoint:
        seats: list[MemoryReservation] = []
        with suppress(Busy):
            while True:
                seats.append(endpoint.receiver.admit(Sender(*hostile), 1000))
                seats[-1].grow(1000)
        assert endpoint.receiver.in_flight == 20_000
        reservation = endpoint.receiver.admit(Sender("blue", "192.0.2.2"), len(body))
        reservation.grow(len(body))
        assert await endpoint.receiver.take(reservation, "traces", body, is_json=False) == TakenRequest()
        assert endpoint.interaction_store.spans == [1]


@pytest.mark.proves("one-stops-no-other", "slow-senders")
async def test_what_was_announced_takes_no_memory(endpoint: Endpoint) -> None:
    """Requests that announce all of the memory and send nothing hold none: others are accepted, of that
    sender too.
    """
    sender = Sender("default", "")
    for _ in range(100):
        endpoint.receiver.admit(sender, endpoint.receiver.limits.max_body)
    assert endpoint.receiver.in_flight == 0
    assert (await endpoint.post("/v1/traces", traces(1))).status == 200


@pytest.mark.proves("one-stops-no-other", "overload")
async def test_a_flood_of_one_tenant_refuses_no_other() -> None:
    """A tenant with more waiting than can be recorded soon is rejected; another's request is accepted and
    recorded.
    """
    size = len(traces(1))
    async with opened(SetLimits(writers=1, queue=0.0, queue_bytes=3 * size)) as endpoint:
        first = await held(endpoint)
        await posted(endpoint, 2, 3, 4)
        flooding, other = Sender("default", ""), Sender("other", "")
        with pytest.raises(Busy):
            endpoint.receiver.admit(flooding, size)
        reservation = endpoint.receiver.admit(other, size)
        taking = asyncio.create_task(endpoint.receiver.take(reservation, "traces", traces(5), is_json=False))
        while endpoint.receiver.groups.parts < 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
        endpoint.interaction_store.gate.set()
        assert (await first).status == 200
        assert await taking == TakenRequest()


@pytest.mark.proves("never-500", "overload")
async def test_more_than_can_be_recorded_in_time_is_sent_away() -> None:
    """The queue is limited by the recent recording rate, so that accepted requests are answered soon."""
    size = len(traces(1))
    async with opened(SetLimits(writers=1, queue=0.0, queue_bytes=3 * size)) as endpoint:
        first = await held(endpoint)
        rest = await posted(endpoint, 2, 3, 4)
        assert (await endpoint.post("/v1/traces", traces(5))).status == 503
        endpoint.interaction_store.gate.set()
        assert {(await task).status for task in (first, *rest)} == {200}
        assert (await endpoint.post("/v1/traces", traces(5))).status == 200


async def test_a_sender_that_gives_up_spoils_nothing(endpoint: Endpoint) -> None:
    """A request whose sender is gone is recorded with the others, and its memory is released."""
    first = await held(endpoint)
    gone, stays = await posted(endpoint, 2, 3)
    gone.cancel()
    await asyncio.wait((gone,))
    endpoint.interaction_store.gate.set()
    assert (await first).status == (await stays).status == 200
    assert set(endpoint.interaction_store.spans) >= {1, 3}
    assert endpoint.receiver.in_flight == 0


@pytest.mark.proves("stop")
async def test_closing_records_what_waits(endpoint: Endpoint) -> None:
    """At the end waiting requests are committed and answered; later ones are rejected."""
    first = await held(endpoint)
    rest = await posted(endpoint, 2, 3)
    closing = asyncio.create_task(endpoint.receiver.close(5.0))
    await asyncio.sleep(0)
    assert (await endpoint.post("/v1/traces", traces(4))).status == 503
    endpoint.interaction_store.gate.set()
    assert await closing
    assert {(await task).status for task in (first, *rest)} == {200}
    assert endpoint.interaction_store.spans == [1, 2, 3]


async def test_closing_waits_no_longer_than_it_may(endpoint: Endpoint) -> None:
    """A hanging store does not delay the end: waiting requests are asked to repeat."""
    first = await held(endpoint)
    rest = await posted(endpoint, 2)
    assert not await endpoint.receiver.close(0.01)
    assert {(await task).status for task in (first, *rest)} == {503}
    assert endpoint.receiver.in_flight == 0


async def test_large_bodies_do_not_delay_others() -> None:
    """A large body is decoded in pieces, between which others are answered."""
    body = traces(*range(1, 4000), filler="x" * 200)
    assert len(body) > 3 * PIECE
    async with opened() as endpoint:
        asked = asyncio.create_task(endpoint.post("/v1/traces", body))
        turns = 0
        while not asked.done():
            assert (await endpoint.ask("GET", "/health/live")).status == 200
            await asyncio.sleep(0)
            turns += 1
        assert (await asked).status == 200
        assert turns >= len(body) // PIECE
        assert endpoint.interaction_store.spans == list(range(1, 4000))
