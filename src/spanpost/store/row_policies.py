"""Row policies: a reader of some tenants sees their rows alone.

One rule is made from the catalogue: each table of the schema with a column `tenant` gets the policy `spanpost_tenant`.
It compares the row's tenant with those that `granted_roles` lists for the role that runs the query, which no setting
of the session can change. A role without a row there sees nothing. Views are read with the rights of the role that
queries them (`security_invoker`), so that the policies hold behind them, too.

There are no policies, and no cost, until the first `db grant` of a reader with tenants. Afterwards a reader of all
tenants has the policy `spanpost_all`, which the planner drops, and a writer needs BYPASSRLS: PostgreSQL takes no COPY
from a role that policies apply to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from spanpost.model.errors import ConfigError

#: Server versions before this have no views that are read with the rights of the role that queries them.
OLDEST: Final = 150_000
#: Tables without a tenant that the views need: one row about the program, and its schema's version.
SHARED: Final = ("heartbeats", "spanpost_version")
#: Columns of `granted_roles` that a reader of some tenants may see of its own row.
_OWN: Final = "role, tenants"

_TABLES: Final = """
SELECT c.relname AS name, c.relrowsecurity AS is_covered FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND c.relnamespace = (SELECT v.relnamespace FROM pg_class v WHERE v.oid = 'spanpost_version'::regclass)
  AND EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
  ) ORDER BY 1"""
_ROLES: Final = """
SELECT g.role, g.kind, g.tenants, r.rolbypassrls AS is_bypassing
FROM granted_roles g JOIN pg_roles r ON r.rolname = g.role ORDER BY 1"""
#: Rights besides grants, and other roles' rights.
_POWERS: Final = """
SELECT rolbypassrls OR rolreplication OR rolcreaterole AS is_powerful,
  ARRAY(SELECT m.roleid::regrole::text FROM pg_auth_members m WHERE m.member = r.oid ORDER BY 1) AS memberships
FROM pg_roles r WHERE rolname = $1"""
#: Relations without policies that a role may read, by a grant to PUBLIC for example.
_BEYOND: Final = """
SELECT c.relname FROM pg_class c
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relrowsecurity AND c.relname <> ALL ($2::text[])
  AND c.relnamespace = (SELECT v.relnamespace FROM pg_class v WHERE v.oid = 'spanpost_version'::regclass)
  AND has_any_column_privilege($1::text, c.oid, 'SELECT') ORDER BY 1"""


async def tables(connection: Any) -> list[str]:
    """Return the tables with a column `tenant`."""
    return [row["name"] for row in await connection.fetch(_TABLES)]


async def unfit(connection: Any, role: str) -> str:
    """Return why policies do not limit a role; empty when they do."""
    if await connection.fetchval("SELECT current_setting('server_version_num')::int") < OLDEST:
        return (
            "a reader of some tenants needs PostgreSQL 15 or newer: before, views show the rows of all tenants. "
            "Upgrade the server, or give the tenant a token of the API"
        )
    found = await connection.fetchrow(_POWERS, role)
    if found["is_powerful"]:
        return f"role {role!r} has BYPASSRLS, REPLICATION or CREATEROLE, so row policies do not limit it"
    if found["memberships"]:
        return (
            f"role {role!r} is a member of {', '.join(found['memberships'])} and can become that role; REVOKE the "
            "membership, or name another role"
        )
    return ""


def rights(readable: Iterable[tuple[str, str]], covered: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return the rights of a reader of some tenants, out of those of a reader."""
    for table, right in readable:
        if table in covered or table in SHARED:
            yield table, right
    yield "granted_roles", f"SELECT ({_OWN})"


async def cover(connection: Any, views: Iterable[str], quoted: Any) -> list[str]:
    """Make the policies of all tables, unless no reader of some tenants was ever granted; return the SQL.

    Safe to repeat. Raises `ConfigError` for a writer that policies would stop.
    """
    roles = await connection.fetch(_ROLES)
    found = await connection.fetch(_TABLES)
    if not any(row["tenants"] is not None for row in roles) and not any(row["is_covered"] for row in found):
        return []
    if stopped := [row["role"] for row in roles if row["kind"] == "writer" and not row["is_bypassing"]]:
        raise ConfigError(
            f"row policies stop COPY, by which the role {stopped[0]!r} records; as a superuser, "
            f"ALTER ROLE {quoted(stopped[0])} BYPASSRLS: it sees the rows of all tenants already"
        )
    await connection.execute("SET LOCAL lock_timeout = '5s'")
    readers = [row["role"] for row in roles if row["kind"] == "reader" and row["tenants"] is None]
    made = [f"ALTER VIEW {quoted(view)} SET (security_invoker = true)" for view in views]
    own = "role = current_user::text"
    made += _policies("granted_roles", {"spanpost_own": ("PUBLIC", own)}, quoted)
    tenants = f"(SELECT g.tenants FROM granted_roles g WHERE g.{own})::text[]"
    wanted = {"spanpost_tenant": ("PUBLIC", f"tenant = ANY ({tenants})")}
    if readers:
        wanted["spanpost_all"] = (", ".join(map(quoted, readers)), "true")
    for row in found:
        made += _policies(row["name"], wanted, quoted)
    for statement in made:
        await connection.execute(statement)
    return made


async def refuse_beyond(connection: Any, role: str, shared: Iterable[str] = SHARED) -> None:
    """Raise `ConfigError` if a role may read a table that has no policy."""
    if beyond := [row[0] for row in await connection.fetch(_BEYOND, role, list(shared))]:
        raise ConfigError(
            f"role {role!r} may read {', '.join(beyond)}, where no policy limits it, by a grant that is not "
            "spanpost's (to PUBLIC, perhaps); REVOKE it"
        )


def _policies(table: str, wanted: dict[str, tuple[str, str]], quoted: Any) -> Iterator[str]:
    on = quoted(table)
    for name in ("spanpost_own", "spanpost_tenant", "spanpost_all"):
        yield f"DROP POLICY IF EXISTS {name} ON {on}"
    for name, (to, condition) in wanted.items():
        yield f"CREATE POLICY {name} ON {on} FOR SELECT TO {to} USING ({condition})"
    yield f"ALTER TABLE {on} ENABLE ROW LEVEL SECURITY"
