"""Figures of open tasks and questions in memory, as `fleet` reads them from PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from spanpost.model.access_tokens import AccessToken, by_tenant, ending
from spanpost.model.budgets import Spent
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.fleet import MOST_RETRIES, Fleet, OpenApprovals, OpenTasks, RetriedChain
from spanpost.model.tasks import Task
from spanpost.semconv import ERROR, FINAL_STATUSES
from spanpost.store.memory_deliveries import MemoryOutbox
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_tables import MemoryTables
from spanpost.tasks.health import health


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
            looping=sum(t.loop is not None and not t.loop.is_dismissed for t, _ in state),
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


def retried(tasks: Iterable[Task], now: datetime) -> list[RetriedChain]:
    """Return the most retries of a task that failed in the last hour, by agent, environment and tenant."""
    by_id = {(task.tenant, task.task_id): task for task in tasks}
    again = {(task.tenant, task.retry_of) for task in by_id.values()}
    found: dict[tuple[str | None, str | None, str], int] = {}
    for key, task in by_id.items():
        is_recent = task.ended_at is not None and task.ended_at > now - timedelta(hours=1)
        if task.status != ERROR or not is_recent or key in again:
            continue
        retries, at = 0, task
        while at.retry_of is not None and retries < MOST_RETRIES:
            retries += 1
            before = by_id.get((at.tenant, at.retry_of))
            if before is None:
                break
            at = before
        if retries:
            who = (task.agent_name, task.environment, task.tenant)
            found[who] = max(found.get(who, 0), retries)
    return [
        RetriedChain(agent_name=agent, environment=environment, tenant=tenant, retries=retries)
        for (agent, environment, tenant), retries in found.items()
    ]


def fleet(
    tables: MemoryTables,
    heartbeats: MemoryHeartbeats,
    outbox: MemoryOutbox,
    spending: list[Spent],
    tokens: Iterable[AccessToken],
) -> Fleet:
    """Return the figures of all open tasks, questions and deliveries."""
    now, shown, closed = tables.clock(), heartbeats.shown, outbox.closed_rate_limits()
    living = [t for t in tables.tasks.values() if t.status not in FINAL_STATUSES and not t.is_alert]
    return Fleet(
        tasks=open_tasks((shown(t), (now - heartbeats.last_active_at(t)).total_seconds()) for t in living),
        approvals=open_approvals(living, tables.checkpoints.values(), now),
        retried=retried(tables.tasks.values(), now),
        deliveries=outbox.fleet(),
        closed_rate_limits=Counter(why for _, why in closed),
        circuits=Fleet.circuits_of(closed),
        delivered_at=outbox.delivered_at(),
        health=health(map(shown, tables.tasks.values()), spending, now),
        spending=spending,
        ending_tokens=by_tenant(ending(tokens, now)),
    )
