"""Pruning: what it deletes, and what it must keep."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from spanpost.model.deliveries import Receipt
from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.store.postgres import PostgresStore
from spanpost.store.retention import prune
from spanpost.testing.exercise_store import SINK
from spanpost.testing.observed import a_run, ended, started

pytestmark = pytest.mark.acceptance
AGE = timedelta(days=90)
LONG_AGO = timedelta(days=200)
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 1,
    "gen_ai.response.id": "r1",
}


def back(observations: list[Observation], by: timedelta = LONG_AGO) -> list[Observation]:
    """Return observations dated so long ago."""
    ns = int(by.total_seconds()) * 10**9
    times = ("at_ns", "start_ns", "end_ns")
    return [msgspec.structs.replace(o, **{t: getattr(o, t) - ns for t in times if getattr(o, t)}) for o in observations]


async def age(database: Any) -> None:
    """Date everything that the database's clock has stamped until now so long ago."""
    for table, column in (
        ("task_state", "touched_at"),
        ("audit_rows", "received_at"),
        ("agent_tasks", "updated_at"),
        ("deliveries", "finalized_at"),
        ("deliveries", "born_at"),
    ):
        await database.execute(f"UPDATE {table} SET {column} = {column} - $1::interval", LONG_AGO)


async def deliver(store: PostgresStore) -> None:
    """Deliver everything that waits."""
    while claimed := await store.outbox.claim([SINK], 50):
        for delivery in claimed:
            await store.outbox.finish(delivery, Receipt(ref={"ts": str(delivery.id)}))


async def counts(database: Any) -> dict[str, int]:
    tables = ("agent_events", "task_state", "deliveries", "ordering_keys", "agent_tasks", "agent_checkpoints")
    return {t: await database.fetchval(f"SELECT count(*) FROM {t}") for t in tables}


async def test_what_is_old_and_closed_goes_and_the_history_stays(store: PostgresStore, database: Any) -> None:
    """A dry run changes nothing; then a closed run's rows, records and deliveries go, its task stays."""
    await store.record(back(a_run("old")))
    await deliver(store)
    await age(database)
    before = await counts(database)
    pruned = await prune(database, AGE, is_done=False)
    assert await counts(database) == before
    done = await prune(database, AGE, is_done=True)
    assert (done.events, done.task_state, done.ordering_keys, done.deliveries) == (
        pruned.events,
        pruned.task_state,
        pruned.ordering_keys,
        pruned.deliveries,
    )
    after = await counts(database)
    assert {t: after[t] for t in ("agent_events", "task_state", "deliveries", "ordering_keys")} == {
        "agent_events": 0,
        "task_state": 0,
        "deliveries": 0,
        "ordering_keys": 0,
    }
    assert (after["agent_tasks"], after["agent_checkpoints"]) == (before["agent_tasks"], before["agent_checkpoints"])
    assert (await prune(database, AGE, is_done=True)).events == 0


async def test_of_open_and_of_young_tasks_nothing_goes(store: PostgresStore, database: Any) -> None:
    """A task that never ended keeps everything, in each trace; so does one that ended lately."""
    root_span = {"agent.task.id": "endless", "agent.task.name": "endless"}
    await store.record(
        back(
            [
                started(trace=1, span=1, name="agent", attributes=root_span),
                ended(trace=1, span=2, parent=1, name="chat", attributes=CALL),
                ended(trace=2, span=3, name="again", attributes=root_span),
                started(trace=3, span=1, name="agent", attributes=root_span),
            ]
        )
    )
    await deliver(store)
    await age(database)
    await store.record(a_run("young", trace=9))
    before = await counts(database)
    assert await database.fetchval("SELECT count(*) FROM agent_tasks WHERE ended_at IS NULL") == 1
    done = await prune(database, AGE, is_done=True)
    assert (done.events, done.task_state, done.ordering_keys) == (0, 0, 0)
    assert await counts(database) == before
    # It goes on unchanged: a repeat is a duplicate, a copy with the same response id is not counted again.
    again = back(
        [
            ended(trace=1, span=2, parent=1, name="chat", attributes=CALL),
            ended(trace=1, span=5, parent=1, name="chat", attributes=CALL),
        ]
    )
    assert (await store.record(again)).duplicates == 1
    [task] = await store.tasks(TaskQuery(task_id="endless"))
    assert (task.llm_calls, task.input_tokens) == (1, 7)


