"""How the rows of every table leave it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from spanpost.model.retention import TenantKeptFor
from spanpost.store.archiving import listing
from spanpost.store.archiving.leaving import BY_THEMSELVES, FOR_EVER, PRUNED
from spanpost.store.archiving.restoring import restore
from spanpost.store.archiving.sources import SOURCES
from spanpost.store.postgres import PostgresStore
from tests.conftest import ROOT
from tests.store.archiving.aged import KEEP, retain, rules

pytestmark = pytest.mark.acceptance
pytest.importorskip("pyarrow")
_TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
  AND NOT relispartition"""
_NEEDED = """
SELECT attname, atttypid::regtype::text AS type FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0
  AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''"""
#: SQL of a value, by the type of a column.
_VALUES = {
    "text": "md5(random()::text)", "uuid": "gen_random_uuid()", "jsonb": "'{}'",
    "bytea": "uuid_send(gen_random_uuid())",
    "bigint": "1", "integer": "1", "smallint": "1", "numeric": "1", "double precision": "1",
    "timestamp with time zone": "now()", "date": "now()::date",
}  # fmt: skip
OLD = "now() - interval '300 days'"


async def add(database: Any, table: str, **given: str) -> None:
    """Insert a row: `given` is SQL by column, and whatever else is needed is anything."""
    values = {row["attname"]: _VALUES[row["type"]] for row in await database.fetch(_NEEDED, table)} | given
    columns = ", ".join(f'"{name}"' for name in values)
    await database.execute(f"INSERT INTO {table} ({columns}) SELECT {', '.join(values.values())}")


async def count(database: Any, table: str) -> int:
    return int(await database.fetchval(f"SELECT count(*) FROM {table}"))


async def test_every_table_is_archived_pruned_or_kept_by_a_reason(store: PostgresStore, database: Any) -> None:
    """A new table fails here until `leaving` or `sources` says how its rows leave; so does the page."""
    found = {row[0] for row in await database.fetch(_TABLES)}
    ways = [{source.target for source in SOURCES.values()}, set(PRUNED), set(BY_THEMSELVES), set(FOR_EVER)]
    assert found == set().union(*ways)
    assert sum(map(len, ways)) == len(found), "a table leaves in one way"
    floors = {row[0]: row[1] for row in await database.fetch("SELECT source, pruned IS NULL FROM retention_floors")}
    assert floors == dict.fromkeys(ways[0], True) | dict.fromkeys(PRUNED, False)
    page = (ROOT / "docs" / "how-to" / "keep-and-archive.md").read_text()
    assert [table for table in (*PRUNED, *FOR_EVER) if f"`{table}`" not in page] == []


async def test_rows_without_a_task_are_archived_when_they_are_over(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """Ended standing approvals, resolved alerts, launch orders that do not wait and old quarantine go into files and
    come back as they were; what is open, waits or is young stays.
    """
    body = "decode(repeat('00ff27', 9), 'hex')"
    await add(database, "standing_approvals", scope="'hour'", expires_at=OLD)
    await add(database, "standing_approvals", scope="'hour'", expires_at="now() + interval '1 day'")
    await add(database, "standing_approvals", scope="'hour'", expires_at="now() + interval '1 day'", revoked_at=OLD)
    await add(database, "alerts", starts_at=OLD, ends_at=OLD, reported_at=OLD)
    await add(database, "alerts", starts_at=OLD, reported_at=OLD)
    await add(database, "alerts", starts_at=OLD, ends_at="now()", reported_at=OLD)
    await add(database, "launch_orders", recorded_at=OLD, body=body, parameters='\'{"a": [1.50, "x"]}\'')
    await add(database, "launch_orders")
    waits = "'00000000-0000-0000-0000-000000000007'::uuid"
    await add(database, "launch_orders", id=waits, carrier="'launch:x'", recorded_at=OLD)
    await add(database, "deliveries", sink="'launch:x'", key=f"{waits}::text", state="'waiting'", mode="'checkpoint'")
    await add(database, "quarantine", bytes=body, first_at=OLD, last_at=OLD)
    await add(database, "quarantine", first_at=OLD)
    tables = ("standing_approvals", "alerts", "launch_orders", "quarantine")

    async def all_rows() -> list[str]:
        query = " UNION ALL ".join(f"SELECT to_jsonb(t)::text FROM {table} t" for table in tables)
        return sorted(row[0] for row in await database.fetch(query))

    before = await all_rows()
    counted = await retain(database, rules(tmp_path / "archive"), is_done=False)
    done = await retain(database, rules(tmp_path / "archive"))
    assert (counted.rows, done.rows) == (5, 5)
    assert [await count(database, table) for table in tables] == [1, 2, 2, 1]
    for archive in await listing.archives(database):
        await restore(database, tmp_path / "archive", archive, keep=KEEP)
    assert await all_rows() == before


async def test_sums_and_redirects_are_pruned(store: PostgresStore, database: Any, tmp_path: Path) -> None:
    """Old rows of tables without archives are counted and deleted, each tenant's by its own time; not those that a row
    needs, nor those younger than the owner allows, nor anything without a directory.
    """
    for tenant in ("'acme'", "'other'"):
        await add(database, "spending", tenant=tenant, began_at=OLD, ends_at=OLD)
        await add(database, "spending", tenant=tenant)
    await add(database, "provider_limits", last_at=OLD)
    await add(database, "budget_reservations", expires_at=OLD)
    await add(database, "budget_questions", asked_at=OLD)
    await add(database, "task_redirects", at=OLD)
    tables = (*PRUNED,)
    full = [await count(database, table) for table in tables]
    assert (await retain(database, rules(None))).pruned == 0
    given = rules(tmp_path / "archive", tenants={"acme": TenantKeptFor(operations=timedelta(days=400))})
    assert (await retain(database, given, is_done=False)).pruned == 5
    assert [await count(database, table) for table in tables] == full
    await database.execute("UPDATE retention_floors SET shortest = '400 days' WHERE source = 'provider_limits'")
    assert (await retain(database, given)).pruned == 4
    left = {table: await count(database, table) for table in tables}
    assert left == dict.fromkeys(PRUNED, 0) | {"spending": 3, "provider_limits": 1}
    await database.execute("UPDATE retention_floors SET shortest = '0' WHERE source = 'provider_limits'")
    assert (await retain(database, rules(tmp_path / "archive"))).pruned == 2
    for table in ("alerts", "erasures", "audit_rows"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="are not pruned"):
            await database.fetchval("SELECT spanpost_prune($1, now(), '{}', false, true)", table)
