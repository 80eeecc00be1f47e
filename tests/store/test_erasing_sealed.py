"""Erasure and the sealed log: leaves stay, salts of erased rows go, changed rows become leaves anew."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.store.postgres import PostgresStore
from tests.store.erasing_history import ALICE, a_task, act, erased

#: One server: `test_erasing` tries both.
pytestmark = [pytest.mark.acceptance, pytest.mark.parametrize("postgres_server", ["system"], indirect=True)]

#: Every row of both tables has a leaf, as if a sealer had been here.
_SEAL = """
WITH log AS (INSERT INTO seal_logs (tenant, origin, size) VALUES ('default', 'tests/default', 0)), rows AS (
  SELECT occurred_at AS at, event_id AS id, content_hash AS hash, 1 AS source FROM audit_rows
  UNION ALL SELECT at, id, 0, 2 FROM human_interventions WHERE tenant = 'default')
INSERT INTO sealed_rows (tenant, leaf, row_at, row_hash, row_id, salt, source)
SELECT 'default', row_number() OVER () - 1, at, hash, id, gen_random_uuid(), source FROM rows"""
_WITHOUT_SALT = """
SELECT count(*) FROM {table} r
WHERE NOT EXISTS (SELECT FROM sealed_rows s WHERE s.row_id = r.{id}) AND r.written_in > $1"""


async def test_salts_of_erased_rows_are_forgotten(store: PostgresStore, database: Any) -> None:
    """Rows that went or changed have no salt any more; notes say who erased how many, and why; others keep theirs."""
    await store.record(a_task(1, requested_by="alice@wonder.example"))
    await store.record(a_task(2))
    await act(store, ALICE)
    await database.execute(_SEAL)
    before = await database.fetchval("SELECT pg_current_xact_id()::text::bigint")
    leaves = await database.fetchval("SELECT count(*) FROM sealed_rows")
    await erased(database, person=("alice@wonder.example",))
    gone = leaves - await database.fetchval("SELECT count(*) FROM sealed_rows")
    notes = await database.fetch("SELECT kind, actor, reason, rows FROM seal_notes")
    assert {(note["kind"], note["actor"], note["reason"]) for note in notes} == {("erased", "root@tests", "ticket 18")}
    assert sum(note["rows"] for note in notes) == gone
    # Every row of a leaf is as it was sealed; every other row is new to the sealer.
    orphans = "SELECT count(*) FROM sealed_rows s WHERE s.source = 1 AND NOT EXISTS (SELECT FROM audit_rows r WHERE "
    assert await database.fetchval(orphans + "r.event_id = s.row_id AND r.content_hash = s.row_hash)") == 0
    sealed_and_changed = """
SELECT count(*) FROM audit_rows r JOIN sealed_rows s ON s.row_id = r.event_id AND s.row_hash = r.content_hash
WHERE r.written_in > $1"""
    assert await database.fetchval(sealed_and_changed, before) == 0
    for table, id in (("audit_rows", "event_id"), ("human_interventions", "id")):
        assert await database.fetchval(_WITHOUT_SALT.format(table=table, id=id), before) > 0
    kept = (
        "SELECT count(*) FROM audit_rows r JOIN agent_tasks t ON t.uid = r.task_uid WHERE t.task_id = 'task-default-2'"
    )
    assert await database.fetchval(
        kept + " AND EXISTS (SELECT FROM sealed_rows s WHERE s.row_id = r.event_id AND s.row_hash = r.content_hash)"
    ) == await database.fetchval(kept)
