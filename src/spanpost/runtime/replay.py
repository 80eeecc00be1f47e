"""Recordings led through the house: to see what would be made of them, or into a database, as if they had come in.

What is led into a database is told to nobody unless that is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.errors import ConfigError
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.routing.launch_orders import Launches
from spanpost.routing.routes import Routes
from spanpost.runtime.assembly import open_sinks, open_store, rules_of
from spanpost.runtime.workspaces import lend, workspaces_of
from spanpost.settings import Settings, load
from spanpost.tasks.stall import NO_STALL, without_beats

if TYPE_CHECKING:
    from spanpost.store.postgres import PostgresStore

#: Observations of one transaction.
_BATCH = 1000
#: What delivering may take, seconds; what is left then waits for `spanpost run`.
_DELIVER = 60.0


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the house would have made of a recording."""

    tasks: list[Task]
    checkpoints: list[Checkpoint]
    lost: dict[str, int]
    #: By a task's uid: why it is one, what was merged into it, and which rules decided; where that was asked for.
    explained: dict[UUID, dict[str, Any]] = {}


class ReplayCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording came to in the database."""

    #: Audit rows that were new, observations that were known, and spans that are not an agent's.
    events: int
    repeats: int
    ignored: int
    #: Tasks that changed.
    tasks: int
    #: Deliveries made, and whether all deliveries that were due arrived.
    deliveries: int
    is_delivered: bool
    lost: dict[str, int]


def replay(paths: Iterable[Path], settings: Settings | None = None, *, explain: bool = False) -> ReplayResult:
    """Lead recordings through the same rooms with the memory store.

    All files are read first and sorted by the time of what happened: what is judged is then exact, and neither the order of
    the files nor repeats make a difference. Raises `ConfigError` for a file that cannot be read as telemetry.
    """
    from spanpost.store.memory import MemoryStore
    from spanpost.store.protocols import TaskQuery

    settings = settings if settings is not None else load()
    observations, lost = _read(paths)
    # What is replayed was long ago: nobody is silent in it.
    rules = msgspec.structs.replace(rules_of(settings), routes=Routes(), stall_rules=NO_STALL, launches=Launches())
    store = MemoryStore(rules, remember=len(observations) + 1, keep=None)
    for start in range(0, len(observations), _BATCH):
        recorded = store.record_now(observations[start : start + _BATCH])
        for reason, count in recorded.lost.items():
            lost[reason] = lost.get(reason, 0) + count
    for days in (1, 2, 3):  # what is found to be due may have something looked at once more
        store.elapse_now(datetime.now(UTC) + timedelta(days=days))
    tasks = store.tasks_now(TaskQuery(limit=10**9))
    tasks.sort(key=lambda t: (t.started_at or datetime.min.replace(tzinfo=UTC), t.task_id))
    explained: dict[UUID, dict[str, Any]] = {}
    if explain:
        from spanpost.tasks.explain import Explaining

        explaining = Explaining(store.work, store.state_keys(), observations)
        explained = {task.uid: explaining.explain(task) for task in tasks}
    return ReplayResult(tasks=tasks, checkpoints=store.checkpoints_now(limit=10**9), lost=lost, explained=explained)


def replay_into(paths: Iterable[Path], settings: Settings, *, deliver: bool) -> ReplayCounts:
    """Record recordings in the settings' database; `deliver`: and post their news by the settings' routes and sinks.

    Without, no delivery is made, by other processes on that database neither. News older than `notifications.max_age` is no news here either.
    Raises `ConfigError` for a file that cannot be read as telemetry, before anything is recorded.
    """
    observations, lost = _read(paths, tenant=settings.intake.tenant)
    # Heartbeats are of processes that ended long ago: they would be missed.
    observations, _ = map(list, without_beats(observations))
    return asyncio.run(_record(observations, lost, settings, deliver=deliver))


def _read(paths: Iterable[Path], *, tenant: str = "default") -> tuple[list[Observation], dict[str, int]]:
    """Return all that recordings hold in order of time, and what was lost of it."""
    from spanpost.receivers.recordings import read_recording

    observations: list[Observation] = []
    lost: dict[str, int] = {}
    for path in paths:
        for decoded in read_recording(path, tenant=tenant):
            observations += decoded.observations
            for reason, count in decoded.lost.items():
                lost[reason] = lost.get(reason, 0) + count
    observations.sort(key=lambda o: (o.at_ns, o.trace_id, o.span_id, o.part, o.index))
    return observations, lost


async def _record(
    observations: list[Observation], lost: dict[str, int], settings: Settings, *, deliver: bool
) -> ReplayCounts:
    from spanpost.store.postgres import PostgresStore
    from spanpost.store.timers import NEVER

    wait = timedelta(0) if deliver else NEVER
    # What falls due is folded here and now: who else waits for it would tell of it by routes of his own.
    rules = msgspec.structs.replace(
        rules_of(settings), stall_rules=NO_STALL, settle=wait, usage_settles=wait, launches=Launches()
    )
    if not deliver:
        rules = msgspec.structs.replace(rules, routes=Routes())
    store = open_store(settings, rules)
    if not isinstance(store, PostgresStore):
        raise ConfigError("replay --into: no database is set; set DATABASE_URL, or give --database-url")
    await store.open()
    try:
        total = Recorded()
        for start in range(0, len(observations), _BATCH):
            total = total.plus(await store.record(observations[start : start + _BATCH]))
        total = total.plus(await store.elapse() if deliver else await store.elapse_never())
        is_delivered = await _deliver(store, settings) if deliver else False
    finally:
        await store.close()
    for reason, count in total.lost.items():
        lost[reason] = lost.get(reason, 0) + count
    return ReplayCounts(
        events=total.events,
        repeats=total.repeats,
        ignored=total.ignored,
        tasks=len(total.tasks),
        deliveries=total.deliveries,
        is_delivered=is_delivered,
        lost=lost,
    )


async def _deliver(store: PostgresStore, settings: Settings) -> bool:
    from spanpost.dispatch.dispatcher import Dispatcher

    sinks = open_sinks(settings)
    lend(sinks.values(), workspaces_of(settings, store))
    dispatcher = Dispatcher(store, sinks)
    try:
        return await dispatcher.drain(_DELIVER)
    finally:
        await dispatcher.close(5.0)
        for sink in sinks.values():
            await sink.close()
