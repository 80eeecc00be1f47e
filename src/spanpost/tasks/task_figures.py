"""Figures of tasks: added with a subtree, and moved with it, also those that counters have."""

from __future__ import annotations

from functools import reduce

import msgspec

from spanpost.model.readings import METERED
from spanpost.tasks.amounts import ZERO, SubtreeFigures, count_plus, each, models_plus, plus
from spanpost.tasks.hierarchy import Hierarchy, MovedUse
from spanpost.tasks.records import TaskState
from spanpost.tasks.reported import CountedUse
from spanpost.tasks.span_tree import SpanTree, total
from spanpost.tasks.usage import counter_growth
from spanpost.tasks.work import Key


def move_counted(states: Hierarchy, tree: SpanTree, span_id: bytes, old: Key, new: Key) -> None:
    """Move the counted share of a subtree's figures to the task that it moves to."""
    before, after, node = states.state(old) if old else None, states.state(new), tree.nodes.get(span_id)
    if before is None or before.reported.counted.whole == ZERO or after is None or node is None:
        return
    if span_id == METERED and before.amounts != ZERO:
        return
    counted = before.reported.counted
    known = {model: each(min, own, counted.models.get(model, ZERO)) for model, own in total(node).models.items()}
    moved = counter_growth(counted.whole, ZERO, known)
    share = reduce(plus, moved.values(), ZERO)
    states.moved_use.append(MovedUse(before.uid, after.uid, before.tenant, moved))
    set_counted(before, counted.minus(CountedUse(share, moved, share)))
    set_counted(after, after.reported.counted.plus(CountedUse(share, moved, share)))
    states.states.put(old, before)
    states.states.put(new, after)


def set_counted(state: TaskState, counted: CountedUse) -> None:
    """Store other counted figures of a task: calls moved between tasks."""
    state.reported = msgspec.structs.replace(state.reported, counted=counted)


def pass_on_counted(states: Hierarchy, key: Key, successor_key: Key, successor: TaskState | None) -> None:
    """Pass the counted figures of a task that is gone to its successor."""
    former = states.state(key)
    if former is None or former.reported.counted.whole == ZERO:
        return
    counted = former.reported.counted
    if successor is not None:
        set_counted(successor, successor.reported.counted.plus(counted))
        states.touch(successor_key, successor)
    to = successor.uid if successor is not None else b""
    states.moved_use.append(MovedUse(former.uid, to, former.tenant, counted.models))


def add_figures(state: TaskState, root: Key, span_id: bytes, more: SubtreeFigures) -> None:
    """Add a subtree's figures, or their change, to its task and to its run, which must have been entered.

    Metric data points are kept apart, and belong to no run.
    """
    if span_id == METERED:
        state.metered = plus(state.metered, more.amounts)
        state.metered_models = models_plus(state.metered_models, more.models)
    else:
        state.amounts = plus(state.amounts, more.amounts)
        state.models = models_plus(state.models, more.models)
        state.tools = count_plus(state.tools, more.tools)
        state.stated = plus(state.stated, more.stated)
        run = state.runs.get(root)
        if run is not None:
            run.amounts = plus(run.amounts, more.amounts)
