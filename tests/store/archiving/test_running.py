"""Retention: what moves into archives, and what stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanpost.model.queries import TaskQuery
from spanpost.model.retention import TenantKeptFor
from spanpost.store.archiving import listing, parquet
from spanpost.store.archiving.restoring import restore
from spanpost.store.embedded_roles import USER
from spanpost.store.postgres import PostgresStore
from spanpost.testing.observed import a_run, an_event, ended, started
from tests.store.archiving.aged import KEEP, LONG_AGO, age, back, contents, deliver, retain, rules

pytestmark = pytest.mark.acceptance
pytest.importorskip("pyarrow")


AN_ARCHIVE = "archive"
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 1,
    "gen_ai.response.id": "r1",
}


async def add_month(database: Any, moment: datetime) -> None:
    """Make the partition of a month, as the owner of the tables does."""
    await database.execute(f"SET ROLE {USER}")
    assert await database.fetchval("SELECT spanpost_add_month($1)", moment)
    await database.execute("RESET ROLE")


@pytest.mark.proves("archived")
async def test_old_rows_move_into_verified_files_and_come_back_as_they_were(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """A dry run changes nothing; a run empties the tables into files; restoring them gives the same rows."""
    given = rules(tmp_path / AN_ARCHIVE)
    await store.record(back(a_run("old")))
    await deliver(store)
    await age(database)
    before = await contents(database)
    counted = await retain(database, given, is_done=False)
    assert await contents(database) == before
    done = await retain(database, given)
    assert (done.rows, done.changed, done.left) == (counted.rows, 0, 0)
    assert done.rows == sum(map(len, before.values()))
    assert all(not rows for rows in (await contents(database)).values())
    assert await database.fetchval("SELECT count(*) FROM task_state") == 0
    assert await database.fetchval("SELECT count(*) FROM ordering_keys") == 0
    assert (await retain(database, given)).rows == 0
    listed = await listing.archives(database)
    assert {archive.state for archive in listed} == {"removed"}
    for archive in listed:
        path = tmp_path / AN_ARCHIVE / archive.path
        assert path.stat().st_mode & 0o777 == 0o600
        assert parquet.count_of(path) == archive.rows
        assert await restore(database, tmp_path / AN_ARCHIVE, archive, keep=KEEP) == archive.rows
    assert await contents(database) == before
    # While they are restored, nothing takes them away; afterwards they go again, and no second file is written.
    assert (await retain(database, given)).rows == 0
    assert await contents(database) == before
    await database.execute("UPDATE archives SET restored_until = now() - interval '1 hour'")
    assert (await retain(database, given)).rows == 0
    assert all(not rows for rows in (await contents(database)).values())
    assert [a.path for a in await listing.archives(database, states=["removed"])] == [a.path for a in listed]


async def test_of_open_and_of_young_tasks_nothing_goes(store: PostgresStore, database: Any, tmp_path: Path) -> None:
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
    before, states = await contents(database), await database.fetchval("SELECT count(*) FROM task_state")
    assert await database.fetchval("SELECT count(*) FROM agent_tasks WHERE ended_at IS NULL") == 1
    done = await retain(database, rules(tmp_path / AN_ARCHIVE))
    assert (done.rows, done.placement) == (0, 0)
    assert await contents(database) == before
    assert await database.fetchval("SELECT count(*) FROM task_state") == states
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


async def test_an_abandoned_task_goes_with_its_question(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """An open task that has not changed for two years goes, with question and placement; a day before it stays."""
    asked = {"agent.approval.id": "q", "agent.approval.question": "Deploy?"}
    root = started(trace=1, span=1, name="agent", attributes={"agent.task.id": "abandoned"})
    question = an_event(trace=1, span=1, name="agent.approval.requested", attributes=asked, index=0)
    await store.record(back([root, question]))
    await deliver(store)
    await age(database, timedelta(days=729))
    tables = ("agent_tasks", "approvals", "audit_rows", "task_state")
    before = [await database.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
    await retain(database, rules(tmp_path / AN_ARCHIVE))
    assert await database.fetchval("SELECT count(*) FROM approvals WHERE state = 'open'") == 1
    await age(database, timedelta(days=2))
    await retain(database, rules(tmp_path / AN_ARCHIVE))
    assert [await database.fetchval(f"SELECT count(*) FROM {table}") for table in tables] == [0, 0, 0, 0] != before


async def test_an_open_child_keeps_its_parents(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """While a task is open, the rows of its closed parent stay."""
    await store.record(
        back(
            [
                ended(trace=1, span=1, name="agent", attributes={"agent.task.id": "above"}),
                started(trace=1, span=2, parent=1, name="agent", attributes={"agent.task.id": "below"}),
            ]
        )
    )
    await deliver(store)
    await age(database)
    before = await contents(database)
    assert (await retain(database, rules(tmp_path / AN_ARCHIVE))).rows == 0
    assert await contents(database) == before


async def test_an_empty_month_is_dropped_as_a_table(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """When all rows of a month were archived, its partition goes; one in which an open task has a row stays."""
    moment = datetime.now(UTC) - LONG_AGO
    await add_month(database, moment)
    await store.record(back(a_run("old")))
    await deliver(store)
    await age(database)
    done = await retain(database, rules(tmp_path / AN_ARCHIVE))
    assert done.dropped == [f"audit_rows_{moment:%Y_%m}"]
    assert await database.fetchval("SELECT to_regclass($1)", done.dropped[0]) is None
    await add_month(database, moment)
    is_open = started(trace=6, span=1, name="agent", attributes={"agent.task.id": "open"})
    await store.record(back([*a_run("other", trace=5), is_open]))
    await deliver(store)
    await age(database)
    await database.execute("UPDATE archives SET written_at = now() - interval '8 days'")
    assert (await retain(database, rules(tmp_path / AN_ARCHIVE))).dropped == []
    assert await database.fetchval("SELECT count(*) FROM agent_events") == 1


async def test_waiting_deliveries_stay(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """Deliveries of an ordering key with a waiting one are kept, however old."""
    await store.record(back(a_run("old")))
    await age(database)
    before = (await contents(database))["deliveries"]
    await retain(database, rules(tmp_path / AN_ARCHIVE))
    assert (await contents(database))["deliveries"] == before != []


async def test_nothing_goes_of_a_task_that_a_sink_still_waits_for(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """While a delivery of a task waits, younger than a week, the rows that it is made of stay, and it is delivered."""
    await store.record(back(a_run("old")))
    await age(database)
    await database.execute("UPDATE deliveries SET born_at = clock_timestamp() - interval '6 days'")
    before = await contents(database)
    assert (await retain(database, rules(tmp_path / AN_ARCHIVE))).rows == 0
    assert await contents(database) == before
    await deliver(store)
    assert await database.fetchval("SELECT count(*) FROM deliveries WHERE state <> 'delivered'") == 0
    await age(database)
    assert (await retain(database, rules(tmp_path / AN_ARCHIVE))).rows > 0


@pytest.mark.parametrize("year", [1970, 2099, 2262])
async def test_rows_of_a_clock_that_is_years_off_go_by_their_arrival(
    year: int, store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """Rows with a wrong clock make no partition, and are archived at the age of their arrival, to the microsecond."""
    given = rules(tmp_path / AN_ARCHIVE)
    await store.record(a_run("right", trace=9))
    off = datetime.now(UTC) - datetime(year, 1, 2, tzinfo=UTC)
    await store.record(back(a_run("off"), off))
    await database.execute(
        "UPDATE audit_rows SET task_uid = NULL WHERE task_uid <> ALL(SELECT uid FROM agent_tasks WHERE name = 'right')"
    )
    flagged = "SELECT count(*) FROM audit_rows_rest WHERE repairs & 128 <> 0"
    assert await database.fetchval(flagged) == len(a_run("off"))
    assert (await retain(database, given)).rows == 0
    assert (await store.record(back(a_run("off"), off))).duplicates == len(a_run("off"))
    await database.execute("UPDATE audit_rows SET received_at = received_at - $1::interval", LONG_AGO)
    before = (await contents(database))["audit_rows"]
    done = await retain(database, given)
    assert [(month.source, month.rows) for month in done.months] == [("audit_rows_rest", len(a_run("off")))]
    assert await database.fetchval(flagged) == 0
    [archive] = await listing.archives(database)
    await restore(database, tmp_path / AN_ARCHIVE, archive, keep=KEEP)
    assert (await contents(database))["audit_rows"] == before


async def test_a_tenant_has_its_own_time(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """The rows of a tenant that keeps them longer stay, and the other tenant's files hold none of them."""
    for tenant in ("red", "blue/../x"):
        await store.record([msgspec.structs.replace(o, tenant=tenant) for o in back(a_run("old"))])
    await deliver(store)
    await age(database)
    longer = TenantKeptFor(**dict.fromkeys(("audit_rows", "tasks", "artifacts", "deliveries"), LONG_AGO * 2))
    done = await retain(database, rules(tmp_path / AN_ARCHIVE, tenants={"red": longer}))
    assert {month.tenant for month in done.months} == {"blue/../x"}
    assert await database.fetch("SELECT DISTINCT tenant FROM agent_events") == [("red",)]
    assert sorted(path.name for path in (tmp_path / AN_ARCHIVE).iterdir()) == [
        "archive.json",
        "tenant=blue%2F%2E%2E%2Fx",
    ]


