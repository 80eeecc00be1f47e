"""What each task has drawn from each budget, and by how much that changes with a batch.

Rules. A task draws what it is seen to have used, once, from the scope that it names by now. A correction
downwards is given back to the period in which the task draws now, at most what it drew there: a period that is
over stays as it was. A task that names another scope takes along what it drew in the current period. A task
that became part of another leaves its draws to that.

Theory. The sum of a budget's row is the sum of the draws of its tasks in that period, and a task's draw is a
function of its figures and attributes. So within a period any order and any repetition of telemetry give the
same sums, and no sum is negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from spanpost.model.budgets import NO_FIGURES, BudgetFigures, Growth
from spanpost.model.tasks import Task
from spanpost.tasks.amounts import Amounts
from spanpost.tasks.budgets import Budget, Scope, period_of, scope_of


class Draw(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a task has drawn from one budget. Times are seconds since 1970."""

    scope: Scope | None = None
    #: The period (the step) of `here`, and when its row no longer counts.
    began: float = 0.0
    ends: float = 0.0
    #: Drawn in that period.
    here: BudgetFigures = NO_FIGURES
    #: The figures up to which the task has drawn, in any period.
    up_to: BudgetFigures = NO_FIGURES


#: Draws of a task by budget.
Draws = dict[str, Draw]


def figures_of(whole: Amounts, task: Task, budgets: Sequence[Budget]) -> BudgetFigures:
    """Return what a task is seen to have used. Wall time only where a budget limits it."""
    millis = 0
    if any(budget.limit_time is not None for budget in budgets) and task.started_at is not None:
        until = task.ended_at or task.last_event_at or task.started_at
        millis = max(int((until - task.started_at).total_seconds() * 1000), 0)
    unpriced = max(0, whole.calls - whole.cost_calls)
    return BudgetFigures(whole.calls, unpriced, whole.tokens, whole.cost, task.tool_calls, millis)


def drawn(
    budgets: Sequence[Budget],
    task: Task,
    figures: BudgetFigures,
    before: Mapping[str, Draw],
    counted: BudgetFigures,
    now: datetime,
    *,
    is_over: bool,
) -> tuple[Draws, list[Growth]]:
    """Return a task's draws from now on, and the growth of the budgets' rows.

    `counted`: figures that new budgets find in the usage of before; a budget that does not know the task yet
    begins above them.
    """
    after, found = Draws(), list[Growth]()
    untimed = msgspec.structs.replace(figures, millis=0) if figures.millis else figures
    for budget in budgets:
        scope, was = scope_of(budget, task), before.get(budget.name)
        if was is None:
            if scope is None and untimed == NO_FIGURES:
                continue
            was = Draw(up_to=counted)
        seen = figures if budget.limit_time is not None else untimed
        growth = seen.minus(was.up_to)
        has_moved = was.scope != scope
        if growth == NO_FIGURES and not has_moved:
            after[budget.name] = was
            continue
        began, ends = period_of(budget, now)
        if budget.period == "task" and is_over and task.root_uid in (None, task.uid):
            ends = now
        is_here = was.began == began.timestamp()
        here = was.here if is_here else NO_FIGURES
        if has_moved and was.scope is not None and was.ends > now.timestamp():
            here = was.here
            if was.here != NO_FIGURES:
                found.append(_growth(budget, task, was, NO_FIGURES.minus(was.here)))
        elif has_moved:
            here = NO_FIGURES
        if scope is None:
            after[budget.name] = Draw(up_to=was.up_to.minus(here))
            continue
        held = here if not has_moved else NO_FIGURES
        draw = Draw(scope, began.timestamp(), ends.timestamp(), here.plus(growth).at_least_zero(), seen)
        after[budget.name] = draw
        change = draw.here.minus(held)
        if change != NO_FIGURES or budget.acts:
            found.append(_growth(budget, task, draw, change, is_open=not is_over))
    return after, found


def given_back(tenant: str, task: Task, before: Mapping[str, Draw], now: datetime) -> list[Growth]:
    """Return what a task that is gone gives back: what it drew where rows still count."""
    return [
        _given(name, tenant, task, draw)
        for name, draw in before.items()
        if draw.scope is not None and draw.ends > now.timestamp() and draw.here != NO_FIGURES
    ]


def inherited(draws: Mapping[str, Draw], former: Mapping[str, Draw]) -> tuple[Draws, Draws]:
    """Return a task's draws with those of a task that became part of it, and those that it could not take.

    It takes the draws of the same scope and period.
    """
    taken, left = dict(draws), Draws()
    for name, draw in former.items():
        own = taken.get(name)
        if own is None:
            taken[name] = draw
        elif (own.scope, own.began) == (draw.scope, draw.began):
            taken[name] = msgspec.structs.replace(own, here=own.here.plus(draw.here), up_to=own.up_to.plus(draw.up_to))
        else:
            left[name] = draw
            earlier = draw.up_to.minus(draw.here)
            taken[name] = msgspec.structs.replace(own, up_to=own.up_to.plus(earlier))
    return taken, left


def _growth(budget: Budget, task: Task, draw: Draw, figures: BudgetFigures, *, is_open: bool = False) -> Growth:
    return msgspec.structs.replace(_given(budget.name, task.tenant, task, draw), figures=figures, is_open=is_open)


def _given(name: str, tenant: str, task: Task, draw: Draw) -> Growth:
    assert draw.scope is not None
    return Growth(
        budget=name,
        tenant=tenant,
        scope=draw.scope,
        began_at=datetime.fromtimestamp(draw.began, UTC),
        ends_at=datetime.fromtimestamp(draw.ends, UTC),
        figures=NO_FIGURES.minus(draw.here),
        task=task,
        is_open=False,
    )
