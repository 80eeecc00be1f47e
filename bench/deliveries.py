"""What a claim costs while thousands of lanes wait behind a closed budget, beside a bare SKIP LOCKED pick of the same table.

    python bench/deliveries.py [--lanes 50 500 5000 50000] [--rounds 200] [--system]

Waiting edits of which none may go (a budget closed for an hour), and beside them: nothing else (closed), or posts that are free
(open). Then no budget is closed: a recording puts states that wait already, and a round of the pump claims and settles what is due.
All are told as a ratio to `SELECT ... ORDER BY rank, due_at LIMIT 8 FOR UPDATE SKIP LOCKED` of the same rows, in a
transaction of its own and with an index of its own. Rounds alternate; the median is told.
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

from spanpost.domain.deliveries import Budget, Call, Mode, Receipt
from spanpost.domain.outcomes import RetryAt
from spanpost.fold.batch import Rules
from spanpost.fold.letters import Letter
from spanpost.fold.routes import Routes
from spanpost.ledger import claims, outbox
from spanpost.ledger.postgres import PostgresLedger
from spanpost.ledger.sql.schema import upgrade
from spanpost.testing.observed import started

SINK = "console"
#: Lanes that are cloned: as many channels of a workspace.
CHANNELS = 20
#: States that one recording puts, and deliveries that one round of the pump carries.
PUT, SENT = 50, 20

CLONE = """
INSERT INTO lanes (sink, lane, due_at, rank, receipt, address, call)
SELECT 'console', 'clone ' || i, now() - interval '1 hour', 3, '{"ref": {}}', 'C' || i % $2, 'edit' FROM generate_series(1, $1) AS i"""
CLONE_LETTERS = """
INSERT INTO deliveries (tenant, sink, address, lane, mode, key, urgency, rank, task_uid, state, born_at)
SELECT 'default', 'console', 'C' || i % $2, 'clone ' || i, 'state', 'clone ' || i, 'normal', 3,
  (SELECT uid FROM agent_tasks LIMIT 1), 'waiting', now() - interval '1 hour' FROM generate_series(1, $1) AS i"""
BARE = """
SELECT sink, lane, receipt::text FROM lanes WHERE sink = $1 AND due_at <= clock_timestamp()
AND (lease_until IS NULL OR lease_until <= clock_timestamp()) ORDER BY rank, due_at LIMIT 8 FOR UPDATE SKIP LOCKED"""


def _state(uid: UUID, lane: str, channels: int) -> Letter:
    address = f"C{int(lane.split()[1]) % channels}"
    return Letter(sink=SINK, address=address, lane=lane, mode=Mode.STATE, key=lane, task_uid=uid)


def budgets(sink: str, address: str, call: Call) -> tuple[Budget, ...]:
    """Name a budget for edits, and breakers for all."""
    breaker = Budget(key="breaker", is_breaker=True)
    return (breaker, Budget(key="edits", rate=1.0)) if call is Call.EDIT else (breaker,)


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Return how long it took, in milliseconds."""
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1e3


async def measure(dsn: str, lanes: int, rounds: int) -> dict[str, float]:
    """Return medians in milliseconds."""
    ledger = PostgresLedger(dsn, rules=Rules(routes=Routes(sinks=(SINK,))), pool_size=2)
    await ledger.open()
    connection = await asyncpg.connect(dsn)
    await connection.execute("TRUNCATE lanes, deliveries, buckets, agent_tasks, kin, timers")
    first = started(trace=lanes, span=1, name="agent", attributes={"agent.task.name": "first"})
    await ledger.record([first])
    # What falls due in a moment would be the answer of `due_in`: the post of its start, its timers.
    await connection.execute("DELETE FROM deliveries WHERE mode = 'news'")
    await connection.execute("DELETE FROM timers")
    far = RetryAt(at=datetime.now(UTC) + timedelta(hours=1), reason="ratelimited", closes=("edits",))
    [letter] = await ledger.claim([SINK], 1, lambda *_: ())
    await ledger.settle(letter, far)
    await connection.execute(CLONE, lanes, CHANNELS)
    await connection.execute(CLONE_LETTERS, lanes, CHANNELS)
    await connection.execute("CREATE INDEX IF NOT EXISTS bare ON lanes (rank, due_at) WHERE due_at IS NOT NULL")
    await connection.execute("ANALYZE lanes")
    await connection.execute("ANALYZE deliveries")
    took: dict[str, list[float]] = {}

    async def bare() -> None:
        async with connection.transaction():
            await connection.fetch(BARE, SINK)

    async def closed() -> None:
        found = await ledger.claim([SINK], 8, budgets)
        assert found == [], found

    async def due() -> None:
        assert (await ledger.due_in([SINK], budgets) or 0) > 3000

    async def beside() -> None:
        [found] = await ledger.claim([SINK], 8, lambda s, a, c: () if a == "" else budgets(s, a, c))
        # What a pump gives back unsent, so that the next round finds the same.
        await ledger.settle(found, RetryAt(at=datetime.now(UTC), reason="late", is_unsent=True))

    uid = await connection.fetchval("SELECT uid FROM agent_tasks LIMIT 1")

    async def put() -> None:
        async with connection.transaction():
            await outbox.put(connection, [_state(uid, f"clone {i}", CHANNELS) for i in range(1, min(lanes, PUT) + 1)], [])

    async def settled() -> None:
        found = await ledger.claim([SINK], SENT)
        assert len(found) == min(SENT, lanes), len(found)
        for delivery in found:
            await ledger.settle(delivery, Receipt(ref={"ts": str(delivery.id), "channel": delivery.address}))

    for _ in range(rounds):
        for name, work in (("bare pick", bare), ("claim, all closed", closed), ("due_in, all closed", due)):
            took.setdefault(name, []).append(await timed(work))
    await connection.execute("UPDATE deliveries SET not_before = NULL WHERE lane NOT LIKE 'clone%'")
    await connection.execute(claims.REFRESH, [SINK], [letter.lane])
    for _ in range(rounds):
        took.setdefault("claim and settle, one open", []).append(await timed(beside))
    for _ in range(max(rounds // 4, 1)):
        took.setdefault(f"put {PUT} states", []).append(await timed(put))
        took.setdefault(f"claim and settle {SENT}", []).append(await timed(settled))
    await connection.close()
    await ledger.close()
    return {name: statistics.median(found) for name, found in took.items()}


async def main(dsn: str, sizes: Sequence[int], rounds: int) -> None:
    """Measure each size and tell it."""
    await upgrade(dsn)
    for lanes in sizes:
        found = await measure(dsn, lanes, rounds)
        base = found["bare pick"]
        told = ", ".join(f"{name} {ms:.2f} ms ({ms / base:.1f})" for name, ms in found.items())
        print(f"{lanes:6} lanes in {CHANNELS} channels: {told}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, nargs="+", default=[50, 500, 5_000, 50_000])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL, not the embedded one")
    asked = parse(parser, {"lanes": [50], "rounds": 5})
    with postgres(asked) as server:
        asyncio.run(main(server, asked.lanes, asked.rounds))
