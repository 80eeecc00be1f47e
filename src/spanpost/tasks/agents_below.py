"""The agents below a task: how many work, wait, failed and are done, at any depth, and what they ask.

Rules. A task passes up what it does itself and what its child tasks pass up. Of tasks that lie in a cycle, none passes
up what is above itself. Each change is passed up until nothing changes any more.

Theory. What a task passes up is a function of its facts and of the tasks below it, so it does not depend on the order in
which they become known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import msgspec

from spanpost import semconv as c
from spanpost.tasks import approvals
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.records import DEPTH, NO_AGENTS, AgentsBelow, ChildTasks, TaskState
from spanpost.tasks.status import TaskVerdict
from spanpost.tasks.times import nanoseconds_of
from spanpost.tasks.work import Key

#: Characters kept of a question.
_QUESTION = 300
StateOf = Callable[[Key], TaskState | None]


def plus(a: AgentsBelow, b: AgentsBelow) -> AgentsBelow:
    """Return the sum; of two questions the one that was asked first."""
    if a is NO_AGENTS:
        return b
    if b is NO_AGENTS:
        return a
    first = min((one for one in (a, b) if one.questions), key=lambda one: (one.asked_ns, one.asker), default=NO_AGENTS)
    return AgentsBelow(
        a.working + b.working,
        a.waiting + b.waiting,
        a.failed + b.failed,
        a.done + b.done,
        a.questions + b.questions,
        first.asked_ns,
        first.question,
        first.asker,
    )


def itself(state: TaskState, verdict: TaskVerdict, rules: FoldRules) -> AgentsBelow:
    """Return what a task does itself."""
    is_waiting = verdict.status == c.WAITING and not verdict.rule.startswith("session")
    is_over = verdict.is_over and not is_waiting
    has_failed = is_over and verdict.status == c.ERROR
    own = AgentsBelow(
        working=int(not is_over and not is_waiting),
        waiting=int(is_waiting),
        failed=int(has_failed),
        done=int(is_over and not has_failed),
    )
    if not state.facts.asks:
        return own
    asked = approvals.approvals(state.facts, state.tenant, rules.approvals)
    asked = approvals.ended(asked, verdict.status, verdict.end_reason) if verdict.is_over else asked
    is_open = [a for a in asked if a.is_open]
    if not is_open:
        return own
    first = is_open[0]
    return msgspec.structs.replace(
        own,
        questions=len(is_open),
        asked_ns=nanoseconds_of(first.asked_at),
        question=first.question[:_QUESTION],
        asker=state.uid,
    )


def below(key: Key, child_tasks: ChildTasks, state_of: StateOf) -> AgentsBelow:
    """Return what the child tasks of a task pass up."""
    known = child_tasks.agents
    if not known:
        return NO_AGENTS
    above = _above(key, state_of)
    return reduce(plus, [known[child] for child in sorted(known) if child not in above], NO_AGENTS)


def _above(key: Key, state_of: StateOf) -> set[Key]:
    found: set[Key] = set()
    state = state_of(key)
    while state is not None and state.parent and state.parent not in found and len(found) < DEPTH:
        found.add(state.parent)
        state = state_of(state.parent)
    return found
