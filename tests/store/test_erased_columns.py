"""Every column that can hold a text is classified for erasure."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.store.erasing.columns import KINDS, TABLES
from spanpost.store.postgres import PostgresStore

pytestmark = pytest.mark.acceptance

_COLUMNS = """
SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped AND t.typname = ANY($1::text[])"""
_TABLES = """
SELECT c.relname, coalesce((SELECT array_agg(a.attname::text ORDER BY k.i) FROM pg_index i
  CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(n, i)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
  WHERE i.indrelid = c.oid AND i.indisprimary), '{}') AS key
FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT c.relispartition"""


@pytest.mark.proves("erased")
async def test_every_column_of_text_json_or_bytes_is_classified(store: PostgresStore, database: Any) -> None:
    """A new column that could hold a person fails here until `erasing.columns` says what it holds."""
    found = {(row[0], row[1]) for row in await database.fetch(_COLUMNS, list(KINDS))}
    assert found == {(name, column) for name, table in TABLES.items() for column in table.columns}


async def test_every_table_has_its_key(store: PostgresStore, database: Any) -> None:
    """Erasure names rows by their primary key: the table in code has that of the schema."""
    found = {row["relname"]: tuple(row["key"]) for row in await database.fetch(_TABLES)}
    assert found == {name: table.key for name, table in TABLES.items()}
