"""Rate limits in PostgreSQL beyond one store: several processes, older ones beside, and many ordering keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from spanpost.model.deliveries import RateLimit, SinkCall, unlimited
from spanpost.model.outcomes import RetryAt
from spanpost.routing.routes import Routes
from spanpost.store import claims
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_pacing import BROKEN, limits, paced
from spanpost.testing.exercise_store import POSTED, ROUTED_RULES, SINK, drain, in_seconds, moved, steps

pytestmark = pytest.mark.acceptance


@asynccontextmanager
async def opened(dsn: str, count: int = 1, **more: Any) -> AsyncIterator[list[PostgresStore]]:
    """Lend stores on one database, each like one of a separate process."""
    stores = [PostgresStore(dsn, rules=ROUTED_RULES, pool_size=2, **more) for _ in range(count)]
    await asyncio.gather(*(store.open() for store in stores))
    yield stores
    await asyncio.gather(*(store.close() for store in stores))


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Any]:
    """A connection to the same database."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


@pytest.mark.proves("retry-after", "slack-throttles", "clock-jumps")
async def test_a_retry_after_is_shared_by_processes(postgres_dsn: str) -> None:
    """A Retry-After in one process stops another on the same database, whatever its clock."""
    async with opened(postgres_dsn, 2) as (one, other):
        for trace in (1, 2, 3):
            await one.record(steps(0, trace=trace))
        rate_limits = limits(post=[RateLimit(key="post")])
        [first] = await one.outbox.claim([SINK], 1, rate_limits)
        await one.outbox.finish(first, RetryAt(at=in_seconds(600), reason="ratelimited", closes=("post",)))
        assert await other.outbox.claim([SINK], 10, rate_limits) == []
        due = await other.outbox.due_in([SINK], rate_limits)
        assert due is not None
        assert due > 590


@pytest.mark.proves("retry-after")
async def test_one_pace_for_all_processes(postgres_dsn: str) -> None:
    """Concurrent claims of several processes stay within the one rate limit, each ordering key once."""
    async with opened(postgres_dsn, 3) as stores:
        await stores[0].record([o for trace in range(1, 41) for o in steps(0, trace=trace)])
        rate_limits = limits(post=[paced("all", burst=17.0)])
        out = []
        for _ in range(6):
            for claimed in await asyncio.gather(*(store.outbox.claim([SINK], 3, rate_limits) for store in stores * 2)):
                out += claimed
        assert len(out) == 17
        assert len({d.ordering_key for d in out}) == 17


@pytest.mark.proves("retry-after")
async def test_one_probe_for_all_processes(postgres_dsn: str, database: Any) -> None:
    """After a pause one process probes, and the others wait for its result."""
    async with opened(postgres_dsn, 3) as stores:
        await stores[0].record([o for trace in range(1, 21) for o in steps(0, trace=trace)])
        claimed = await stores[0].outbox.claim([SINK], 5, BROKEN)
        for delivery in claimed:
            await stores[0].outbox.finish(delivery, RetryAt(at=in_seconds(-1), reason="connect", is_failure=True))
        await database.execute("UPDATE rate_limits SET blocked_until = now()")
        found = await asyncio.gather(*(store.outbox.claim([SINK], 3, BROKEN) for store in stores * 2))
        assert sum(map(len, found)) == 1
        [(probe, prober)] = [(each[0], store) for each, store in zip(found, stores * 2, strict=True) if each]
        await prober.outbox.finish(probe, POSTED)
        assert len(await stores[2].outbox.claim([SINK], 10, BROKEN)) == 10


async def test_ordering_keys_with_wrong_hints(postgres_dsn: str, database: Any) -> None:
    """An ordering key's address and call are hints: a claim draws what the delivery needs and corrects them."""
    async with opened(postgres_dsn) as (store,):
        for trace in (1, 2):
            await store.record(moved(10.0, index=0, trace=trace))
        await drain(store)
        for trace in (1, 2):
            await store.record(moved(12.0, index=1, trace=trace))
        await database.execute("UPDATE ordering_keys SET address = DEFAULT, call = DEFAULT")
        rate_limits = limits(edit=[paced("edit")])
        assert [d.drawn for d in await store.outbox.claim([SINK], 10, rate_limits)] == [("edit",)]
        assert await store.outbox.claim([SINK], 10, rate_limits) == []
        assert sorted(
            await database.fetchval("SELECT array_agg(call) FROM ordering_keys WHERE lease_until IS NULL")
        ) == ["edit"]