async def test_a_month_becomes_as_many_files_as_it_needs(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """Files have a bounded number of rows, a run has a bounded number of months, and the next run goes on."""
    await store.record(back([o for trace in range(1, 6) for o in a_run(f"old-{trace}", trace=trace)]))
    await deliver(store)
    await age(database)
    before = await contents(database)
    total, left = 0, 1
    while left:
        done = await retain(database, rules(tmp_path / AN_ARCHIVE, rows_per_file=3, files_per_run=2))
        total, left = total + done.rows, done.left
    assert total == sum(map(len, before.values()))
    listed = await listing.archives(database)
    assert max(archive.rows for archive in listed) == 3
    for archive in listed:
        await restore(database, tmp_path / AN_ARCHIVE, archive, keep=KEEP)
    assert await contents(database) == before


@pytest.mark.proves("late-is-quiet", "out-of-order")
async def test_late_telemetry_of_a_trace_that_is_over_changes_nothing(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """Without placement records, a span sent again is a duplicate, and a new one only an audit row of its task."""
    await store.record(back(a_run("over")))
    await deliver(store)
    await age(database)
    kinds = ("audit_rows", "tasks", "artifacts", "deliveries")
    done = await retain(database, rules(tmp_path / AN_ARCHIVE, **dict.fromkeys(kinds, 2 * LONG_AGO)))
    assert (done.rows, await database.fetchval("SELECT count(*) FROM task_state")) == (0, 0)
    before = await contents(database)
    assert (await store.record(back(a_run("over")))).duplicates == len(a_run("over"))
    late = back([ended(trace=1, span=77, parent=1, name="chat", attributes=CALL)])
    recorded = await store.record([*late, *a_run("new", trace=9)])
    assert recorded.events == 1 + len(a_run("new"))
    assert {task.name for task in recorded.tasks} == {"new"}
    assert (await store.record(late)).duplicates == 1
    uid = await database.fetchval("SELECT uid FROM agent_tasks WHERE name = 'over'")
    row = await database.fetchrow("SELECT task_uid FROM agent_events WHERE span_id = $1", late[0].span_id)
    assert row["task_uid"] == uid
    after = await contents(database)
    for table in ("agent_tasks", "agent_checkpoints", "deliveries"):
        assert set(before[table]) <= set(after[table])
