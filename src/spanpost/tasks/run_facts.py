"""The facts of one run of a task with several: they lie in the run's own trace."""

from __future__ import annotations

from spanpost.tasks.facts import Facts, value_of
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.records import Subtree, TaskState
from spanpost.tasks.work import Key


def facts_of_run(states: TaskStates, root: Key, subtree: Subtree) -> Facts:
    """Return the facts of a run by its root, from the subtrees below: other runs of the task are not read."""
    tree, facts = states.tree(root[:16]), Facts()
    waiting = [(root[17:], subtree)]
    for span_id, one in waiting:
        states.tick()
        if one.root == root:
            for known in one.all_facts:
                facts.merge(known)
        below = list(tree.child_roots(span_id).subtrees)
        tree.want(below)
        waiting += [(id, child) for id in below if (child := tree.subtrees.get(id)) is not None]
    return facts


def is_idle(facts: Facts) -> bool:
    """Tell whether a run has done nothing yet, or has begun a tool call whose id its end may say."""
    first = facts.first
    return first is None or (first.value.is_tool and not first.value.id and first.key[:1] == b"\0")


def totals_of(facts: Facts, state: TaskState) -> tuple[int, int] | None:
    """Return the lifetime totals that a run reported at its end, if none of its calls reports tokens."""
    total = value_of(facts.aggregate)
    if value_of(facts.totals_of) is None or total is None or state.amounts.calls:
        return None
    return (total.input or 0, total.output or 0)
