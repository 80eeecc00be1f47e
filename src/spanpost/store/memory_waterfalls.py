"""Waterfalls in memory: tracks, checkpoints and questions. It keeps no audit rows, so there are no calls."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import msgspec

from spanpost.model.tasks import Task
from spanpost.model.waterfalls import TRACKS, AskedSpan, Tick, Waterfall
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_interventions import MemoryInterventions
from spanpost.store.memory_tables import MemoryTables
from spanpost.store.pages import OLDEST

_LATEST = datetime.max.replace(tzinfo=UTC)


def waterfall(
    tables: MemoryTables,
    heartbeats: MemoryHeartbeats,
    people: MemoryInterventions,
    task_uid: UUID,
    since: datetime | None,
    until: datetime | None,
) -> Waterfall:
    """Return what a task and those below it did in a window of time."""
    first, last = since or OLDEST, until or _LATEST
    tracks = _family(tables, task_uid)
    uids = {task.uid for task in tracks}
    ticks = [
        Tick(task_uid=c.task_uid, at=c.at, kind=str(c.kind), status=c.status, text=c.text)
        for c in tables.checkpoints_of(None)
        if c.task_uid in uids and first <= c.at <= last and not str(c.kind).startswith("approval")
    ]
    asked = [
        AskedSpan(
            task_uid=row.task_uid,
            key=row.key,
            question=row.question,
            asked_at=row.requested_at,
            closed_at=row.decided_at,
            state=str(row.state),
        )
        for row in people.rows.values()
        if row.task_uid in uids and row.requested_at <= last and (row.decided_at or _LATEST) >= first
    ]
    asked.sort(key=lambda one: one.asked_at)
    return Waterfall(tracks=[heartbeats.shown(task) for task in tracks], ticks=ticks, questions=asked)


def version(tables: MemoryTables, heartbeats: MemoryHeartbeats, task_uid: UUID) -> str:
    """Return what differs once anything of a task or of those below it was recorded."""
    return sha256(msgspec.msgpack.encode([heartbeats.shown(task) for task in _family(tables, task_uid)])).hexdigest()


def _family(tables: MemoryTables, task_uid: UUID) -> list[Task]:
    root = tables.task(task_uid)
    found = {root.uid: root} if root is not None else {}
    tenant = root.tenant if root is not None else ""
    while new := [
        t for t in tables.tasks.values() if t.uid not in found and t.parent_uid in found and t.tenant == tenant
    ]:
        found |= {task.uid: task for task in new}
    return sorted(found.values(), key=lambda t: (t.uid != task_uid, t.started_at or _LATEST, t.uid))[:TRACKS]
