"""Figures for counters and budgets: by how much a task's use grew since it was counted last."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import astuple

from spanpost.model.budgets import Growth, Used
from spanpost.model.recorded import FinalizedUsage
from spanpost.tasks.amounts import ZERO, Amounts, Models, as_usage, dollars, each, minus, models_minus
from spanpost.tasks.context_use import use_of
from spanpost.tasks.facts import value_of
from spanpost.tasks.folded import Difference, FoldRules
from spanpost.tasks.hierarchy import MovedUse
from spanpost.tasks.records import TaskState
from spanpost.tasks.reported import CountedUse
from spanpost.tasks.status import judge
from spanpost.tasks.task_rows import as_task
from spanpost.tasks.usage import by_model, counter_growth, figures, unpriced, used


class NewCount(msgspec.Struct, frozen=True, gc=False):
    """The figures of a task that are counted from now on, and by how much they grew."""

    counted: CountedUse
    growth: Difference | None


def is_counted(state: TaskState) -> bool:
    """Tell whether all of a task's figures are counted, under their models."""
    whole, counted = figures(state), state.reported.counted
    return whole == counted.whole and by_model(state, whole) == counted.models


def count(state: TaskState, rules: FoldRules, *, is_announced: bool) -> NewCount:
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
    if rules.budgets and grown is not ZERO:
        found.growths.append(_spent(state, whole, rules, is_announced=is_announced))
    return NewCount(CountedUse(whole, models, each(max, before.most, whole)), found)


def _spent(state: TaskState, whole: Amounts, rules: FoldRules, *, is_announced: bool) -> Growth:
    """Return the growth, or the decrease, of the figures for the budgets."""
    use, before = use_of(state.facts, rules), state.reported.counted.whole
    verdict, grown = judge(state, use, rules), minus(whole, before)
    return Growth(
        # Budgets need the task that spends and its message, not its parent or children.
        task=as_task(state, verdict, use, rules, parent=None, root=state, is_announced=is_announced, children={}),
        calls=grown.calls,
        unpriced=unpriced(whole) - unpriced(before),
        tokens=grown.tokens,
        cost_usd=dollars(grown.cost),
    )


def moved_use(moves: Iterable[MovedUse]) -> list[Used]:
    """Return what moves between tasks with the calls that moved."""
    found: list[Used] = []
    for moved in moves:
        back: Models = {model: minus(ZERO, amounts) for model, amounts in moved.models.items()}
        found += used(moved.before, moved.tenant, back)
        if moved.after:
            found += used(moved.after, moved.tenant, moved.models)
    return found
