"""New checkpoints are written by COPY, with the same result as one INSERT for each."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.store.memory import MemoryStore
from spanpost.store.postgres import PostgresStore
from spanpost.store.rows import write_checkpoints
from spanpost.tasks.folded import Folded
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run
from spanpost.text.wording import message

pytestmark = pytest.mark.acceptance

BEGAN = datetime(2026, 3, 1, 12, 30, 15, 123457, UTC)
_ROWS = "SELECT to_jsonb(c) - 'recorded_at' - 'xid' FROM agent_checkpoints c ORDER BY id"


def copied(number: int, **fields: Any) -> Checkpoint:
    """Return a checkpoint of every kind in turn, with and without optional fields."""
    kinds = list(Kind)
    made: dict[str, Any] = {
        "id": UUID(int=number),
        "tenant": "default",
        "task_uid": UUID(int=7),
        "kind": kinds[number % len(kinds)],
        "status": "working",
        "text": f"news 👋 {number}\\u0000 as deliveries",
        "at": BEGAN - timedelta(days=20_000 * (number % 2), microseconds=number),
        "trace_id": bytes(16) if number % 3 else b"",
        "span_id": bytes(8) if number % 3 else b"",
        "subtree": bytes([number]) * 8 if number % 4 else b"",
        "progress": None if number % 2 else number / 7,
        "detail": "long\n" * number,
        "ref": "ß" * number,
        "message": message("checkpoint.started", name=f"\u2028 {{}} \\u0000 {number}") if number % 2 else None,
    }
    return Checkpoint(**made | fields)


async def test_what_is_copied_is_what_would_be_inserted(postgres_dsn: str, database: Any) -> None:
    """Copied rows equal inserted ones, NUL and lone surrogates included, and the same ones are new."""
    of_old = [copied(n, kind=Kind.CHECKPOINT, text="as it was") for n in (3, 5)]
    given = [
        *map(copied, range(1, 14)),
        copied(14, text="nul \0"),
        copied(15, detail="half \ud83d"),
        copied(16, message=message("checkpoint.started", name="nul \0")),
    ]
    given = [c for c in given if c.kind not in (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED)]
    written, found = [], []
    for is_first in (True, False):
        transaction = database.transaction()
        await transaction.start()
        await write_checkpoints(database, Folded(checkpoints=of_old))
        written.append(await write_checkpoints(database, Folded(checkpoints=given), is_first=is_first))
        found.append(await database.fetch(_ROWS))
        await transaction.rollback()
    assert found[0] == found[1]
    assert len(found[0]) == len({c.id for c in (*of_old, *given)})
    assert written == [{c.id for c in given} - {c.id for c in of_old}] * 2


async def test_a_checkpoint_of_another_process_is_a_duplicate(
    postgres_dsn: str, store: PostgresStore, database: Any
) -> None:
    """A checkpoint that another process writes before the copy is a duplicate, and the batch is recorded."""
    batch = [o for trace in range(1, 6) for o in a_run(f"run {trace}", trace=trace)]
    memory = MemoryStore(rules=ROUTED_RULES)
    expected = (await memory.record(batch)).checkpoints
    assert len(expected) >= 8
    other = await asyncpg.connect(postgres_dsn)
    transaction = other.transaction()
    await transaction.start()
    await write_checkpoints(other, Folded(checkpoints=expected[:1]))
    recording = asyncio.create_task(store.record(batch))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(60):
        while not await database.fetchval(waits):
            assert not recording.done()
            await asyncio.sleep(0.01)
    await transaction.commit()
    await other.close()
    recorded = await recording
    assert {c.id for c in recorded.checkpoints} == {c.id for c in expected[1:]}
    assert await database.fetchval("SELECT count(*) FROM agent_events WHERE part = 0") == sum(
        o.part == 0 for o in batch
    )
    assert await database.fetchval("SELECT count(*) FROM agent_checkpoints") == len(expected)
