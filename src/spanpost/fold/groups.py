"""Which units are shown together as one task, and the merged facts of each task.

Rules. A box is a task of its own, unless it is shown within the box above it (`is_within`):
- the same explicit task id: the same task, in whatever trace;
- below a tool call, or with a task id of its own: a child task;
- a workflow without an agent's name, or the same agent's name: within;
- the box above names no agent and all boxes directly below it are one agent: within.
What is no box is shown with the box above it; without one, in the trace's provisional task.

Theory. Grouping is a projection of the units: it depends on what they are, not on when they were learned. It may change as
more arrives (a second agent appears in a workflow); then the tasks concerned are built anew from their units.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from spanpost.domain.readings import Role
from spanpost.fold.facts import Ending, Facts
from spanpost.fold.flow import ZERO, Flow, minus, plus
from spanpost.fold.kin import Kin, tools_plus, total
from spanpost.fold.records import (
    DEPTH,
    Group,
    Kid,
    Members,
    Offspring,
    Segment,
    Unit,
    group_key,
    kids_key,
    members_key,
    offspring_key,
    unit_key,
)
from spanpost.fold.work import Key, Work

NAMESPACE = uuid5(NAMESPACE_URL, "https://spanpost.dev/task")
#: Segments kept of a task, the newest; older ones are settled and only counted.
SEGMENT_CAP = 16


class Move(msgspec.Struct, frozen=True):
    """What was known under one unit is now under another, and shown in the task `task_uid`."""

    trace_id: bytes
    unit_from: bytes
    unit_to: bytes
    task_uid: UUID


def explicit_uid(tenant: str, task_id: str) -> UUID:
    """Return the identity of a task that says its own id."""
    return uuid5(NAMESPACE, f"{tenant}\0task\0{task_id}")


def box_uid(tenant: str, trace_id: bytes, span_id: bytes) -> UUID:
    """Return the identity of a task by its box; of a trace without a known box when `span_id` is empty."""
    return uuid5(NAMESPACE, f"{tenant}\0{trace_id.hex()}\0{span_id.hex()}")


class Groups:
    """The tasks touched in one transaction."""

    def __init__(self, work: Work) -> None:
        self.work = work
        #: Tasks whose row may have changed.
        self.touched: dict[Key, None] = {}
        #: Tasks to be built anew from their units.
        self.stale: set[Key] = set()
        #: (domain, trace id, unit from, unit to, group key)
        self.moves: list[tuple[bytes, bytes, bytes, bytes, Key]] = []
        #: Tasks that lost their last unit, and where it went.
        self.gone: dict[Key, Key] = {}
        #: Segments that are no longer their task's: their start and end are taken back.
        self.retracted: set[Key] = set()

    # --- records --------------------------------------------------------------------------------------------------

    def group(self, key: Key) -> Group | None:
        return self.work.get(key, Group)

    def members(self, key: Key) -> Members:
        return self.work.get(members_key(key), Members) or Members()

    def offspring(self, key: Key) -> Offspring:
        return self.work.get(offspring_key(key), Offspring) or Offspring()

    def touch(self, key: Key, group: Group) -> None:
        self.work.put(key, group)
        self.touched[key] = None

    # --- units ------------------------------------------------------------------------------------------------------

    def need_unit(self, kin: Kin, span_id: bytes, trace_id: bytes, tenant: str) -> Unit:
        """Return the unit of a boundary, made and placed if it was not there."""
        unit = kin.unit(span_id)
        if unit is not None:
            return unit
        cell = kin.cell(span_id)
        unit = Unit(trace_id=trace_id, tenant=tenant)
        if cell is not None:
            unit.role = cell.role
            unit.up, unit.is_via_tool = kin.above(cell)
            unit.is_top = cell.state != 0 and not cell.parent
            if cell.closed is not None:
                unit.facts.ending.merge(Ending(closed=cell.closed))
        kin.put_unit(span_id, unit)
        if unit.up:
            self.need_unit(kin, unit.up, trace_id, tenant)
            kin.add_kid(unit.up, span_id, _kid(unit))
        self.regroup(kin, span_id)
        return unit

    def update(self, kin: Kin, span_id: bytes, unit: Unit) -> None:
        """Place a boundary anew after it, or its place, changed."""
        cell = kin.cell(span_id)
        if cell is None:
            return
        up, via_tool = kin.above(cell)
        old_up = unit.up
        if up != old_up and old_up:
            kin.drop_kid(old_up, span_id)
        unit.up, unit.is_via_tool, unit.role = up, via_tool, cell.role
        unit.is_top = cell.state != 0 and not cell.parent
        if cell.closed is not None:
            unit.facts.ending.merge(Ending(closed=cell.closed))
        kin.put_unit(span_id, unit)
        if up:
            self.need_unit(kin, up, unit.trace_id, unit.tenant)
            kin.add_kid(up, span_id, _kid(unit))
        if old_up and old_up != up:
            self._recount(kin, old_up)
        if up:
            self._recount(kin, up)
        self.regroup(kin, span_id)
        shape = (int(unit.role), unit.agent_name, unit.task_id, up, via_tool)
        if unit.shape != shape:
            unit.shape = shape
            kin.put_unit(span_id, unit)
            self._regroup_below(kin, span_id)
        group = self.group(unit.group)
        if group is not None:
            self.enter(kin, span_id, unit, group)

    def dissolve(self, kin: Kin, span_id: bytes, unit: Unit) -> None:
        """Hand over what a boundary owned, because it turned out to be no box: to the boundary above it."""
        cell = kin.cell(span_id)
        assert cell is not None
        up, _ = kin.above(cell)
        heir = self.need_unit(kin, up, unit.trace_id, unit.tenant)
        heir.facts.merge(unit.facts)
        heir.errors += unit.errors
        heir.doubtful = [*heir.doubtful, *unit.doubtful]
        kin.put_unit(up, heir)
        if unit.up:
            kin.drop_kid(unit.up, span_id)
        kids = kin.kids(span_id)
        moved = list(kids.units)
        self.work.drop(kids_key(kin.domain, span_id))
        self._leave(kin, span_id, unit, heir.group)
        if heir.group != unit.group:
            self._move_counted(kin, span_id, unit.group, heir.group)
        self.work.drop(unit_key(kin.domain, span_id))
        self.moves.append((kin.domain, unit.trace_id, span_id, up, heir.group))
        heir_group = self.group(heir.group)
        if heir_group is not None and heir.group != unit.group:
            heir_group.facts.merge(unit.facts)
            heir_group.errors += unit.errors
            self._seg(heir_group, heir, unit_key(kin.domain, up), kin.domain, up)
            self.touch(heir.group, heir_group)
        for kid in moved:
            child = kin.unit(kid)
            if child is not None:
                child_cell = kin.cell(kid)
                assert child_cell is not None
                child.up, child.is_via_tool = kin.above(child_cell)
                kin.put_unit(kid, child)
                kin.add_kid(child.up, kid, _kid(child))
        self._recount(kin, up)
        for kid in moved:
            self.regroup(kin, kid)

    def adopt_kids(self, kin: Kin, span_id: bytes, up: bytes) -> None:
        """After a transparent span became a boundary: take over the boundaries of `up` that lie below it."""
        for kid in list(kin.kids(up).units):
            if kid == span_id:
                continue
            child, cell = kin.unit(kid), kin.cell(kid)
            if child is not None and cell is not None and kin.above(cell)[0] == span_id:
                self.update(kin, kid, child)

    # --- grouping -----------------------------------------------------------------------------------------------------

    def box_above(self, kin: Kin, unit: Unit) -> tuple[bytes, Unit | None, bool]:
        """Return the nearest box above a unit and whether a tool call lies between."""
        up, via_tool = unit.up, unit.is_via_tool
        for _ in range(DEPTH):
            if not up:
                return b"", None, via_tool
            above = kin.unit(up)
            if above is None:
                return b"", None, via_tool
            if above.role.is_box:
                return up, above, via_tool
            via_tool = via_tool or above.is_via_tool
            up = above.up
        return b"", None, via_tool

    def boxes_below(self, kin: Kin, span_id: bytes) -> Iterator[Kid]:
        """Yield the boxes directly below a boundary, through boundaries that are no boxes, not through tools."""
        waiting = [span_id]
        while waiting:
            for kid_id, kid in kin.kids(waiting.pop()).units.items():
                if kid.is_via_tool:
                    continue
                if kid.role.is_box:
                    yield kid
                else:
                    waiting.append(kid_id)

    def _is_of_one_agent(self, kin: Kin, span_id: bytes) -> bool:
        names: set[str] = set()
        for kid in self.boxes_below(kin, span_id):
            if kid.role is not Role.WORKFLOW:
                names.add(kid.agent_name)
                if len(names) > 1:
                    return False
        return True

    def is_within(self, kin: Kin, unit: Unit, above_id: bytes, above: Unit, via_tool: bool) -> bool:
        """Tell whether a box is shown within the box above it."""
        if unit.task_id:
            return unit.task_id == above.task_id
        if via_tool:
            return False
        if unit.role is Role.WORKFLOW or not unit.agent_name:
            return True
        if unit.agent_name == above.agent_name:
            return True
        return not above.agent_name and self._is_of_one_agent(kin, above_id)

    def place(self, kin: Kin, span_id: bytes, unit: Unit) -> tuple[Key, Key]:
        """Return the task in which a unit is shown, and the root of its segment there."""
        above_id, above, via_tool = self.box_above(kin, unit)
        if not unit.role.is_box:
            if above is None:
                provisional = group_key(kin.domain)
                return provisional, provisional
            return self.place(kin, above_id, above)
        if above is not None and self.is_within(kin, unit, above_id, above, via_tool):
            return self.place(kin, above_id, above)
        own = unit_key(kin.domain, span_id)
        if unit.task_id:
            return group_key(explicit_uid(unit.tenant, unit.task_id).bytes), own
        return group_key(kin.domain, span_id), own

    def regroup(self, kin: Kin, span_id: bytes) -> None:
        """Show a unit, and what depends on it, where it now belongs."""
        unit = kin.unit(span_id)
        if unit is None:
            return
        group, root = self.place(kin, span_id, unit)
        is_leader = root == unit_key(kin.domain, span_id)
        if (group, root) != (unit.group, unit.root):
            old = unit.group
            if old and old != group:
                self._leave(kin, span_id, unit, group)
                self.moves.append((kin.domain, unit.trace_id, span_id, span_id, group))
            elif old:
                self.stale.add(old)
            unit.group, unit.root = group, root
            kin.put_unit(span_id, unit)
            if old != group:
                self._join(kin, span_id, unit)
                self._move_counted(kin, span_id, old, group)
            for kid in list(kin.kids(span_id).units):
                self.regroup(kin, kid)
        elif is_leader:
            self._relate(kin, unit)

    def _recount(self, kin: Kin, span_id: bytes) -> None:
        """Regroup the boxes below the nearest box when its being "of one agent" changed."""
        unit = kin.unit(span_id)
        if unit is None:
            return
        if not unit.role.is_box:
            above_id, above, _ = self.box_above(kin, unit)
            if above is None:
                return
            span_id, unit = above_id, above
        if unit.agent_name:
            return
        is_of_one = self._is_of_one_agent(kin, span_id)
        if is_of_one == unit.is_of_many:
            unit.is_of_many = not is_of_one
            kin.put_unit(span_id, unit)
            self._regroup_below(kin, span_id)

    def _regroup_below(self, kin: Kin, span_id: bytes) -> None:
        """Regroup the boxes directly below a boundary, and what is no box on the way to them."""
        waiting = [span_id]
        for at in waiting:
            for kid_id, kid in list(kin.kids(at).units.items()):
                self.regroup(kin, kid_id)
                if not kid.role.is_box:
                    waiting.append(kid_id)

    def _join(self, kin: Kin, span_id: bytes, unit: Unit) -> None:
        key = unit.group
        group = self.group(key)
        if group is None:
            group = self._new(kin, span_id, unit)
        members = self.members(key)
        member = (kin.domain, span_id)
        if member not in members.units:
            members.units.append(member)
            self.work.put(members_key(key), members)
        self.gone.pop(key, None)
        if unit.role.is_box:
            group.has_box = True
        group.facts.merge(unit.facts)
        group.errors += unit.errors
        cell = kin.cell(span_id)
        if cell is not None:
            flow, tools = total(cell)
            kin.changed.pop(span_id, None)
            group.flow = plus(group.flow, flow)
            group.tools = tools_plus(group.tools, tools)
        self._seg(group, unit, unit_key(kin.domain, span_id), kin.domain, span_id)
        self.touch(key, group)
        if unit.root == unit_key(kin.domain, span_id):
            self._relate(kin, unit)

    def _new(self, kin: Kin, span_id: bytes, unit: Unit) -> Group:
        if unit.task_id and unit.group[:16] != kin.domain:
            uid = explicit_uid(unit.tenant, unit.task_id)
        else:
            uid = box_uid(unit.tenant, unit.trace_id, unit.group[17:])
        group = Group(uid=uid.bytes, tenant=unit.tenant, trace_id=unit.trace_id, span_id=unit.group[17:])
        group.message_uid = uid.bytes
        group.task_id = unit.task_id
        return group

    def _leave(self, kin: Kin, span_id: bytes, unit: Unit, heir: Key) -> None:
        key = unit.group
        if not key:
            return
        members = self.members(key)
        member = (kin.domain, span_id)
        if member in members.units:
            members.units.remove(member)
        kin.changed.pop(span_id, None)
        if members.units:
            self.work.put(members_key(key), members)
        else:
            self.work.drop(members_key(key))
            self.gone[key] = heir
        self.stale.add(key)

    def _relate(self, kin: Kin, unit: Unit) -> None:
        """Hang a leader's task below the task of the box above it."""
        group = self.group(unit.group)
        if group is None:
            return
        above_id, above, _ = self.box_above(kin, unit)
        parent = self.place(kin, above_id, above)[0] if above is not None else b""
        if parent == unit.group:
            parent = b""
        rank = (unit.start_ns, unit.root)
        has_changed, unit.parent_group = unit.parent_group != parent, parent
        if has_changed:
            self.work.put(unit.root, unit)
        if group.parent and group.parent_rank[1] == unit.root and (has_changed or group.parent_rank != rank):
            self._hang(unit.group, group, *self._earliest_parent(unit.group))
        elif parent and (not group.parent or rank < group.parent_rank):
            self._hang(unit.group, group, parent, rank)

    def _earliest_parent(self, key: Key) -> tuple[Key, tuple[int, Key]]:
        """Return the parent that the earliest segment with one says, and that segment's rank."""
        found: tuple[tuple[int, Key], Key] | None = None
        for domain, span_id in self.members(key).units:
            own = unit_key(domain, span_id)
            unit = self.work.get(own, Unit)
            if unit is not None and unit.root == own and unit.parent_group:
                rank = (unit.start_ns, own)
                if found is None or rank < found[0]:
                    found = (rank, unit.parent_group)
        return (found[1], found[0]) if found is not None else (b"", (0, b""))

    def _hang(self, key: Key, group: Group, parent: Key, rank: tuple[int, Key]) -> None:
        group.parent_rank = rank
        if parent != group.parent:
            if group.parent:
                siblings = self.offspring(group.parent)
                if siblings.tasks.pop(key, None) is not None:
                    self.work.put(offspring_key(group.parent), siblings)
                    self.touched[group.parent] = None
            group.parent = parent
            if parent:
                siblings = self.offspring(parent)
                siblings.tasks[key] = group.is_failed
                self.work.put(offspring_key(parent), siblings)
                self.touched[parent] = None
        self.touch(key, group)
        self.touch_below(key)

    def root(self, key: Key, group: Group) -> tuple[Key, Group]:
        """Return the topmost task above; where tasks hang in a circle, the one whose key sorts first."""
        seen = {key: group}
        while group.parent and len(seen) < DEPTH:
            if group.parent in seen:
                key = min(seen)
                return key, seen[key]
            above = self.group(group.parent)
            if above is None:
                break
            key, group = group.parent, above
            seen[key] = group
        return key, group

    def touch_below(self, key: Key) -> None:
        """Have the rows of a task's child tasks made anew: what they say of their root has changed."""
        waiting = [key]
        for at in waiting:
            for child in self.offspring(at).tasks:
                if child not in self.touched:
                    self.touched[child] = None
                waiting.append(child)
            if len(waiting) > 10_000:
                return

    def _move_counted(self, kin: Kin, span_id: bytes, old: Key, new: Key) -> None:
        """What was added to counters of a unit's figures stays counted in the task it moves to."""
        before, after, cell = self.group(old) if old else None, self.group(new), kin.cell(span_id)
        if before is None or before.counted is ZERO or after is None or cell is None:
            return
        share: Flow = tuple(map(min, total(cell)[0], before.counted))  # type: ignore[assignment]
        before.counted, after.counted = minus(before.counted, share), plus(after.counted, share)
        self.work.put(old, before)
        self.work.put(new, after)

    def _seg(self, group: Group, unit: Unit, own: Key, domain: bytes, span_id: bytes) -> None:
        """Enter what a unit knows of its segment's beginning and end."""
        segment = group.segments.get(unit.root)
        if segment is None:
            segment = group.segments[unit.root] = Segment()
        is_root = unit.root == own or not group.has_box
        if is_root:
            begins = unit.start_ns if unit.role.is_box else unit.facts.first_ns
            if begins and (not segment.start_ns or begins < segment.start_ns):
                segment.start_ns = begins
            segment.ending.merge(unit.facts.ending)
            if unit.root == own:
                segment.trace_id, segment.span_id = unit.trace_id, span_id
        else:
            segment.inner.merge(unit.facts.ending)
        if len(group.segments) > SEGMENT_CAP:
            oldest = min(group.segments, key=lambda k: (group.segments[k].start_ns, k))
            del group.segments[oldest]

    # --- facts and figures ----------------------------------------------------------------------------------------------

    def enter(self, kin: Kin, span_id: bytes, unit: Unit, group: Group) -> None:
        """After a unit's facts changed: bring its segment up to date."""
        self._seg(group, unit, unit_key(kin.domain, span_id), kin.domain, span_id)
        self.touch(unit.group, group)

    def add_changes(self, kin: Kin) -> None:
        """Add what cells passed up to the figures of the tasks that show them."""
        for span_id, (flow, tools) in kin.changed.items():
            unit = kin.unit(span_id)
            group = self.group(unit.group) if unit is not None and unit.group else None
            if unit is not None and group is not None:
                group.flow = plus(group.flow, flow)
                group.tools = tools_plus(group.tools, tools)
                self.touch(unit.group, group)
        kin.changed.clear()

    def rebuild(self, kin_of: dict[bytes, Kin]) -> None:
        """Build stale tasks anew from their units; drop those that have none."""
        for key in sorted(self.stale):
            group = self.group(key)
            if group is None:
                continue
            members = self.members(key)
            if not members.units:
                self._drop(key, group)
                continue
            old_segments = group.segments
            group.facts, group.flow, group.tools, group.segments, group.has_box = Facts(), ZERO, {}, {}, False
            group.errors = 0
            units: list[tuple[bytes, bytes, Unit]] = []
            for domain, span_id in members.units:
                kin = kin_of.setdefault(domain, Kin(self.work, domain))
                unit = kin.unit(span_id)
                if unit is None or unit.group != key:
                    continue
                units.append((domain, span_id, unit))
                group.has_box = group.has_box or unit.role.is_box
            for domain, span_id, unit in units:
                group.facts.merge(unit.facts)
                group.errors += unit.errors
                cell = kin_of[domain].cell(span_id)
                if cell is not None:
                    flow, tools = total(cell)
                    group.flow, group.tools = plus(group.flow, flow), tools_plus(group.tools, tools)
                self._seg(group, unit, unit_key(domain, span_id), domain, span_id)
            for root, segment in old_segments.items():
                if root in group.segments:
                    group.segments[root].told_start = segment.told_start
                    group.segments[root].told_end = segment.told_end
                elif segment.told_start or segment.told_end:
                    self.retracted.add(root)
            self.touch(key, group)
        self.stale.clear()

    def _drop(self, key: Key, group: Group) -> None:
        for root, segment in group.segments.items():
            if segment.told_start or segment.told_end:
                self.retracted.add(root)
        heir_key = self.gone.get(key, b"")
        heir = self.group(heir_key) if heir_key else None
        if heir is not None:
            if group.is_announced and not heir.has_started:
                heir.message_uid = group.message_uid
                heir.is_announced = True
            heir.held = [*group.held, *heir.held]
            for name, lane in group.lanes.items():
                known = heir.lanes.get(name)
                if known is None or (lane.newest_ns, lane.newest_key) > (known.newest_ns, known.newest_key):
                    heir.lanes[name] = lane
            self.touch(heir_key, heir)
        if group.parent:
            siblings = self.offspring(group.parent)
            if siblings.tasks.pop(key, None) is not None:
                self.work.put(offspring_key(group.parent), siblings)
                self.touched[group.parent] = None
        self.work.drop(key)
        self.work.drop(offspring_key(key))
        self.touched.pop(key, None)


def _kid(unit: Unit) -> Kid:
    return Kid(role=unit.role, agent_name=unit.agent_name, task_id=unit.task_id, is_via_tool=unit.is_via_tool)


def newest_segment(group: Group) -> Segment | None:
    """Return the segment that started last."""
    if not group.segments:
        return None
    return max(group.segments.items(), key=lambda item: (item[1].start_ns, item[0]))[1]
