"""The schema as SQL, written by the migrations themselves: to be read, to be run by psql, and to be dropped."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any, Final

from spanpost.store.sql import schema

_HEAD: Final = f"""\
-- The tables of spanpost, revision {schema.HEAD}, as `spanpost db upgrade` makes them: run it once, in an empty schema,
-- with the role that shall own them. Then `spanpost db grant` gives other roles their rights.
"""
#: What the migrations make. Indexes, comments and partitions go with their tables.
_MADE: Final = re.compile(r"^CREATE (TABLE|VIEW|FUNCTION) (\w+)", re.MULTILINE)
_DROP: Final = """
SELECT format('DROP %s %s CASCADE', kind, what) FROM (
  SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, oid::regclass::text AS what
  FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v') AND relname = ANY($1)
  UNION ALL
  SELECT 'ROUTINE', oid::regprocedure::text
  FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proname = ANY($1)
) AS made ORDER BY kind, what"""
#: Longest wait for other sessions, which use the tables.
_WAIT: Final = "SET LOCAL lock_timeout = '5s'"


def written() -> str:
    """Return the SQL of the whole schema, in one transaction."""
    from alembic import command

    output = StringIO()
    command.upgrade(schema.migrations(output), "head", sql=True)
    return _HEAD + output.getvalue()


def made() -> set[str]:
    """Return the names of the tables, views and functions of the schema."""
    return {name for _, name in _MADE.findall(written())}


async def drop(connection: Any) -> None:
    """Drop what the migrations made in the current schema, with all rows, and nothing else.

    Raises `asyncpg.LockNotAvailableError` while another session uses it.
    """
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({schema.LOCK})")
        await connection.execute(_WAIT)
        names = sorted(made())
        # What depends on another goes with it, so the rest is looked up anew.
        while (statement := await connection.fetchval(f"{_DROP} LIMIT 1", names)) is not None:
            await connection.execute(statement)
