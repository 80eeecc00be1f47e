"""Cost of a claim while thousands of ordering keys wait behind a rate limit, beside a bare SKIP LOCKED
query.

    python bench/deliveries.py [--ordering-keys 50 500 5000 50000] [--channels 20] [--rounds 200] [--beside 4]
      [--seconds 10] [--system] [--plans]

Waiting edits that a rate limit blocks for an hour, and beside them: nothing else (closed), or posts that are
free (open). Then no limit is closed: a recording puts states that wait already, and a round of the
dispatcher claims and settles what is due. Figures are ratios to `SELECT ... ORDER BY rank, due_at LIMIT 8
FOR UPDATE SKIP LOCKED` of the same rows, in a transaction and with an index of its own. Rounds alternate;
each figure is the median. `--plans` prints how the server finds what waits, what a claim takes.

Last, one dispatcher, and `--beside` of them, carry a backlog for `--seconds`. All draw on one rate limit that
never holds them up, so they wait only for each other.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from options import parse, postgres

from spanpost.model.deliveries import Mode, RateLimit, Receipt, SinkCall
from spanpost.model.outcomes import RetryAt
from spanpost.routing.planned import PlannedDelivery
from spanpost.routing.routes import Routes
from spanpost.store import claims, ordering_key_rows, outbox
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql.schema import upgrade
from spanpost.tasks.folded import FoldRules
from spanpost.testing.observed import started

SINK = "console"
#: States that one recording puts, and deliveries that one round of the dispatcher carries.
PUT, SENT = 50, 20

CLONE = """
INSERT INTO ordering_keys (sink, ordering_key, due_at, rank, receipt, address, call)
SELECT 'console', 'clone ' || i, now() - interval '1 hour', 3, '{"ref": {}}', 'C' || i % $2, 'edit'
FROM generate_series(1, $1) AS i"""
CLONE_DELIVERIES = """
INSERT INTO deliveries (tenant, sink, address, ordering_key, mode, key, urgency, rank, task_uid, state, born_at)
SELECT 'default', 'console', 'C' || i % $2, 'clone ' || i, 'state', 'clone ' || i, 'normal', 3,
  (SELECT uid FROM agent_tasks LIMIT 1), 'waiting', now() - interval '1 hour' FROM generate_series(1, $1) AS i"""
BARE = """
SELECT sink, ordering_key, receipt::text FROM ordering_keys WHERE sink = $1 AND due_at <= clock_timestamp()
AND (lease_until IS NULL OR lease_until <= clock_timestamp()) ORDER BY rank, due_at LIMIT 8 FOR UPDATE SKIP LOCKED"""


def _state(uid: UUID, ordering_key: str, channels: int) -> PlannedDelivery:
    address = f"C{int(ordering_key.split()[1]) % channels}"
    return PlannedDelivery(
        sink=SINK, address=address, ordering_key=ordering_key, mode=Mode.STATE, key=ordering_key, task_uid=uid
    )


def budgets(sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
    """Name a rate limit for edits, and circuit breakers for all."""
    breaker = RateLimit(key="breaker", is_breaker=True)
    return (breaker, RateLimit(key="edits", rate=1.0)) if call is SinkCall.EDIT else (breaker,)


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Return how long it took, in milliseconds."""
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1e3


