"""Rows that leave the tables on purpose: their salts go, a note says why, and a tenant without a log costs nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from spanpost.store.postgres import PostgresStore
from spanpost.store.sealing.forgetting import RowQuery, SealedRow, TimeRange, erased, removed

pytestmark = pytest.mark.acceptance
AT = datetime(2026, 3, 1, tzinfo=UTC)
ARCHIVE = bytes(range(32))
ACT = UUID(int=1)


async def a_log(database: Any, leaves: int) -> list[SealedRow]:
    """Make a log of audit rows, one a day, and one intervention as the last leaf."""
    await database.execute("INSERT INTO seal_logs (tenant, origin, size) VALUES ('t', 'x/t', $1)", leaves + 1)
    await database.execute(
        "INSERT INTO sealed_rows SELECT i, $1::timestamptz + i * interval '1 day', i, gen_random_uuid(),"
        " gen_random_uuid(), 1 + (i = $2)::int, 't' FROM generate_series(0, $2) AS i",
        AT,
        leaves,
    )
    await database.execute("UPDATE sealed_rows SET row_hash = 0 WHERE source = 2")
    found = await database.fetch("SELECT row_at, row_id, row_hash FROM sealed_rows WHERE source = 1 ORDER BY leaf")
    acts = await database.fetch("SELECT row_id FROM sealed_rows WHERE source = 2")
    return [SealedRow("audit_rows", tuple(row)) for row in found] + [
        SealedRow("human_interventions", (row[0],)) for row in acts
    ]


async def noted(database: Any) -> list[tuple[Any, ...]]:
    found = await database.fetch(
        "SELECT kind, actor, reason, archive, rows, (SELECT array_agg(lower(r) ORDER BY r) FROM unnest(leaves) AS r)"
        " FROM seal_notes ORDER BY at, kind"
    )
    return [tuple(row) for row in found]


async def left(database: Any) -> list[int]:
    return [row[0] for row in await database.fetch("SELECT leaf FROM sealed_rows ORDER BY leaf")]


async def test_erased_rows_lose_their_salts(store: PostgresStore, database: Any) -> None:
    """Salts of both tables' rows go; a row that was not sealed yet is counted; one note a table says who and why."""
    rows = await a_log(database, 5)
    unsealed = SealedRow("audit_rows", (AT, UUID(int=7), 7))
    async with database.transaction():
        count = await erased(
            database, "t", [rows[1], rows[3], rows[5], unsealed], act=ACT, actor="ann", reason="request 12"
        )
    assert (count, await left(database)) == (4, [0, 2, 4])
    assert await noted(database) == [
        ("erased", "ann", "request 12", None, 3, [1, 3]),
        ("erased", "ann", "request 12", None, 1, [5]),
    ]


async def test_archived_rows_keep_their_salts(store: PostgresStore, database: Any) -> None:
    """A file's hash is noted with the leaves, and the salts stay for proofs of what the file holds."""
    await a_log(database, 5)
    month = TimeRange("audit_rows", AT + timedelta(days=1), AT + timedelta(days=3))
    assert await removed(database, "t", month, act=ACT, actor="keeper", reason="archived", archive=ARCHIVE) == 2
    assert await left(database) == [0, 1, 2, 3, 4, 5]
    assert await noted(database) == [("removed", "keeper", "archived", ARCHIVE, 2, [1])]


async def test_pruned_rows_are_named_by_a_query(store: PostgresStore, database: Any) -> None:
    """A query with arguments names rows; a range without an archive takes the salts of exactly its rows."""
    rows = await a_log(database, 5)
    query = RowQuery("audit_rows", "SELECT $1::timestamptz, $2::uuid, $3::int8", rows[0].key)
    assert await removed(database, "t", query, act=ACT, actor="keeper", reason="old", archive=None) == 1
    month = TimeRange("audit_rows", AT + timedelta(days=3), AT + timedelta(days=9))
    assert await removed(database, "t", month, act=ACT, actor="keeper", reason="older", archive=None) == 2
    assert await left(database) == [1, 2, 5]
    assert [(row[4], row[5]) for row in await noted(database)] == [(1, [0]), (2, [3])]


async def test_another_tenant_is_not_touched(store: PostgresStore, database: Any) -> None:
    """A tenant without a log, and one that names another's rows, forgets nothing; no rows leave no note."""
    rows = await a_log(database, 3)
    assert await erased(database, "other", rows, act=ACT, actor="ann", reason="x") == 0
    await database.execute("INSERT INTO seal_logs (tenant, origin, size) VALUES ('other', 'x/other', 0)")
    assert await erased(database, "other", rows, act=ACT, actor="ann", reason="x") == 4
    assert await erased(database, "t", [], act=ACT, actor="ann", reason="x") == 0
    assert await left(database) == [0, 1, 2, 3]
    assert [(row[4], row[5]) for row in await noted(database)] == [(3, None), (1, None)]
