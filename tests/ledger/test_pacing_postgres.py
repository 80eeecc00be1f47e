"""What pacing in PostgreSQL promises beyond one ledger: for several processes, older ones beside, and many lanes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from spanpost.domain.deliveries import Budget, Call
from spanpost.domain.outcomes import RetryAt
from spanpost.ledger import claims
from spanpost.ledger.postgres import PostgresLedger
from spanpost.testing.exercise_ledger import POSTED, SINK, TELLING, drain, in_seconds, moved, steps
from spanpost.testing.exercise_pacing import BROKEN, limits, paced

pytestmark = pytest.mark.acceptance


@asynccontextmanager
async def opened(dsn: str, count: int = 1, **more: Any) -> AsyncIterator[list[PostgresLedger]]:
    """Lend ledgers on one database, each as a process of its own would have it."""
    ledgers = [PostgresLedger(dsn, rules=TELLING, pool_size=2, **more) for _ in range(count)]
    await asyncio.gather(*(ledger.open() for ledger in ledgers))
    yield ledgers
    await asyncio.gather(*(ledger.close() for ledger in ledgers))


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Any]:
    """A connection to the same database."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def test_patience_is_shared_by_processes(postgres_dsn: str) -> None:
    """A time named to one process stops another on the same database, and its clock does not matter."""
    async with opened(postgres_dsn, 2) as (one, other):
        for trace in (1, 2, 3):
            await one.record(steps(0, trace=trace))
        budgets = limits(post=[Budget(key="post")])
        [first] = await one.claim([SINK], 1, budgets)
        await one.settle(first, RetryAt(at=in_seconds(600), reason="ratelimited", closes=("post",)))
        assert await other.claim([SINK], 10, budgets) == []
        due = await other.due_in([SINK], budgets)
        assert due is not None
        assert due > 590


async def test_one_pace_for_all_processes(postgres_dsn: str) -> None:
    """However many processes claim at once, no more goes out than the one budget allows, and each lane once."""
    async with opened(postgres_dsn, 3) as ledgers:
        await ledgers[0].record([o for trace in range(1, 41) for o in steps(0, trace=trace)])
        budgets = limits(post=[paced("all", burst=17.0)])
        out = []
        for _ in range(6):
            for claimed in await asyncio.gather(*(ledger.claim([SINK], 3, budgets) for ledger in ledgers * 2)):
                out += claimed
        assert len(out) == 17
        assert len({d.lane for d in out}) == 17


async def test_one_probe_for_all_processes(postgres_dsn: str, database: Any) -> None:
    """After a pause one process probes and the others wait for what it finds."""
    async with opened(postgres_dsn, 3) as ledgers:
        await ledgers[0].record([o for trace in range(1, 21) for o in steps(0, trace=trace)])
        claimed = await ledgers[0].claim([SINK], 5, BROKEN)
        for delivery in claimed:
            await ledgers[0].settle(delivery, RetryAt(at=in_seconds(-1), reason="connect", is_failure=True))
        await database.execute("UPDATE buckets SET blocked_until = now()")
        found = await asyncio.gather(*(ledger.claim([SINK], 3, BROKEN) for ledger in ledgers * 2))
        assert sum(map(len, found)) == 1
        [(probe, prober)] = [(each[0], ledger) for each, ledger in zip(found, ledgers * 2, strict=True) if each]
        await prober.settle(probe, POSTED)
        assert len(await ledgers[2].claim([SINK], 10, BROKEN)) == 10


async def test_lanes_that_say_nothing_of_their_calls(postgres_dsn: str, database: Any) -> None:
    """The address and the call of a lane are hints: where they are wrong, a claim draws what the delivery needs, and corrects them."""
    async with opened(postgres_dsn) as (ledger,):
        for trace in (1, 2):
            await ledger.record(moved(10.0, index=0, trace=trace))
        await drain(ledger)
        for trace in (1, 2):
            await ledger.record(moved(12.0, index=1, trace=trace))
        await database.execute("UPDATE lanes SET address = DEFAULT, call = DEFAULT")
        budgets = limits(edit=[paced("edit")])
        assert [d.drawn for d in await ledger.claim([SINK], 10, budgets)] == [("edit",)]
        assert await ledger.claim([SINK], 10, budgets) == []
        assert sorted(await database.fetchval("SELECT array_agg(call) FROM lanes WHERE lease_until IS NULL")) == ["edit"]


async def test_what_waits_behind_a_closed_budget_costs_nothing(postgres_dsn: str, database: Any) -> None:
    """A claim reads about as many pages with 8,000 closed lanes as with 200: it leaps over them in an index."""
    read = []
    for first, count in ((0, 200), (200, 7_800)):
        await database.execute(
            "INSERT INTO lanes (sink, lane, due_at, receipt, address, call) SELECT 'probe', 'lane ' || i, now() - interval '1 hour',"
            " '{}', 'C' || i % 5, 'edit' FROM generate_series($1::int, $1 + $2::int - 1) AS i",
            first,
            count,
        )
        await database.execute("INSERT INTO lanes (sink, lane, due_at) SELECT 'probe', 'open ' || $1, now()", str(first))
        await database.execute("VACUUM ANALYZE lanes")
        await database.execute("SET enable_seqscan = off")
        chosen = (["probe"], [""], ["post"], [3], [8], datetime.now(UTC), 8)
        pages = 0
        for statement, arguments in ((claims._SORTS, ()), (claims._PICK, chosen)):
            [plan] = json.loads(await database.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *arguments))
            pages += plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        read.append(pages)
    assert read[1] < read[0] * 2 + 20


async def test_a_lane_that_somebody_else_has_is_passed_over(postgres_dsn: str, database: Any) -> None:
    """With one call left and the first lanes locked by others, the call goes to a lane that can be had."""
    async with opened(postgres_dsn) as (ledger,):
        await ledger.record([o for trace in range(1, 9) for o in steps(0, trace=trace)])
        async with database.transaction():
            held = await database.fetch("SELECT lane FROM lanes ORDER BY rank, due_at, sink, lane LIMIT 3 FOR UPDATE")
            [delivery] = await asyncio.wait_for(ledger.claim([SINK], 8, limits(post=[paced("one")])), 10)
            assert delivery.lane not in {row["lane"] for row in held}
            assert delivery.claimed_at is not None
            assert abs(delivery.claimed_at - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_healthy_breaker_writes_no_row(postgres_dsn: str, database: Any) -> None:
    """Calls that succeed leave no trace in the buckets: no row that all must write."""
    async with opened(postgres_dsn) as (ledger,):
        await ledger.record([o for trace in range(1, 6) for o in steps(0, trace=trace)])
        while claimed := await ledger.claim([SINK], 10, BROKEN):
            for delivery in claimed:
                assert await ledger.settle(delivery, POSTED) == []
        assert await database.fetchval("SELECT count(*) FROM buckets") == 0
        assert BROKEN(SINK, "", Call.POST) != ()
