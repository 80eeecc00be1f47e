"""What a batch tells: each occurrence once, under the task in which it finally lies."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec

from spanpost import conventions as c
from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.observations import Part
from spanpost.domain.readings import Approval
from spanpost.fold import tell
from spanpost.fold.approvals import answered_id
from spanpost.fold.batch import Placed
from spanpost.fold.groups import Groups
from spanpost.fold.ids import uuid_of
from spanpost.fold.kin import Kin
from spanpost.fold.records import Cell, Seen, Unit, seen_key
from spanpost.fold.work import Key, Shelf

#: Exceptions in doubt kept of one unit, the earliest.
DOUBTFUL_CAP = 16
_ERROR, _RESOLVED = Kind.ERROR, Kind.APPROVAL_RESOLVED
_OF_QUESTIONS = (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED)
_ENDED, _INTERVENTION = Part.ENDED, Part.INTERVENTION


class News:
    """The tellings of one batch."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.seen = Shelf(groups.work, Seen)
        #: (checkpoint, domain, whether it may be of no task at all). Their task is known at the close.
        self.told: list[tuple[Checkpoint, bytes, bool]] = []
        self.retracted: list[UUID] = []
        #: Of what was told and is taken back: so much had been told by then.
        self._taken_back: dict[UUID, int] = {}

    def tell(self, kin: Kin, p: Placed, boundary: bytes, cell: Cell, kind: Kind) -> None:
        """Tell an occurrence, unless an earlier copy of it was told."""
        o, r = p.observation, p.reading
        if p.telling is not None and p.telling[0] is kind:
            _, id, key = p.telling
        else:
            id = tell.occurrence_id(o, r, kind)
            key = seen_key(p.domain, id.bytes)
        seen = self.seen.get(key)
        copy = p.content_hash + o.trace_id + o.span_id  # two spans may say the very same of one approval
        at_ns = o.at_ns if o.part is not _INTERVENTION else 0
        if kind is _RESOLVED and o.part is _INTERVENTION and r.approval is not None:
            self._replace_told(p, r.approval, Seen(-1, copy))
        if seen is not None and (seen.at_ns, seen.key) <= (at_ns, copy):
            return
        self.seen.put(key, Seen(at_ns, copy))
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

    def _replace_told(self, p: Placed, decided: Approval, seen: Seen) -> None:
        """What a person decided replaces what telemetry told of it, before and from now on."""
        uid = answered_id(p.observation.tenant, decided.id, p.observation.trace_id.hex())
        key = seen_key(p.domain, uid.bytes)
        told = self.seen.get(key)
        if told is not None and told.at_ns >= 0:
            self.retracted.append(uid)
            self.told = [n for n in self.told if n[0].id != uid]
        self.seen.put(key, seen)

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
            self._taken_back[uid] = len(self.told)
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
            # Of one time, and of what people did, the later telling was found to rank before.
            if known is None or checkpoint.kind in _OF_QUESTIONS or checkpoint.at <= known[0].at:
                told[checkpoint.id] = (checkpoint, key)

        for domain, _, _, unit_to, group_key in self.groups.moves:
            group = self.groups.group(group_key)
            kin = self.groups.kin(domain)
            unit = kin.units.get(unit_to)
            if group is not None and group.has_box and unit is not None and unit.doubtful and unit.group == group_key:
                self._keep_all(kin, unit_to, unit, keep)
        for group_key in self.groups.boxed:
            for own in self.groups.members(group_key).units:
                unit = self.groups.unit(own)
                if unit is not None and unit.doubtful and unit.group == group_key:
                    self._keep_all(self.groups.kin(own[:16]), own[17:], unit, keep)
        for number, (checkpoint, domain, is_doubtful) in enumerate(self.told):
            if number < self._taken_back.get(checkpoint.id, 0):
                continue
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

    def _keep_all(self, kin: Kin, unit_id: bytes, unit: Unit, keep: Callable[[Checkpoint, Key], None]) -> None:
        """Tell what was in doubt of a unit that turned out to lie in a task."""
        for checkpoint in unit.doubtful:
            keep(_with(checkpoint, self._uid(unit), unit_id), unit.group)
        unit.doubtful = []
        kin.units.put(unit_id, unit)

    def _uid(self, unit: Unit) -> UUID:
        group = self.groups.group(unit.group)
        return uuid_of(group.uid) if group is not None else UUID(int=0)


def _with(checkpoint: Checkpoint, uid: UUID, unit: bytes) -> Checkpoint:
    if checkpoint.task_uid == uid and checkpoint.unit == unit:
        return checkpoint
    return msgspec.structs.replace(checkpoint, task_uid=uid, unit=unit)
