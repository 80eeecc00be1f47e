"""The stream of checkpoints in PostgreSQL, where transactions commit in another order than they begin."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from spanpost.model.queries import TimelineEntry
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_browse import at_work_on
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run

pytestmark = pytest.mark.acceptance

_LATE = (
    "INSERT INTO agent_checkpoints (id, tenant, task_uid, kind, status, text, detail, ref, at, first_at, "
    "trace_id, span_id)"
    " SELECT gen_random_uuid(), tenant, uid, 'checkpoint', 'working', 'late', '', '', now(), now(), '', '' "
    "FROM agent_tasks"
)


async def test_a_late_commit_is_not_skipped(store: PostgresStore, database: Any) -> None:
    """A transaction that commits late holds back later rows, and then both are read in order."""
    await store.record([at_work_on(1)])
    head = await store.reader.head()
    late = database.transaction()
    await late.start()
    await database.execute(_LATE)
    await store.record([at_work_on(2)])
    assert await store.reader.streamed(head, 10) == []
    await late.commit()
    assert [one.checkpoint.text for one in await store.reader.streamed(head, 10)][:1] == ["late"]
    assert len(await store.reader.streamed(head, 10)) == 2


async def test_a_restored_database_streams_from_now_on(store: PostgresStore, database: Any) -> None:
    """Rows with another server's transaction ids, which are ahead of this one's, are never streamed as new."""
    await store.record([at_work_on(1)])
    await database.execute("UPDATE agent_checkpoints SET xid = (pg_current_xact_id()::text::int8 + 1000)::text::xid8")
    head = await store.reader.head()
    for n in range(2, 5):
        await store.record([at_work_on(n)])
    await database.execute("SELECT pg_current_xact_id()")
    assert [one.task.name for one in await store.reader.streamed(head, 10)] == ["job 2", "job 3", "job 4"]
    assert await database.fetchval("SELECT count(*) FROM agent_checkpoints WHERE xid IS NULL") == 1


async def test_readers_and_writers_at_once(store: PostgresStore, postgres_dsn: str) -> None:
    """While eight writers record, two readers with other page sizes read the same stream, each checkpoint
    once.
    """
    writer = PostgresStore(postgres_dsn, rules=ROUTED_RULES, pool_size=4)
    await writer.open()
    head = await store.reader.head()
    is_over = asyncio.Event()

    async def read(size: int) -> list[Any]:
        found, after = [], head
        while True:
            was_over = is_over.is_set()
            page = await store.reader.streamed(after, size)
            found += [one.position for one in page]
            after = page[-1].position if page else after
            if was_over and not page:
                return found

    async def write(first: int) -> None:
        for n in range(first, first + 10):
            await writer.record(a_run(f"run {n}", trace=n))

    readers = [asyncio.create_task(read(size)) for size in (1, 7)]
    await asyncio.gather(*(write(100 * n + 1) for n in range(8)))
    is_over.set()
    one, other = await asyncio.gather(*readers)
    await writer.close()
    connection = await asyncpg.connect(postgres_dsn)
    count = await connection.fetchval("SELECT count(*) FROM agent_checkpoints")
    await connection.close()
    assert one == other
    assert len(set(one)) == len(one) == count


async def test_recorded_content_is_given_to_those_who_ask_for_it(store: PostgresStore) -> None:
    """Steps, calls and tools are in the timeline with their seconds; attributes only if content is requested."""
    await store.record(a_run("a", trace=1))
    task = await store.reader.task("default", f"{1:032x}")
    assert task is not None

    async def events(*, content: bool) -> list[TimelineEntry]:
        page = await store.reader.timeline(task.uid, None, 50, content=content)
        return [one for one in page.items if one.source == "event"]

    plain, whole = await events(content=False), await events(content=True)
    assert [(one.kind, one.seconds, one.content) for one in plain] == [("tool", 2.0, None), ("llm", 2.0, None)]
    assert whole[0].content == {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
