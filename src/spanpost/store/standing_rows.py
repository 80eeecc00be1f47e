"""Rows of standing approvals in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from spanpost.model.standing_approvals import Scope, StandingApproval, StandingQuery
from spanpost.model.tasks import Task
from spanpost.store.rows import tidy

_COLUMNS = StandingApproval.__struct_fields__
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM standing_approvals"
_INSERT = (
    f"INSERT INTO standing_approvals ({', '.join(_COLUMNS)})"
    f" VALUES ({', '.join(f'${i}' for i in range(1, len(_COLUMNS) + 1))})"
    " ON CONFLICT (id) DO NOTHING"
)
#: In force by the database's clock. Locked, in one order, until the transaction ends: PostgreSQL looks again at a row
#: that another transaction revoked meanwhile.
_CANDIDATES = f"""{_SELECT}
WHERE tenant = ANY($1::text[]) AND tool = ANY($2::text[]) AND revoked_at IS NULL AND expires_at > clock_timestamp()
  AND (scope <> 'task' OR task_uid = ANY($3::uuid[])) AND (scope = 'task' OR agent = ANY($4::text[]))
ORDER BY id FOR UPDATE"""
_LISTED = f"""{_SELECT}
WHERE ($1::text IS NULL OR tenant = $1) AND (NOT $2 OR (revoked_at IS NULL AND expires_at > clock_timestamp()))
ORDER BY granted_at DESC, id LIMIT $3"""
_COUNT = "UPDATE standing_approvals SET used = used + 1, last_used_at = $2 WHERE id = $1"
_REVOKE = "UPDATE standing_approvals SET revoked_at = $2, revoked_by = $3, revoked_by_id = $4 WHERE id = $1"


async def write(connection: Any, standing: StandingApproval) -> None:
    """Insert a standing approval."""
    standing = tidy(standing)
    await connection.execute(_INSERT, *(getattr(standing, name) for name in _COLUMNS))


async def candidates(connection: Any, asked: Sequence[tuple[Task, str]]) -> list[StandingApproval]:
    """Lock and return the standing approvals in force that may cover these tasks' questions for these tools."""
    if not asked:
        return []
    tenants, tools = sorted({task.tenant for task, _ in asked}), sorted({tool for _, tool in asked})
    uids = sorted({task.uid for task, _ in asked})
    agents = sorted({task.agent_name for task, _ in asked if task.agent_name})
    return [_of(row) for row in await connection.fetch(_CANDIDATES, tenants, tools, uids, agents)]


async def one(connection: Any, id: UUID, *, is_locked: bool = False) -> StandingApproval | None:
    """Return a standing approval; `is_locked`: lock it until the transaction ends."""
    row = await connection.fetchrow(f"{_SELECT} WHERE id = $1{' FOR UPDATE' if is_locked else ''}", id)
    return _of(row) if row is not None else None


async def listed(connection: Any, query: StandingQuery) -> list[StandingApproval]:
    """List standing approvals, newest first."""
    return [_of(row) for row in await connection.fetch(_LISTED, query.tenant, query.is_in_force, query.limit)]


async def count(connection: Any, standing: StandingApproval, now: datetime) -> None:
    """Count a use."""
    await connection.execute(_COUNT, standing.id, now)


async def revoke(connection: Any, standing: StandingApproval) -> None:
    """Write the end of a revoked standing approval."""
    standing = tidy(standing)
    await connection.execute(_REVOKE, standing.id, standing.revoked_at, standing.revoked_by, standing.revoked_by_id)


def _of(row: Any) -> StandingApproval:
    return StandingApproval(**{**dict(row), "scope": Scope(row["scope"])})
