"""The life of units and tasks: made, placed, moved, handed over.

Where a unit is shown is asked of `placing`; here it is carried out. A task that loses a unit is marked stale and built anew
when the batch closes (`rebuild`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from spanpost.domain.observations import Observation
from spanpost.domain.readings import METERED
from spanpost.fold.facts import Ending, Facts
from spanpost.fold.family import Family
from spanpost.fold.figures import told_more
from spanpost.fold.flow import ZERO, Count, Flow, Models, count_plus, minus, models_minus, models_plus, plus
from spanpost.fold.ids import box_uid, end_id, explicit_uid, message_of, start_id
from spanpost.fold.kin import Kin, total
from spanpost.fold.placing import hint_of, is_of_one_agent, place, place_of, says
from spanpost.fold.records import STARTED, Cell, Group, Kid, Unit, given_key, unit_key
from spanpost.fold.segments import enter_segment
from spanpost.fold.work import Key, Work


class Groups(Family):
    """The tasks touched in one transaction, and the units shown in them."""

    def __init__(self, work: Work, tick: Callable[[], None]) -> None:
        super().__init__(work, tick)
        #: Boundaries below which others are to be placed anew, and those whose kids may hang elsewhere by now: once for a batch.
        self._unsettled: dict[tuple[bytes, bytes], None] = {}
        self._orphaning: dict[tuple[bytes, bytes], None] = {}
        #: Tasks to be built anew from their units.
        self.stale: set[Key] = set()
        #: (domain, trace id, unit from, unit to, group key)
        self.moves: list[tuple[bytes, bytes, bytes, bytes, Key]] = []
        #: Tasks that lost their last unit, and where it went.
        self.gone: dict[Key, Key] = {}
        #: Tasks that lost a unit, and where the last one went; of those that are no more, what they were.
        self.went: dict[Key, Key] = {}
        self.dropped: dict[Key, Group] = {}
        #: Tellings of a model call that do not count any more, and the one that does instead, by cell.
        self.outdone: list[tuple[Key, Key]] = []
        self._where_outdone: dict[Key, Key] | None = None
        #: Segments that are no longer their task's: their start and end are taken back.
        self.retracted: set[Key] = set()
        #: Tasks that had members before their first box.
        self.boxed: set[Key] = set()
        #: Roots of segments that changed, for `joining`; traces that links tie together; runs that are no more.
        self.runs: set[Key] = set()
        self.links: list[tuple[bytes, bytes]] = []
        #: What was counted of one task and is now another's: uid of both, tenant, figures by model.
        self.moved_use: list[tuple[bytes, bytes, str, Models]] = []
        self.withdrawn: dict[Key, list[Key]] = {}

    def retracted_ids(self) -> list[UUID]:
        """Return the ids of what was told of segments that are no more."""
        return [id for root in sorted(self.retracted) for id in (start_id(root), end_id(root))]

    def where_outdone(self) -> dict[Key, Key]:
        """Return for tasks whose telling of a call does not count any more the task of the one that does. For the close: computed once."""
        if self._where_outdone is None:
            self._where_outdone = {}
            for loser, winner in self.outdone:
                key, to = self.key_of(loser), self.key_of(winner)
                if to != key:
                    self._where_outdone.setdefault(key, to)
        return self._where_outdone

    # --- units ------------------------------------------------------------------------------------------------------

    def need_unit(self, kin: Kin, span_id: bytes, trace_id: bytes, tenant: str) -> Unit:
        """Return the unit of a boundary, made and placed if it was not there, with those above it that are not either."""
        unit = kin.units.get(span_id)
        if unit is not None:
            return unit
        made = []
        while unit is None:
            new = self._new_unit(kin, span_id, trace_id, tenant)
            kin.units.put(span_id, new)
            made.append((span_id, new))
            span_id = new.up
            if not span_id:  # none is known above; what is in no span has no id itself
                break
            unit = kin.units.get(span_id)
        for span_id, new in reversed(made):
            if new.up:
                kin.add_kid(new.up, span_id, _kid(kin, span_id, new))
            self.regroup(kin, span_id)
        return made[0][1]

    @staticmethod
    def _new_unit(kin: Kin, span_id: bytes, trace_id: bytes, tenant: str) -> Unit:
        cell = kin.cells.get(span_id)
        unit = Unit(trace_id=trace_id, tenant=tenant)
        if cell is not None:
            unit.role = cell.role
            unit.up, unit.is_via_tool = kin.above(cell)
            unit.is_top = cell.state != 0 and not cell.parent
            if cell.closed is not None:
                unit.facts.ending.merge(Ending(closed=cell.closed))
        return unit

    def update(self, kin: Kin, span_id: bytes, unit: Unit) -> None:
        """Place a boundary anew after it, or its place, changed."""
        cell = kin.cells.get(span_id)
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
        kin.units.put(span_id, unit)
        if up:
            self.need_unit(kin, up, unit.trace_id, unit.tenant)
            kin.add_kid(up, span_id, _kid(kin, span_id, unit))
        if old_up and old_up != up:
            self._recount(kin, old_up)
        if up:
            self._recount(kin, up)
        self.regroup(kin, span_id)
        shape = (int(unit.role), unit.agent_name, unit.task_id, up, via_tool)
        if unit.shape != shape:
            unit.shape = shape
            kin.units.put(span_id, unit)
            self._unsettled[kin.domain, span_id] = None
        kin.learned[span_id] = None

    def dissolve(self, kin: Kin, span_id: bytes, unit: Unit) -> None:
        """Hand over what a boundary owned, because it turned out to be no box: to the boundary above it."""
        cell = kin.cells.get(span_id)
        assert cell is not None
        up, _ = kin.above(cell)
        heir = self.need_unit(kin, up, unit.trace_id, unit.tenant)
        heir.facts.merge(unit.facts)
        for below, facts in unit.unended.items():
            heir.unended.setdefault(below, Facts()).merge(facts)
        heir.errors += unit.errors
        heir.doubtful = [*heir.doubtful, *unit.doubtful]
        kin.units.put(up, heir)
        if unit.hint:
            self.hint(kin, up, heir, unit.hint)
        kin.learned[up] = None
        if unit.up:
            kin.drop_kid(unit.up, span_id)
        kids = kin.kids(span_id)
        moved = list(kids.units)
        kin.drop_kids(span_id)
        self._leave(kin, span_id, unit, heir.group)
        if heir.group != unit.group:
            self._move_counted(kin, span_id, unit.group, heir.group)
        kin.units.drop(span_id)
        if unit.meetings:
            self.withdrawn[unit_key(kin.domain, span_id)] = list(unit.meetings)
        self.moves.append((kin.domain, unit.trace_id, span_id, up, heir.group))
        heir_group = self.group(heir.group)
        if heir_group is not None and heir.group != unit.group:
            heir_group.errors += unit.errors
            enter_segment(heir_group, heir, unit_key(kin.domain, up), up)
            self.touch(heir.group, heir_group)
        for kid in moved:
            child = kin.units.get(kid)
            if child is not None:
                child_cell = kin.cells.get(kid)
                assert child_cell is not None
                child.up, child.is_via_tool = kin.above(child_cell)
                kin.units.put(kid, child)
                kin.add_kid(child.up, kid, _kid(kin, kid, child))
        self._recount(kin, up)
        for kid in moved:
            self.regroup(kin, kid)

    def hint(self, kin: Kin, span_id: bytes, unit: Unit, task_id: str) -> None:
        """Show a boundary below no box in the task that something in it names; of several the first by name."""
        if unit.is_box or (unit.hint and unit.hint <= task_id):
            return
        unit.hint = task_id
        kin.units.put(span_id, unit)
        self.regroup(kin, span_id)

    def adopt_kids(self, kin: Kin, up: bytes) -> None:
        """Have `settle` place the boundaries below `up` anew, after a transparent span below it changed."""
        self._orphaning[kin.domain, up] = None

    def settle(self) -> None:
        """Do once what the batch made necessary, perhaps many times: look who lies below whom, and place what is below."""
        orphaning, self._orphaning = self._orphaning, {}
        for domain, up in orphaning:
            kin = self.kin(domain)
            kids = list(kin.kids(up).units)
            self._want_units(kin, kids)
            for kid in kids:
                self.tick()
                child, cell = kin.units.get(kid), kin.cells.get(kid)
                if child is not None and cell is not None and kin.above(cell) != (up, child.is_via_tool):
                    self.update(kin, kid, child)
        unsettled, self._unsettled = self._unsettled, {}
        for domain, span_id in unsettled:
            self._regroup_below(self.kin(domain), span_id)

    # --- spans that have not ended ----------------------------------------------------------------------------

    def take_unended(self, kin: Kin, cell: Cell | None, span_id: bytes) -> tuple[bytes, Facts] | None:
        """Take the facts of a span that has not ended out of its boundary; return the boundary and the facts."""
        if cell is None or cell.state != STARTED or cell.is_boundary:
            return None
        boundary = kin.boundary(cell.parent)
        unit = kin.units.get(boundary)
        facts = unit.unended.pop(span_id, None) if unit is not None else None
        if unit is None or facts is None:
            return None
        kin.units.put(boundary, unit)
        return boundary, facts

    def put_unended(self, kin: Kin, cell: Cell, o: Observation, taken: tuple[bytes, Facts]) -> None:
        """Give these facts to the boundary above the span now; have the task that lost them built anew."""
        former, facts = taken
        boundary = o.span_id if cell.is_boundary else kin.boundary(cell.parent)
        unit = self.need_unit(kin, boundary, o.trace_id, o.tenant)
        if cell.state == STARTED and boundary != o.span_id:
            unit.unended[o.span_id] = facts
        else:
            unit.facts.merge(facts)
        kin.units.put(boundary, unit)
        kin.learned[boundary] = None
        lost = kin.units.get(former)
        if boundary != former and lost is not None and lost.group:
            self.stale.add(lost.group)

    # --- grouping -----------------------------------------------------------------------------------------------------

    def regroup(self, kin: Kin, span_id: bytes) -> None:
        """Show a unit, and what depends on it, where it now belongs."""
        waiting = [span_id]
        while waiting:
            self.tick()
            span_id = waiting.pop()
            unit = kin.units.get(span_id)
            if unit is not None and self._put_in_place(kin, span_id, unit):
                kids = list(kin.kids(span_id).units)
                self._want_units(kin, kids)
                waiting.extend(kids)

    def _want_units(self, kin: Kin, span_ids: Sequence[bytes]) -> None:
        """Say that units, and the tasks that show them, will be asked for."""
        if span_ids:
            kin.want(span_ids)
            self.want([unit.group for span_id in span_ids if (unit := kin.units.get(span_id)) is not None])

    def _put_in_place(self, kin: Kin, span_id: bytes, unit: Unit) -> bool:
        """Show one unit where it belongs; return whether that has changed, so that what is below must be asked too."""
        known, now = place_of(unit), place(kin, span_id, unit)
        group, root = now.group, now.root
        if root[16:17] == b"u":
            self.runs.add(root)
        if unit.meetings:
            self.runs.add(unit_key(kin.domain, span_id))
        if now != known:
            unit.box, unit.is_box_via_tool, unit.within = now[2:]
            kin.units.put(span_id, unit)
        if now[:2] == known[:2]:
            if root == unit_key(kin.domain, span_id):
                self.relate(kin, unit)
            return now != known
        old = unit.group
        if old and old != group:
            self._leave(kin, span_id, unit, group)
            self.moves.append((kin.domain, unit.trace_id, span_id, span_id, group))
        elif old:
            self.stale.add(old)
        unit.group, unit.root = group, root
        if old != group:
            self._join(kin, span_id, unit)
            self._move_counted(kin, span_id, old, group)
        elif root == unit_key(kin.domain, span_id):
            self.relate(kin, unit)  # it was shown there already, as what lies below no known box
        return True

    def _recount(self, kin: Kin, span_id: bytes) -> None:
        """Tell the nearest box who lies below: what is directly below it is placed anew when its being "of one agent" changed."""
        unit = kin.units.get(span_id)
        while unit is not None and not unit.is_box:
            if not unit.up or not kin.add_kid(unit.up, span_id, _kid(kin, span_id, unit)):
                return
            span_id, unit = unit.up, kin.units.get(unit.up)
        if unit is None or unit.agent_name:
            return
        is_of_one = is_of_one_agent(kin, span_id)
        if is_of_one == unit.is_of_many:
            unit.is_of_many = not is_of_one
            kin.units.put(span_id, unit)
            self._unsettled[kin.domain, span_id] = None

    def _regroup_below(self, kin: Kin, span_id: bytes) -> None:
        """Regroup the boxes directly below a boundary, and what is no box on the way to them."""
        waiting = [span_id]
        for at in waiting:
            kids = list(kin.kids(at).units.items())
            self._want_units(kin, [kid_id for kid_id, _ in kids])
            for kid_id, kid in kids:
                self.regroup(kin, kid_id)
                if not kid.is_box:
                    waiting.append(kid_id)

    def _join(self, kin: Kin, span_id: bytes, unit: Unit) -> None:
        key = unit.group
        group = self.group(key)
        if group is None:
            group = self._new(kin, span_id, unit)
        members = self.members(key)
        member = unit_key(kin.domain, span_id)
        if member not in members.units:
            members.units[member] = None
            self.put_members(key, members)
        self.gone.pop(key, None)
        if unit.is_box and not group.has_box:
            group.has_box = True
            if len(members.units) > 1:
                self.boxed.add(key)
        kin.learned[span_id] = None
        group.errors += unit.errors
        cell = kin.cells.get(span_id)
        if cell is not None:
            kin.former.pop(span_id, None)
            add_figures(group, span_id, *total(cell))
        enter_segment(group, unit, unit_key(kin.domain, span_id), span_id)
        self.touch(key, group)
        if unit.root == unit_key(kin.domain, span_id):
            self.relate(kin, unit)

    def _new(self, kin: Kin, span_id: bytes, unit: Unit) -> Group:
        task_id = unit.task_id if unit.is_box else hint_of(kin, unit)
        if task_id and unit.group[:16] != kin.domain:
            uid = explicit_uid(unit.tenant, task_id)
        else:
            uid = box_uid(unit.tenant, unit.trace_id, unit.group[17:])
        group = Group(uid=uid, tenant=unit.tenant, trace_id=unit.trace_id, span_id=unit.group[17:])
        given = self.given.get(given_key(unit.group))
        group.message_uid = message_of(uid, given.at_ns if given is not None else 0)
        group.task_id = task_id
        return group

    def _leave(self, kin: Kin, span_id: bytes, unit: Unit, heir: Key) -> None:
        key = unit.group
        if not key:
            return
        members = self.members(key)
        members.units.pop(unit_key(kin.domain, span_id), None)
        kin.former.pop(span_id, None)
        self.put_members(key, members)
        if not members.units:
            self.gone[key] = heir
        if heir != key:  # what is dissolved may stay in its task
            self.went[key] = heir
        self.stale.add(key)

    def _move_counted(self, kin: Kin, span_id: bytes, old: Key, new: Key) -> None:
        """What was added to counters of a unit's figures stays counted in the task it moves to."""
        before, after, cell = self.group(old) if old else None, self.group(new), kin.cells.get(span_id)
        if before is None or before.counted == ZERO or after is None or cell is None:
            return
        if span_id == METERED and before.flow != ZERO:
            return
        _, _, models = total(cell)
        known = before.counted_models
        moved = told_more(before.counted, ZERO, {m: tuple(map(min, f, known.get(m, ZERO))) for m, f in models.items()})  # type: ignore[misc]
        share: Flow = tuple(map(sum, zip(*moved.values(), strict=True))) if moved else ZERO  # type: ignore[assignment]
        before.counted_models = models_minus(known, moved)
        after.counted_models = models_plus(after.counted_models, moved)
        self.moved_use.append((before.uid, after.uid, before.tenant, moved))
        before.told, after.told = minus(before.told, share), plus(after.told, share)
        before.counted, after.counted = minus(before.counted, share), plus(after.counted, share)
        self.groups.put(old, before)
        self.groups.put(new, after)


