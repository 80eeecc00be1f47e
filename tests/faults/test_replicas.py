"""Several replicas on one database: for any batches in any order, the tables equal those of one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from spanpost.model.checkpoints import REPORTED_KINDS
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from tests.conftest import ROOT
from tests.faults.stream import tangled

REPLICAS = 3
RUNS = int(os.environ.get("SPANPOST_TEST_RUNS", "150"))

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(900)]


async def figures(store: Store) -> tuple[list[Any], set[Any]]:
    """Return the figures of the tasks, and the ids of reported checkpoints."""
    tasks = await store.tasks(TaskQuery(limit=100_000))
    reported = await store.reader.checkpoints(limit=100_000)
    came_to = sorted(
        (
            t.task_id,
            t.uid,
            t.agent_name,
            t.status,
            t.input_tokens,
            t.output_tokens,
            t.parent_task_id,
            sorted(t.aliases),
            t.llm_calls,
            t.child_count,
            t.runs,
        )
        for t in tasks
    )
    return came_to, {c.id for c in reported if c.kind in REPORTED_KINDS}


async def of_one(observations: list[Any]) -> tuple[list[Any], set[Any]]:
    store = MemoryStore(FoldRules(), keep=None)
    await store.record(sorted(observations, key=lambda o: o.at_ns))
    return await figures(store)


async def of_many(dsn: str) -> tuple[list[Any], set[Any], int, int]:
    import asyncpg

    from spanpost.store.postgres import PostgresStore

    store = PostgresStore(dsn, rules=FoldRules())
    await store.open()
    came_to, reported = await figures(store)
    await store.close()
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetchval("SELECT count(*) FROM agent_events")
    deadlocks = await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    await connection.close()
    return came_to, reported, rows, deadlocks


@pytest.mark.proves("replicas", "deadlocks", "random-orders")
def test_three_replicas_come_to_what_one_does(
    dsn: str, needs: Callable[[str], str], record_property: Callable[[str, object], None]
) -> None:
    """Overlapping, shuffled, repeated batches in twelve transactions cause no deadlock and the figures of one."""
    began = time.time_ns()
    whole = tangled(RUNS, began)
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.replica", str(RUNS), str(REPLICAS), str(mine), str(began)],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": dsn, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine in range(REPLICAS)
    ]
    said = [child.communicate()[0].split() for child in children]
    assert [child.returncode for child in children] == [0] * REPLICAS
    came_to, reported, rows, deadlocks = asyncio.run(of_many(dsn))
    expected, expected_reported = asyncio.run(of_one(whole))
    assert deadlocks == 0
    assert rows == len(whole)
    assert reported == expected_reported
    assert came_to == expected
    transactions, refused = (sum(int(count) for count in counts) for counts in zip(*said, strict=True))
    record_property("size", f"{rows} rows in {transactions} transactions, {refused} refused and sent again")
