"""Fields of a task that links and queries in the settings may use."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from spanpost.model.tasks import Task


def values(task: Task) -> dict[str, str]:
    """Return the values of a task's fields; empty when unknown."""
    return {
        "trace_id": task.trace_id.hex(),
        "span_id": task.span_id.hex(),
        "task_id": task.task_id,
        "task_name": task.name,
        "tenant": task.tenant,
        "agent": task.agent_name or "",
        "repo": task.repo or "",
        "topic": task.topic or "",
        "service": task.service or "",
        "environment": task.environment or "",
        "session_id": task.session_id or "",
        "started_ms": _milliseconds(task.started_at),
        # While the task runs: its last event.
        "ended_ms": _milliseconds(task.ended_at or task.last_event_at),
    }


def _milliseconds(at: datetime | None) -> str:
    return "" if at is None else str(int(at.timestamp() * 1000))


#: Names of the fields.
FIELDS: Final = tuple(values(Task(uid=UUID(int=0), tenant="", task_id="")))
