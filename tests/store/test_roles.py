"""Roles of the database: a reader runs nothing and sees no secrets, a writer changes no audit row."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from spanpost import cli
from spanpost.cli.query import BadQuery, query, refuse_other
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Verb
from spanpost.model.queries import TaskQuery
from spanpost.settings import DatabaseSettings
from spanpost.store import roles
from spanpost.store.embedded import EmbeddedPostgres
from spanpost.store.embedded_roles import READER, USER, closing
from spanpost.store.postgres import PostgresStore
from spanpost.store.sql import schema
from spanpost.testing.exercise_people import an_act, asking, at_work, the_question
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run
from spanpost.testing.postgres import FAST, as_role
from tests.conftest import ROOT, WRITER

asyncpg = pytest.importorskip("asyncpg")
pytestmark = pytest.mark.acceptance

#: Attempts to do more than read. `{file}` is a path that must not be created.
ATTACKS = (
    "COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "COPY (SELECT 1) TO '{file}'",
    "COPY (SELECT 1) TO STDOUT",
    "COPY agent_tasks FROM '/etc/passwd'",
    "RESET ROLE",
    "RESET ROLE; COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "SELECT 1; COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "COMMIT; COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "SELECT 1; COMMIT; DELETE FROM agent_tasks",
    "/* a /* comment */ */ RESET SESSION AUTHORIZATION",
    "-- SELECT\nSET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT set_config('session_authorization', 'postgres', false)",
    "SELECT set_config('role', 'none', false), query_to_xml('SELECT pg_read_file(''/etc/passwd'')', true, true, '')",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT query_to_xml('COPY (SELECT 1) TO PROGRAM ''touch {file}''', true, true, '')",
    "DO $$ BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ''touch {file}'''; END $$",
    "DO $$ BEGIN COMMIT; RESET ROLE; EXECUTE 'COPY (SELECT 1) TO ''{file}'''; END $$",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION dblink",
    "SELECT dblink_connect('dbname=postgres')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '{file}')",
    "SELECT pg_reload_conf()",
    "ALTER SYSTEM SET archive_command = 'touch {file}'",
    "LOAD '/tmp/evil.so'",
    "SET statement_timeout = 0",
    "LISTEN spanpost_heard",
    "INSERT INTO human_interventions SELECT * FROM human_interventions",
    "WITH gone AS (DELETE FROM audit_rows RETURNING 1) SELECT * FROM gone",
    "EXPLAIN ANALYZE DELETE FROM agent_tasks",
    "SELECT spanpost_keep_months()",
    "SELECT spanpost_add_month(now())",
    "SELECT * FROM agent_tasks FOR UPDATE",
    "SELECT 1 INTO made",
    "SELECT * FROM session_secret",
    "SELECT * FROM ended_sessions",
    "SELECT * FROM slack_installations",
    "SELECT * FROM task_state",
    "SELECT * FROM granted_roles",
    "SELECT bytes FROM quarantine",
    "SELECT body FROM launch_orders",
    "SELECT * FROM pg_authid",
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "SELECT $1::text",
    "SELECT '4713-01-01 BC'::timestamptz",
    "SELECT 'a\udc80b'",
    "",
    ";",
    "/* never closed",
)  # fmt: skip


@pytest.fixture(params=["embedded", "own"])
def reading(
    request: pytest.FixtureRequest, open_dir: Callable[[], Path]
) -> Iterator[tuple[DatabaseSettings, str | None]]:
    """Return a database with the schema, of the embedded server and of another, as `db query` receives it."""
    if request.param == "embedded":
        home = open_dir() / "data"
        with EmbeddedPostgres(home, options=FAST) as dsn:
            asyncio.run(schema.upgrade(dsn, reader=READER))
            yield DatabaseSettings(data_dir=home), None
    else:
        yield DatabaseSettings(), as_role(request.getfixturevalue("dsn"), READER)


@pytest.fixture
def addresses(dsn: str) -> dict[str, str]:
    """Return the addresses of owner, writer and reader for a fresh database."""
    return {"owner": as_role(dsn, USER), "writer": as_role(dsn, WRITER), "reader": as_role(dsn, READER)}


@pytest.fixture
async def writer(addresses: dict[str, str]) -> AsyncIterator[PostgresStore]:
    """A store that connects as the writer."""
    made = PostgresStore(addresses["writer"], rules=ROUTED_RULES)
    await made.open()
    yield made
    await made.close()


def refusal(reading: tuple[DatabaseSettings, str | None], sql: str) -> str:
    """Return why a query is refused; empty if it is not."""
    try:
        query(*reading, sql)
    except BadQuery as error:
        return str(error)
    return ""


def test_who_reads_runs_nothing(reading: tuple[DatabaseSettings, str | None], open_dir: Callable[[], Path]) -> None:
    """Each attempt to run a program, touch a file, change role, write or read a secret is refused.

    Nothing is on disk afterwards, and reading continues.
    """
    there = open_dir()
    there.chmod(0o777)
    for attack in ATTACKS:
        assert refusal(reading, attack.replace("{file}", str(there / "touched"))), attack
        assert not list(there.iterdir()), attack
    assert query(*reading, " (-- why\n/* /* not */ */ SELECT count(*) AS n FROM agent_tasks)") == (["n"], [[0]])
    for view in roles.VIEWS:
        assert query(*reading, f"TABLE {view}")[1] == []
    assert query(*reading, "EXPLAIN SELECT 1")[1]
    assert query(*reading, "SHOW transaction_read_only")[1] == [["on"]]
    assert query(*reading, "SELECT source, error FROM quarantine")[1] == []


@pytest.mark.parametrize(
    "sql", ["SELECT pg_terminate_backend(pg_backend_pid())", "COPY (SELECT 1) TO PROGRAM 'true'", "SELECT 'ä'::int"]
)
def test_a_refused_query_is_one_message(
    reading: tuple[DatabaseSettings, str | None],
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    sql: str,
) -> None:
    """A query that PostgreSQL refuses, or cuts, is exit 2 with one line, and no traceback."""
    settings, url = reading
    more = ("--database-url", url) if url is not None else ("--data-dir", str(settings.data_dir))
    monkeypatch.setattr(sys, "argv", ["spanpost", "db", "query", sql, *more])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.startswith("spanpost: ")
    assert "Traceback" not in err


def test_a_role_that_may_run_programs_is_not_used(
    dsn: str, addresses: dict[str, str], open_dir: Callable[[], Path]
) -> None:
    """A superuser, or a role that can become one or run programs, is refused with the remedy.

    A read-only transaction alone would not stop such a role. An ordinary owner reads and runs nothing.
    """
    there = open_dir()
    there.chmod(0o777)
    asyncio.run(_execute(dsn, f"BEGIN READ ONLY; COPY (SELECT 1) TO PROGRAM 'touch {there}/touched'; ROLLBACK"))
    assert (there / "touched").exists()
    with pytest.raises(ConfigError, match=r"db grant --reader.*SPANPOST_DATABASE__READ_URL"):
        query(DatabaseSettings(), dsn, "SELECT 1")
    owner = addresses["owner"]
    assert query(DatabaseSettings(), owner, "SELECT count(*) FROM agent_tasks")[1] == [[0]]
    with pytest.raises(BadQuery):
        query(
            DatabaseSettings(),
            owner,
            "SELECT set_config('transaction_read_only', 'off', true), spanpost_add_month('2040-01-01')",
        )
    for power in ("pg_execute_server_program", "pg_read_server_files", "postgres"):
        asyncio.run(_execute(dsn, f"GRANT {power} TO {USER}"))
        with pytest.raises(ConfigError, match="may run programs"):
            query(DatabaseSettings(), owner, "SELECT 1")
        asyncio.run(_execute(dsn, f"REVOKE {power} FROM {USER}"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


@pytest.mark.proves("add-only", "role-attacks")
async def test_who_records_changes_no_audit_row(writer: PostgresStore, addresses: dict[str, str]) -> None:
    """A writer's store records and answers, and cannot change or delete history or make tables."""
    await writer.record([at_work(), asking()])
    row = await the_question(writer)
    assert (await writer.interventions.intervene(an_act(Verb.APPROVE, row.key))).result == "done"
    await writer.record(a_run("told", trace=9))
    assert len(await writer.tasks(TaskQuery())) == 2
    connection = await asyncpg.connect(addresses["writer"])
    for statement in (
        "UPDATE audit_rows SET attributes = '{}'",
        "DELETE FROM audit_rows",
        "UPDATE attribute_sets SET resource = '{}'",
        "DELETE FROM attribute_sets",
        "TRUNCATE audit_rows",
        "DELETE FROM audit_rows_rest",
        "UPDATE human_interventions SET actor = 'nobody'",
        "UPDATE human_interventions SET decision = 'deny'",
        "DELETE FROM human_interventions",
        "DELETE FROM approvals",
        "ALTER TABLE audit_rows DISABLE TRIGGER ALL",
        "DROP TABLE human_interventions",
        "CREATE TABLE mine ()",
        "UPDATE session_secret SET secret = repeat('0', 32)::bytea",
        "UPDATE spanpost_version SET version_num = '9.0'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    assert await connection.fetchval("SELECT actor FROM human_interventions") == "alice"
    await connection.close()


async def test_who_records_adds_months(dsn: str, writer: PostgresStore) -> None:
    """A role that may not create tables gets the partitions of audit rows through the function for it."""
    connection = await asyncpg.connect(dsn)
    for (name,) in await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_rows'::regclass"
    ):
        if not name.endswith("rest"):
            await connection.execute(f"DROP TABLE {name}")
    await connection.close()
    assert await writer.run(lambda c: c.fetchval("SELECT spanpost_keep_months()")) == 4
    assert (await writer.record(a_run("in a new month"))).events == 4


