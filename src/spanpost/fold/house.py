"""One transaction's work: take observations in, one by one, and close with what they came to."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from spanpost import conventions as c
from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.observations import Observation, Part, Status
from spanpost.domain.readings import Reading, Role, Tells
from spanpost.domain.records import Settled
from spanpost.domain.tasks import Task
from spanpost.fold import context, tell
from spanpost.fold.absorb import absorb
from spanpost.fold.batch import Folded, Placed, Rules, Timer
from spanpost.fold.facts import TEXT_CAP
from spanpost.fold.flow import ZERO, as_usage, minus, of_call
from spanpost.fold.groups import Groups, Move, newest_segment
from spanpost.fold.kin import NOTHING, Kin, claim, passes, total, winners
from spanpost.fold.records import (
    ENDED,
    PLACEHOLDER,
    STARTED,
    Cell,
    Claimant,
    Copy,
    Group,
    Lane,
    Seen,
    Segment,
    Slot,
    Unit,
    cell_key,
    offspring_key,
    seen_key,
    slot_key,
)
from spanpost.fold.routes import letters
from spanpost.fold.tasks import EPOCH, Verdict, as_task, judge, moment
from spanpost.fold.work import Key, Work

#: News held back for a task that is not announced yet; older news gives way.
HELD_CAP = 50
#: Exceptions in doubt kept of one unit, the earliest.
DOUBTFUL_CAP = 16


class House:
    """The fold at work on one batch."""

    def __init__(self, work: Work, rules: Rules, now: datetime) -> None:
        self.work = work
        self.rules = rules
        self.now = now
        self.groups = Groups(work)
        self.kins: dict[bytes, Kin] = {}
        self.out = Folded()
        #: Tellings of this batch: (checkpoint, domain, whether it may be of no task at all). Their task is known at the close.
        self.news: list[tuple[Checkpoint, bytes, bool]] = []
        #: Calls to be judged in order of time: (time, key, domain, boundary, observation, reading).
        self.calls: list[tuple[int, bytes, bytes, bytes, Observation, Reading]] = []
        #: Where each recorded observation lies: position -> (domain, boundary).
        self.where: dict[int, tuple[bytes, bytes]] = {}
        self.retracted: list[UUID] = []

    def kin(self, domain: bytes) -> Kin:
        kin = self.kins.get(domain)
        if kin is None:
            kin = self.kins[domain] = Kin(self.work, domain)
        return kin

    # --- spans --------------------------------------------------------------------------------------------------------

    def span(self, position: int, p: Placed) -> None:
        """Take in a span: started, looked at again, or ended."""
        kin, o, r = self.kin(p.domain), p.observation, p.reading
        span_id = o.span_id
        if not span_id:
            return
        cell = kin.cell(span_id)
        state = ENDED if o.part is Part.ENDED else STARTED
        rank = (o.end_ns if state == ENDED else o.at_ns, len(o.attributes), p.content_hash)
        if cell is None or (state, rank) > (cell.state, cell.rank):
            self._adopt(kin, p, cell, state, rank)
        elif cell.is_box and r.role.is_box:
            unit = kin.unit(span_id)
            if unit is not None and _identify(unit, o, r, (state, rank)):
                kin.put_unit(span_id, unit)
                self.groups.update(kin, span_id, unit)
        cell = kin.cell(span_id)
        assert cell is not None
        boundary = kin.boundary(span_id)
        if cell.role in (Role.OTHER, Role.PLUMBING) and not r.is_of_agent:
            return
        self.where[position] = (p.domain, boundary)
        self._absorb(kin, p, boundary, cell)
        self._tell(kin, p, boundary, cell)
        if state == ENDED and cell.role is Role.LLM and r.usage is not None and r.usage.input is not None and cell.wins:
            above = kin.cell(cell.parent) if cell.parent else None
            if above is None or above.role is not Role.LLM:
                self.calls.append((o.at_ns, p.content_hash, p.domain, boundary, o, r))
        elif r.context_used is not None:
            self.calls.append((o.at_ns, p.content_hash, p.domain, boundary, o, r))

    def _adopt(self, kin: Kin, p: Placed, cell: Cell | None, state: int, rank: tuple[int, int, bytes]) -> None:
        """Make this copy of the span the one that counts."""
        o, r = p.observation, p.reading
        span_id = o.span_id
        parent = o.parent_id if o.parent_id != span_id else b""
        is_cut = bool(parent) and self._link(kin, span_id, parent)
        cell = kin.cell(span_id)  # a cut may have changed it
        known = cell is not None
        cell = cell if cell is not None else Cell()
        was_boundary = known and cell.is_boundary
        old = passes(cell) if known else NOTHING
        before = total(cell) if was_boundary else None
        if parent and cell.parent and parent != cell.parent and not cell.is_cut:
            kin.push(cell.parent, NOTHING.minus(old))
            old = NOTHING
        cell.parent = parent or cell.parent
        cell.is_cut = cell.is_cut or is_cut
        cell.state, cell.rank, cell.role = state, rank, r.role
        cell.tool_name = (r.tool_name or "") if r.role is Role.TOOL else ""
        cell.failed = r.failure is not None and not r.is_interrupt
        cell.own = of_call(r.usage) if r.role is Role.LLM else None
        cell.closed = _closed(p) if state == ENDED and not cell.parent and not cell.is_box else None
        contests = self._claim_slot(p, cell, cell_key(kin.domain, span_id))
        kin.recast(span_id, cell, old, before)
        for contest in contests:
            self._crown(contest)
        self._settle_boundary(kin, p, cell, span_id, was_boundary)
        if cell.errors and cell.role is not Role.OTHER:
            self._take_back(kin, cell, span_id)
        self.groups.add_changes(kin)

    def _link(self, kin: Kin, span_id: bytes, parent: bytes) -> bool:
        """Make room for the parent; where it would close a circle, cut that. Return whether this very edge is cut."""
        if kin.cell(parent) is None:
            kin.put_cell(parent, Cell())
            return False
        cut = kin.circle(span_id, parent)
        if not cut:
            return False
        if cut == span_id:
            return True
        other = kin.cell(cut)
        if other is not None and not other.is_cut:
            old, before = passes(other), total(other) if other.is_boundary else None
            kin.push(other.parent, NOTHING.minus(old))
            other.is_cut = True
            kin.recast(cut, other, NOTHING, before)
            unit = kin.unit(cut)
            if unit is not None:
                self.groups.update(kin, cut, unit)
        return False

    def _settle_boundary(self, kin: Kin, p: Placed, cell: Cell, span_id: bytes, was_boundary: bool) -> None:
        o, r = p.observation, p.reading
        unit = kin.unit(span_id)
        if cell.is_boundary:
            if unit is None and not cell.is_box and not kin.kids(span_id).units:
                return  # nothing to own yet
            is_new = unit is None
            unit = unit if unit is not None else Unit(trace_id=o.trace_id, tenant=o.tenant)
            if cell.is_box:
                _identify(unit, o, r, (cell.state, cell.rank))
            unit.is_live = unit.is_live or (o.part is Part.STARTED and cell.is_box)
            kin.put_unit(span_id, unit)
            self.groups.update(kin, span_id, unit)
            if is_new and not was_boundary:
                up = unit.up
                if up:
                    self.groups.adopt_kids(kin, span_id, up)
        elif unit is not None:
            self.groups.dissolve(kin, span_id, unit)
        elif kin.kids(span_id).units:
            unit = self.groups.need_unit(kin, span_id, o.trace_id, o.tenant)
            self.groups.dissolve(kin, span_id, unit)

    def _claim_slot(self, p: Placed, cell: Cell, own: Key) -> list[Key]:
        """Enter the race for the response id, of whose copies one counts; return the races whose outcome may have changed."""
        o, r = p.observation, p.reading
        key = slot_key(o.tenant, r.response_id) if r.response_id and r.role is Role.LLM else b""
        contests = []
        if cell.slot and cell.slot != key:
            claim(self.work, cell.slot, own, None)
            contests.append(cell.slot)
        cell.slot, cell.wins = key, True
        if key:
            ranks = (1 if cell.parent else 0, 1 if r.usage is not None and r.usage.is_known else 0, own)
            claim(self.work, key, own, Claimant(o.start_ns or o.at_ns, o.end_ns or o.at_ns, ranks))
            slot = self.work.get(key, Slot)
            cell.wins = slot is None or own not in slot.claimants or own in winners(slot)
            contests.append(key)
        return contests

    def _crown(self, key: Key) -> None:
        """Have the holders of a response id count, or not."""
        slot = self.work.get(key, Slot)
        if slot is None:
            return
        won = winners(slot)
        for holder in sorted(slot.claimants):
            kin, span_id = self.kin(holder[:16]), holder[17:]
            cell = kin.cell(span_id)
            if cell is None or cell.slot != key or cell.wins == (holder in won):
                continue
            old, before = passes(cell), total(cell) if cell.is_boundary else None
            cell.wins = holder in won
            kin.recast(span_id, cell, old, before)
            self.groups.add_changes(kin)

    # --- events -------------------------------------------------------------------------------------------------------

    def event(self, position: int, p: Placed) -> None:
        """Take in something that happened on a span."""
        kin, o, r = self.kin(p.domain), p.observation, p.reading
        span_id = o.span_id
        if r.open_roots:
            return  # a heartbeat is of a process, not of a task
        cell = kin.cell(span_id) if span_id else None
        if cell is None or cell.role in (Role.OTHER, Role.PLUMBING):
            is_known = cell is not None and cell.state == PLACEHOLDER
            if not r.is_of_agent and r.tells is Tells.NOTHING and not is_known and not r.is_interrupt:
                return
        if not span_id and not r.task_id:
            self.out.lost["no_task"] = self.out.lost.get("no_task", 0) + 1
            return
        if cell is None:
            cell = Cell()
            kin.put_cell(span_id, cell)
        boundary = kin.boundary(span_id)
        self.where[position] = (p.domain, boundary)
        self._absorb(kin, p, boundary, cell)
        self._tell(kin, p, boundary, cell)
        if r.context_used is not None:
            self.calls.append((o.at_ns, p.content_hash, p.domain, boundary, o, r))

    # --- facts and news -----------------------------------------------------------------------------------------------

    def _absorb(self, kin: Kin, p: Placed, boundary: bytes, cell: Cell) -> None:
        o, r = p.observation, p.reading
        unit = self.groups.need_unit(kin, boundary, o.trace_id, o.tenant)
        is_ending = p.is_span and (cell.is_box or not cell.parent)
        absorb(unit.facts, o, r, p.content_hash, role=cell.role, is_ending=is_ending)
        kin.put_unit(boundary, unit)
        group = self.groups.group(unit.group)
        if group is not None:
            absorb(group.facts, o, r, p.content_hash, role=cell.role, is_ending=is_ending)
            self.groups.enter(kin, boundary, unit, group)

    def _tell(self, kin: Kin, p: Placed, boundary: bytes, cell: Cell) -> None:
        o, r = p.observation, p.reading
        kind = tell.telling(o, r, cell.role)
        if kind is None:
            return
        id = tell.occurrence_id(o, r, kind)
        key = seen_key(p.domain, id.bytes, kind)
        seen = self.work.get(key, Seen)
        copy = p.content_hash + o.trace_id + o.span_id  # two spans may say the very same of one approval
        if seen is not None and (seen.at_ns, seen.key) <= (o.at_ns, copy):
            return
        self.work.put(key, Seen(o.at_ns, copy))
        if kind is Kind.ERROR and seen is None:
            if o.name == c.EVENT_EXCEPTION and o.part is not Part.ENDED and len(cell.errors) < 16:
                cell.errors.append(id.bytes)
                kin.put_cell(o.span_id, cell)
            self._count_error(kin, boundary, 1)
        unit = kin.unit(boundary)
        assert unit is not None
        uid = self._uid(unit)
        is_doubtful = o.name == c.EVENT_EXCEPTION and not r.task_id
        self.news.append((tell.told(o, r, kind, id, uid, boundary), kin.domain, is_doubtful))

    def _count_error(self, kin: Kin, boundary: bytes, by: int) -> None:
        unit = kin.unit(boundary)
        group = self.groups.group(unit.group) if unit is not None else None
        if unit is not None and group is not None:
            unit.errors += by
            kin.put_unit(boundary, unit)
            group.errors += by
            self.groups.touch(unit.group, group)

    def _take_back(self, kin: Kin, cell: Cell, span_id: bytes) -> None:
        """An exception was told on a span that turned out to be a call, a step or a box: its own end tells that."""
        for id in cell.errors:
            uid = UUID(bytes=id)
            self.retracted.append(uid)
            self.news = [n for n in self.news if n[0].id != uid]
            unit = kin.unit(kin.boundary(span_id))
            if unit is not None:
                unit.doubtful = [d for d in unit.doubtful if d.id != uid]
            self._count_error(kin, kin.boundary(span_id), -1)
        cell.errors = []
        kin.put_cell(span_id, cell)

    def _group_of(self, domain: bytes, span_id: bytes) -> Group | None:
        """Return the task in which a span is shown now."""
        kin = self.kin(domain)
        unit = kin.unit(kin.boundary(span_id))
        return self.groups.group(unit.group) if unit is not None else None

    def _uid(self, unit: Unit) -> UUID:
        group = self.groups.group(unit.group)
        return UUID(bytes=group.uid) if group is not None else UUID(int=0)

    # --- time -----------------------------------------------------------------------------------------------------------

    def settled(self, key: Key) -> None:
        """The settling time of a task is over: announce it if there is something to announce."""
        group = self.groups.group(key)
        if group is None:
            return
        if group.is_settling and not group.is_announced:
            if group.has_box or group.flow[0] > 1 or group.tools or group.facts.maps or group.facts.value("status"):
                group.is_announced = True
                self.groups.touch_below(key)
            self.groups.touch(key, group)
        elif group.is_counting:
            self._count_usage(group)  # for the counters alone: nothing that anybody is shown has changed
        group.is_settling = group.is_counting = False
        self.work.put(key, group)

    def _count_usage(self, group: Group) -> None:
        """Hand what the figures grew by to the counters."""
        grown = minus(group.flow, group.counted)
        if grown is ZERO:
            return
        group.counted = group.flow
        if min(grown) < 0:
            self.out.corrections += 1
            grown = tuple(max(0, n) for n in grown)  # type: ignore[assignment]
        facts = group.facts
        agent = facts.value("agent_name") or facts.value("agent_label")
        self.out.settled.append(Settled(agent_name=agent, model=facts.value("model"), calls=grown[0], usage=as_usage(grown)))

    def _watch_usage(self, key: Key, group: Group) -> None:
        """Have the figures counted: now when the run has ended, else in a while."""
        if group.is_over:
            self._count_usage(group)
        elif group.flow != group.counted and not (group.is_counting or group.is_settling):
            group.is_counting = True
            self.out.timers.append(Timer(key, self.now + self.rules.usage_settles))

    # --- closing --------------------------------------------------------------------------------------------------------

    def close(self) -> Folded:
        """Judge and tell what the batch came to."""
        groups, out = self.groups, self.out
        uids_before = {key: g.uid for key in groups.gone if (g := groups.group(key)) is not None}
        groups.rebuild(self.kins)
        for key, heir_key in groups.gone.items():
            if groups.group(key) is None and key in uids_before:
                heir = groups.group(heir_key) if heir_key else None
                out.gone.append((UUID(bytes=uids_before[key]), UUID(bytes=heir.uid) if heir is not None else None))
        for domain, trace_id, unit_from, unit_to, group_key_ in groups.moves:
            # A task that was met only on the way is gone by now: what was recorded goes where the move went on to.
            group = groups.group(group_key_) or self._group_of(domain, unit_to)
            if group is not None:
                out.moves.append(Move(trace_id, unit_from, unit_to, UUID(bytes=group.uid)))
        news = self._resolved_news()
        news += self._context()
        for root in sorted(groups.retracted):
            self.retracted.extend(tell.segment_ids(root))
        self._judge(news)
        out.retracted = self.retracted
        for position, (domain, boundary) in self.where.items():
            kin = self.kin(domain)
            boundary = kin.boundary(boundary)
            unit = kin.unit(boundary)
            out.recorded[position] = (self._uid(unit) if unit is not None else None, boundary)
        return out

    def _resolved_news(self) -> list[tuple[Checkpoint, Key]]:
        """Return this batch's tellings with the task in which they finally lie, and those no longer in doubt."""
        told: dict[UUID, tuple[Checkpoint, Key]] = {}

        def keep(checkpoint: Checkpoint, key: Key) -> None:
            known = told.get(checkpoint.id)
            if known is None or checkpoint.at <= known[0].at:  # of one time the later telling was found to rank before
                told[checkpoint.id] = (checkpoint, key)

        for _, _, _, unit_to, group_key in self.groups.moves:
            group = self.groups.group(group_key)
            if group is None or not group.has_box:
                continue
            for domain in {m[0] for m in self.groups.members(group_key).units}:
                kin = self.kin(domain)
                unit = kin.unit(unit_to)
                if unit is not None and unit.doubtful and unit.group == group_key:
                    for checkpoint in unit.doubtful:
                        keep(_with(checkpoint, self._uid(unit), unit_to), group_key)
                    unit.doubtful = []
                    kin.put_unit(unit_to, unit)
        for checkpoint, domain, is_doubtful in self.news:
            kin = self.kin(domain)
            boundary = kin.boundary(checkpoint.unit)
            unit = kin.unit(boundary)
            group = self.groups.group(unit.group) if unit is not None else None
            if unit is None or group is None:
                continue
            checkpoint = _with(checkpoint, self._uid(unit), boundary)
            if is_doubtful and not group.has_box:
                known = [c for c in unit.doubtful if c.id != checkpoint.id]
                unit.doubtful = sorted([*known, checkpoint], key=lambda c: (c.at, c.id))[:DOUBTFUL_CAP]
                kin.put_unit(boundary, unit)
            else:
                keep(checkpoint, unit.group)
        return list(told.values())

    def _context(self) -> list[tuple[Checkpoint, Key]]:
        """Judge this batch's calls, in order of time."""
        news: list[tuple[Checkpoint, Key]] = []
        for at, key, domain, boundary, o, r in sorted(self.calls, key=lambda call: call[:3]):
            kin = self.kin(domain)
            boundary = kin.boundary(boundary)
            unit = kin.unit(boundary)
            group = self.groups.group(unit.group) if unit is not None else None
            if unit is None or group is None:
                continue
            given = group.facts.value("context_window")
            if r.context_used is not None:
                used, name = r.context_used, "agent"
                window = r.context_window or given or context.window_of(r.model or group.facts.value("model"), self.rules.windows)
            elif r.usage is not None and r.usage.input is not None and group.facts.value("context_used") is None:
                used, name = r.usage.input, context.canonical_model(r.model or "model")
                window = r.context_window or given or context.window_of(r.model, self.rules.windows)
            else:
                continue
            lane = group.lanes.get(name)
            if lane is None:
                if len(group.lanes) >= 16:
                    continue
                lane = group.lanes[name] = Lane()
            for judged in context.judge(lane, at, key, used, window, r.conversation_id or "", self.rules.warn_at):
                news.append((tell.context_news(judged, group, name, o, boundary), unit.group))
            self.groups.touch(unit.group, group)
        return news

    def _judge(self, news: list[tuple[Checkpoint, Key]]) -> None:
        """Judge every task that was touched, and those above them; then address the news."""
        groups, out = self.groups, self.out
        verdicts: dict[Key, Verdict] = {}
        waiting = list(groups.touched)
        for key in waiting:  # grows while it is walked: a child's failure touches its parent
            group = groups.group(key)
            if group is None:
                continue
            verdict = verdicts[key] = judge(group, self.rules.windows, self.rules.warn_at)
            if not group.has_started and group.has_box:
                group.has_started = True
                out.started.append(UUID(bytes=group.uid))
            is_final = verdict.is_over and verdict.status in c.FINAL_STATUSES
            if is_final and not group.is_over:
                out.ended.append(UUID(bytes=group.uid))
            group.is_over = is_final
            has_failed = verdict.status == c.ERROR and verdict.is_over
            if has_failed != group.is_failed:
                group.is_failed = has_failed
                if group.parent:
                    siblings = groups.offspring(group.parent)
                    siblings.tasks[key] = has_failed
                    self.work.put(offspring_key(group.parent), siblings)
                    if group.parent not in groups.touched:
                        groups.touched[group.parent] = None
                        waiting.append(group.parent)
            self._announce(key, group, waiting)
            self._watch_usage(key, group)
            self.work.put(key, group)
        for key, verdict in verdicts.items():
            group = groups.group(key)
            if group is not None and self._is_shown(group):
                self._segments(key, group, verdict, news)
        self._address(verdicts, news)

    def _announce(self, key: Key, group: Group, waiting: list[Key]) -> None:
        """Announce at once an explicit task, a live start of a box, a parentless box; give the rest time to settle."""
        if group.is_announced:
            return
        is_sure = bool(group.task_id)
        if group.has_box and not is_sure:
            unit = self.kin(key[:16]).unit(key[17:])
            is_sure = unit is not None and (unit.is_live or unit.is_top)
        if is_sure:
            group.is_announced = True
            known = len(self.groups.touched)
            self.groups.touch_below(key)
            waiting.extend(list(self.groups.touched)[known:])
        elif not group.parent and not group.is_settling and self._is_shown(group):
            group.is_settling = True
            self.out.timers.append(Timer(key, self.now + self.rules.settle))

    @staticmethod
    def _is_shown(group: Group) -> bool:
        """A task without a box is shown when something was done in it that counts."""
        if group.has_box or group.flow[0] > 0 or group.tools or group.facts.maps:
            return True
        return group.facts.value("status") is not None

    def _segments(self, key: Key, group: Group, verdict: Verdict, news: list[tuple[Checkpoint, Key]]) -> None:
        """Tell the start and the end of each segment, and revise what was told when the verdict changed."""
        if not group.has_box and not group.is_announced:
            return
        newest = newest_segment(group)
        name = group.facts.value("name") or group.facts.value("agent_label") or "task"
        uid = UUID(bytes=group.uid)
        for root, segment in group.segments.items():
            start_id, end_id = tell.segment_ids(root)
            span_id = segment.span_id
            started_ns = segment.start_ns or group.facts.first_ns
            if segment.told_start != f"{name}\0{started_ns}":
                segment.told_start = f"{name}\0{started_ns}"
                start = f"Started: {name}"
                news.append((self._news(start_id, group, uid, Kind.START, c.STARTING, start, started_ns, span_id), key))
            own = verdict if segment is newest else _past(segment)
            if own is not None and own.is_over:
                text = tell.end_text(own, name, started_ns)
                said = f"{own.status}\0{text}\0{own.ended_ns}"
                if segment.told_end != said:
                    segment.told_end = said
                    news.append((self._news(end_id, group, uid, Kind.END, own.status, text, own.ended_ns, span_id), key))
            elif segment.told_end:
                segment.told_end = ""
                self.retracted.append(end_id)
        self.work.put(key, group)

    @staticmethod
    def _news(id: UUID, group: Group, uid: UUID, kind: Kind, status: str, text: str, at_ns: int, span_id: bytes) -> Checkpoint:
        return Checkpoint(
            id=id,
            tenant=group.tenant,
            task_uid=uid,
            kind=kind,
            status=status,
            text=text,
            at=moment(at_ns) or EPOCH,
            trace_id=group.trace_id,
            span_id=span_id,
            unit=span_id,
        )

    def _address(self, verdicts: dict[Key, Verdict], news: list[tuple[Checkpoint, Key]]) -> None:
        """Make the rows of the tasks and the letters that carry them."""
        out = self.out
        tasks: dict[Key, Task] = {}

        def row(key: Key) -> Task | None:
            known = tasks.get(key)
            if known is not None:
                return known
            group = self.groups.group(key)
            if group is None:
                return None
            verdict = verdicts.get(key) or judge(group, self.rules.windows, self.rules.warn_at)
            _, root = self.groups.root(key, group)
            parent = self.groups.group(group.parent) if group.parent else None
            offspring = self.groups.offspring(key).tasks
            tasks[key] = as_task(group, verdict, self.rules.windows, parent=parent, root=root, children=offspring)
            return tasks[key]

        roots: dict[Key, Group] = {}
        for key in verdicts:
            group = self.groups.group(key)
            if group is None:
                continue
            if not self._is_shown(group):
                if group.status:
                    group.status = ""
                    self.work.put(key, group)
                    out.gone.append((UUID(bytes=group.uid), None))
                continue
            task = row(key)
            assert task is not None
            if group.status != task.status:
                group.status = task.status
                self.work.put(key, group)
            out.tasks.append(task)
            root_key, root = self.groups.root(key, group)
            roots[root_key] = root
        for checkpoint, key in sorted(news, key=_in_order):
            out.checkpoints.append(checkpoint)
            group = self.groups.group(key)
            if group is None:
                continue
            root_key, root = self.groups.root(key, group)
            if root.is_announced:
                self._letters(row(key), row(root_key), checkpoint)
            else:
                root.held = [*root.held, checkpoint][-HELD_CAP:]
                self.work.put(root_key, root)
        for root_key, root in roots.items():
            if not root.is_announced:
                continue
            if root.held:
                held, root.held = root.held, []
                self.work.put(root_key, root)
                for checkpoint in held:
                    self._letters(row(root_key), row(root_key), checkpoint)
            self._letters(row(root_key), row(root_key), None)

    def _letters(self, task: Task | None, root: Task | None, checkpoint: Checkpoint | None) -> None:
        if task is not None and root is not None:
            self.out.letters.extend(letters(task, checkpoint, self.rules.routes, root=root, now=self.now))


