"""Figures of open tasks and questions in memory, as `fleet` reads them from PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.fleet import OpenApprovals, OpenTasks
from spanpost.model.tasks import Task


def open_tasks(tasks: Iterable[tuple[Task, float]]) -> list[OpenTasks]:
    """Count open tasks by status, agent, type, environment and tenant.

    Each task comes with its seconds without activity.
    """
    found: dict[tuple[str, str | None, str | None, str | None, str], list[tuple[Task, float]]] = {}
    for task, stall in tasks:
        key = (task.status, task.agent_name, task.type, task.environment, task.tenant)
        found.setdefault(key, []).append((task, stall))
    return [
        OpenTasks(
            status=status,
            agent_name=agent,
            task_type=kind,
            environment=environment,
            tenant=tenant,
            count=len(state),
            stall=max(max(stall, 0.0) for _, stall in state),
            context_share=max((share for t, _ in state if (share := t.context_share) is not None), default=None),
            context_ahead=min(
                (t.context_forecast.seconds for t, _ in state if t.context_forecast is not None), default=None
            ),
        )
        for (status, agent, kind, environment, tenant), state in found.items()
    ]


def open_approvals(tasks: Iterable[Task], checkpoints: Iterable[Checkpoint], now: datetime) -> list[OpenApprovals]:
    """Count open questions by agent, environment and tenant. In memory their age follows the sender's clock."""
    asked = {(c.task_uid, c.ref): c.at for c in checkpoints if c.kind is Kind.APPROVAL_REQUESTED}
    found: dict[tuple[str | None, str | None, str], list[float]] = {}
    for task in tasks:
        ages = [
            max((now - asked[at]).total_seconds(), 0.0)
            for a in task.open_approvals
            if (at := (task.uid, a.id)) in asked
        ]
        if ages:
            found.setdefault((task.agent_name, task.environment, task.tenant), []).extend(ages)
    return [
        OpenApprovals(agent_name=agent, environment=environment, tenant=tenant, count=len(ages), oldest=max(ages))
        for (agent, environment, tenant), ages in found.items()
    ]
