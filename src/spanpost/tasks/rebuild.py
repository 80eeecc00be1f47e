"""The end of a batch: tasks take in what their subtrees learned, or are built anew from them.

Theory. Facts merge in any order and any number of times to the same, so a subtree's facts may be handed to
its task once per batch, whole. Figures are sums: their change is added, once.
"""

from __future__ import annotations

import msgspec

from spanpost.tasks.amounts import NO_COUNT, ZERO
from spanpost.tasks.facts import Facts
from spanpost.tasks.loop_findings import enter_loop
from spanpost.tasks.loops import LoopRules
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.record_keys import node_key, subtree_key
from spanpost.tasks.records import Subtree, TaskState
from spanpost.tasks.runs import enter_run
from spanpost.tasks.span_tree import total
from spanpost.tasks.succession import pass_on_held
from spanpost.tasks.task_figures import add_figures, pass_on_counted
from spanpost.tasks.work import Key


def gather(states: TaskStates, rules: LoopRules) -> None:
    """Merge what the batch taught their subtrees into tasks, and add the change of their figures."""
    for tree in list(states.trees.values()):
        tree.carry()
        for span_id in {**tree.learned, **dict.fromkeys(tree.recorded)}:
            states.tick()
            subtree = tree.subtrees.get(span_id)
            if subtree is None:  # dissolved: its successor has its facts
                continue
            tree.subtrees.put(span_id, subtree)
            if subtree.root[16:17] == b"u":
                states.runs.add(subtree.root)
            state = states.state(subtree.state)
            if state is not None and subtree.state not in states.stale:
                for facts in subtree.all_facts:
                    state.facts.merge(facts, is_task=True)
                own = subtree_key(tree.domain, span_id)
                enter_run(state, subtree, own, span_id)
                enter_loop(state, own, subtree, rules)
                states.touch(subtree.state, state)
        for span_id, figures in tree.changes():
            subtree = tree.subtrees.get(span_id)
            state = states.state(subtree.state) if subtree is not None and subtree.state else None
            if subtree is not None and state is not None:
                add_figures(state, subtree.root, span_id, figures)
                states.touch(subtree.state, state)
        tree.former.clear()
        tree.learned.clear()


def rebuild(states: TaskStates, rules: LoopRules) -> None:
    """Build stale tasks anew from their subtrees; drop those that have none."""
    for key in sorted(states.stale):
        state = states.state(key)
        if state is None:
            continue
        members = states.members(key)
        if not members:
            _drop(states, key, state)
            continue
        old_runs, had_root_span, reported = state.runs, state.has_root_span, state.reported
        state.facts, state.amounts, state.tools, state.runs, state.has_root_span = Facts(), ZERO, NO_COUNT, {}, False
        state.metered, state.stated, state.models, state.metered_models = ZERO, ZERO, {}, {}
        state.errors, state.loops = 0, {}
        subtrees: list[tuple[bytes, bytes, Subtree]] = []
        states.work.want([*members, *(node_key(own[:16], own[17:]) for own in members)])
        for own in members:
            states.tick()
            domain, span_id = own[:16], own[17:]
            subtree = states.subtree(own)
            if subtree is None or subtree.state != key:
                continue
            subtrees.append((domain, span_id, subtree))
            state.has_root_span = state.has_root_span or subtree.is_root_span
        if state.has_root_span and not had_root_span:
            states.gained_root.add(key)
        for domain, span_id, subtree in subtrees:
            for facts in subtree.all_facts:
                state.facts.merge(facts, is_task=True)
            state.errors += subtree.errors
            own = subtree_key(domain, span_id)
            enter_run(state, subtree, own, span_id)
            node = states.tree(domain).nodes.get(span_id)
            if node is not None:
                add_figures(state, subtree.root, span_id, total(node))
            enter_loop(state, own, subtree, rules)
        for root in old_runs.keys() & state.runs.keys():
            state.runs[root].waited = old_runs[root].waited
        lost = [root for root in reported.runs if root not in state.runs]
        if lost:
            states.retracted.update([root for root in lost if reported.runs[root].is_reported])
            left = {root: run for root, run in reported.runs.items() if root in state.runs}
            state.reported = msgspec.structs.replace(state.reported, runs=left)
        states.touch(key, state)
    states.stale.clear()


def _drop(states: TaskStates, key: Key, state: TaskState) -> None:
    states.retracted.update([root for root, run in state.reported.runs.items() if run.is_reported])
    successor_key = states.gone.get(key, b"")
    successor = states.state(successor_key) if successor_key else None
    pass_on_counted(states, key, successor_key, successor)
    if successor is not None:
        for name, conversation in state.conversations.items():
            known = successor.conversations.get(name)
            if known is None or (conversation.newest_ns, conversation.newest_key) > (known.newest_ns, known.newest_key):
                successor.conversations[name] = conversation
        states.touch(successor_key, successor)
    if state.parent:
        siblings = states.child_tasks(state.parent)
        siblings.at_work.pop(key, None)
        siblings.agents.pop(key, None)
        if siblings.tasks.pop(key, None) is not None:
            states.put_child_tasks(state.parent, siblings)
            states.touched[state.parent] = None
    former = states.dropped.setdefault(key, state)
    if former is not state:  # it came back within the batch
        pass_on_held(state, former)
    states.forget(key)