async def test_each_table_has_its_rights(dsn: str) -> None:
    """The table of rights names each table and view of the schema, so that a new one is not forgotten."""
    connection = await asyncpg.connect(dsn)
    found = await connection.fetch(
        "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'p', 'v') AND NOT relispartition"
    )
    assert {name for name, kind in found if kind != "v"} == {*roles.WRITER, *roles.OWNERS}
    assert {name for name, kind in found if kind == "v"} == set(roles.VIEWS)
    await connection.close()


async def test_an_upgrade_grants_new_tables(dsn: str, addresses: dict[str, str]) -> None:
    """A granted role gets its rights on new tables, and no other role gets any.

    With nothing to upgrade the gateway's role may ask for an upgrade too.
    """
    connection = await asyncpg.connect(dsn)
    for table in ("ended_sessions", "approvals"):  # as if they were new
        await connection.execute(f"REVOKE ALL ON {table} FROM {WRITER}, {READER}")
    await connection.execute("CREATE ROLE watching; GRANT SELECT ON spanpost_version TO watching, postgres")
    await connection.execute("INSERT INTO granted_roles VALUES ('dropped since', 'reader')")
    await schema.upgrade(addresses["writer"])
    await schema.upgrade(addresses["owner"])
    rights = (
        "SELECT has_table_privilege($1, 'approvals', 'SELECT'), has_table_privilege($1, 'ended_sessions', 'INSERT')"
    )
    assert [tuple(await connection.fetchrow(rights, name)) for name in (WRITER, READER, "watching")] == [
        (True, True), (True, False), (False, False),
    ]  # fmt: skip
    await connection.execute("REVOKE ALL ON spanpost_version FROM watching; DROP ROLE watching")
    await connection.close()


