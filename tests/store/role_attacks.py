"""What each role of the database may do: every table with every statement, and the statements of an attacker.

`python -m tests.store.role_attacks` tries all of it on a throw-away server and writes the tables of
docs/reference/database-roles.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg

from spanpost.store.embedded_roles import READER, USER, password_of
from spanpost.store.roles import grant
from spanpost.testing.postgres import as_role
from tests.conftest import ROOT, WRITER

PAGE: Final = ROOT / "docs" / "reference" / "database-roles.md"
#: Tenants of the rows; the reader of a tenant may see the first.
OWN, OTHER = "red", "blue"
TENANT_READER: Final = "spanpost_reader_red"
#: By title in the page.
ROLES: Final = {"owner": USER, "writer": WRITER, "reader": READER, "reader of a tenant": TENANT_READER}

#: Statements on each table or view, with `{t}`, `{c}` (a column) and `{k}` (TABLE or VIEW). None of them is committed.
STATEMENTS: Final = {
    "SELECT": "SELECT * FROM {t} LIMIT 1",
    "SELECT of some columns": "SELECT {s} FROM {t} LIMIT 1",
    "INSERT": "INSERT INTO {t} DEFAULT VALUES",
    "UPDATE": "UPDATE {t} SET {c} = {c}",
    "DELETE": "DELETE FROM {t}",
    "TRUNCATE": "TRUNCATE {t}",
    "COPY FROM": "COPY {t} FROM '/etc/passwd'",
    "DROP": "DROP {k} {t} CASCADE",
    "ALTER": "ALTER {k} {t} RENAME TO taken",
    "ALTER OWNER": "ALTER {k} {t} OWNER TO CURRENT_USER",
    "COMMENT": "COMMENT ON {k} {t} IS 'mine'",
    "GRANT": "GRANT SELECT ON {t} TO PUBLIC",
    "RULE": "CREATE RULE mine AS ON UPDATE TO {t} DO INSTEAD NOTHING",
    "TRIGGER": "CREATE TRIGGER mine BEFORE UPDATE ON {t} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "INDEX": "CREATE INDEX ON {t} ({c})",
    "POLICY": "CREATE POLICY mine ON {t} USING (true)",
    "NO POLICIES": "ALTER TABLE {t} DISABLE ROW LEVEL SECURITY",
    "LOCK": "LOCK {t} IN ACCESS EXCLUSIVE MODE",
    "FOR UPDATE": "SELECT * FROM {t} FOR UPDATE",
}
#: Statements of an attacker, by what they are for. A list is run in one session, and the last one counts.
ATTACKS: Final[dict[str, Sequence[str]]] = {
    "become another role": ("SET ROLE postgres",),
    "become the owner": (f"SET ROLE {USER}",),
    "become the writer": (f"SET ROLE {WRITER}",),
    "become another by a setting": (f"SELECT set_config('role', '{USER}', false)",),
    "another session's role": ("SET SESSION AUTHORIZATION postgres",),
    "a security-definer function of the owner": (
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        f"ALTER FUNCTION pg_temp.f() OWNER TO {USER}",
    ),
    "turn row policies off": ("SET row_security = off", "SELECT * FROM agent_tasks"),
    "make oneself exempt": ("ALTER ROLE CURRENT_USER BYPASSRLS",),
    "add a tenant to one's row": ("UPDATE granted_roles SET tenants = NULL",),
    "read other roles' tenants": ("SELECT granted_at FROM granted_roles",),
    "read passwords": ("SELECT * FROM pg_authid",),
    "make a role": ("CREATE ROLE mine",),
    "run a program": ("COPY (SELECT 1) TO PROGRAM 'true'",),
    "write a file": ("COPY (SELECT 1) TO '/tmp/spanpost-mine'",),
    "read a file": ("SELECT pg_read_file('/etc/passwd')",),
    "list a directory": ("SELECT pg_ls_dir('/')",),
    "import a file as a large object": ("SELECT lo_import('/etc/passwd')",),
    "export a large object": ("SELECT lo_export(lo_create(0), '/tmp/spanpost-mine')",),
    "load a library": ("LOAD '/tmp/mine.so'",),
    "a function in C": ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE c AS '/tmp/mine.so', 'f'",),
    "connect elsewhere": ("CREATE EXTENSION dblink",),
    "a foreign server": ("CREATE EXTENSION postgres_fdw",),
    "an untrusted language": ("CREATE EXTENSION plpython3u",),
    "a leakproof function": (
        "CREATE FUNCTION pg_temp.f(text) RETURNS boolean LANGUAGE sql LEAKPROOF AS 'SELECT true'",
    ),
    "a table in the schema": ("CREATE TABLE public.mine ()",),
    "a function in the schema": ("CREATE FUNCTION public.now() RETURNS int LANGUAGE sql AS 'SELECT 1'",),
    "an operator in the schema": (
        "CREATE OPERATOR public.= (FUNCTION = pg_catalog.textne, LEFTARG = text, RIGHTARG = text)",
    ),
    "a schema": ("CREATE SCHEMA mine",),
    "change a function": ("ALTER FUNCTION spanpost_phase(agent_tasks) SECURITY DEFINER",),
    "replace a function": (
        "CREATE OR REPLACE FUNCTION spanpost_phase(task agent_tasks) RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
    ),
    "make months": ("SELECT spanpost_keep_months()",),
    "make any month": ("SELECT spanpost_add_month('2040-01-01')",),
    "an event trigger": (
        "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ),
    "a publication": ("CREATE PUBLICATION mine FOR ALL TABLES",),
    "a replication slot": ("SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",),
    "change the server's settings": ("ALTER SYSTEM SET archive_command = 'true'",),
    "reload the server": ("SELECT pg_reload_conf()",),
    "change the database's settings": ("ALTER DATABASE made SET row_security = off",),
    "change the writer's settings": (f"ALTER ROLE {WRITER} SET search_path = pg_temp",),
    "end the writer's sessions": (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE usename = '{WRITER}' AND pid <> pg_backend_pid()",
    ),
    "write an audit row anew": ("UPDATE audit_rows SET attributes = '{}'",),
    "delete a person's act": ("DELETE FROM human_interventions",),
    "change a person's act": ("UPDATE human_interventions SET decision = 'deny'",),
    "write to a month's own table": ("DELETE FROM audit_rows_rest",),
    "read a month's own table": ("SELECT * FROM audit_rows_rest",),
    "block recording by an advisory lock": ("SELECT pg_advisory_xact_lock(1)",),
    "fill the disk by a temporary table": ("CREATE TEMPORARY TABLE mine AS SELECT 1",),
    "fill the disk by a large object": ("SELECT lo_create(0)",),
}
_REFUSED: Final = {"42501", "0LP01"}
#: What PostgreSQL answers where the statement is none for this kind of relation, or the program is missing.
_NOT_POSSIBLE: Final = {"42809", "0A000", "58P01", "55000", "22023", "428C9"}
#: Statements that run outside of a transaction alone.
_OUTSIDE: Final = "25001"
#: A right that is granted to every role; without a right to grant, GRANT only warns.
_IS_PUBLIC: Final = (
    "SELECT count(*) FROM pg_class WHERE relacl::text ~ '[{,]=r' AND relnamespace = 'public'::regnamespace"
)

_RELATIONS: Final = """
SELECT c.relname AS name, CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind,
  ARRAY(SELECT quote_ident(a.attname) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
ORDER BY c.relkind = 'v', 1"""
#: Functions with the rights of the owner.
_FUNCTIONS: Final = """
SELECT p.oid::regprocedure::text AS name, coalesce(p.proconfig::text, '') LIKE '%search_path=%pg_temp%' AS is_pinned,
  ARRAY(SELECT has_function_privilege(one, p.oid, 'EXECUTE') FROM unnest($1::text[]) AS one) AS may
FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef ORDER BY 1"""
_COLUMNS: Final = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type FROM pg_attribute a
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = ''"""
#: A value of each type; `{m}` is the tenant's mark.
_VALUES: Final = {
    "text": "'{m}'", "uuid": "md5('{m}')::uuid", "bytea": "decode(md5('{m}'), 'hex')", "bigint": "hashtext('{m}')",
    "integer": "1", "smallint": "1", "boolean": "true", "timestamp with time zone": "now()",
    "jsonb": "'{\"m\": \"{m}\"}'",
    "double precision": "1", "numeric": "1", "interval": "'1 s'", "date": "current_date", "xid8": "'1'",
    "bytea[]": "ARRAY[decode(md5('{m}'), 'hex')]", "text[]": "ARRAY['{m}']",
    "int8multirange": "'{}'", "bigint[]": "'{1}'", "uuid[]": "ARRAY[md5('{m}')::uuid]", "oid": "1",
}  # fmt: skip


def mark(tenant: str) -> str:
    """Return a text that stands in each row of a tenant."""
    return f"mark-of-{tenant}"


async def fill(connection: Any) -> None:
    """Add a row of each tenant to every table that has one, with the tenant's mark in every text; as the owner."""
    for row in await connection.fetch(
        "SELECT conrelid::regclass::text AS name, conname FROM pg_constraint WHERE contype = 'c' AND conparentid = 0"
        " AND connamespace = 'public'::regnamespace"
    ):
        await connection.execute(f"ALTER TABLE {row['name']} DROP CONSTRAINT {row['conname']}")
    for relation in await connection.fetch(_RELATIONS):
        if relation["kind"] == "VIEW" or "tenant" not in relation["columns"]:
            continue
        columns = await connection.fetch(_COLUMNS, relation["name"])
        for tenant in (OWN, OTHER):
            values = [
                f"'{tenant}'" if c["name"] == "tenant" else _VALUES[c["type"]].replace("{m}", mark(tenant))
                for c in columns
            ]
            names = ", ".join(f'"{c["name"]}"' for c in columns)
            statement = f"INSERT INTO {relation['name']} ({names}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(values)})"
            await connection.execute(statement)
    await connection.execute("UPDATE audit_rows SET part = 0, role = 0, status = 0")
    await connection.execute("ANALYZE")


async def make_tenant_reader(superuser: Any, owner: Any) -> None:
    """Make the role of the reader of a tenant, as an administrator and the owner do; safe to repeat."""
    # The server's superuser authenticates; its password is that of the DSN.
    if not await superuser.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", TENANT_READER):
        await superuser.execute(f"CREATE ROLE {TENANT_READER} LOGIN")
    await superuser.execute(f"ALTER ROLE {WRITER} BYPASSRLS")
    async with owner.transaction():
        await grant(owner, {"reader": TENANT_READER}, [OWN])


async def prepare(dsn: str) -> None:
    """Make the tenant's reader and fill the database of a superuser's DSN."""
    superuser = await asyncpg.connect(dsn)
    owner = await asyncpg.connect(as_role(dsn, USER))
    secret = dsn.removeprefix("postgresql://").partition("@")[0].partition(":")[2]
    await make_tenant_reader(superuser, owner)
    await superuser.execute(f"ALTER ROLE {TENANT_READER} PASSWORD '{password_of(TENANT_READER, secret)}'")
    await close_functions(superuser)
    await fill(owner)
    await owner.close()
    await superuser.close()


async def close_functions(superuser: Any) -> None:
    """Run the administrator's part of docs/how-to/tenants.md: functions that every role may call by default."""
    from spanpost.store.embedded_roles import closing

    for statement in closing(await superuser.fetchval("SELECT current_database()"), USER, WRITER):
        await superuser.execute(statement)


async def refused(connection: Any, statements: Sequence[str]) -> str | None:
    """Return the SQLSTATE with which a statement is refused; None: allowed. Nothing stays."""
    state = await _tried(connection, statements)
    if state == _OUTSIDE:
        try:
            await connection.execute(statements[-1])
        except asyncpg.PostgresError as error:
            state = error.sqlstate
    return state if state in _REFUSED or state in _NOT_POSSIBLE else None


async def _tried(connection: Any, statements: Sequence[str]) -> str | None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        for statement in statements:
            await connection.execute(statement)
        if statements[-1].startswith("GRANT") and not await connection.fetchval(_IS_PUBLIC):
            return "42501"
        return None
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    finally:
        await transaction.rollback()
        await connection.execute("RESET ALL")


async def try_tables(dsn: str, role: str) -> dict[str, list[str]]:
    """Return the statements that a role may run, by table and view."""
    connection = await asyncpg.connect(as_role(dsn, role))
    found: dict[str, list[str]] = {}
    for relation in await connection.fetch(_RELATIONS):
        names = {"t": relation["name"], "k": relation["kind"], "c": relation["columns"][0]}
        allowed = found[relation["name"]] = []
        for title, statement in STATEMENTS.items():
            columns = relation["columns"] if "{s}" in statement or title == "UPDATE" else [""]
            some = [
                one for one in columns if await refused(connection, [statement.format(**(names | _of(one)))]) is None
            ]
            if title == "SELECT of some columns" and "SELECT" in allowed:
                continue
            if some and len(some) < len(columns):
                allowed.append(f"{title.split()[0]} ({', '.join(some)})" if title == "UPDATE" else title)
            elif some:
                allowed.append(title)
    await connection.close()
    return found


def _of(column: str) -> dict[str, str]:
    return {"s": column, "c": column} if column else {}


async def try_attacks(dsn: str, role: str) -> dict[str, bool]:
    """Return whether a role may do what an attacker tries, by its title."""
    connection = await asyncpg.connect(as_role(dsn, role))
    found = {}
    for title, statements in ATTACKS.items():
        victim = await asyncpg.connect(as_role(dsn, WRITER))
        found[title] = await refused(connection, statements) is None
        victim.terminate()
    await connection.close()
    return found


async def page(dsn: str) -> str:
    """Return the page of a database that `prepare` has filled."""
    may = {title: await try_tables(dsn, role) for title, role in ROLES.items()}
    does = {title: await try_attacks(dsn, role) for title, role in ROLES.items()}
    lines = [
        "# Rights of the database roles", "",
        "A test tries each statement of this page as each role, and compares the results with the page. "
        "`python -m tests.store.role_attacks` writes it.", "",
        "[Roles of the database](../how-to/read-the-audit-rows.md#roles-of-the-database) says how to make them. "
        "*Reader of a tenant* is a role of `spanpost db grant --reader NAME --tenant TENANT`. `spanpost db query` "
        "and Grafana use a reader.", "",
        "## Tables and views", "",
        f"Each role tries {', '.join(f'`{one}`' for one in STATEMENTS)} on each. The owner may do all of them. A cell "
        "lists the allowed statements; all others are refused. A reader of a tenant sees the rows of its tenant "
        "alone.", "",
        "| table or view | writer | reader | reader of a tenant |", "|---|---|---|---|",
    ]  # fmt: skip
    for name in may["owner"]:
        cells = [", ".join(may[role][name]) or "–" for role in ("writer", "reader", "reader of a tenant")]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    connection = await asyncpg.connect(dsn)
    lines += [
        "", "## Functions with the owner's rights", "",
        "They look up names in spanpost's schema alone, whatever the caller's settings.", "",
        "| function | writer | reader | reader of a tenant |", "|---|---|---|---|",
    ]  # fmt: skip
    for row in await connection.fetch(_FUNCTIONS, list(ROLES.values())[1:]):
        assert row["is_pinned"], row["name"]
        lines.append(f"| `{row['name']}` | {' | '.join('allowed' if may else 'refused' for may in row['may'])} |")
    await connection.close()
    lines += [
        "", "## Attacks", "",
        "Functions that PostgreSQL gives to every role, such as advisory locks and large objects, are closed as in "
        "[Tenants](../how-to/tenants.md#functions-that-every-role-may-call).", "",
        "| attempt | last statement | owner | writer | reader | reader of a tenant |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for title, statements in ATTACKS.items():
        cells = ["allowed" if does[role][title] else "refused" for role in ROLES]
        statement = statements[-1].replace("|", "\\|")
        lines.append(f"| {title} | `{statement}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    from tests.conftest import find, fresh_database, made_server

    with made_server(Path(find("postgres"))) as server, fresh_database(server) as dsn:
        asyncio.run(prepare(dsn))
        PAGE.write_text(asyncio.run(page(dsn)))


if __name__ == "__main__":
    main()
