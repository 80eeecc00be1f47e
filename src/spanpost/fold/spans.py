"""Spans as they become known: which copy counts, where it hangs, which of the holders of a response id counts.

A span is told in several copies (its start, a later look, its end, repeats with other content). The greatest by (state, end
time, number of attributes, hash) stands; a greater copy takes the place of a smaller, and what the smaller one passed up is
taken back. All of it is carried out in the kin of the span's domain.
"""

from __future__ import annotations

from spanpost.domain.observations import Observation, Part, Status
from spanpost.domain.readings import Reading, Role
from spanpost.fold.batch import Placed
from spanpost.fold.flow import NOTHING, of_call
from spanpost.fold.groups import Groups
from spanpost.fold.kin import SAME_CALL, Kin, borrowed, claim, hands, passes, total, winners
from spanpost.fold.records import ENDED, Cell, Claimant, Copy, Slot, Unit, cell_key, domain_of
from spanpost.fold.wording import TEXT_CAP
from spanpost.fold.work import Key, Shelf

_LLM, _TOOL = Role.LLM, Role.TOOL
_STARTED = Part.STARTED

#: Characters kept of a model's name.
MODEL_CAP = 200
#: A span's copies are ranked by this: end time, number of attributes, hash.
Rank = tuple[int, int, bytes]


