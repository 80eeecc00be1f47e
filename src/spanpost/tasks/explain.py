"""Explain a task: why it exists, what was merged into it, and which rule decided its status, name and tokens.

Only a replay can answer: it needs the records that the fold keeps, and the observations again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spanpost.model.ids import uuid_of
from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Reading, Role
from spanpost.model.tasks import Task
from spanpost.readers import read
from spanpost.tasks import requests
from spanpost.tasks.facts import value_of
from spanpost.tasks.record_keys import domain_of, members_key, node_key, subtree_key
from spanpost.tasks.records import DuplicateCalls, Members, Node, Subtree, TaskState
from spanpost.tasks.task_rules import TaskRules
from spanpost.tasks.work import Key, Work

#: What gave a task its name, by the priority of the fact (see `absorb`).
_NAME_SOURCES = {
    3: "its task's or workflow's own name",
    2: "its agent's name",
    1: "the agent's name on its workflow",
    0: "its span's name",
}
_KINDS = {Role.AGENT: "an agent's span", Role.WORKFLOW: "a workflow's span", Role.TASK: "a span that names a task"}

#: (domain, span id)
Place = tuple[bytes, bytes]


class Explaining:
    """The explanations of one replay. `states` are the keys of its tasks' states."""

    def __init__(
        self, work: Work, states: Iterable[Key], observations: Iterable[Observation], rules: TaskRules
    ) -> None:
        self._work = work
        self._rules = rules
        self._states: dict[Any, Key] = {}
        for key in states:
            state = work.get(key, TaskState)
            if state is not None:
                self._states[uuid_of(state.uid)] = key
        self._spans: dict[Place, tuple[Observation, Reading]] = {}
        for o in sorted(observations, key=lambda o: (o.part is Part.ENDED, o.at_ns)):
            if o.part <= Part.STARTED:
                self._spans[(domain_of(o.tenant, o.trace_id), o.span_id)] = (o, read(o))

    def explain(self, task: Task) -> dict[str, Any]:
        """Return why the task exists, what was merged into it, and the rules that decided its fields."""
        key = self._states.get(task.uid)
        state = self._work.get(key, TaskState) if key is not None else None
        if key is None or state is None:
            return {"why": "", "message": "", "merged": [], "status": task.rule, "name": "", "tokens": ""}
        subtrees = self._subtrees(key)
        leader = next((place for place, own in subtrees if own.root == subtree_key(*place) and not own.joined), None)
        return {
            "why": self._why(state, leader, subtrees),
            "message": self._message(state, task),
            "merged": [text for place, own in subtrees if place != leader and (text := self._merged(place, own))],
            "status": task.rule + (" (inferred)" if task.is_inferred else ""),
            "name": self._name(state, task),
            "tokens": self._tokens(state, task, subtrees),
        }

    def _subtrees(self, key: Key) -> list[tuple[Place, Subtree]]:
        members = self._work.get(members_key(key), Members)
        found = []
        for own in members.subtrees if members is not None else ():
            subtree = self._work.get(own, Subtree)
            if subtree is not None:
                found.append(((own[:16], own[17:]), subtree))
        return sorted(found, key=lambda one: (one[1].start_ns or one[1].facts.first_ns, one[0]))

    def _message(self, state: TaskState, task: Task) -> str:
        """Return whether the task has a message, and the setting that decided."""
        if state.parent:
            return "shown in the message of the task above"
        around = requests.around(state.facts, has_root_span=state.has_root_span)
        request = around.value if around is not None else None
        rule = self._rules.rule_for(request)
        where = f"tasks.requests: {rule.pattern!r} = {rule.when!r}" if rule.pattern else f"tasks.when = {rule.when!r}"
        within = f", in {request!r}" if request else ""
        what = "an agent's run" if state.has_root_span or state.task_id else f"{state.amounts.calls} model calls"
        return f"{'yes' if task.is_announced else 'no'}: {what}{within} ({where})"

    def _why(self, state: TaskState, leader: Place | None, subtrees: list[tuple[Place, Subtree]]) -> str:
        if state.task_id:
            return "it says its own id (agent.task.id or a session's id)"
        if state.is_conversation:
            agent = state.facts.agent_name
            who = agent.value if agent is not None else "one agent"
            return f"the runs of {who} in one service that name a conversation"
        subtree = next((subtree for place, subtree in subtrees if place == leader), None)
        if leader is None or subtree is None or not subtree.is_root_span:
            return "no span of an agent is known: what was done in the trace"
        _, reading = self._spans.get(leader, (None, Reading()))
        kind = _KINDS.get(subtree.role, "a span")
        why = f"{kind} ({reading.rule})" if reading.rule else kind
        if subtree.linked_to:
            return f"{why}, below another agent's by a link"
        if state.parent:
            return (
                f"{why}, {'called as a tool by' if subtree.is_via_tool else 'one of several agents of'} the task above"
            )
        return f"{why} without one above"

    def _merged(self, place: Place, subtree: Subtree) -> str:
        o, reading = self._spans.get(place, (None, Reading()))
        name = f"{o.name!r}" if o is not None else f"span {place[1].hex()}"
        if subtree.joined:
            return f"{name}: a later run, by {subtree.joined_by}"
        if not subtree.is_root_span:
            return ""
        if subtree.root == subtree_key(*place) and subtree.talk:
            return f"{name}: a later run, by its conversation"
        if subtree.root == subtree_key(*place):
            return f"{name}: another run of the same task id"
        if subtree.task_id:
            return f"{name}: the same task id"
        if subtree.role is Role.WORKFLOW or not subtree.agent_name:
            return f"{name}: a workflow within ({reading.rule})"
        return f"{name}: the agent {subtree.agent_name!r}, the same or the only one within ({reading.rule})"

    def _name(self, state: TaskState, task: Task) -> str:
        fact = state.facts.name
        if fact is not None and task.name.startswith(fact.value):
            return _NAME_SOURCES.get(fact.priority, "the name of its framework's class")
        if task.name == value_of(requests.around(state.facts, has_root_span=state.has_root_span)):
            return "the request or the job that it runs in"
        if value_of(state.facts.agent_label):
            return "the agent that its spans name"
        if fact is not None:
            return "the agents of its team"
        return "its service" if task.name == task.service else "its model" if task.name else "nothing names it"

    def _tokens(self, state: TaskState, task: Task, subtrees: list[tuple[Place, Subtree]]) -> str:
        if state.amounts.calls == 0:
            if task.input_tokens is not None or task.output_tokens is not None:
                text = "totals of the agent's own span: no model call was reported"
                return f"{text}; less what the agent had used before" if state.before is not None else text
            return "unknown: no model call was reported"
        places = {place for place, _ in subtrees}
        copies = 0
        for (domain, span_id), (_, reading) in self._spans.items():
            if reading.role is not Role.LLM or self._owner(domain, span_id) not in places:
                continue
            copies += 1
            node = self._work.get(node_key(domain, span_id), Node)
            duplicates = None
            if node is not None and node.duplicates and node.wins:
                duplicates = self._work.get(node.duplicates, DuplicateCalls)
            if duplicates is not None:  # copies in other traces
                copies += sum(self._owner(one[:16], one[17:]) not in places for one in duplicates.call_copies)
        duplicate_calls = max(copies - state.amounts.calls, 0)
        text = f"the sum of {state.amounts.calls} model call{'s' if state.amounts.calls > 1 else ''}, each once"
        if task.input_tokens is None and task.output_tokens is None:
            text = f"unknown: none of {state.amounts.calls} model calls reported any"
        return text + (f"; {duplicate_calls} reported by another span, too" if duplicate_calls else "")

    def _owner(self, domain: bytes, span_id: bytes) -> Place:
        for _ in range(256):
            node = self._work.get(node_key(domain, span_id), Node)
            if node is None or node.owns_subtree:
                break
            span_id = node.parent
        return domain, span_id
