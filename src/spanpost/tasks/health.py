"""Health of agents: a score that can be explained. The view `agent_health` computes the same in SQL.

From 100 are subtracted: up to 50 for the share of tasks that failed, up to 20 for the share that stalled or
was interrupted, up to 15 for the share of open tasks that have waited for a person for a quarter of an hour,
and up to 15 for a budget beyond 80 per cent. Tasks count that began in the last day or are still running.
The weights are a judgement: what people cannot change weighs little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from spanpost import semconv as c
from spanpost.model.budgets import Spent
from spanpost.model.fleet import Health
from spanpost.model.tasks import Task

ERRORS, STALLS, WAITING, BUDGET = 50, 20, 15, 15
DAY: Final = timedelta(days=1)
#: A question that is open for longer counts as waiting.
LONG: Final = timedelta(minutes=15)
#: Share of a budget above which points are subtracted.
FROM: Final = 0.8
_INTERRUPTED: Final = "interrupted"


def health(tasks: Iterable[Task], spending: Sequence[Spent], now: datetime) -> list[Health]:
    """Return the health of each agent of these tasks, by tenant. The tasks have their current status."""
    found: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        is_recent = task.started_at is not None and task.started_at > now - DAY
        if task.agent_name and task.is_announced and (is_recent or task.status not in c.FINAL_STATUSES):
            found.setdefault((task.tenant, task.agent_name), []).append(task)
    return [_of(tenant, agent, state, spending, now) for (tenant, agent), state in sorted(found.items())]


def _of(tenant: str, agent: str, tasks: list[Task], spending: Sequence[Spent], now: datetime) -> Health:
    interrupted = [t for t in tasks if t.end_reason == _INTERRUPTED and t.status in c.FINAL_STATUSES]
    ended = [t for t in tasks if t.status in (c.COMPLETE, c.ERROR) and t.end_reason != _INTERRUPTED]
    living = [t for t in tasks if t.status not in c.FINAL_STATUSES]
    failed = sum(t.status == c.ERROR for t in ended)
    stalled = sum(t.status == c.STALLED for t in living)
    waiting = sum(any((a.asked_at or now) < now - LONG for a in t.open_approvals) for t in living)
    shares = [s.share for s in spending if s.tenant == tenant and dict(s.scope) in ({}, {"agent.name": agent})]
    errors = _part(ERRORS, failed, len(ended))
    stalls = _part(STALLS, stalled + len(interrupted), len(tasks))
    waits = _part(WAITING, waiting, len(living))
    budget = _part(BUDGET, min(max(max(shares, default=0.0) - FROM, 0.0), 1 - FROM), 1 - FROM)
    return Health(
        tenant=tenant,
        agent_name=agent,
        score=100 - errors - stalls - waits - budget,
        errors=errors,
        stalls=stalls,
        waiting=waits,
        budget=budget,
    )


def _part(most: int, of: float, whole: float) -> int:
    # Halves go up, as in SQL, which counts in decimals.
    return int(most * of / whole + 0.5 + 1e-9) if whole else 0