def pass_on_counted(groups: Groups, key: Key, heir_key: Key, heir: Group | None) -> None:
    """What was counted of a task that is no more stays counted in the task that took over what it lost last."""
    former = groups.group(key)
    if former is None or former.counted == ZERO:
        return
    if heir is not None:
        heir.told, heir.counted = plus(heir.told, former.told), plus(heir.counted, former.counted)
        heir.counted_models = models_plus(heir.counted_models, former.counted_models)
        groups.touch(heir_key, heir)
    groups.moved_use.append((former.uid, heir.uid if heir is not None else b"", former.tenant, former.counted_models))


def add_figures(group: Group, span_id: bytes, flow: Flow, tools: Count, models: Models) -> None:
    """Add a boundary's figures, or what they changed by, to its task; those of data points are kept apart."""
    if span_id == METERED:
        group.metered = plus(group.metered, flow)
        group.metered_models = models_plus(group.metered_models, models)
    else:
        group.flow = plus(group.flow, flow)
        group.models = models_plus(group.models, models)
        group.tools = count_plus(group.tools, tools)


def _kid(kin: Kin, span_id: bytes, unit: Unit) -> Kid:
    return Kid(unit.role, unit.agent_name, unit.task_id, unit.is_via_tool, says(kin, span_id, unit))
