"""Records of task state as rows: packs of small domains, separate rows for the records of large ones."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from spanpost.store.postgres import PostgresStore
from spanpost.store.task_state import SMALL, FetchedRecords
from spanpost.tasks.record_keys import node_key
from spanpost.tasks.records import Node
from spanpost.testing.observed import a_run, ended

pytestmark = pytest.mark.acceptance

DOMAIN = b"d" * 16
AGENT = {"gen_ai.operation.name": "invoke_agent"}


def key(n: int) -> bytes:
    return node_key(DOMAIN, n.to_bytes(8, "big"))


async def changed(store: PostgresStore, change: Callable[[FetchedRecords], None]) -> None:
    """Change records in a transaction with known domains."""

    async def work(connection: Any) -> None:
        records = FetchedRecords()
        await records.fetch_domains(connection, {DOMAIN})
        await records.fetch(connection, map(key, range(3 * SMALL)))
        change(records)
        await records.changed().save(connection)

    await store.run(work)


async def rows(database: Any) -> list[int]:
    """Return the lengths of the rows' keys: 16 of a pack or of the marker in its place."""
    return [row[0] for row in await database.fetch("SELECT length(key) FROM task_state ORDER BY key")]


async def found(store: PostgresStore) -> dict[int, str]:
    """Return the tool names of the existing nodes."""

    async def work(connection: Any) -> dict[int, str]:
        records = FetchedRecords()
        await records.fetch(connection, map(key, range(3 * SMALL)))
        nodes = {n: records.get(key(n)) for n in range(3 * SMALL)}
        return {n: node.tool_name for n, node in nodes.items() if node is not None}

    return await store.run(work)


def put(*numbers: int, name: str = "a") -> Callable[[FetchedRecords], None]:
    def change(records: FetchedRecords) -> None:
        for n in numbers:
            records.put(key(n), Node(tool_name=name))

    return change


async def test_a_small_domain_is_one_row(store: PostgresStore, database: Any) -> None:
    """The records of a small domain are one row, which changes as a whole and goes with its last record."""
    await changed(store, put(1, 2, 3))
    assert await rows(database) == [16]
    await changed(store, put(3, 4, name="b"))
    assert await found(store) == {1: "a", 2: "a", 3: "b", 4: "b"}
    await changed(store, lambda records: records.drop(key(2)))
    assert (await rows(database), await found(store)) == ([16], {1: "a", 3: "b", 4: "b"})
    await changed(store, lambda records: [records.drop(key(n)) for n in (1, 3, 4)] and None)
    assert (await rows(database), await found(store)) == ([], {})


@pytest.mark.parametrize("first", [0, SMALL], ids=["at once", "from a pack"])
async def test_a_domain_that_outgrows_a_pack_is_laid_apart(store: PostgresStore, database: Any, first: int) -> None:
    """Records beyond one pack get a row each, none is lost, and a change writes its row alone."""
    numbers = range(SMALL + 1)
    if first:
        await changed(store, put(*numbers[:first]))
        assert await rows(database) == [16]
    await changed(store, put(*numbers))
    assert await rows(database) == [16, *[25] * len(numbers)]
    before = {row[0]: row[1] for row in await database.fetch("SELECT key, xmin::text FROM task_state")}
    await changed(store, put(7, name="b"))
    await changed(store, put(200))
    await changed(store, lambda records: records.drop(key(9)))
    after = {row[0]: row[1] for row in await database.fetch("SELECT key, xmin::text FROM task_state")}
    assert {k for k in before.keys() & after.keys() if before[k] != after[k]} == {key(7)}
    assert await found(store) == {n: "b" if n == 7 else "a" for n in [*numbers, 200] if n != 9}


async def test_a_pack_is_not_replaced_unread(store: PostgresStore) -> None:
    """A record that is put without being loaded is added to its domain's pack; none of the others is lost."""
    await changed(store, put(1, 2))

    async def work(connection: Any) -> None:
        records = FetchedRecords()
        records.put(key(3), Node(tool_name="c"))
        with pytest.raises(KeyError):
            records.changed()
        await records.fetch(connection, [key(1)])
        await records.changed().save(connection)

    await store.run(work)
    assert await found(store) == {1: "a", 2: "a", 3: "c"}


async def test_what_did_not_change_is_not_written(store: PostgresStore, database: Any) -> None:
    """Unchanged records leave their row untouched."""
    await changed(store, put(1, 2))
    before = await database.fetchval("SELECT xmin::text FROM task_state")
    await changed(store, put(1))
    assert await database.fetchval("SELECT xmin::text FROM task_state") == before


async def test_one_task_however_its_trace_grows(store: PostgresStore, database: Any) -> None:
    """A trace that outgrows a pack span by span counts each call once, and a span sent again is a duplicate."""
    calls = [
        ended(
            trace=1,
            span=n,
            parent=1,
            name="chat",
            attributes={"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 1, "gen_ai.request.model": "m"},
            at=float(n),
        )
        for n in range(2, 2 * SMALL)
    ]
    for start in range(0, len(calls), 7):
        await store.record(calls[start : start + 7])
    await store.record(
        [ended(trace=1, span=1, name="invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent"})]
    )
    assert (await store.record(calls[:9])).duplicates == 9
    assert await database.fetchval(
        "SELECT input_tokens FROM agent_tasks WHERE span_id = $1", calls[0].parent_id
    ) == len(calls)


@pytest.mark.proves("one-bad-span", "bit-flips")
@pytest.mark.parametrize("damaged", [b"\x28no frame", b"\xc1", b"\x93\x01\x02\x03"])
async def test_damaged_state_is_its_own_traces_trouble(store: PostgresStore, database: Any, damaged: bytes) -> None:
    """Spans of a trace whose state is unreadable go to quarantine; other traces are recorded, and their timers fire."""
    at = "clock_timestamp() - interval '1 hour'"
    await store.record([ended(trace=1, span=1, name="invoke_agent a", attributes=AGENT, parent=9)])
    await database.execute("UPDATE task_state SET doc = $1 WHERE length(key) = 16", damaged)
    recorded = await store.record([ended(trace=n, span=2, name="invoke_agent b", attributes=AGENT) for n in (1, 2)])
    assert (recorded.events, recorded.dropped) == (1, {"unfoldable": 1})
    await store.record([ended(trace=3, span=1, name="invoke_agent c", attributes=AGENT, parent=9)])
    timers = await database.fetchval(
        f"WITH due AS (UPDATE timers SET at = {at} RETURNING key) SELECT count(*) FROM due"
    )
    assert timers >= 2
    await store.elapse()
    assert await database.fetchval("SELECT count(*) FROM timers WHERE at <= clock_timestamp()") == 0
    assert await database.fetchval("SELECT count(*) FROM timers") >= 1


async def test_records_are_freed_with_their_transaction(store: PostgresStore) -> None:
    """The records of a transaction are freed when it ends, not when garbage is collected: they are in no cycle."""
    gc.collect()
    gc.disable()
    try:
        await store.record(a_run("freed"))
        assert [one for one in gc.get_objects() if type(one) is FetchedRecords] == []
    finally:
        gc.enable()
