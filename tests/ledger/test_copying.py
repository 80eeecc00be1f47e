"""Rows that are copied in are those that would have been inserted."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.readings import Artifact, Failure
from spanpost.domain.tasks import Step, Task
from spanpost.fold.batch import Folded
from spanpost.ledger import rows
from spanpost.ledger.copying import copy_into, rower
from spanpost.testing.builders import a_checkpoint, a_task

pytest.importorskip("asyncpg")

TYPES = {
    "a": "text", "b": "uuid", "c": "boolean", "d": "int8", "e": "float8", "f": "timestamptz", "g": "numeric", "h": "bytea",
    "i": "jsonb",
}  # fmt: skip
NUMBERS = [
    "0",
    "0E-9",
    "1",
    "-1",
    "10000",
    "9999",
    "99990001",
    "0.1",
    "-0.0001",
    "0.00010000",
    "0.000012345",
    "123456789.987654321",
    "1E+9",
]
VALUES: list[tuple[Any, ...]] = [
    ("", UUID(int=0), False, -(2**63), 0.0, datetime(1, 1, 2, tzinfo=UTC), Decimal(0), b"", {}),
    ("tab\tline\n\\N \u2028 \U0001f600", UUID(int=2**128 - 1), True, 2**63 - 1, -1.5e300, datetime(9999, 12, 30, tzinfo=UTC),
     Decimal("1.5"), b"\0\xff", {"a": None, "b": [1, 1.5, "\u2028"]}),
    *(("", UUID(int=1), True, i, i / 7, datetime(2026, 1, 1, 0, 0, 0, i, tzinfo=UTC), Decimal(number), b"", {number: i})
      for i, number in enumerate(NUMBERS)),
    (None,) * 9,
]  # fmt: skip


async def fetched(dsn: str, given: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Copy rows into a table and return what is in it."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE TEMP TABLE given ({', '.join(f'{name} {kind}' for name, kind in TYPES.items())})")
    row = rower(TYPES)
    await copy_into(connection, "given", TYPES, [row(SimpleNamespace(**dict(zip(TYPES, values, strict=True)))) for values in given])
    found = await connection.fetch("SELECT * FROM given")
    await connection.close()
    return [(*values[:-1], msgspec.json.decode(values[-1]) if values[-1] is not None else None) for values in found]


async def test_values_are_read_back_as_they_were(postgres_dsn: str) -> None:
    """Text, ids, numbers of any size, times, bytes, JSON and null come out of PostgreSQL as they went in."""
    found = await fetched(postgres_dsn, VALUES)
    assert found == VALUES
    assert [f"{values[6]:f}" for values in found[2:-1]] == [f"{Decimal(number):f}" for number in NUMBERS]


def some_tasks() -> list[Task]:
    at = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
    shown: list[dict[str, Any]] = [
        {"cost_usd": Decimal("0.000012345"), "progress": float("nan"), "input_tokens": 2**63, "trace_id": b"", "span_id": b"x" * 8},
        {
            "name": 'a "quoted"\ttitle \\N \u2028 \ud83d\ude00'.encode("utf-16", "surrogatepass").decode("utf-16"),
            "is_inferred": True,
        },
        {"cost_usd": Decimal("12345678.9"), "started_at": at, "ended_at": at, "end_reason": "error", "status": "error"},
        {"results": {"x": float("inf"), "y": None, "z": 1.5}, "links": {"pr": "https://example.com/1"}, "aliases": ("a", "b")},
        {"steps": (Step(name="one", index=1, at=at),), "error": Failure(type="E", message="no", log_tail="tail")},
        {"artifacts": (Artifact(name="out", uri="file:///out", kind="file"),), "parent_uid": UUID(int=7), "parent_task_id": "7"},
        *({"name": f"plain {i}"} for i in range(6)),
    ]
    return [a_task(uid=UUID(int=i + 1), task_id=str(i), **given) for i, given in enumerate(shown)]


async def test_many_are_written_as_few_are(postgres_dsn: str) -> None:
    """Tasks and checkpoints that are copied in, being many and new, are the rows that are inserted when they are few; as is
    what changes of them."""
    import asyncpg

    tasks = some_tasks()
    told: list[Checkpoint] = [
        a_checkpoint(id=UUID(int=100 + i), task_uid=task.uid, text=task.name, progress=task.progress)
        for i, task in enumerate(tasks)
    ]
    connection = await asyncpg.connect(postgres_dsn)
    found: list[Any] = []
    for most in (len(tasks), 4):
        transaction = connection.transaction()
        await transaction.start()
        new: list[set[UUID]] = []
        for turn in ("first", "then"):
            changed = [msgspec.structs.replace(task, action=turn) for task in tasks]
            for start in range(0, len(tasks), most):
                await rows.write_tasks(connection, changed[start : start + most], has_moved=False)
                new.append(await rows.write_checkpoints(connection, Folded(checkpoints=told[start : start + most])))
        kept = [
            await connection.fetch(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1")
            for table, columns in (("agent_tasks", rows._TASK_COLUMNS), ("agent_checkpoints", rows._NEW_CHECKPOINT))
        ]
        found.append((kept, set[UUID]().union(*new), sum(map(len, new))))
        await transaction.rollback()
    await connection.close()
    assert found[0] == found[1]
    assert found[0][1] == {c.id for c in told}
    assert found[0][2] == len(told) == len(found[0][0][0])
