"""Retention on the gateway's schedule."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from spanpost.runtime.retention import RetentionSchedule
from spanpost.settings.retention import RetentionSettings
from spanpost.store.postgres import PostgresStore
from spanpost.store.system_user import system_user
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run
from tests.store.archiving.aged import age, back, deliver

pytestmark = pytest.mark.acceptance
pytest.importorskip("pyarrow")


async def test_a_run_in_a_process_of_its_own(dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The child archives what is due and the log says so; an error is logged, kept for the gauges, and not raised."""
    store = PostgresStore(dsn, rules=ROUTED_RULES)
    await store.open()
    await store.record(back(a_run("old")))
    await deliver(store)
    connection = await asyncpg.connect(dsn)
    await age(connection)
    given = RetentionSettings(directory=tmp_path / "archive", tasks=timedelta(days=190), files_per_run=4)
    schedule = RetentionSchedule(given, lambda: store.dsn)
    caplog.set_level("INFO", "spanpost.runtime.retention")
    runs = 1
    while await schedule.run_once():
        runs += 1
    assert await connection.fetchval("SELECT count(*) FROM audit_rows") == 0
    assert runs > 1
    assert await connection.fetchval("SELECT sum(rows) FROM archives WHERE state = 'removed'") > 4
    assert "rows archived" in caplog.text
    acts = await connection.fetch("SELECT DISTINCT verb, via, actor_id FROM human_interventions")
    assert list(map(tuple, acts)) == [("archive", "gateway", f"gateway:{system_user()}")]
    (tmp_path / "archive" / "archive.json").write_text('{"archive_id": "other"}')
    assert not await schedule.run_once()
    assert "archives of another database" in caplog.text
    fleet = await store.fleet()
    assert fleet is not None
    assert fleet.retention is not None
    assert sum(each.rows for each in fleet.archived) == await connection.fetchval("SELECT sum(rows) FROM archives")
    assert "another database" in await connection.fetchval("SELECT error FROM retention_progress")
    await connection.close()
    await store.close()


async def test_it_ends_with_its_gateway(dsn: str, tmp_path: Path) -> None:
    """A schedule that is closed leaves neither a task nor a child."""
    schedule = RetentionSchedule(RetentionSettings(directory=tmp_path / "archive"), lambda: dsn)
    schedule.start()
    await asyncio.sleep(0)
    await schedule.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "spanpost-retention"]
