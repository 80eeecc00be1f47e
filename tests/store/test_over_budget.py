"""A trace that takes too long to record goes to quarantine, and no other waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from spanpost.http.shares import Sender
from spanpost.model.errors import OverBudget
from spanpost.model.observations import Observation, Origin
from spanpost.model.recorded import OVER_BUDGET
from spanpost.readers.redaction import Redaction
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.receiver import Receiver
from spanpost.store.postgres import PostgresStore
from spanpost.store.quarantine import discarded
from spanpost.tasks.folded import FoldRules
from spanpost.testing.observed import ended
from tests.tasks.hostile_traces import SHAPES, agent, span

pytestmark = pytest.mark.acceptance

#: Seconds of processor time. One span takes a tenth of it, the spans of `POISON` many times as much.
BUDGET = 0.05
POISON = SHAPES["circle, as many agents"](1500)


def honest(number: int, tenant: str = "honest") -> Observation:
    return msgspec.structs.replace(span(1, None, agent("a"), trace=1000 + number), tenant=tenant)


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """A store with a very small time limit for a transaction."""
    store = PostgresStore(postgres_dsn, batch_budget=BUDGET, trace_budget=2 * BUDGET)
    await store.open()
    yield store
    await store.close()


async def kept(store: PostgresStore) -> tuple[int, list[tuple[str, str, int]]]:
    """Return the audit rows, and the quarantine's rows: tenant, reason, occurrences."""
    counts = await store.counts()
    rows = await store.run(lambda c: c.fetch("SELECT tenant, reason, attempts FROM quarantine"))
    return counts["agent_events"], [tuple(row) for row in rows]


@pytest.mark.proves("quarantine")
async def test_a_trace_that_takes_too_long_is_set_aside_and_its_neighbours_are_recorded(store: PostgresStore) -> None:
    """A trace beyond its time is quarantined with its bytes, the others are recorded; repeats are known."""
    recorded = await store.record([*POISON, honest(1), honest(2)])
    assert recorded.dropped == {OVER_BUDGET: len(POISON)}
    assert recorded.events == 2
    assert await kept(store) == (2, [("default", "over_budget", 1)] * len(POISON))
    again = await store.record(POISON)
    assert again.dropped == {OVER_BUDGET: len(POISON)}
    assert await kept(store) == (2, [("default", "over_budget", 2)] * len(POISON))
    small = await store.record(POISON[:1])
    assert (small.events, small.dropped) == (1, {})


async def test_a_caller_that_splits_batches_itself_gets_an_error(store: PostgresStore) -> None:
    """For such a caller, a batch that takes too long raises as a whole and leaves nothing behind."""
    with pytest.raises(OverBudget):
        await store.record([*POISON, honest(1)], is_whole=True)
    assert await kept(store) == (0, [])


async def test_reading_counts_as_folding_does(postgres_dsn: str) -> None:
    """The search for secrets counts towards the same time bound, and a batch beyond it is given up."""
    redaction = Redaction(key=b"k" * 32)
    store = PostgresStore(
        postgres_dsn, rules=FoldRules(redaction=redaction), batch_budget=BUDGET, trace_budget=2 * BUDGET
    )
    await store.open()
    texts = {f"agent.note.{n}": f"{n} " + "pw:" * 1300 for n in range(16)}
    costly = [msgspec.structs.replace(span(n, None, texts, trace=7), name=f"n {n}") for n in range(1, 101)]
    with pytest.raises(OverBudget):
        await store.record(costly, is_whole=True)
    assert (await kept(store))[0] == 0
    await store.close()


async def test_the_loop_goes_on_while_something_is_folded(store: PostgresStore) -> None:
    """The event loop runs other work again and again during a fold."""
    recording = asyncio.create_task(store.record(POISON))
    turns = 0
    while not recording.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 20


@pytest.mark.proves("one-stops-no-other")
async def test_the_sender_of_a_poison_is_answered_and_another_tenant_is_recorded(store: PostgresStore) -> None:
    """In a group of two tenants' requests the one's are committed, the other learns how many of its spans
    are quarantined.
    """
    receiver = Receiver(store.record, limits=AdmissionLimits(writers=1))
    evil = receiver.groups.put(Sender("evil", ""), [msgspec.structs.replace(o, tenant="evil") for o in POISON], 1000)
    good = [receiver.groups.put(Sender("honest", ""), [honest(n)], 10)[0] for n in range(3)]
    receiver.start()
    done, _ = await asyncio.wait(
        [evil[0].done, *(part.done for part in good)], timeout=60, return_when=asyncio.FIRST_COMPLETED
    )
    assert evil[0].done not in done
    assert [await part.done for part in good] == [0, 0, 0]
    assert await evil[0].done == len(POISON)
    more = receiver.groups.put(Sender("honest", ""), [honest(3)], 10)
    assert await more[0].done == 0
    assert await receiver.close(10)
    events, rows = await kept(store)
    assert (events, {row[0] for row in rows}) == (4, {"evil"})


def test_a_large_resource_is_quarantined_once() -> None:
    """What is set aside takes about the bytes that were sent: a resource is not repeated by each of its spans."""
    large, small = (Origin(resource={"key": "x" * size}) for size in (100_000, 10))
    batch = [
        msgspec.structs.replace(ended(trace=1, span=n, name="chat"), origin=large if n % 2 else small)
        for n in range(1, 101)
    ]
    rows = list(discarded(batch, OverBudget("too long"), lambda _, text: text))
    assert [len(row[-1]) > 100_000 for row in rows] == [True] + [False] * 99
    assert [b"xxxxxxxxxx" in row[-1] for row in rows[:4]] == [True, True, False, True]
    assert len({row[0] for row in rows}) == 100
