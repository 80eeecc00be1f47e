"""Erase a person among many tasks: seconds of a dry run and of the erasure, and recording beside it.

    python bench/erase.py [--tasks 1000 10000 100000] [--erased 1000] [--system] [--json]

Fills a PostgreSQL of its own up to each number of tasks, of four rows each. A person is the user of `--erased` of the
tasks (a tenth at most). Then a recorder records tasks without a pause, alone
and beside the erasure. Afterwards nothing of the person may be in the tables of tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import asyncpg
from options import parse, postgres
from table import tell

from spanpost.store import redaction_key
from spanpost.store.connections import Transacting
from spanpost.store.erasing.run import erase, survey
from spanpost.store.erasing.selection import Selection
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql.schema import upgrade
from spanpost.testing.observed import ended, started

#: Tasks of one batch.
BATCH = 100
HEADINGS = {
    "tasks": "tasks", "erased": "of the person", "fill": "tasks/s filled", "dry": "dry run, s", "done": "erased, s",
    "alone": "recorded alone, tasks/s", "beside": "beside it, tasks/s", "slowest": "slowest batch beside it, s",
}  # fmt: skip


def a_task(number: int, user: str) -> list[Any]:
    root = {"agent.task.id": f"task-{number}", "agent.task.name": f"work {number}", "agent.name": "coder"}
    call = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7, "gen_ai.response.id": f"r{number}"}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    return [
        started(trace=number, span=1, name="agent", attributes=root),
        ended(trace=number, span=2, parent=1, name="chat", attributes={**call, "user.id": user}),
        ended(trace=number, span=3, parent=1, name="search", attributes=tool),
        ended(trace=number, span=1, name="agent", attributes=root, seconds=9),
    ]


async def fill(store: PostgresStore, first: int, end: int, every: int, user: str) -> float:
    """Record tasks, each `every`-th of the user; return tasks a second."""
    began = time.perf_counter()
    for start in range(first, end, BATCH):
        numbers = range(start, min(start + BATCH, end))
        await store.record([o for n in numbers for o in a_task(n, user if n % every == 0 else f"user-{n:08}")])
    return (end - first) / (time.perf_counter() - began)


async def recorded(store: PostgresStore, first: int, over: asyncio.Event) -> tuple[int, float, float]:
    """Record until it is over; return the tasks, the seconds and the slowest batch."""
    began, count, slowest = time.perf_counter(), 0, 0.0
    while not over.is_set():
        at = time.perf_counter()
        await store.record([o for n in range(first + count, first + count + 20) for o in a_task(n, f"user-{n:08}")])
        slowest = max(slowest, time.perf_counter() - at)
        count += 20
    return count, time.perf_counter() - began, slowest


def erase_apart(dsn: str, user: str) -> tuple[int, float]:
    """Erase in this process, as the command does; return the tasks and the seconds."""

    async def work() -> tuple[int, float]:
        database = await asyncpg.connect(dsn)
        connection = Transacting(database)
        key = await redaction_key.read(connection)
        began = time.perf_counter()
        asked = Selection(person=(user,))
        report = await erase(connection, asked, actor="bench", reason="bench", key=key)
        done = time.perf_counter() - began
        await database.close()
        return report.places["agent_tasks"], done

    return asyncio.run(work())


async def measure(
    dsn: str, process: Executor, store: PostgresStore, database: Any, first: int, tasks: int, erased: int
) -> dict[str, Any]:
    user = f"alice.{tasks}@wonder.example"
    erased = min(erased, (tasks - first) // 10)
    filled = await fill(store, first, tasks, (tasks - first) // erased, user)
    await database.execute("VACUUM ANALYZE")
    connection = Transacting(database)
    asked = Selection(person=(user,))
    began = time.perf_counter()
    await survey(connection, asked)
    dry = time.perf_counter() - began
    over = asyncio.Event()
    alone = asyncio.create_task(recorded(store, 10_000_000 + tasks, over))
    await asyncio.sleep(max(1.0, min(dry, 10.0)))
    over.set()
    count, took, _ = await alone
    over = asyncio.Event()
    beside = asyncio.create_task(recorded(store, 20_000_000 + tasks, over))
    erased, done = await asyncio.get_running_loop().run_in_executor(process, erase_apart, dsn, user)
    over.set()
    busy_count, busy_took, slowest = await beside
    for table in ("agent_tasks", "agent_events", "agent_checkpoints", "attribute_sets"):
        assert not await database.fetchval(f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%{user}%'")
    return {
        "tasks": f"{tasks:,}", "erased": erased, "fill": filled, "dry": dry, "done": done,
        "alone": count / took, "beside": busy_count / busy_took, "slowest": slowest,
    }  # fmt: skip


async def main(dsn: str, asked: argparse.Namespace) -> None:
    await upgrade(dsn)
    store = PostgresStore(dsn, pool_size=4)
    await store.open()
    database = await asyncpg.connect(dsn)
    rows, first = [], 1
    for tasks in asked.tasks:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            process.submit(int).result()
            rows.append(await measure(dsn, process, store, database, first, tasks, asked.erased))
        first = tasks
    await database.close()
    await store.close()
    tell(rows, HEADINGS, as_json=asked.json, form=".1f")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--erased", type=int, default=1_000)
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL, not the embedded one")
    parser.add_argument("--json", action="store_true")
    options = parse(parser, {"tasks": [100, 300]})
    with postgres(options) as where:
        asyncio.run(main(where, options))
