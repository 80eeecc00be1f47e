"""What a batch tells: each occurrence once, under the task in which it finally lies; and what is concluded from its calls."""

from __future__ import annotations

from uuid import UUID

import msgspec

from spanpost import conventions as c
from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.observations import Observation, Part
from spanpost.domain.readings import Reading
from spanpost.fold import context, tell
from spanpost.fold.batch import Placed, Rules
from spanpost.fold.groups import Groups
from spanpost.fold.ids import uuid_of
from spanpost.fold.kin import Kin
from spanpost.fold.records import Cell, Lane, Seen, Unit, seen_key
from spanpost.fold.work import Key, Shelf

#: Exceptions in doubt kept of one unit, the earliest.
DOUBTFUL_CAP = 16
_ERROR = Kind.ERROR
_ENDED = Part.ENDED


class News:
    """The tellings of one batch."""

    def __init__(self, groups: Groups, rules: Rules) -> None:
        self.groups = groups
        self.rules = rules
        self.seen = Shelf(groups.work, Seen)
        #: (checkpoint, domain, whether it may be of no task at all). Their task is known at the close.
        self.told: list[tuple[Checkpoint, bytes, bool]] = []
        #: Calls to be judged in order of time: (time, key, domain, boundary, observation, reading).
        self.calls: list[tuple[int, bytes, bytes, bytes, Observation, Reading]] = []
        self.retracted: list[UUID] = []
        #: Lane and window of models, as they were asked for.
        self._models: dict[str, tuple[str, int | None]] = {}

    def tell(self, kin: Kin, p: Placed, boundary: bytes, cell: Cell, kind: Kind) -> None:
        """Tell an occurrence, unless an earlier copy of it was told."""
        o, r = p.observation, p.reading
        if p.telling is not None and p.telling[0] is kind:
            _, id, key = p.telling
        else:
            id = tell.occurrence_id(o, r, kind)
            key = seen_key(p.domain, id.bytes, kind)
        seen = self.seen.get(key)
        copy = p.content_hash + o.trace_id + o.span_id  # two spans may say the very same of one approval
        if seen is not None and (seen.at_ns, seen.key) <= (o.at_ns, copy):
            return
        self.seen.put(key, Seen(o.at_ns, copy))
        if kind is _ERROR and seen is None:
            if o.name == c.EVENT_EXCEPTION and o.part is not _ENDED and len(cell.errors) < 16:
                cell.errors = (*cell.errors, id.bytes)
                kin.cells.put(o.span_id, cell)
            self._count_error(kin, boundary, 1)
        unit = kin.units.get(boundary)
        assert unit is not None
        uid = self._uid(unit)
        is_doubtful = o.name == c.EVENT_EXCEPTION and not r.task_id
        self.told.append((tell.told(o, r, kind, id, uid, boundary), kin.domain, is_doubtful))

    def _count_error(self, kin: Kin, boundary: bytes, by: int) -> None:
        unit = kin.units.get(boundary)
        group = self.groups.group(unit.group) if unit is not None else None
        if unit is not None and group is not None:
            unit.errors += by
            kin.units.put(boundary, unit)
            group.errors += by
            self.groups.touch(unit.group, group)

    def take_back(self, kin: Kin, cell: Cell, span_id: bytes) -> None:
        """An exception was told on a span that turned out to be a call, a step or a box: its own end tells that."""
        for id in cell.errors:
            uid = uuid_of(id)
            self.retracted.append(uid)
            self.told = [n for n in self.told if n[0].id != uid]
            unit = kin.units.get(kin.boundary(span_id))
            if unit is not None:
                unit.doubtful = [d for d in unit.doubtful if d.id != uid]
            self._count_error(kin, kin.boundary(span_id), -1)
        cell.errors = ()
        kin.cells.put(span_id, cell)

    def resolved(self) -> list[tuple[Checkpoint, Key]]:
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
                kin = self.groups.kin(domain)
                unit = kin.units.get(unit_to)
                if unit is not None and unit.doubtful and unit.group == group_key:
                    for checkpoint in unit.doubtful:
                        keep(_with(checkpoint, self._uid(unit), unit_to), group_key)
                    unit.doubtful = []
                    kin.units.put(unit_to, unit)
        for checkpoint, domain, is_doubtful in self.told:
            kin = self.groups.kin(domain)
            boundary = kin.boundary(checkpoint.unit)
            unit = kin.units.get(boundary)
            group = self.groups.group(unit.group) if unit is not None else None
            if unit is None or group is None:
                continue
            checkpoint = _with(checkpoint, self._uid(unit), boundary)
            if is_doubtful and not group.has_box:
                known = [c for c in unit.doubtful if c.id != checkpoint.id]
                unit.doubtful = sorted([*known, checkpoint], key=lambda c: (c.at, c.id))[:DOUBTFUL_CAP]
                kin.units.put(boundary, unit)
            else:
                keep(checkpoint, unit.group)
        return list(told.values())

    def judged(self) -> list[tuple[Checkpoint, Key]]:
        """Judge this batch's calls, in order of time."""
        news: list[tuple[Checkpoint, Key]] = []
        for at, key, domain, boundary, o, r in sorted(self.calls, key=lambda call: call[:3]):
            kin = self.groups.kin(domain)
            boundary = kin.boundary(boundary)
            unit = kin.units.get(boundary)
            group = self.groups.group(unit.group) if unit is not None else None
            if unit is None or group is None:
                continue
            given = group.facts.value("context_window")
            if r.context_used is not None:
                used, name = r.context_used, "agent"
                window = r.context_window or given or context.window_of(r.model or group.facts.value("model"), self.rules.windows)
            elif r.usage is not None and r.usage.input is not None and group.facts.value("context_used") is None:
                used, (name, size) = r.usage.input, self._model(r.model or "")
                window = r.context_window or given or size
            else:
                continue
            lane = group.lanes.get(name)
            if lane is None:
                if len(group.lanes) >= 16:
                    continue
                lane = group.lanes[name] = Lane()
            for judged in context.judge(lane, at, key, used, window, r.conversation_id or "", self.rules.warn_at):
                if not judged.threshold and group.facts.value("compacted"):
                    continue  # who tells its compactions is believed
                checkpoint = tell.context_news(judged, group, name, o, boundary)
                # A task that was part of another for a while has forgotten its lanes, not what was told of it.
                told = seen_key(unit.group[:16], checkpoint.id.bytes, checkpoint.kind)
                if self.seen.get(told) is None:
                    self.seen.put(told, Seen(at, key))
                    news.append((checkpoint, unit.group))
            self.groups.touch(unit.group, group)
        return news

    def _model(self, model: str) -> tuple[str, int | None]:
        known = self._models.get(model)
        if known is None:
            known = context.canonical_model(model or "model"), context.window_of(model, self.rules.windows)
            self._models[model] = known
        return known

    def _uid(self, unit: Unit) -> UUID:
        group = self.groups.group(unit.group)
        return uuid_of(group.uid) if group is not None else UUID(int=0)


def _with(checkpoint: Checkpoint, uid: UUID, unit: bytes) -> Checkpoint:
    if checkpoint.task_uid == uid and checkpoint.unit == unit:
        return checkpoint
    return msgspec.structs.replace(checkpoint, task_uid=uid, unit=unit)
