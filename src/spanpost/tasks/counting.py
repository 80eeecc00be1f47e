"""BudgetFigures for counters, once they are final, and for budgets, as soon as they are seen."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec.structs import astuple

from spanpost.model.budgets import BudgetFigures, Growth, Used
from spanpost.model.recorded import FinalizedUsage
from spanpost.model.tasks import Task
from spanpost.tasks.amounts import ZERO, Models, as_usage, each, minus, models_minus
from spanpost.tasks.budget_draws import Draws, drawn, figures_of
from spanpost.tasks.facts import value_of
from spanpost.tasks.folded import Difference, FoldRules
from spanpost.tasks.hierarchy import MovedUse
from spanpost.tasks.records import TaskState
from spanpost.tasks.reported import CountedUse
from spanpost.tasks.usage import by_model, counter_growth, figures, unpriced, used


class NewCount(msgspec.Struct, frozen=True, gc=False):
    """The figures of a task that are counted from now on, and by how much they grew."""

    counted: CountedUse
    growth: Difference | None


def is_counted(state: TaskState) -> bool:
    """Tell whether all of a task's figures are counted, under their models."""
    whole, counted = figures(state), state.reported.counted
    return whole == counted.whole and by_model(state, whole) == counted.models


def count(state: TaskState) -> NewCount:
    """Count a task's figures as they are now."""
    before, whole = state.reported.counted, figures(state)
    models = by_model(state, whole)
    if whole == before.whole and models == before.models:
        return NewCount(before, None)
    grown, by = minus(whole, before.whole), models_minus(models, before.models)
    facts = state.facts
    agent, environment = value_of(facts.agent_name) or value_of(facts.agent_label), value_of(facts.environment)
    found = Difference(
        used=used(state.uid, state.tenant, by),
        corrections=1 if min(astuple(grown)) < 0 else 0,
        finalized=[
            FinalizedUsage(
                agent_name=agent,
                tenant=state.tenant,
                environment=environment,
                model=model or value_of(facts.model),
                calls=more.calls,
                usage=as_usage(more),
                unpriced=unpriced(more),
            )
            for model, more in counter_growth(whole, before.most, by).items()
        ],
    )
    return NewCount(CountedUse(whole, models, each(max, before.most, whole)), found)


def draw(
    state: TaskState, task: Task, before: Draws, rules: FoldRules, now: datetime, *, is_over: bool
) -> tuple[Draws, list[Growth]]:
    """Return what a task draws from budgets from now on, and by how much that grew.

    `before`: its draws, with those of tasks that became part of it.
    """
    reported, used_now = state.reported, figures_of(figures(state), task, rules.budgets)
    amounts = reported.counted.whole
    counted = BudgetFigures(amounts.calls, unpriced(amounts), amounts.tokens, amounts.cost)
    if reported.is_over:  # an old task that is touched again
        counted = msgspec.structs.replace(counted, tool_calls=used_now.tool_calls, millis=used_now.millis)
    return drawn(rules.budgets, task, used_now, before, counted, now, is_over=is_over)


def moved_use(moves: Iterable[MovedUse]) -> list[Used]:
    """Return what moves between tasks with the calls that moved."""
    found: list[Used] = []
    for moved in moves:
        back: Models = {model: minus(ZERO, amounts) for model, amounts in moved.models.items()}
        found += used(moved.before, moved.tenant, back)
        if moved.after:
            found += used(moved.after, moved.tenant, moved.models)
    return found
