"""Why a task is what it is: why it is one, what was merged into it, and which rule decided its status, name and tokens.

Asked of a replay alone: it reads the records that the fold keeps, and the observations once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spanpost.domain.observations import Observation, Part
from spanpost.domain.readings import Reading, Role
from spanpost.domain.tasks import Task
from spanpost.fold.ids import uuid_of
from spanpost.fold.read import read
from spanpost.fold.records import Cell, Group, Members, Slot, Unit, cell_key, domain_of, members_key, unit_key
from spanpost.fold.work import Key, Work

#: By its priority, what gave a task its name (`absorb`).
_NAMED = {
    3: "its task's or workflow's own name",
    2: "its agent's name",
    1: "the agent's name on its workflow",
    0: "its span's name",
}
_KINDS = {Role.AGENT: "an agent's span", Role.WORKFLOW: "a workflow's span", Role.TASK: "a span that names a task"}

#: (domain, span id)
Place = tuple[bytes, bytes]


class Explaining:
    """The answers for one replay. `groups` are the keys of its tasks."""

    def __init__(self, work: Work, groups: Iterable[Key], observations: Iterable[Observation]) -> None:
        self._work = work
        self._groups: dict[Any, Key] = {}
        for key in groups:
            group = work.get(key, Group)
            if group is not None:
                self._groups[uuid_of(group.uid)] = key
        self._spans: dict[Place, tuple[Observation, Reading]] = {}
        for o in sorted(observations, key=lambda o: (o.part is Part.ENDED, o.at_ns)):
            if o.part <= Part.STARTED:
                self._spans[(domain_of(o.tenant, o.trace_id), o.span_id)] = (o, read(o))

    def explain(self, task: Task) -> dict[str, Any]:
        """Return why the task is one, what was merged into it, and by which rules."""
        key = self._groups.get(task.uid)
        group = self._work.get(key, Group) if key is not None else None
        if key is None or group is None:
            return {"why": "", "merged": [], "status": task.rule, "name": "", "tokens": ""}
        units = self._units(key)
        leader = next((place for place, unit in units if unit.root == unit_key(*place) and not unit.joined), None)
        return {
            "why": self._why(group, leader, units),
            "merged": [said for place, unit in units if place != leader and (said := self._merged(place, unit))],
            "status": task.rule + (" (inferred)" if task.is_inferred else ""),
            "name": self._name(group, task),
            "tokens": self._tokens(group, task, units),
        }

    def _units(self, key: Key) -> list[tuple[Place, Unit]]:
        members = self._work.get(members_key(key), Members)
        found = []
        for own in members.units if members is not None else ():
            unit = self._work.get(own, Unit)
            if unit is not None:
                found.append(((own[:16], own[17:]), unit))
        return sorted(found, key=lambda one: (one[1].start_ns or one[1].facts.first_ns, one[0]))

    def _why(self, group: Group, leader: Place | None, units: list[tuple[Place, Unit]]) -> str:
        if group.task_id:
            return "it says its own id (agent.task.id or a session's id)"
        unit = next((unit for place, unit in units if place == leader), None)
        if leader is None or unit is None or not unit.is_box:
            return "no span of an agent is known: what was done in the trace"
        _, reading = self._spans.get(leader, (None, Reading()))
        why = f"{_KINDS.get(unit.role, 'a span')} ({reading.rule})" if reading.rule else _KINDS.get(unit.role, "a span")
        if unit.linked_to:
            return f"{why}, below another agent's by a link"
        if group.parent:
            return f"{why}, {'called as a tool by' if unit.is_via_tool else 'one of several agents of'} the task above"
        return f"{why} without one above"

    def _merged(self, place: Place, unit: Unit) -> str:
        o, reading = self._spans.get(place, (None, Reading()))
        name = f"{o.name!r}" if o is not None else f"span {place[1].hex()}"
        if unit.joined:
            return f"{name}: a later run, by {unit.joined_by}"
        if not unit.is_box:
            return ""
        if unit.root == unit_key(*place):
            return f"{name}: another run of the same task id"
        if unit.task_id:
            return f"{name}: the same task id"
        if unit.role is Role.WORKFLOW or not unit.agent_name:
            return f"{name}: a workflow within ({reading.rule})"
        return f"{name}: the agent {unit.agent_name!r}, the same or the only one within ({reading.rule})"

    def _name(self, group: Group, task: Task) -> str:
        fact = group.facts.latest.get("name")
        if fact is not None:
            return _NAMED.get(fact[0], "")
        if group.facts.value("agent_label"):
            return "the agent that its spans name"
        return "its service" if task.name == task.service else "its model" if task.name else "nothing names it"

    def _tokens(self, group: Group, task: Task, units: list[tuple[Place, Unit]]) -> str:
        if group.flow[0] == 0:
            if task.input_tokens is not None or task.output_tokens is not None:
                told = "totals of the agent's own span: no model call was told"
                return f"{told}; less what the agent had used before" if group.before is not None else told
            return "unknown: no model call was told"
        places = {place for place, _ in units}
        copies = 0
        for (domain, span_id), (_, reading) in self._spans.items():
            if reading.role is not Role.LLM or self._boundary(domain, span_id) not in places:
                continue
            copies += 1
            cell = self._work.get(cell_key(domain, span_id), Cell)
            slot = self._work.get(cell.slot, Slot) if cell is not None and cell.slot and cell.wins else None
            if slot is not None:  # copies that lie in traces of their own
                copies += sum(self._boundary(one[:16], one[17:]) not in places for one in slot.claimants)
        twice = max(copies - group.flow[0], 0)
        told = f"the sum of {group.flow[0]} model call{'s' if group.flow[0] > 1 else ''}, each once"
        if task.input_tokens is None and task.output_tokens is None:
            told = f"unknown: none of {group.flow[0]} model calls told any"
        return told + (f"; {twice} told by another span, too" if twice else "")

    def _boundary(self, domain: bytes, span_id: bytes) -> Place:
        for _ in range(256):
            cell = self._work.get(cell_key(domain, span_id), Cell)
            if cell is None or cell.is_boundary:
                break
            span_id = cell.parent
        return domain, span_id