async def measure(dsn: str, ordering_keys: int, channels: int, rounds: int) -> dict[str, float]:
    """Return medians in milliseconds."""
    store = PostgresStore(dsn, rules=FoldRules(routes=Routes(sinks=(SINK,))), pool_size=2)
    await store.open()
    connection = await asyncpg.connect(dsn)
    await connection.execute("TRUNCATE ordering_keys, deliveries, rate_limits, agent_tasks, task_state, timers")
    first = started(trace=ordering_keys, span=1, name="agent", attributes={"agent.task.name": "first"})
    await store.record([first])
    # A delivery that is due in a moment would be the answer of `due_in`: the post of its start, its timers.
    await connection.execute("DELETE FROM deliveries WHERE mode = 'checkpoint'")
    await connection.execute("DELETE FROM timers")
    far = RetryAt(at=datetime.now(UTC) + timedelta(hours=1), reason="ratelimited", closes=("edits",))
    [planned] = await store.outbox.claim([SINK], 1, lambda *_: ())
    await store.outbox.finish(planned, far)
    await connection.execute(CLONE, ordering_keys, channels)
    await connection.execute(CLONE_DELIVERIES, ordering_keys, channels)
    await connection.execute("CREATE INDEX IF NOT EXISTS bare ON ordering_keys (rank, due_at) WHERE due_at IS NOT NULL")
    await connection.execute("ANALYZE ordering_keys")
    await connection.execute("ANALYZE deliveries")
    took: dict[str, list[float]] = {}

    async def bare() -> None:
        async with connection.transaction():
            await connection.fetch(BARE, SINK)

    async def closed() -> None:
        found = await store.outbox.claim([SINK], 8, budgets)
        assert found == [], found

    async def due() -> None:
        assert (await store.outbox.due_in([SINK], budgets) or 0) > 3000

    async def beside() -> None:
        [found] = await store.outbox.claim([SINK], 8, lambda s, a, c: () if a == "" else budgets(s, a, c))
        # The dispatcher gives these back unsent, so that the next round finds the same.
        await store.outbox.finish(found, RetryAt(at=datetime.now(UTC), reason="late", is_unsent=True))

    uid = await connection.fetchval("SELECT uid FROM agent_tasks LIMIT 1")

    async def put() -> None:
        async with connection.transaction():
            await outbox.put(
                connection, [_state(uid, f"clone {i}", channels) for i in range(1, min(ordering_keys, PUT) + 1)], []
            )

    async def claim_and_ack() -> None:
        found = await store.outbox.claim([SINK], SENT)
        assert len(found) == min(SENT, ordering_keys), len(found)
        for delivery in found:
            await store.outbox.finish(delivery, Receipt(ref={"ts": str(delivery.id), "channel": delivery.address}))

    for _ in range(rounds):
        for name, work in (("bare pick", bare), ("claim, all closed", closed), ("due_in, all closed", due)):
            took.setdefault(name, []).append(await timed(work))
    await connection.execute("UPDATE deliveries SET not_before = NULL WHERE ordering_key NOT LIKE 'clone%'")
    await ordering_key_rows.refresh(connection, [(SINK, planned.ordering_key)])
    for _ in range(rounds):
        took.setdefault("claim and settle, one open", []).append(await timed(beside))
    for _ in range(max(rounds // 4, 1)):
        took.setdefault(f"put {PUT} states", []).append(await timed(put))
        took.setdefault(f"claim and settle {SENT}", []).append(await timed(claim_and_ack))
    await connection.close()
    await store.close()
    return {name: statistics.median(found) for name, found in took.items()}


async def carried(dsn: str, channels: int, dispatchers: int, seconds: float) -> tuple[float, float]:
    """Return how many deliveries a second dispatchers carry beside each other, and the median of a claim, ms."""
    rules = FoldRules(routes=Routes(sinks=(SINK,)))
    stores = [PostgresStore(dsn, rules=rules, pool_size=SENT) for _ in range(dispatchers)]
    for store in stores:
        await store.open()
    connection = await asyncpg.connect(dsn)
    await connection.execute("TRUNCATE ordering_keys, deliveries, rate_limits, agent_tasks, task_state, timers")
    named = {"agent.task.name": "first"}
    await stores[0].record([started(trace=10**6 + dispatchers, span=1, name="agent", attributes=named)])
    enough = int(seconds * 5_000)
    await connection.execute(CLONE, enough, channels)
    await connection.execute(CLONE_DELIVERIES, enough, channels)
    await connection.execute("ANALYZE ordering_keys, deliveries")
    shared = (RateLimit(key="workspace", rate=1e6, burst=1e6),)
    took, done, ends = list[float](), 0, time.perf_counter() + seconds

    async def carry(store: PostgresStore) -> None:
        nonlocal done
        while time.perf_counter() < ends:
            began = time.perf_counter()
            found = await store.outbox.claim([SINK], SENT, lambda *_: shared)
            took.append((time.perf_counter() - began) * 1e3)
            receipts = [Receipt(ref={"ts": str(delivery.id), "channel": delivery.address}) for delivery in found]
            await asyncio.gather(*(store.outbox.finish(*each) for each in zip(found, receipts, strict=True)))
            done += len(found)

    await asyncio.gather(*(carry(store) for store in stores))
    await connection.close()
    for store in stores:
        await store.close()
    return done / seconds, statistics.median(took)


async def plans(dsn: str, channels: int) -> None:
    """Print the plans of the queries of a round, at the size that was measured last."""
    connection = await asyncpg.connect(dsn)
    addresses = [f"C{n}" for n in range(min(channels, (8 + claims.SPARE) * claims.WIDER))]
    most = len(addresses)
    many = ([SINK] * most, addresses, ["edit"] * most, [3] * most, [8 + claims.SPARE] * most)
    asked: dict[str, tuple[str, tuple[Any, ...]]] = {
        "which sorts of call wait (claim and wake-up)": (claims._SORTS, ()),
        "the best of each sort (claim)": (claims._PICK, (*many, datetime.now(UTC), 8 + claims.SPARE)),
        "the next timer (wake-up)": ("SELECT min(at) FROM timers", ()),
    }
    for name, (query, given) in asked.items():
        print(f"\n{name}:")
        for row in await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {query}", *given):
            print(f"    {row[0]}")
    await connection.close()


async def main(
    dsn: str,
    sizes: Sequence[int],
    channels: int,
    rounds: int,
    beside: Sequence[int],
    seconds: float,
    *,
    shows_plans: bool,
) -> None:
    """Measure and print each size, and then how dispatchers do beside each other."""
    await upgrade(dsn)
    for ordering_keys in sizes:
        found = await measure(dsn, ordering_keys, channels, rounds)
        base = found["bare pick"]
        ratios = ", ".join(f"{name} {ms:.2f} ms ({ms / base:.1f})" for name, ms in found.items())
        print(f"{ordering_keys:6} ordering keys in {channels} channels: {ratios}")
    if shows_plans:
        await plans(dsn, channels)
    for dispatchers in beside:
        a_second, claim = await carried(dsn, channels, dispatchers, seconds)
        print(f"{dispatchers} dispatchers of one backlog: {a_second:.0f} deliveries a second, a claim {claim:.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ordering-keys", type=int, nargs="+", default=[50, 500, 5_000, 50_000])
    parser.add_argument("--channels", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--beside", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--plans", action="store_true", help="print the plans of the queries of the last size")
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL, not the embedded one")
    asked = parse(parser, {"ordering_keys": [50], "rounds": 5, "beside": 2, "seconds": 0.5})
    sizes, beside = asked.ordering_keys, sorted({1, asked.beside})
    with postgres(asked) as server:
        asyncio.run(main(server, sizes, asked.channels, asked.rounds, beside, asked.seconds, shows_plans=asked.plans))
