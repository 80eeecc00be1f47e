"""What the ledger knows, as JSON-ready values."""

from __future__ import annotations

from typing import Any

from spanpost.domain.tasks import Task
from spanpost.fold.report import rfc3339, task_json

_DETAILS = ("steps", "artifacts", "approvals", "error", "totals")


def task_summary(task: Task) -> dict[str, Any]:
    """Return a task as it stands in a list."""
    told = {name: value for name, value in task_json(task).items() if name not in _DETAILS}
    return told | {
        "uid": str(task.uid),
        "parent_uid": str(task.parent_uid) if task.parent_uid is not None else None,
        "type": task.type,
        "environment": task.environment,
        "topic": task.topic,
        "repo": task.repo,
        "requested_by": task.requested_by,
        "retry_of": task.retry_of,
        "action": task.action,
        "step_name": task.step_name,
        "step_index": task.step_index,
        "step_count": task.step_count,
        "last_event_at": rfc3339(task.last_event_at),
        "cost_usd": None if task.cost_usd is None else format(task.cost_usd, "f"),
        "child_count": task.child_count,
        "child_failed": task.child_failed,
        "open_approvals": len(task.open_approvals),
        "muted": task.is_muted,
        "trace_id": task.trace_id.hex() or None,
    }