async def test_what_waits_behind_a_closed_budget_costs_nothing(postgres_dsn: str, database: Any) -> None:
    """A claim reads about as many pages with 8,000 blocked ordering keys as with 200: it skips them in an
    index.
    """
    read = []
    for first, count in ((0, 200), (200, 7_800)):
        await database.execute(
            "INSERT INTO ordering_keys (sink, ordering_key, due_at, receipt, address, call) "
            "SELECT 'probe', 'ordering_key ' || i, now() - interval '1 hour',"
            " '{}', 'C' || i % 5, 'edit' FROM generate_series($1::int, $1 + $2::int - 1) AS i",
            first,
            count,
        )
        await database.execute(
            "INSERT INTO ordering_keys (sink, ordering_key, due_at) SELECT 'probe', 'open ' || $1, now()", str(first)
        )
        await database.execute("VACUUM ANALYZE ordering_keys")
        await database.execute("SET enable_seqscan = off")
        chosen = (["probe"], [""], ["post"], [3], [8], datetime.now(UTC), 8)
        pages = 0
        for statement, arguments in ((claims._SORTS, ()), (claims._PICK, chosen)):
            [plan] = json.loads(
                await database.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *arguments)
            )
            pages += plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        read.append(pages)
    assert read[1] < read[0] * 2 + 20


async def test_of_many_channels_only_the_best_are_read(database: Any) -> None:
    """With calls left in 300 channels a claim of two reads the ordering keys of 24: the most urgent, longest due."""
    await database.execute(
        "INSERT INTO ordering_keys (sink, ordering_key, due_at, rank, address, call) SELECT 'probe', 'key ' || i,"
        " now() - interval '1 hour' - i * interval '1 s', CASE i WHEN 7 THEN 0 ELSE 5 END, 'C' || i, 'post'"
        " FROM generate_series(1, 300) AS i"
    )
    asked: list[list[str]] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(database, name)

        async def fetch(self, query: str, *given: Any) -> Any:
            if query == claims._PICK:
                asked.append(given[1])
            return await database.fetch(query, *given)

    async with database.transaction():
        await claims.claim(Spy(), ["probe"], 2, uuid4(), timedelta(seconds=60), unlimited, Routes())
    assert asked == [["C7", *(f"C{i}" for i in range(300, 277, -1))]]


async def test_a_locked_ordering_key_is_skipped(postgres_dsn: str, database: Any) -> None:
    """With one call left and the first ordering keys locked by others, the call goes to a free one."""
    async with opened(postgres_dsn) as (store,):
        await store.record([o for trace in range(1, 9) for o in steps(0, trace=trace)])
        async with database.transaction():
            held = await database.fetch(
                "SELECT ordering_key FROM ordering_keys ORDER BY rank, due_at, sink, ordering_key LIMIT 3 FOR UPDATE"
            )
            [delivery] = await asyncio.wait_for(store.outbox.claim([SINK], 8, limits(post=[paced("one")])), 60)
            assert delivery.ordering_key not in {row["ordering_key"] for row in held}
            assert delivery.claimed_at is not None
            assert abs(delivery.claimed_at - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_healthy_breaker_writes_no_row(postgres_dsn: str, database: Any) -> None:
    """Successful calls do not change the buckets: there is no row that all must write."""
    async with opened(postgres_dsn) as (store,):
        await store.record([o for trace in range(1, 6) for o in steps(0, trace=trace)])
        while claimed := await store.outbox.claim([SINK], 10, BROKEN):
            for delivery in claimed:
                assert await store.outbox.finish(delivery, POSTED) == []
        assert await database.fetchval("SELECT count(*) FROM rate_limits") == 0
        assert BROKEN(SINK, "", SinkCall.POST) != ()