class Spans:
    """The spans of one batch."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.slots = Shelf(groups.work, Slot)

    def adopt(self, kin: Kin, p: Placed, cell: Cell | None, state: int, rank: Rank) -> Cell:
        """Make this copy of the span the one that counts."""
        o, r = p.observation, p.reading
        span_id, role = o.span_id, r.role
        parent = o.parent_id if o.parent_id != span_id else b""
        is_cut = bool(parent) and self._link(kin, span_id, parent, cell, is_box=role.is_box)
        is_new = cell is None
        old, before, was_boundary, former, was_box = NOTHING, None, False, (b"", False), False
        if cell is None:
            cell = Cell()
        else:  # only now: a cut may have changed it
            was_boundary, was_box = cell.is_boundary, cell.is_box
            former = (cell.parent, cell.role is _TOOL)
            old = passes(cell)
            before = total(cell) if was_boundary else None
            if parent and cell.parent and parent != cell.parent and not cell.is_cut:
                kin.push(cell.parent, NOTHING.minus(old))
                old = NOTHING
        cell.parent = parent or cell.parent
        cell.is_cut = cell.is_cut or is_cut
        cell.state, cell.rank, cell.role = state, rank, role
        if o.links:
            cell.link = link_of(o)
        cell.tool_name = (SAME_CALL if r.is_same_call else r.tool_name or "") if role is _TOOL else ""
        cell.failed = r.failure is not None and not r.is_interrupt
        cell.own = of_call(r.usage) if role is _LLM else None
        cell.model = (r.model or "")[:MODEL_CAP] if role is _LLM else ""
        if (r.is_metered or r.is_same_call) and cell.own is not None:
            cell.own = (0, *cell.own[1:])  # how many calls it was, nobody knows; or another span counts the call
        cell.lent = 0
        cell.closed = _closed(p) if state == ENDED and not cell.parent and not cell.is_box else None
        contests = self._claim_slot(p, cell, kin.domain) if cell.slot or (p.slot and (role is _LLM or r.call_key)) else ()
        is_boundary = cell.is_boundary
        is_elsewhere = bool(former[0]) and former[0] != cell.parent
        if is_elsewhere or (not is_new and not was_boundary and (is_boundary or former[1] != (role is _TOOL))):
            kin.turned()
        if not (is_new or was_boundary or is_boundary) and former[1] != (role is _TOOL):
            self.groups.adopt_kids(kin, kin.boundary(span_id))  # a tool call lies above them now, or none does
        if is_new and not is_boundary:
            kin.cells.put(span_id, cell)
            change = hands(cell)
            if not change.is_nothing:
                kin.push(cell.parent, change)
        else:
            kin.recast(span_id, cell, old, before)
        for contest in contests:
            self._crown(contest)
        if not is_new or is_boundary:  # nothing can be known below a span that nobody named
            self._settle_boundary(kin, p, cell, span_id, is_new, was_boundary)
        if not is_new and was_box != cell.is_box:
            self._cut_anew(kin, span_id)
        return cell

    def edge(self, kin: Kin, span_id: bytes, parent: bytes, rank: Rank, link: bytes) -> None:
        """Keep of an ended span that is not an agent's and that nobody named where it hangs: all that `adopt` would do."""
        if kin.cells.get(parent) is None:
            kin.cells.put(parent, Cell())
        kin.cells.put(span_id, Cell(parent=parent, state=ENDED, rank=rank, link=link))

    def _link(self, kin: Kin, span_id: bytes, parent: bytes, cell: Cell | None, *, is_box: bool) -> bool:
        """Make room for the parent; where it would close a circle, cut that. Return whether this very edge is cut."""
        if kin.cells.get(parent) is None:
            kin.cells.put(parent, Cell())
            return False
        if cell is None or cell.parent == parent:  # no parent leads back to a span that nobody named
            return False
        cut = kin.circle(span_id, parent, is_box=is_box)
        if not cut or cut == span_id:
            return bool(cut)
        self._set_cut(kin, cut, is_cut=True)
        return False

    def _cut_anew(self, kin: Kin, span_id: bytes) -> None:
        """Have a circle be cut where it is now to be: first the one, then not the other, so that it is never whole."""
        was_cut, cut = kin.cut_anew(span_id)
        if cut:
            self._set_cut(kin, cut, is_cut=True)
            self._set_cut(kin, was_cut, is_cut=False)

    def _set_cut(self, kin: Kin, span_id: bytes, *, is_cut: bool) -> None:
        cell = kin.cells.get(span_id)
        if cell is None or cell.is_cut == is_cut:
            return
        old, before = passes(cell), total(cell) if cell.is_boundary else None
        if is_cut:
            kin.push(cell.parent, NOTHING.minus(old))
        cell.is_cut = is_cut
        kin.turned()
        kin.recast(span_id, cell, NOTHING, before)
        unit = kin.units.get(span_id)
        if unit is not None and not cell.is_boundary:
            self.groups.dissolve(kin, span_id, unit)
        elif unit is not None:
            self.groups.update(kin, span_id, unit)

    def _settle_boundary(self, kin: Kin, p: Placed, cell: Cell, span_id: bytes, is_new: bool, was_boundary: bool) -> None:
        o, r = p.observation, p.reading
        unit = kin.units.get(span_id)
        if cell.is_boundary:
            if unit is None and not cell.is_box and not kin.kids(span_id).units:
                return  # nothing to own yet
            is_first = unit is None
            unit = unit if unit is not None else Unit(trace_id=o.trace_id, tenant=o.tenant)
            if cell.is_box:
                _identify(unit, o, r, (cell.state, cell.rank))
            unit.is_live = unit.is_live or (o.part is _STARTED and cell.is_box)
            kin.units.put(span_id, unit)
            self.groups.update(kin, span_id, unit)
            if is_first and not is_new and not was_boundary:  # nothing lies below a span that nobody has named yet
                up = unit.up
                if up:
                    self.groups.adopt_kids(kin, up)
        elif unit is not None:
            self.groups.dissolve(kin, span_id, unit)
        elif kin.kids(span_id).units:
            unit = self.groups.need_unit(kin, span_id, o.trace_id, o.tenant)
            self.groups.dissolve(kin, span_id, unit)

    def identify(self, kin: Kin, p: Placed, copy: Copy) -> None:
        """Take in what a smaller copy of a box says of itself and the greater ones do not."""
        span_id = p.observation.span_id
        unit = kin.units.get(span_id)
        if unit is not None and _identify(unit, p.observation, p.reading, copy):
            kin.units.put(span_id, unit)
            self.groups.update(kin, span_id, unit)

    def _claim_slot(self, p: Placed, cell: Cell, domain: bytes) -> list[Key]:
        """Enter the race for the response id, of whose copies one counts; return the races whose outcome may have changed."""
        o, r = p.observation, p.reading
        own = cell_key(domain, o.span_id)
        key = p.slot if r.role is _LLM or r.call_key else b""
        contests = []
        if cell.slot and cell.slot != key:
            claim(self.slots, cell.slot, own, None)
            contests.append(cell.slot)
        cell.slot, cell.wins = key, True
        if key:
            # A span knows its place, a record that stands for one only what it was told in.
            place = -1 if r.stands_for is not None else 1 if cell.parent else 0
            ranks = (place, 1 if r.usage is not None and r.usage.is_known else 0, own)
            cost = cell.own[12] if cell.own is not None and cell.own[11] else -1
            out = claim(self.slots, key, own, Claimant(o.start_ns or o.at_ns, o.end_ns or o.at_ns, ranks, cost))
            if out == own:
                return contests
            if out:
                self._let_go(key, out)
            slot = self.slots.get(key)
            cell.wins = slot is None or own in winners(slot)
            contests.append(key)
        return contests

    def _let_go(self, key: Key, holder: Key) -> None:
        """Have a holder of a response id for which there is no room any more count by itself."""
        kin, span_id = self.groups.kin(holder[:16]), holder[17:]
        cell = kin.cells.get(span_id)
        if cell is not None and cell.slot == key:
            self._judge(kin, span_id, cell, wins=True, lent=0)

    def _crown(self, key: Key) -> None:
        """Have the holders of a response id count, or not."""
        slot = self.slots.get(key)
        if slot is None:
            return
        won = winners(slot)
        for holder in sorted(slot.claimants):
            kin, span_id = self.groups.kin(holder[:16]), holder[17:]
            cell = kin.cells.get(span_id)
            lent = borrowed(slot, holder) if holder in won else 0
            if cell is None or cell.slot != key:
                continue
            if cell.wins and holder not in won:
                self.groups.outdone += [(holder, winner) for winner in won if winner != holder][:1]
            self._judge(kin, span_id, cell, wins=holder in won, lent=lent)

    @staticmethod
    def _judge(kin: Kin, span_id: bytes, cell: Cell, *, wins: bool, lent: int) -> None:
        """Have a holder of a response id count, or not, at the cost that another telling of the call knew."""
        if (cell.wins, cell.lent) == (wins, lent):
            return
        old, before = passes(cell), total(cell) if cell.is_boundary else None
        cell.wins = wins
        if cell.lent != lent and cell.own is not None:
            cell.own = (*cell.own[:11], 1 if lent else 0, lent)
            cell.lent = lent
        kin.recast(span_id, cell, old, before)


