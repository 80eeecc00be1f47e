"""What is told of all processes on a database, by one of them: whose turn it is, and the figures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

#: How long a turn lasts without being asked for again. Whoever publishes asks three times as often.
TURN = timedelta(seconds=30)
_TAKE = """
UPDATE watch SET told_by = $1, told_until = clock_timestamp() + $2
WHERE told_by = $1 OR told_until IS NULL OR told_until < clock_timestamp() RETURNING true"""
_LEAVE = "UPDATE watch SET told_by = NULL, told_until = NULL WHERE told_by = $1"
_OPEN = """
SELECT spanpost_phase(t), count(*) FROM agent_tasks t WHERE status NOT IN ('complete', 'error', 'cancelled') GROUP BY 1"""


async def open_tasks(connection: Any, owner: UUID) -> dict[str, int] | None:
    """Return the open tasks by their status of now when it is the owner's turn to tell, else None."""
    if not await connection.fetchval(_TAKE, owner, TURN):
        return None
    return {row[0]: row[1] for row in await connection.fetch(_OPEN)}


async def leave(connection: Any, owner: UUID) -> None:
    """Give the turn back, if it is the owner's."""
    await connection.execute(_LEAVE, owner)
