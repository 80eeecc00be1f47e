"""Which units are shown together as one task, and the merged facts of each task.

Rules. A box is a task of its own, unless it is shown within the box above it (`is_within`):
- the same explicit task id: the same task, in whatever trace;
- below a tool call, or with a task id of its own: a child task;
- a workflow without an agent's name, or the same agent's name: within;
- the box above names no agent and all boxes directly below it are one agent: within.
What is no box is shown with the box above it; without one, in the task that something in it says it belongs to (a session's
model call, before its prompt's span has ended), else in the trace's provisional task.

Theory. Grouping is a projection of the units: it depends on what they are, not on when they were learned. It may change as
more arrives (a second agent appears in a workflow); then the tasks concerned are built anew from their units.
"""

from __future__ import annotations

from collections.abc import Iterator

from spanpost.domain.readings import Role
from spanpost.fold.ids import explicit_uid
from spanpost.fold.kin import Kin
from spanpost.fold.records import DEPTH, Kid, Unit, group_key, unit_key
from spanpost.fold.work import Key

_WORKFLOW = Role.WORKFLOW
#: Boxes within boxes that are followed upward; deeper ones are tasks of their own.
BOX_DEPTH = 1024


def box_above(kin: Kin, unit: Unit) -> tuple[bytes, Unit | None, bool]:
    """Return the nearest box above a unit and whether a tool call lies between."""
    up, via_tool = unit.up, unit.is_via_tool
    for _ in range(DEPTH):
        if not up:
            return b"", None, via_tool
        above = kin.units.get(up)
        if above is None:
            return b"", None, via_tool
        if above.is_box:
            return up, above, via_tool
        via_tool = via_tool or above.is_via_tool
        up = above.up
    return b"", None, via_tool


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


def boxes_below(kin: Kin, span_id: bytes) -> Iterator[Kid]:
    """Yield the boxes directly below a boundary, through boundaries that are no boxes, not through tools."""
    waiting = [span_id]
    while waiting:
        for kid_id, kid in kin.kids(waiting.pop()).units.items():
            if kid.is_via_tool:
                continue
            if kid.is_box:
                yield kid
            else:
                waiting.append(kid_id)


def is_of_one_agent(kin: Kin, span_id: bytes) -> bool:
    """Tell whether all boxes directly below are one agent's."""
    names: set[str] = set()
    for kid in boxes_below(kin, span_id):
        if kid.role is not _WORKFLOW:
            names.add(kid.agent_name)
            if len(names) > 1:
                return False
    return True


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


def place(kin: Kin, span_id: bytes, unit: Unit) -> tuple[Key, Key]:
    """Return the task in which a unit is shown, and the root of its segment there."""
    for _ in range(BOX_DEPTH):
        above_id, above, via_tool = box_above(kin, unit)
        if above is None and not unit.is_box:
            hint = hint_of(kin, unit)
            provisional = group_key(explicit_uid(unit.tenant, hint)) if hint else group_key(kin.domain)
            return provisional, provisional
        if above is None or (unit.is_box and not is_within(kin, unit, above_id, above, via_tool)):
            break
        span_id, unit = above_id, above
    own = unit_key(kin.domain, span_id)
    if unit.task_id:
        return group_key(explicit_uid(unit.tenant, unit.task_id)), own
    if unit.joined and above is None:
        return unit.joined, own
    return group_key(kin.domain, span_id), own
