"""Database roles: SQL that grants writers and readers the least rights they need.

- The owner may do everything: migrations (`spanpost db upgrade`), shorter retention (`spanpost archive allow`).
- A writer has the rights of a gateway. It can insert audit rows (`audit_rows`, `attribute_sets`) and
  interventions (`human_interventions`) and move them to another task; it can neither change nor delete them.
- A reader sees what people read: no tokens, secrets, raw bodies or internal state.
- A reader of some tenants sees the same of their rows alone (`row_policies`).

The operator chooses the names. `granted_roles` lists the roles that were granted rights, so that an upgrade
grants them new tables, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from spanpost.model.errors import ConfigError
from spanpost.store import row_policies

Kind = Literal["writer", "reader"]

_ADD: Final = "SELECT, INSERT"
_KEEP: Final = "SELECT, INSERT, UPDATE"
_ALL: Final = "SELECT, INSERT, UPDATE, DELETE"
#: A writer's rights on each table.
WRITER: Final = {
    "audit_rows": f"{_ADD}, UPDATE (task_uid, subtree)",
    "attribute_sets": f"{_ADD}, UPDATE (used_at)",
    "human_interventions": f"{_ADD}, UPDATE (task_uid)",
    "content_reads": _KEEP,
    "approvals": _KEEP,
    "evaluations": f"{_ADD}, UPDATE (task_uid)",
    "standing_approvals": _KEEP,
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
    "budget_reservations": _ALL,
    "budget_questions": _ADD,
    "provider_limits": _KEEP,
    "processes": _ALL,
    "heartbeats": "SELECT, UPDATE",
    "task_state": _ALL,
    "timers": _ALL,
    "rate_limits": _KEEP,
    "quarantine": _ALL,
    "journal": _ALL,
    "kafka_offsets": _KEEP,
    "interaction_requests": "SELECT, INSERT, DELETE",
    "slack_installations": _KEEP,
    "session_secret": _ADD,
    "access_tokens": "SELECT, UPDATE (used_at)",
    "tenant_totals": _ALL,
    "redaction_key": _ADD,
    "ended_sessions": "SELECT, INSERT, DELETE",
    "erased_traces": "SELECT",
    "archives": _ALL,
    "retention_floors": "SELECT",
    "retention_progress": "SELECT, UPDATE",
    "seal_state": _KEEP,
    "seal_logs": _KEEP,
    "sealed_rows": _ADD,
    "seal_entries": _KEEP,
    "seal_tiles": _KEEP,
    "seal_checkpoints": _ADD,
    "seal_notes": _ADD,
    "seal_keys": f"{_ADD}, UPDATE (until)",
    "seal_publications": _KEEP,
    "spanpost_version": "SELECT",
}
#: Tables that a reader may not see: internal state and secrets.
_PRIVATE: Final = (
    "task_state",
    "timers",
    "journal",
    "interaction_requests",
    "slack_installations",
    "session_secret",
    "access_tokens",
    "ended_sessions",
    "redaction_key",
    "erased_traces",
    "sealed_rows",
)
#: Columns that a reader may not see in tables that it may read: raw bodies.
_WITHOUT: Final = {"quarantine": ("bytes",), "launch_orders": ("body",)}
#: Tables that only the owner may use.
OWNERS: Final = ("granted_roles", "erasures")
VIEWS: Final = (
    "agent_events", "agent_spans", "agent_timeline", "agent_tasks_now", "agent_task_totals", "agent_health",
    "grafana_annotations", "agent_result_costs",
)  # fmt: skip
#: Functions with the owner's rights that a writer may call: they add months to `audit_rows`, and remove what is old.
_OF_OWNER: Final = (
    "spanpost_keep_months()", "spanpost_remove(text, text, text[], text[], text[])",
    "spanpost_drop_month(timestamptz)", "spanpost_tidy()",
    "spanpost_prune(text, timestamptz, text[], boolean, boolean)",
)  # fmt: skip

#: Whether a role has more rights than grants give.
_INSPECT: Final = """
SELECT r.rolname, r.rolsuper, pg_has_role(r.oid, c.relowner, 'MEMBER') AS is_owner,
  has_schema_privilege(r.oid, c.relnamespace, 'CREATE') AS creates, c.relnamespace::regnamespace::text AS schema
