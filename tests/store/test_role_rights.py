"""Each role of the database tries every statement, and a reader of a tenant sees that tenant alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanpost import cli
from spanpost.model.errors import ConfigError
from spanpost.store import roles, row_policies
from spanpost.store.embedded_roles import READER, USER, closing
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql import schema
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run
from spanpost.testing.postgres import as_role
from tests.conftest import ROOT, WRITER, fresh_database
from tests.store.role_attacks import OTHER, OWN, PAGE, TENANT_READER, page, prepare

asyncpg = pytest.importorskip("asyncpg")
pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

#: Relations that a role may read, with their columns.
_READABLE = """
SELECT c.relname AS name, string_agg(quote_ident(a.attname), ', ') AS columns,
  bool_or(a.attname = 'tenant') AS has_tenant
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND has_column_privilege(c.oid, a.attnum, 'SELECT') GROUP BY 1 ORDER BY 1"""
#: A function that notes each value that it is called with, before the policy if the planner lets it.
_NOTES_VALUES = """
CREATE FUNCTION pg_temp.noted(text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE 'noted %', $1; RETURN true; END $$"""


@pytest.fixture(scope="module")
def filled(server: str) -> Iterator[str]:
    """DSN of a database with rows of two tenants in every table, and the reader of one."""
    version = asyncio.run(_fetch(server, "SHOW server_version_num"))[0][0]
    if int(version) < row_policies.OLDEST:
        pytest.skip("readers of a tenant need PostgreSQL 15")
    with fresh_database(server) as dsn:
        asyncio.run(prepare(dsn))
        yield dsn
    asyncio.run(_execute(server, f"ALTER ROLE {WRITER} NOBYPASSRLS"))


@pytest.fixture
async def reading(filled: str) -> AsyncIterator[Any]:
    """A connection of the reader of a tenant."""
    connection = await asyncpg.connect(as_role(filled, TENANT_READER))
    yield connection
    await connection.close()


async def _fetch(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.mark.proves("add-only", "role-attacks")
async def test_the_page_says_what_each_role_may_do(filled: str) -> None:
    """Every role tries every statement on every table, and every attack: the page lists the results."""
    assert await page(filled) == PAGE.read_text(), "write it anew: python -m tests.store.role_attacks"


@pytest.mark.proves("nothing-crosses", "role-attacks")
async def test_a_reader_of_a_tenant_sees_no_row_of_another(reading: Any) -> None:
    """Each table and view shows its rows of this tenant, and no text of another tenant, in any column."""
    seen = 0
    for relation in await reading.fetch(_READABLE):
        select = f"SELECT {relation['columns']} FROM {relation['name']}"
        rows = await reading.fetch(f"SELECT q::text FROM ({select}) q")
        assert not [row[0] for row in rows if OTHER in row[0]], relation["name"]
        if relation["has_tenant"]:
            tenants = {row[0] for row in await reading.fetch(f"SELECT tenant FROM {relation['name']}")}
            assert tenants == ({OWN} if rows else set()), relation["name"]
            seen += bool(rows)
    assert seen > 20
    assert await reading.fetchval("SELECT count(*) FROM agent_events") == 1


@pytest.mark.proves("nothing-crosses", "role-attacks")
async def test_a_reader_of_a_tenant_learns_nothing_on_the_way(reading: Any) -> None:
    """A cheap function, an operator and an error in a condition are not run on rows of another tenant; statistics
    and other sessions' statements are hidden.
    """
    noted: list[str] = []
    reading.add_log_listener(lambda _, message: noted.append(message.message))
    for table in ("agent_tasks", "agent_spans", "audit_rows", "agent_timeline"):
        for condition in (
            f"1 / (CASE WHEN tenant = '{OTHER}' THEN 0 ELSE 1 END) = 1",
            f"CASE WHEN tenant = '{OTHER}' THEN tenant::int = 1 ELSE true END",
        ):
            assert len(await reading.fetch(f"SELECT tenant FROM {table} WHERE {condition}")) == 1, (table, condition)
    covered = await row_policies.tables(reading)
    shown = await reading.fetch("SELECT tablename FROM pg_stats WHERE tablename = ANY($1)", covered)
    assert shown == []
    shown = await reading.fetch("SELECT query FROM pg_stat_activity WHERE usename <> current_user")
    assert {row[0] for row in shown} <= {"<insufficient privilege>", None, ""}
    assert not [one for one in noted if OTHER in one]


async def test_a_cheap_function_is_not_called_with_other_rows(filled: str) -> None:
    """With temporary functions allowed, as PostgreSQL does by default, a cheap function still sees no other rows."""
    await _execute(filled, f"GRANT TEMPORARY ON DATABASE {filled.partition('@/')[2].partition('?')[0]} TO PUBLIC")
    connection = await asyncpg.connect(as_role(filled, TENANT_READER))
    noted: list[str] = []
    connection.add_log_listener(lambda _, message: noted.append(message.message))
    await connection.execute(_NOTES_VALUES)
    await connection.execute(
        "CREATE OPERATOR pg_temp.<<< (FUNCTION = pg_catalog.texteq, LEFTARG = text, RIGHTARG = text);"
        " SET search_path = pg_temp, public"
    )
    for table in ("agent_tasks", "agent_spans", "agent_events", "agent_timeline", "grafana_annotations"):
        await connection.fetch(f"SELECT * FROM {table} WHERE pg_temp.noted(tenant) AND pg_temp.noted({table}::text)")
    assert noted
    assert not [one for one in noted if OTHER in one]
    await connection.close()


async def test_new_tables_and_roles_are_covered(filled: str, reading: Any) -> None:
    """An upgrade covers a table that a newer schema adds, by its column alone; a role without tenants sees nothing."""
    owner = as_role(filled, USER)
    await _execute(
        owner,
        "CREATE TABLE added (tenant text, text text)",
        f"INSERT INTO added VALUES ('{OWN}', 'a'), ('{OTHER}', 'b')",
        f"GRANT SELECT ON added, agent_tasks TO {TENANT_READER}, PUBLIC",
    )
    await schema.upgrade(owner)
    try:
        assert await reading.fetchval("SELECT string_agg(tenant, ',') FROM added") == OWN
        await _execute(filled, "CREATE ROLE passing LOGIN; GRANT USAGE ON SCHEMA public TO passing")
        connection = await asyncpg.connect(filled)
        await connection.execute("SET ROLE passing")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM agent_tasks")
        await connection.close()
    finally:
        await _execute(owner, "DROP TABLE added; REVOKE SELECT ON agent_tasks FROM PUBLIC")
        await _execute(filled, "REVOKE ALL ON SCHEMA public FROM passing; DROP ROLE passing")


async def test_policies_cost_a_reader_of_all_tenants_and_a_writer_nothing(filled: str) -> None:
    """Their plans have no condition of a policy, and a writer records by COPY as before."""
    statement = "EXPLAIN SELECT * FROM agent_tasks WHERE status = 'working' AND upper(name) = 'A'"
    plans = [[row[0] for row in await _fetch(as_role(filled, role), statement)] for role in (USER, WRITER, READER)]
    assert plans[0] == plans[1] == plans[2]
    store = PostgresStore(as_role(filled, WRITER), rules=ROUTED_RULES)
    await store.open()
    assert (await store.record(a_run("recorded", trace=9))).events == 4
    await store.close()
    assert [row[0] for row in await _fetch(filled, "SELECT name FROM agent_tasks WHERE name = 'recorded'")] == [
        "recorded"
    ]


@pytest.mark.parametrize(
    ("prepared", "why"),
    [
        (f"GRANT {WRITER} TO {TENANT_READER}", "is a member of spanpost_writer"),
        (f"GRANT pg_read_all_data TO {TENANT_READER}", "is a member of pg_read_all_data"),
        (f"ALTER ROLE {TENANT_READER} BYPASSRLS", "BYPASSRLS"),
        (f"ALTER ROLE {TENANT_READER} CREATEROLE", "CREATEROLE"),
        (f"ALTER ROLE {WRITER} NOBYPASSRLS", f'ALTER ROLE "{WRITER}" BYPASSRLS'),
        ("GRANT SELECT ON task_state TO PUBLIC", "may read task_state"),
        ("GRANT SELECT ON audit_rows_rest TO PUBLIC", "may read audit_rows_rest"),
    ],
)
async def test_a_role_that_policies_would_not_limit_is_refused(filled: str, prepared: str, why: str) -> None:
    """`db grant --tenant` refuses a role that could see more, and a writer that it would stop; the error names both."""
    connection = await asyncpg.connect(filled)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(prepared)
    with pytest.raises(ConfigError, match=why):
        await roles.grant(connection, {"reader": TENANT_READER}, [OWN])
    await transaction.rollback()
    await connection.close()


def test_granting_a_tenant_at_the_command_line(
    filled: str, clean_environment: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`db grant --tenant` may be repeated for several tenants, and needs a reader."""
    monkeypatch.setenv("DATABASE_URL", as_role(filled, USER))

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["spanpost", "db", "grant", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out + err

    code, said = run("--reader", TENANT_READER, "--tenant", OWN, "--tenant", OTHER)
    assert (code, "CREATE POLICY spanpost_tenant" in said) == (0, True)
    seen = "SELECT DISTINCT tenant FROM agent_tasks ORDER BY 1"
    assert [row[0] for row in asyncio.run(_fetch(as_role(filled, TENANT_READER), seen))] == [OTHER, OWN]
    assert run("--reader", TENANT_READER, "--tenant", OWN)[0] == 0
    assert [row[0] for row in asyncio.run(_fetch(as_role(filled, TENANT_READER), seen))] == [OWN]
    assert run("--writer", WRITER, "--tenant", OWN) == (
        2, "spanpost: --tenant limits a reader: give it with --reader NAME, and name a tenant\n"
    )  # fmt: skip


def test_the_closing_of_functions_is_the_same_everywhere() -> None:
    """The page and the Compose deployment close the functions that the embedded database closes."""
    page = (ROOT / "docs" / "how-to" / "tenants.md").read_text()
    assert all(f"{one};" in page for one in closing("spanpost", "spanpost_owner", WRITER))
    compose = (ROOT / "deploy" / "compose" / "roles.sh").read_text()
    assert f"{closing('spanpost', 'spanpost', WRITER)[-1]};" in compose
