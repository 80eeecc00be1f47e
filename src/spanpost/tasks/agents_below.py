"""The agents below a task: how many work, wait, failed and are done, at any depth, and what they ask.

Rules. A task passes up what it does itself and what its child tasks pass up. Of tasks that lie in a cycle, none
takes in what another of the cycle passes up. A task with more than `DEPTH` tasks above it passes nothing up.

Theory. What a task passes up is a function of its facts and of the tasks below it, so it does not depend on the
order in which they become known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import msgspec

from spanpost import semconv as c
from spanpost.model.tasks import waits_for_person
from spanpost.tasks import approvals
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.records import DEPTH, NO_AGENTS, AgentsBelow, ChildTasks, TaskState
from spanpost.tasks.status import TaskVerdict
from spanpost.tasks.times import nanoseconds_of
from spanpost.tasks.work import Key

#: Characters kept of a question.
_QUESTION = 300


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
    is_waiting = waits_for_person(verdict.status, verdict.rule)
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


class Levels:
    """How far below its top each task lies, at most `DEPTH` + 1, and which tasks lie in a cycle."""

    def __init__(self, state_of: Callable[[Key], TaskState | None]) -> None:
        self._state_of = state_of
        self._known: dict[Key, int] = {}
        #: Of a task in a cycle all tasks of the cycle.
        self._circles: dict[Key, frozenset[Key]] = {}

    def of(self, key: Key) -> int:
        """Return the number of tasks above a task; `DEPTH` + 1: more are not followed."""
        path: dict[Key, None] = {}
        at, level = key, -1
        while (known := self._known.get(at)) is None:
            if at in path:
                circle = list(path)[list(path).index(at) :]
                self._circles.update(dict.fromkeys(circle, frozenset(circle)))
                self._known.update(dict.fromkeys(circle, len(circle) - 1))
                continue
            if len(path) > DEPTH:
                self._known[key] = DEPTH + 1
                return DEPTH + 1
            path[at] = None
            state = self._state_of(at)
            if state is None or not state.parent or self._state_of(state.parent) is None:
                break
            at = state.parent
        else:
            level = known
        for one in reversed(path):
            if one not in self._circles:
                level = min(level + 1, DEPTH + 1)
                self._known[one] = level
        return self._known[key]

    def below(self, key: Key, child_tasks: ChildTasks) -> AgentsBelow:
        """Return what the child tasks of a task pass up."""
        known = child_tasks.agents
        if not known:
            return NO_AGENTS
        self.of(key)
        circle = self._circles.get(key, frozenset())
        return reduce(plus, [known[child] for child in sorted(known) if child not in circle], NO_AGENTS)
