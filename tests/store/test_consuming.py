"""Messages of Kafka in the Postgres store: rows and offsets move together, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import pytest

from spanpost.model.consumption import ConsumedMessage, PartitionOffset, UnreadableMessage
from spanpost.model.errors import OffsetMoved, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.model.recorded import OVER_BUDGET, Recorded
from spanpost.store.postgres import PostgresStore
from spanpost.testing.observed import ended
from tests.tasks.hostile_traces import SHAPES

pytestmark = pytest.mark.acceptance

WHERE = ("spanpost", 3)
POISON = SHAPES["circle, as many agents"](4000)


def at(next: int | None) -> PartitionOffset:
    return PartitionOffset(group="g", topic=WHERE[0], partition=WHERE[1], next=next)


def message(offset: int, *names: str) -> ConsumedMessage:
    """Return a message with the root spans of these agents, each a trace of its own."""
    spans = [
        ended(name=name, trace=1 + crc32(name.encode()), span=1, attributes=AGENT | {"gen_ai.agent.name": name})
        for name in names
    ]
    return ConsumedMessage(offset=offset, observations=spans)


AGENT = {"gen_ai.operation.name": "invoke_agent"}


async def names(store: PostgresStore) -> list[str | None]:
    return sorted(str(task.name) for task in await store.tasks(TaskQuery()))


async def test_messages_move_the_offset(store: PostgresStore) -> None:
    """The offset after recorded messages is in the database, and a partition that was never read has none."""
    assert await store.offsets("g", [WHERE]) == {}
    recorded, end = await store.record_consumed(at(None), [message(4, "one"), message(5, "two")])
    assert (recorded.events, end) == (2, 6)
    assert await store.offsets("g", [WHERE, ("other", 0)]) == {WHERE: 6}
    assert await store.offsets("h", [WHERE]) == {}


@pytest.mark.proves("one-transaction")
async def test_the_second_of_two_owners_records_nothing(store: PostgresStore) -> None:
    """A consumer whose offset is not that of the database any more is refused, with all rows of its batch."""
    await store.record_consumed(at(None), [message(0, "one")])
    for expected in (None, 0, 2):
        with pytest.raises(OffsetMoved):
            await store.record_consumed(at(expected), [message(1, "zombie")])
    assert await names(store) == ["one"]
    assert await store.offsets("g", [WHERE]) == {WHERE: 1}


@pytest.mark.proves("kafka")
@pytest.mark.parametrize("first", [None, 1])
async def test_of_two_owners_at_the_same_moment_one_records(store: PostgresStore, first: int | None) -> None:
    """Two consumers of one partition that record at once: exactly one commits."""
    if first is not None:
        await store.record_consumed(at(None), [message(0, "one")])
    batches = [[message(first or 0, f"of {owner}")] for owner in "ab"]
    results = await asyncio.gather(
        *(store.record_consumed(at(first), batch) for batch in batches), return_exceptions=True
    )
    assert {type(result) for result in results} == {OffsetMoved, tuple}
    assert len([name for name in await names(store) if name.startswith("of ")]) == 1


async def test_messages_beyond_one_transaction_are_left_for_the_next(store: PostgresStore) -> None:
    """Messages that touch more domains than can be locked are recorded in several calls."""
    messages = [message(n, *(f"{n}-{k}" for k in range(60))) for n in range(12)]
    calls = end = 0
    while end < 12:
        _, end = await store.record_consumed(at(end or None), messages[end:])
        calls += 1
    assert calls > 1
    assert (await store.counts())["agent_events"] == 720


async def test_a_message_of_very_many_traces_is_recorded(store: PostgresStore) -> None:
    """One message with traces for several transactions is recorded whole, and the offset moves past it."""
    recorded, end = await store.record_consumed(at(None), [message(0, *(f"t{n}" for n in range(1200)))])
    assert (recorded.events, end) == (1200, 1)


@pytest.mark.proves("kafka", "killed-at-each-step")
async def test_a_message_whose_recording_is_cut_short_is_read_again(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offset stands before a message of several transactions when one of them fails; read again, it is whole."""
    wide, apart = [message(0, *(f"t{n}" for n in range(1200)))], store.record_apart

    async def cut_short(batch: Sequence[Observation]) -> Recorded:
        await apart(batch[: len(batch) // 2])
        raise StoreUnavailable("the connection was lost")

    monkeypatch.setattr(store, "record_apart", cut_short)
    with pytest.raises(StoreUnavailable):
        await store.record_consumed(at(None), wide)
    assert await store.offsets("g", [WHERE]) == {}
    monkeypatch.setattr(store, "record_apart", apart)
    recorded, end = await store.record_consumed(at(None), wide)
    assert (recorded.events, end) == (600, 1)
    assert len(await store.tasks(TaskQuery(limit=2000))) == 1200


async def test_one_bad_message_holds_up_no_other(store: PostgresStore, database: Any) -> None:
    """A trace that takes too long goes to quarantine; the messages before and after it are recorded."""
    await store.record_consumed(at(None), [message(0, "first")])  # modules are loaded now
    store.batch_budget = store.trace_budget = 0.03
    messages = [message(1, "before"), ConsumedMessage(offset=2, observations=POISON), message(3, "after")]
    end, dropped = 1, 0
    while end < 4:
        recorded, end = await store.record_consumed(at(end), messages[end - 1 :])
        dropped += recorded.dropped.get(OVER_BUDGET, 0)
    assert dropped == len(POISON)
    assert {"before", "after"} <= set(await names(store))
    assert await database.fetchval("SELECT count(*) FROM quarantine WHERE reason = 'over_budget'") > 0


@pytest.mark.proves("kafka", "garbage")
async def test_an_unreadable_message_is_kept_and_passed(store: PostgresStore, database: Any) -> None:
    """The bytes of a message that cannot be read are in quarantine, and the offset is behind it."""
    poison = UnreadableMessage(tenant="acme", error="partition 3, offset 0: no message", body=b"\xff\xfe")
    _, end = await store.record_consumed(at(None), [ConsumedMessage(offset=0, unreadable=[poison])])
    row = await database.fetchrow("SELECT tenant, source, reason, error, bytes FROM quarantine")
    assert tuple(row) == ("acme", "kafka spanpost", "undecodable", "partition 3, offset 0: no message", b"\xff\xfe")
    assert end == 1