FROM pg_roles r, pg_class c WHERE c.oid = 'spanpost_version'::regclass AND r.rolname = $1"""
_REMEMBER: Final = """
INSERT INTO granted_roles (role, kind, tenants) VALUES ($1, $2, $3)
ON CONFLICT (role) DO UPDATE SET kind = excluded.kind, tenants = excluded.tenants, granted_at = clock_timestamp()"""
_GRANTED: Final = "SELECT role, kind, tenants FROM granted_roles ORDER BY 1"
_IS_OWNER: Final = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'spanpost_version'::regclass"
_COLUMNS: Final = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""


async def grant(connection: Any, names: Mapping[Kind, str], tenants: Sequence[str] = ()) -> list[str]:
    """Grant roles the rights of a writer or reader and revoke all others; return the statements.

    A reader sees the rows of `tenants`, or of all where none is given. Raises `ConfigError` for a role that does not
    exist, owns the tables or is a superuser.
    """
    made: list[str] = []
    for kind, role in names.items():
        limits = list(tenants) if kind == "reader" and tenants else None
        if why := await _unfit(connection, role) or (limits and await row_policies.unfit(connection, role)):
            raise ConfigError(why)
        covered = await row_policies.tables(connection) if limits else None
        schema = await connection.fetchval("SELECT current_schema()")
        made += statements(kind, role, schema, await _seen(connection), covered)
        await connection.execute(_REMEMBER, role, kind, limits)
    for statement in made:
        await connection.execute(statement)
    made += await row_policies.cover(connection, VIEWS, _quoted)
    if tenants:
        await row_policies.refuse_beyond(connection, names["reader"])
    return made


async def renew(connection: Any) -> None:
    """Grant the rights of `granted_roles` again, because a newer schema has more tables.

    Does nothing unless the caller owns the tables. Roles that no longer need grants are skipped.
    """
    if not await connection.fetchval(_IS_OWNER):
        return
    for role, kind, tenants in await connection.fetch(_GRANTED):
        if not await _unfit(connection, role):
            await grant(connection, {kind: role}, tenants or ())


def statements(
    kind: Kind, role: str, schema: str, seen: dict[str, list[str]], covered: Sequence[str] | None = None
) -> list[str]:
    """Return the SQL that grants.

    `seen`: the columns that a reader may see, for tables that it sees in part. `covered`: the tables that a reader of
    some tenants may see; None: a role of all tenants.
    """
    to, within = _quoted(role), _quoted(schema)
    tables = [f"{within}.{table}" for table in (*WRITER, *VIEWS, *OWNERS)]
    rights = _rights(kind, seen)
    if covered is not None:
        rights = row_policies.rights(rights, [*covered, *VIEWS])
    functions = ", ".join(f"{within}.{function}" for function in _OF_OWNER)
    return [
        f"REVOKE ALL ON {', '.join(tables)} FROM {to}",
        f"REVOKE ALL ON FUNCTION {functions} FROM {to}",
        f"GRANT USAGE ON SCHEMA {within} TO {to}",
        *(f"GRANT {rights} ON {within}.{table} TO {to}" for table, rights in rights),
        *([f"GRANT EXECUTE ON FUNCTION {functions} TO {to}"] if kind == "writer" else []),
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
    """Return why grants do not limit a role; empty when they do."""
    found = await connection.fetchrow(_INSPECT, role)
    if found is None:
        return f"there is no role {role!r} in this database's server: CREATE ROLE it first, with LOGIN"
    if found["rolsuper"] or found["is_owner"]:
        return f"role {role!r} owns the tables or is a superuser, so grants do not limit it; name another role"
    if found["creates"]:
        # Before PostgreSQL 15, every role may in the schema public.
        return (
            f"role {role!r} may create tables and functions in the schema {found['schema']}, which the owner of the "
            f"tables would then use; as a superuser, REVOKE CREATE ON SCHEMA {found['schema']} FROM PUBLIC (and FROM "
            f"{_quoted(role)}), or keep spanpost's tables in a schema of their own"
        )
    return ""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def named(writer: str, reader: str, tenants: Sequence[str] = ()) -> dict[Kind, str]:
    """Return the named roles by kind. Raises `ConfigError` when none is named or both are the same, and for tenants
    without a reader.
    """
    names: Iterable[tuple[Kind, str]] = (("writer", writer), ("reader", reader))
    found = {kind: name for kind, name in names if name}
    if not found:
        raise ConfigError("which roles? name them: --writer NAME, --reader NAME")
    if writer == reader:
        raise ConfigError("--writer and --reader name the same role: who may write may do more than read; name two")
    if tenants and (not reader or not all(tenants)):
        raise ConfigError("--tenant limits a reader: give it with --reader NAME, and name a tenant")
    return found
