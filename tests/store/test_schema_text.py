"""The schema as SQL: psql makes the tables of the migrations from it; a reset drops them and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from spanpost.cli.program import program
from spanpost.store.sql import schema, schema_text
from spanpost.testing.postgres import with_database

pytestmark = pytest.mark.acceptance

#: Tables with columns, indexes, functions, views, and all comments.
_WHOLE = """
SELECT 'column', table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'view', viewname, '', definition FROM pg_views WHERE schemaname = 'public'
UNION ALL SELECT 'rule', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'function', oid::regprocedure::text, '', pg_get_functiondef(oid) FROM pg_proc
  WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'comment', objoid::regclass::text, objsubid::text, description FROM pg_description
  WHERE classoid = 'pg_class'::regclass AND objoid IN (
    SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
ORDER BY 1, 2, 3, 4"""


async def _asked(dsn: str, *statements: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return [tuple(row) for row in await connection.fetch(statements[-1])]
    finally:
        await connection.close()


@pytest.fixture
def empty(postgres_dsn: str) -> Iterator[str]:
    """Return an empty database beside that of the tests."""
    asyncio.run(_asked(postgres_dsn, "CREATE DATABASE an_empty_one", "SELECT 1"))
    yield with_database(postgres_dsn, "an_empty_one")
    asyncio.run(_asked(postgres_dsn, "DROP DATABASE an_empty_one WITH (FORCE)", "SELECT 1"))


@pytest.mark.needs("psql")
def test_psql_makes_what_the_migrations_make(empty: str, postgres_dsn: str, tmp_path: Path) -> None:
    """The printed SQL, run by psql, makes the same tables, views, functions and comments as the migrations; an upgrade
    has nothing to do then.
    """
    path = tmp_path / "schema.sql"
    printed = CliRunner().invoke(program, ["db", "schema"])
    assert printed.exit_code == 0
    path.write_text(printed.stdout)
    command = ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path), empty]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    made = asyncio.run(_asked(empty, _WHOLE))
    assert {row[0] for row in made} == {"column", "index", "view", "rule", "function", "comment"}
    assert made == asyncio.run(_asked(postgres_dsn, _WHOLE))
    assert asyncio.run(schema.upgrade(empty)) == (schema.HEAD, schema.HEAD)


def test_a_reset_deletes_our_rows_alone(empty: str) -> None:
    """A reset needs `--yes` and the name of the database, and leaves other tables; then the tables are empty and
    whole, with a row that says who did it.
    """
    run = CliRunner().invoke
    asyncio.run(schema.upgrade(empty))
    whole = asyncio.run(_asked(empty, _WHOLE))
    asyncio.run(
        _asked(empty, "CREATE TABLE theirs (x int)", "INSERT INTO granted_roles VALUES ('r', 'reader')", "SELECT 1")
    )
    where = ["--database-url", empty]
    for missing in ([], ["--yes"], ["--yes", "--database", "other"]):
        refused = run(program, ["db", "reset", *missing, *where])
        assert refused.exit_code != 0
        assert asyncio.run(_asked(empty, "SELECT count(*) FROM granted_roles")) == [(1,)]
    done = run(program, ["db", "reset", "--yes", "--database", "an_empty_one", *where])
    assert done.exit_code == 0, done.output
    assert asyncio.run(_asked(empty, "SELECT count(*) FROM granted_roles")) == [(0,)]
    assert asyncio.run(_asked(empty, "DROP TABLE theirs", _WHOLE)) == whole
    verbs = asyncio.run(_asked(empty, "SELECT verb FROM human_interventions"))
    assert ("reset_database",) in verbs


async def test_a_reset_does_not_wait_for_a_gateway(empty: str) -> None:
    """While another session uses the tables, they stay, and the refusal says so."""
    await schema.upgrade(empty)
    connection, other = await asyncpg.connect(empty), await asyncpg.connect(empty)
    try:
        async with other.transaction():
            await other.fetch("SELECT * FROM agent_tasks")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await schema_text.drop(connection)
        assert await connection.fetchval("SELECT count(*) FROM agent_tasks") == 0
    finally:
        await connection.close()
        await other.close()
