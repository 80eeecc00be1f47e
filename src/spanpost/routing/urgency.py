"""The urgency of a delivery: question, root of a new task, failure, warning, end of a root, progress, sub-agents."""

from __future__ import annotations

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Urgency
from spanpost.model.tasks import Task
from spanpost.semconv import ERROR, FINAL_STATUSES

_WARNINGS = frozenset({Kind.ERROR, Kind.CONTEXT_WARNING, Kind.BUDGET_WARNING, Kind.LOOP, Kind.STALLED})


def urgency_of(checkpoint: Checkpoint | None, *, is_root: bool = True) -> Urgency:
    """Return the urgency of a checkpoint; `is_root`: it is of the task that has the message."""
    if checkpoint is None:
        return Urgency.NORMAL
    match checkpoint.kind:
        case Kind.APPROVAL_REQUESTED | Kind.APPROVAL_RESOLVED:
            return Urgency.APPROVAL
        case Kind.ALERT:
            return Urgency.ERROR
        case Kind.END if checkpoint.status == ERROR:
            return Urgency.ERROR
        case _ if not is_root:
            return Urgency.MINOR
        case Kind.END:
            return Urgency.END
        case kind:
            return Urgency.WARNING if kind in _WARNINGS else Urgency.NORMAL


def urgency_of_state(task: Task, checkpoint: Checkpoint | None, carrier: Task, urgency: Urgency) -> Urgency:
    """Return the urgency of a root task's message: that it began is more urgent than what follows."""
    if checkpoint is not None and checkpoint.kind is Kind.START and task.uid == carrier.uid:
        return Urgency.START
    if urgency in (Urgency.NORMAL, Urgency.MINOR) and carrier.status in FINAL_STATUSES:
        return Urgency.ERROR if carrier.status == ERROR else Urgency.END
    return urgency
