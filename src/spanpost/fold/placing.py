"""Which units are shown together as one task, and the merged facts of each task.

Rules. A box is a task of its own, unless it is shown within the box above it (`is_within`):
- the same explicit task id: the same task, in whatever trace;
- below a tool call, or with a task id of its own: a child task;
- a workflow without an agent's name, or the same agent's name: within;
- the box above names no agent and all boxes directly below it are one agent: within.
What is no box is shown with the box above it; without one, in the task that something in it says it belongs to (a session's
model call, before its prompt's span has ended), else in the trace's provisional task.

At most `DEPTH` boxes above a box are one task with it: a deeper one is a task of its own, below the task of the box above it.

Theory. Grouping is a projection of the units: it depends on what they are, not on when they were learned. It may change as
more arrives (a second agent appears in a workflow); then the tasks concerned are built anew from their units. A unit's place
follows from that of the boundary above it, so that nothing is walked: what changes is handed down, to those alone whom it changes.
"""

from __future__ import annotations

from typing import NamedTuple

from spanpost.domain.readings import Role
from spanpost.fold.ids import explicit_uid
from spanpost.fold.kin import Kin, agent_below
from spanpost.fold.records import DEPTH, MANY, Unit, group_key, unit_key
from spanpost.fold.work import Key

_WORKFLOW = Role.WORKFLOW


class Place(NamedTuple):
    """Where a unit is shown, and what the units below it go by."""

    group: Key
    root: Key
    box: bytes
    is_box_via_tool: bool
    within: int


def place_of(unit: Unit) -> Place:
    """Return the place that a unit was given."""
    return Place(unit.group, unit.root, unit.box, unit.is_box_via_tool, unit.within)


def box_above(kin: Kin, unit: Unit) -> tuple[bytes, Unit | None, bool]:
    """Return the nearest box above a unit and whether a tool call lies between."""
    above = kin.units.get(unit.up) if unit.up else None
    if above is None:
        return b"", None, unit.is_via_tool
    if above.is_box:
        return unit.up, above, unit.is_via_tool
    box = kin.units.get(above.box) if above.box else None
    via_tool = unit.is_via_tool or above.is_box_via_tool
    return (above.box, box, via_tool) if box is not None and box.is_box else (b"", None, via_tool)


def hint_of(kin: Kin, unit: Unit) -> str:
    """Return the task that a unit below no box belongs to by what is said in it, or above it; empty when nothing is."""
    for _ in range(DEPTH):
        if unit.hint:
            return unit.hint
        above = kin.units.get(unit.up) if unit.up else None
        if above is None:
            break
        unit = above
    return ""


def is_of_one_agent(kin: Kin, span_id: bytes) -> bool:
    """Tell whether all boxes directly below are one agent's: through boundaries that are no boxes, not through tools."""
    return agent_below(kin.kids(span_id)) != MANY


def says(kin: Kin, span_id: bytes, unit: Unit) -> str | None:
    """Return what a boundary adds to the names of the agents directly below the one above it."""
    if unit.is_via_tool:
        return None
    if unit.is_box:
        return unit.agent_name if unit.role is not _WORKFLOW else None
    return agent_below(kin.kids(span_id))


def is_within(kin: Kin, unit: Unit, above_id: bytes, above: Unit, via_tool: bool) -> bool:
    """Tell whether a box is shown within the box above it."""
    if unit.task_id:
        return unit.task_id == above.task_id
    if via_tool:
        return False
    if unit.role is _WORKFLOW or not unit.agent_name:
        return True
    if unit.agent_name == above.agent_name:
        return True
    return not above.agent_name and is_of_one_agent(kin, above_id)


def place(kin: Kin, span_id: bytes, unit: Unit) -> Place:
    """Return the task in which a unit is shown, and the root of its segment there, by the place of the boundary above it."""
    above_id, above, via_tool = box_above(kin, unit)
    if not unit.is_box:
        if above is not None:
            return Place(above.group, above.root, above_id, via_tool, 0)
        hint = hint_of(kin, unit)
        provisional = group_key(explicit_uid(unit.tenant, hint)) if hint else group_key(kin.domain)
        return Place(provisional, provisional, above_id, via_tool, 0)
    within = 0
    if above is not None and is_within(kin, unit, above_id, above, via_tool):
        within = min(above.within + 1, DEPTH)
        if within < DEPTH:
            return Place(above.group, above.root, above_id, via_tool, within)
    own = unit_key(kin.domain, span_id)
    group = group_key(kin.domain, span_id)
    if unit.task_id:
        group = group_key(explicit_uid(unit.tenant, unit.task_id))
    elif unit.joined and above is None:
        group = unit.joined
    return Place(group, own, above_id, via_tool, within)