def test_granting_at_the_command_line(
    dsn: str,
    addresses: dict[str, str],
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """`db grant` prints what it did, is safe to repeat, and refuses roles that no grant could limit."""
    monkeypatch.setenv("DATABASE_URL", dsn)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["spanpost", "db", "grant", *words])
        try:
            cli.main()
        except SystemExit as end:
            out, err = capfd.readouterr()
            return int(end.code or 0), out + err
        raise AssertionError("it ends the process")

    for _ in range(2):
        code, said = run("--writer", WRITER, "--reader", READER)
        assert (code, said.count("GRANT EXECUTE")) == (0, 1)
    assert json.loads(run("--reader", READER, "--json")[1])["granted"][0].startswith("REVOKE ALL ON ")
    for words, why in (
        ((), "--writer NAME"),
        (("--writer", "a", "--reader", "a"), "the same role"),
        (("--reader", "nobody's"), "no role"),
        (("--writer", USER), "owns the tables"),
        (("--reader", "postgres"), "superuser"),
    ):
        code, said = run(*words)
        assert (code, why in said) == (2, True), said
    monkeypatch.setenv("DATABASE_URL", addresses["reader"])
    code, said = run("--writer", WRITER)
    assert (code, "Run it with the role that made the tables" in said) == (2, True)


@pytest.mark.parametrize(
    "sql", ["select 1", "\n\t(((VALUES (1))))", "/**/with a as (select 1) table a", "--\n--\nshow all", "eXplain x"]
)
def test_what_begins_as_reading(sql: str) -> None:
    """Comments, blanks, parentheses and capitals before a statement's first word make no difference."""
    refuse_other(sql)


def test_the_script_of_compose_closes_what_the_embedded_database_closes() -> None:
    """PostgreSQL's image has no Python: its script has the same statement about functions, word for word."""
    statement = closing("spanpost", "spanpost", "spanpost_writer")[-1]
    assert f"{statement};\n" in (ROOT / "deploy/compose/roles.sh").read_text()
