"""Placement: which subtrees are shown together as one task.

Rules. A root span is a task of its own, unless it is shown within the root span above it (`is_within`):
- the same explicit task id: the same task, in any trace;
- below a tool call, or with a task id of its own: a child task;
- a workflow without an agent's name, or the same agent's name: within;
- the root span above names no agent and all root spans directly below it are one agent: within. A subtree
  without a root span is shown with the root span above it. Without one above, it is shown in the task that
  one of its spans names (a session's model call, before its prompt's span has ended), else in the trace's
  provisional task.

At most `DEPTH` nested root spans are one task. A deeper one is a task of its own, a child of the task above
it.

Theory. Placement is a function of the subtrees, not of the order of arrival. It may change as more arrives
(a second agent appears in a workflow); then the tasks concerned are rebuilt from their subtrees. A subtree's
place follows from the place of the subtree above it, so no tree is walked: a change is passed down, only to
the subtrees that it changes.
"""

from __future__ import annotations

from typing import NamedTuple

from spanpost.model.ids import explicit_uid
from spanpost.model.readings import Role
from spanpost.tasks.record_keys import state_key, subtree_key
from spanpost.tasks.records import DEPTH, MANY, Subtree
from spanpost.tasks.span_tree import SpanTree, agent_below
from spanpost.tasks.work import Key

_WORKFLOW = Role.WORKFLOW


class Place(NamedTuple):
    """The task that shows a subtree, and the input for the placement of the subtrees below."""

    state: Key
    root: Key
    root_span: bytes
    is_root_span_via_tool: bool
    within: int


def place_of(subtree: Subtree) -> Place:
    """Return the current place of a subtree."""
    return Place(subtree.state, subtree.root, subtree.root_span, subtree.is_root_span_via_tool, subtree.within)


def root_span_above(tree: SpanTree, subtree: Subtree) -> tuple[bytes, Subtree | None, bool]:
    """Return the nearest root span above a subtree and whether a tool call lies between."""
    above = tree.subtrees.get(subtree.up) if subtree.up else None
    if above is None:
        return b"", None, subtree.is_via_tool
    if above.is_root_span:
        return subtree.up, above, subtree.is_via_tool
    root_span = tree.subtrees.get(above.root_span) if above.root_span else None
    via_tool = subtree.is_via_tool or above.is_root_span_via_tool
    return (
        (above.root_span, root_span, via_tool)
        if root_span is not None and root_span.is_root_span
        else (b"", None, via_tool)
    )


def hint_of(tree: SpanTree, subtree: Subtree) -> str:
    """Return the task id named in a subtree without a root span, or above it; else empty."""
    for _ in range(DEPTH):
        if subtree.hint:
            return subtree.hint
        above = tree.subtrees.get(subtree.up) if subtree.up else None
        if above is None:
            break
        subtree = above
    return ""


def is_of_one_agent(tree: SpanTree, span_id: bytes) -> bool:
    """Tell whether all root spans directly below are one agent's; those below tools do not count."""
    return agent_below(tree.child_roots(span_id)) != MANY


def says(tree: SpanTree, span_id: bytes, subtree: Subtree) -> str | None:
    """Return what a subtree adds to the agents' names directly below the owning span above it."""
    if subtree.is_via_tool:
        return None
    if subtree.is_root_span:
        return subtree.agent_name if subtree.role is not _WORKFLOW else None
    return agent_below(tree.child_roots(span_id))


def is_within(tree: SpanTree, subtree: Subtree, above_id: bytes, above: Subtree, via_tool: bool) -> bool:
    """Tell whether a root span is shown within the root span above it."""
    if subtree.task_id:
        return subtree.task_id == above.task_id
    if via_tool:
        return False
    if subtree.role is _WORKFLOW or not subtree.agent_name:
        return True
    if subtree.agent_name == above.agent_name:
        return True
    return not above.agent_name and is_of_one_agent(tree, above_id)


def place(tree: SpanTree, span_id: bytes, subtree: Subtree) -> Place:
    """Return the task that shows a subtree and its run's root there, by the place of the subtree above."""
    above_id, above, via_tool = root_span_above(tree, subtree)
    if not subtree.is_root_span:
        if above is not None:
            return Place(above.state, above.root, above_id, via_tool, 0)
        hint = hint_of(tree, subtree)
        provisional = state_key(explicit_uid(subtree.tenant, hint)) if hint else state_key(tree.domain)
        return Place(provisional, provisional, above_id, via_tool, 0)
    within = 0
    if above is not None and is_within(tree, subtree, above_id, above, via_tool):
        within = min(above.within + 1, DEPTH)
        if within < DEPTH:
            return Place(above.state, above.root, above_id, via_tool, within)
    own = subtree_key(tree.domain, span_id)
    state = state_key(tree.domain, span_id)
    if subtree.task_id:
        state = state_key(explicit_uid(subtree.tenant, subtree.task_id))
    elif above is None:
        state = subtree.joined or subtree.talk or state
    return Place(state, own, above_id, via_tool, within)