def _identify(unit: Unit, o: Observation, r: Reading, copy: Copy) -> bool:
    """Take in what one copy of a box says of itself; return whether that changed the unit.

    Of each word the greatest copy that says it stands, and the earliest start: the same for any order of the copies.
    """
    before = (unit.agent_name, unit.task_id, unit.start_ns)
    if r.agent_name and copy > unit.named_by:
        unit.agent_name, unit.named_by = r.agent_name, copy
    if r.task_id and copy > unit.identified_by:
        unit.task_id, unit.identified_by = r.task_id, copy
    if o.start_ns and (not unit.start_ns or o.start_ns < unit.start_ns):
        unit.start_ns = o.start_ns
    return before != (unit.agent_name, unit.task_id, unit.start_ns)


def link_of(o: Observation) -> bytes:
    """Return the domain of the trace to which a span links; empty where it links to several, as the consumer of a batch does."""
    traces = {trace_id for trace_id, _ in o.links} - {o.trace_id}
    return domain_of(o.tenant, traces.pop()) if len(traces) == 1 else b""


def _closed(p: Placed) -> tuple[int, bytes, str, str, str]:
    """Return how a span ended, for the ending of what lies below it."""
    o, failure = p.observation, p.reading.failure
    outcome = "error" if o.status is Status.ERROR else "ok" if o.status is Status.OK else "unset"
    kind, message = (failure.type, failure.message) if failure is not None else ("", o.status_message)
    return o.at_ns, p.content_hash, outcome, kind[:200], message[:TEXT_CAP]
