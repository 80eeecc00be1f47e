"""Tasks, checkpoints and deliveries for tests: whole by themselves, each field open to be set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Delivery, Mode
from spanpost.model.tasks import Task

#: When the tasks of tests begin.
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
_SPACE = UUID("5b0f4d3e-6b1b-4b67-9d9b-0d6c7d1f1a11")


def a_task(key: str = "task-1", **fields: Any) -> Task:
    """Return a task at work; equal keys give equal uids."""
    given: dict[str, Any] = {
        "uid": uuid5(_SPACE, key),
        "tenant": "default",
        "task_id": key,
        "name": "Quarterly report",
        "agent_name": "reporter",
        "status": "working",
        "started_at": NOON,
        "last_event_at": NOON + timedelta(seconds=74),
        "input_tokens": 18_400,
        "output_tokens": 1_250,
        "cost_usd": Decimal("0.0412"),
    }
    return Task(**(given | fields))


def a_checkpoint(task: Task | None = None, key: str = "checkpoint-1", **fields: Any) -> Checkpoint:
    """Return a checkpoint of a task; equal keys give equal ids."""
    task = task or a_task()
    given: dict[str, Any] = {
        "id": uuid5(task.uid, key),
        "tenant": task.tenant,
        "task_uid": task.uid,
        "kind": Kind.CHECKPOINT,
        "status": task.status,
        "text": "Fetched 12 pages",
        "at": NOON + timedelta(seconds=30),
    }
    return Checkpoint(**(given | fields))


def a_delivery(
    task: Task | None = None, checkpoint: Checkpoint | None = None, *, sink: str = "console", **fields: Any
) -> Delivery:
    """Return a claimed delivery: of the checkpoint if there is one, else of the task's state."""
    task = task or a_task()
    ordering_key = f"{sink}||{task.root_uid or task.uid}"
    given: dict[str, Any] = {
        "id": 1,
        "tenant": task.tenant,
        "sink": sink,
        "ordering_key": ordering_key,
        "mode": Mode.STATE if checkpoint is None else Mode.CHECKPOINT,
        "key": ordering_key if checkpoint is None else str(checkpoint.id),
        "task": task,
        "checkpoint": checkpoint,
        "born_at": NOON,
    }
    return Delivery(**(given | fields))
