"""Which role of the database may do what: SQL that grants the least to who writes and to who reads.

- The owner may do all: migrations (`spanpost db upgrade`), retention (`spanpost db prune`).
- A writer does what a gateway needs. What was told (`agent_events`) and what people did (`human_interventions`) it can add, and count
  to another task; it can neither change nor delete it.
- A reader sees what people read: no tokens, secrets, raw bodies or internal state.

The names are the operator's. Roles that were granted rights stand in `granted_roles`, so that an upgrade grants them new tables, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from spanpost.model.errors import ConfigError

Kind = Literal["writer", "reader"]

_ADD: Final = "SELECT, INSERT"
_KEEP: Final = "SELECT, INSERT, UPDATE"
_ALL: Final = "SELECT, INSERT, UPDATE, DELETE"
#: What a writer may with each table.
WRITER: Final = {
    "agent_events": f"{_ADD}, UPDATE (task_uid, subtree)",
    "human_interventions": f"{_ADD}, UPDATE (task_uid)",
    "approvals": _KEEP,
    "agent_tasks": _ALL,
    "agent_checkpoints": _ALL,
    "task_artifacts": _ALL,
    "task_redirects": _KEEP,
    "deliveries": _ALL,
    "ordering_keys": _KEEP,
    "launch_orders": _ALL,
    "alerts": _KEEP,
    "model_usage": _KEEP,
    "spending": _KEEP,
    "budgets_begun": _ADD,
    "provider_limits": _KEEP,
    "processes": _ALL,
    "watch": "SELECT, UPDATE",
    "task_state": _ALL,
    "timers": _ALL,
    "rate_limits": _KEEP,
    "quarantine": _KEEP,
    "journal": _ALL,
    "interaction_requests": "SELECT, INSERT, DELETE",
    "slack_installations": _KEEP,
    "session_secret": _ADD,
    "redaction_key": _ADD,
    "ended_sessions": "SELECT, INSERT, DELETE",
    "spanpost_version": "SELECT",
}
#: What a reader may not see at all: state and secrets of our own.
_PRIVATE: Final = (
    "task_state",
    "timers",
    "journal",
    "interaction_requests",
    "slack_installations",
    "session_secret",
    "ended_sessions",
    "redaction_key",
)
#: Columns of tables of which a reader sees the others: bodies as strangers sent them.
_WITHOUT: Final = {"quarantine": ("bytes",), "launch_orders": ("body",)}
#: The owner's alone.
OWNERS: Final = ("granted_roles",)
VIEWS: Final = (
    "agent_spans", "agent_timeline", "agent_tasks_now", "agent_task_totals", "agent_health", "grafana_annotations",
)  # fmt: skip
#: What a writer calls that only the owner may do: adding the months of `agent_events`.
_MONTHS: Final = "spanpost_keep_months()"

#: Whether a role has more rights than grants give.
_LOOK: Final = """
SELECT r.rolname, r.rolsuper, pg_has_role(r.oid, c.relowner, 'MEMBER') AS is_owner
FROM pg_roles r, pg_class c WHERE c.oid = 'spanpost_version'::regclass AND r.rolname = $1"""
_REMEMBER: Final = """
INSERT INTO granted_roles (role, kind) VALUES ($1, $2) ON CONFLICT (role) DO UPDATE SET kind = excluded.kind, granted_at = clock_timestamp()"""
_GRANTED: Final = "SELECT role, kind FROM granted_roles ORDER BY 1"
_IS_OWNER: Final = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'spanpost_version'::regclass"
_COLUMNS: Final = """
SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""


async def grant(connection: Any, names: Mapping[Kind, str]) -> list[str]:
    """Grant roles what writing or reading needs, and take all else from them; return the statements. Raises `ConfigError`."""
    made: list[str] = []
    for kind, role in names.items():
        if why := await _unfit(connection, role):
            raise ConfigError(why)
        made += statements(kind, role, await connection.fetchval("SELECT current_schema()"), await _seen(connection))
    for statement in made:
        await connection.execute(statement)
    await connection.executemany(_REMEMBER, [(role, kind) for kind, role in names.items()])
    return made


async def renew(connection: Any) -> None:
    """Grant anew what was granted before: a newer schema has more tables. Only the owner can. Roles that need no grants are left."""
    if not await connection.fetchval(_IS_OWNER):
        return
    for role, kind in await connection.fetch(_GRANTED):
        if not await _unfit(connection, role):
            await grant(connection, {kind: role})


def statements(kind: Kind, role: str, schema: str, seen: dict[str, list[str]]) -> list[str]:
    """Return the SQL that grants. `seen`: columns by table, of tables of which a reader does not see all."""
    to, within = _quoted(role), _quoted(schema)
    tables = [f"{within}.{table}" for table in (*WRITER, *VIEWS, *OWNERS)]
    return [
        f"REVOKE ALL ON {', '.join(tables)} FROM {to}",
        f"REVOKE ALL ON FUNCTION {within}.{_MONTHS} FROM {to}",
        f"GRANT USAGE ON SCHEMA {within} TO {to}",
        *(f"GRANT {rights} ON {within}.{table} TO {to}" for table, rights in _rights(kind, seen)),
        *([f"GRANT EXECUTE ON FUNCTION {within}.{_MONTHS} TO {to}"] if kind == "writer" else []),
    ]


def _rights(kind: Kind, seen: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    if kind == "writer":
        yield from WRITER.items()
    else:
        for table in WRITER:
            if table in seen:
                yield table, f"SELECT ({', '.join(map(_quoted, seen[table]))})"
            elif table not in _PRIVATE:
                yield table, "SELECT"
    for view in VIEWS:
        yield view, "SELECT"


async def _seen(connection: Any) -> dict[str, list[str]]:
    found = {table: await connection.fetch(_COLUMNS, table) for table in _WITHOUT}
    return {table: [row[0] for row in rows if row[0] not in _WITHOUT[table]] for table, rows in found.items()}


async def _unfit(connection: Any, role: str) -> str:
    """Return why a role cannot be held to what it is granted; empty where it can."""
    found = await connection.fetchrow(_LOOK, role)
    if found is None:
        return f"there is no role {role!r} in this database's server: CREATE ROLE it first, with LOGIN"
    if found["rolsuper"] or found["is_owner"]:
        return f"role {role!r} owns the tables, or is a superuser: it can do all whatever is granted; name another role"
    return ""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def named(writer: str, reader: str) -> dict[Kind, str]:
    """Return the roles that were named, by what they are for. Raises `ConfigError`."""
    names: Iterable[tuple[Kind, str]] = (("writer", writer), ("reader", reader))
    found = {kind: name for kind, name in names if name}
    if not found:
        raise ConfigError("which roles? name them: --writer NAME, --reader NAME")
    if writer == reader:
        raise ConfigError("--writer and --reader name the same role: who may write may do more than read; name two")
    return found