def _in_order(news: tuple[Checkpoint, Key]) -> tuple[datetime, int, UUID]:
    """Sort news by time; of one moment a start comes first and an end last."""
    checkpoint = news[0]
    return checkpoint.at, {Kind.START: 0, Kind.END: 2}.get(checkpoint.kind, 1), checkpoint.id


def _with(checkpoint: Checkpoint, uid: UUID, unit: bytes) -> Checkpoint:
    if checkpoint.task_uid == uid and checkpoint.unit == unit:
        return checkpoint
    return msgspec.structs.replace(checkpoint, task_uid=uid, unit=unit)


def _closed(p: Placed) -> tuple[int, bytes, str, str, str]:
    """Return how a span ended, for the ending of what lies below it."""
    o, failure = p.observation, p.reading.failure
    outcome = "error" if o.status is Status.ERROR else "ok" if o.status is Status.OK else "unset"
    kind, message = (failure.type, failure.message) if failure is not None else ("", o.status_message)
    return o.at_ns, p.content_hash, outcome, kind[:200], message[:TEXT_CAP]


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


def _past(segment: Segment) -> Verdict | None:
    """Return how a segment ended that is not the newest: from its own end alone."""
    ending, inner = segment.ending, segment.inner
    said = max((s for s in (ending.said, inner.said) if s is not None), default=None)
    closed = ending.closed
    if said is not None:
        return Verdict(said[2], "agent.status", "said", False, True, closed[0] if closed is not None else -said[0])
    if closed is None:
        return Verdict(c.ERROR, "process gone", "interrupted", True, True, ending.gone[0]) if ending.gone is not None else None
    outcome = closed[2]
    if outcome == "unset" and inner.closed is not None and inner.closed[2] != "unset":
        outcome = inner.closed[2]
    status = {"error": c.ERROR, "cancelled": c.CANCELLED}.get(outcome, c.COMPLETE)
    failure = (closed[3], closed[4], "") if status == c.ERROR else None
    return Verdict(status, "segment ended", outcome, outcome == "unset", True, closed[0], failure)
