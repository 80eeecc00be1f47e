"""One transaction's work: take observations in, one by one, and close with what they came to.

The rooms of the fold in their order: `spans` and `kin` (which copy counts, where it hangs, what it passes up), `groups`
(where it is shown), `absorb` (what it teaches), `news` (what it tells), `rebuild` and `closing` (what the batch came to).

What an observation teaches goes to the unit of its boundary alone; tasks take it in when the batch closes. Nothing between
reads a task's facts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from spanpost.domain.observations import Part
from spanpost.domain.readings import Reading, Role, Tells
from spanpost.domain.records import NO_TASK
from spanpost.fold.absorb import absorb, keep
from spanpost.fold.batch import Folded, Move, Placed, Rules
from spanpost.fold.closing import Closing
from spanpost.fold.facts import Facts
from spanpost.fold.groups import Groups
from spanpost.fold.handover import hand_over, heir_of
from spanpost.fold.ids import uuid_of
from spanpost.fold.joining import Joining
from spanpost.fold.kin import Kin
from spanpost.fold.lanes import Lanes
from spanpost.fold.news import News
from spanpost.fold.read import NOTHING as SILENCE
from spanpost.fold.rebuild import gather, rebuild
from spanpost.fold.records import ENDED, PLACEHOLDER, STARTED, Cell, domain_of
from spanpost.fold.spans import Spans, link_of
from spanpost.fold.tell import telling
from spanpost.fold.work import Key, Work

#: Bound once: an enum's members are looked up slowly.
_OTHER, _PLUMBING, _LLM = Role.OTHER, Role.PLUMBING, Role.LLM
_STEP, _TOOL = Role.STEP, Role.TOOL
_PART_ENDED = Part.ENDED
_NOTHING = Tells.NOTHING

#: Rounds of joining: a run that is shown elsewhere may make others go on elsewhere, too.
ROUNDS = 16


def go_on() -> None:
    """Take all the time it takes."""


class House:
    """The fold at work on one batch."""

    def __init__(self, work: Work, rules: Rules, now: datetime, tick: Callable[[], None] = go_on) -> None:
        self.out = Folded()
        self.tick = tick
        #: Attributes that routes and budgets ask for.
        self.kept = rules.attributes
        self.groups = Groups(work, tick)
        self.spans = Spans(self.groups)
        self.news = News(self.groups)
        self.lanes = Lanes(self.groups, rules, self.news.seen)
        self.joining = Joining(self.groups)
        self.closing = Closing(self.groups, rules, now, self.out, self.news.seen)
        #: Of tasks that lost their last unit, what they were called.
        self._uids: dict[Key, bytes] = {}

    def span(self, position: int, p: Placed) -> None:
        """Take in a span: started, looked at again, or ended."""
        o, r = p.observation, p.reading
        span_id = o.span_id
        if not span_id:
            return
        kin = self.groups.kin(p.domain)
        cell = kin.cells.get(span_id)
        state, end_ns = (ENDED, o.end_ns) if o.part is _PART_ENDED else (STARTED, o.at_ns)
        rank = (end_ns, len(o.attributes) + o.unread, p.content_hash)
        if r is SILENCE and cell is None and state == ENDED and o.parent_id and o.parent_id != span_id:
            self.spans.edge(kin, span_id, o.parent_id, rank, link_of(o) if o.links else b"")
            return
        is_first_end = state == ENDED and (cell is None or cell.state != ENDED)
        if cell is None or (state, rank) > (cell.state, cell.rank):
            learned = self.groups.take_unended(kin, cell, span_id)
            cell = self.spans.adopt(kin, p, cell, state, rank)
            if learned is not None:
                self.groups.put_unended(kin, cell, o, learned)
            if cell.errors and cell.role is not _OTHER:
                self.news.take_back(kin, cell, span_id)
        elif cell.is_box and r.role.is_box:
            self.spans.identify(kin, p, (state, rank))
        role = cell.role
        if o.links and r.role is _PLUMBING:
            for trace_id, _ in o.links[:16]:
                if trace_id != o.trace_id:
                    self.groups.links.append((p.domain, domain_of(o.tenant, trace_id)))
        if not r.is_of_agent:
            return
        # A copy teaches what it says itself: what the cell knows by now depends on the order of arrival.
        is_ending = 4 <= r.role <= 6 or o.parent_id in (b"", span_id)
        boundary = self._record(position, kin, p, cell, r.role, is_ending=is_ending)
        if (
            is_first_end
            and _STEP <= role <= _TOOL
            and not (r.is_metered or r.is_same_call)
            and (role is not _LLM or self._is_outermost(kin, cell))
        ):
            self.out.ended_spans.append(position)
        usage = r.usage
        if state == ENDED and role is _LLM and usage is not None and usage.input is not None and self._counts_first(cell, r):
            if self._is_outermost(kin, cell):
                self.lanes.calls.append((o.at_ns, p.content_hash, p.domain, boundary, o, r, p.talk))
        elif r.context_used is not None:
            self.lanes.calls.append((o.at_ns, p.content_hash, p.domain, boundary, o, r, p.talk))

    @staticmethod
    def _is_outermost(kin: Kin, cell: Cell) -> bool:
        """Tell whether a model call counts, as far as is known: no copy of it does, and none lies around it."""
        above = kin.cells.get(cell.parent) if cell.parent else None
        return cell.wins and (above is None or above.role is not _LLM)

    def _counts_first(self, cell: Cell, r: Reading) -> bool:
        """Tell whether this is the first telling of a model call that is known to count."""
        if not cell.wins or r.is_metered or r.is_aside:
            return False
        slot = self.spans.slots.get(cell.slot) if r.call_key else None
        return slot is None or len(slot.claimants) == 1

    def event(self, position: int, p: Placed) -> None:
        """Take in something that happened on a span."""
        o, r = p.observation, p.reading
        span_id = o.span_id
        if r.open_roots:
            return  # a heartbeat is of a process, not of a task
        kin = self.groups.kin(p.domain)
        cell = kin.cells.get(span_id) if span_id else None
        if cell is None or cell.role is _OTHER or cell.role is _PLUMBING:
            is_known = cell is not None and cell.state == PLACEHOLDER
            if not r.is_of_agent and r.tells is _NOTHING and not is_known and not r.is_interrupt:
                return
        if not span_id and not r.task_id:
            self.out.lost[NO_TASK] = self.out.lost.get(NO_TASK, 0) + 1
            return
        if cell is None:
            cell = Cell()
            kin.cells.put(span_id, cell)
        boundary = self._record(position, kin, p, cell, cell.role, is_ending=False)
        if r.context_used is not None:
            self.lanes.calls.append((o.at_ns, p.content_hash, p.domain, boundary, o, r, p.talk))

    def _record(self, position: int, kin: Kin, p: Placed, cell: Cell, role: Role, *, is_ending: bool) -> bytes:
        """Enter what the observation teaches and tells under its boundary, and return that."""
        o, r = p.observation, p.reading
        boundary = o.span_id if cell.is_boundary else kin.boundary(cell.parent)
        unit = kin.units.get(boundary)
        if unit is None:
            unit = self.groups.need_unit(kin, boundary, o.trace_id, o.tenant)
        if r.task_id is not None and not unit.is_box:
            self.groups.hint(kin, boundary, unit, r.task_id)
        facts = unit.facts
        if cell.state == STARTED and boundary != o.span_id:
            facts = unit.unended.setdefault(o.span_id, Facts())
        absorb(facts, o, r, p.content_hash, role=role, is_ending=is_ending)
        if self.kept:
            keep(facts, o, self.kept, p.content_hash, is_box=r.role.is_box)
        kin.recorded.setdefault(boundary, []).append(position)
        if r.tells is not _NOTHING or r.failure is not None:
            kind = telling(o, r, role)
            if kind is not None:
                self.news.tell(kin, p, boundary, cell, kind)
        return boundary

    def settled(self, key: Key) -> None:
        """The settling time of a task is over: announce it if there is something to announce, count what it used."""
        self.closing.settled(key)

    def close(self) -> Folded:
        """Judge and tell what the batch came to."""
        groups, out = self.groups, self.out
        groups.settle()
        for _ in range(ROUNDS):
            gather(groups)
            self._uids |= {key: g.uid for key in groups.gone if (g := groups.group(key)) is not None}
            rebuild(groups)
            self.joining.examine()
            if not self.joining.join():
                break
        groups.touch_all_below()
        for key, uid in self._uids.items():
            if groups.group(key) is None:
                heir = heir_of(groups, key)[1]
                out.gone.append((uuid_of(uid), uuid_of(heir.uid) if heir is not None else None))
        for domain, trace_id, unit_from, unit_to, group_key in groups.moves:
            # A task that was met only on the way is gone by now: what was recorded goes where the move went on to.
            group = groups.group(group_key) or groups.group_of(domain, unit_to)
            if group is not None:
                out.moves.append(Move(trace_id, unit_from, unit_to, uuid_of(group.uid)))
        news = self.news.resolved() + self.lanes.judged()
        overtaken = self.lanes.overtaken()
        news = [item for item in news if item[0].id not in overtaken]
        out.retracted = [*self.news.retracted, *groups.retracted_ids(), *overtaken]
        hand_over(groups, out)
        self.closing.judge(news)
        for kin in list(groups.kins.values()):
            for met, positions in kin.recorded.items():
                boundary = kin.boundary(met)
                unit = kin.units.get(boundary)
                group = groups.group(unit.group) if unit is not None else None
                place = (uuid_of(group.uid) if group is not None else None, boundary)
                for position in positions:
                    out.recorded[position] = place
        self.keep()
        return out

    def keep(self) -> None:
        """Hand all records that changed to the work."""
        for shelf in (self.groups, self.joining, self.spans.slots, self.news.seen, self.lanes.talks):
            shelf.flush()