async def test_an_open_child_keeps_its_parents(store: PostgresStore, database: Any) -> None:
    """While a task is open, the records of its closed parent stay."""
    await store.record(
        back(
            [
                ended(trace=1, span=1, name="agent", attributes={"agent.task.id": "above"}),
                started(trace=1, span=2, parent=1, name="agent", attributes={"agent.task.id": "below"}),
            ]
        )
    )
    await age(database)
    before = await counts(database)
    assert (await prune(database, AGE, is_done=True)).kept_tasks == 2
    assert await counts(database) == before


async def test_a_month_goes_as_a_whole_where_it_can(store: PostgresStore, database: Any) -> None:
    """A month older than the age is dropped as a table; one in which an open task has a row is not."""
    moment = datetime.now(UTC) - LONG_AGO
    assert await database.fetchval("SELECT spanpost_add_month($1)", moment)
    await store.record(back(a_run("old")))
    await age(database)
    done = await prune(database, AGE, is_done=True)
    assert done.months == [f"audit_rows_{moment:%Y_%m}"]
    assert done.events > 0
    assert await database.fetchval("SELECT to_regclass($1)", done.months[0]) is None
    assert await database.fetchval("SELECT spanpost_add_month($1)", moment)
    await store.record(
        back([*a_run("other", trace=5), started(trace=6, span=1, name="agent", attributes={"agent.task.id": "open"})])
    )
    await age(database)
    done = await prune(database, AGE, is_done=True)
    assert (done.months, await database.fetchval("SELECT count(*) FROM agent_events")) == ([], 1)


async def test_waiting_deliveries_stay(store: PostgresStore, database: Any) -> None:
    """An ordering key with a waiting delivery is kept, however old."""
    await store.record(back(a_run("old")))
    await age(database)
    before = await counts(database)
    done = await prune(database, AGE, is_done=True)
    assert (done.deliveries, done.ordering_keys) == (0, 0)
    assert (await counts(database))["deliveries"] == before["deliveries"] > 0


@pytest.mark.parametrize("year", [1970, 2099, 2262])
async def test_rows_of_a_clock_that_is_years_off_are_kept_flagged_and_go_in_their_turn(
    year: int, store: PostgresStore, database: Any
) -> None:
    """Rows with a wrong clock make no partition and are deleted at the age of their arrival."""
    await store.record(a_run("right", trace=9))
    months = await database.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_rows'::regclass")
    off = datetime.now(UTC) - datetime(year, 1, 2, tzinfo=UTC)
    await store.record(back(a_run("off"), off))
    # Spans without an agent's task are kept by no task.
    await database.execute(
        "UPDATE audit_rows SET task_uid = NULL WHERE task_uid <> ALL(SELECT uid FROM agent_tasks WHERE name = 'right')"
    )
    flagged = "SELECT count(*) FROM audit_rows_rest WHERE repairs & 128 <> 0"
    assert await database.fetchval(flagged) == len(a_run("off"))
    assert await database.fetchval("SELECT count(*) FROM agent_events WHERE repairs & 128 = 0") == len(a_run("right"))
    assert (
        await database.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_rows'::regclass") == months
    )
    assert (await prune(database, AGE, is_done=True)).events == 0
    assert (await store.record(back(a_run("off"), off))).duplicates == len(a_run("off"))
    await age(database)
    assert (await prune(database, AGE, is_done=False)).events == len(a_run("off"))
    assert (await prune(database, AGE, is_done=True)).events == len(a_run("off"))
    assert await database.fetchval(flagged) == 0
