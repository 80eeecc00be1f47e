"""Replay of recordings: show their tasks, or record them in a database as if they had been
received.

Replayed checkpoints are posted only on request.
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
from spanpost.runtime.assembly import carriers_of, open_sinks, open_store, routes_of, rules_of
from spanpost.runtime.workspaces import lend, workspaces_of
from spanpost.settings import Settings, load
from spanpost.store.operations import operation
from spanpost.tasks.stall import NO_STALL, without_beats

if TYPE_CHECKING:
    from spanpost.store.postgres import PostgresStore

#: Observations per transaction.
_BATCH = 1000
#: Time limit of deliveries, seconds; the rest waits for `spanpost run`.
_DELIVER = 60.0


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks and checkpoints that a recording would make."""

    tasks: list[Task]
    checkpoints: list[Checkpoint]
    dropped: dict[str, int]
    #: Explanations by task uid, if requested: why it is a task, what was merged into it, and which rules
    #: decided.
    explained: dict[UUID, dict[str, Any]] = {}


class ReplayCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Result of recording a recording in the database."""

    #: New audit rows, known observations, and spans that are not an agent's.
    events: int
    duplicates: int
    ignored: int
    #: Tasks that changed.
    tasks: int
    #: Deliveries made, and whether all deliveries that were due arrived.
    deliveries: int
    is_delivered: bool
    dropped: dict[str, int]


def replay(paths: Iterable[Path], settings: Settings | None = None, *, explain: bool = False) -> ReplayResult:
    """Replay recordings with the memory store.

    All files are read first and sorted by time: the result is then exact, and neither the order of the
    files nor duplicates change it. Raises `ConfigError` for a file that is not telemetry.
    """
    from spanpost.model.queries import TaskQuery
    from spanpost.store.memory import MemoryStore

    settings = settings if settings is not None else load()
    observations, dropped = _read(paths)
    # The recording is old: no task in it counts as stalled.
    rules = msgspec.structs.replace(rules_of(settings), routes=Routes(), stall_rules=NO_STALL, launches=Launches())
    store = MemoryStore(rules, remember=len(observations) + 1, keep=None)
    for start in range(0, len(observations), _BATCH):
        recorded = store.record_now(observations[start : start + _BATCH])
        for reason, count in recorded.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    for days in (1, 2, 3):  # a due item may schedule another check
        store.elapse_now(datetime.now(UTC) + timedelta(days=days))
    tasks = store.tasks_now(TaskQuery(limit=10**9))
    tasks.sort(key=lambda t: (t.started_at or datetime.min.replace(tzinfo=UTC), t.task_id))
    explained: dict[UUID, dict[str, Any]] = {}
    if explain:
        from spanpost.tasks.explain import Explaining

        explaining = Explaining(store.work, store.state_keys(), observations, rules.tasks)
        explained = {task.uid: explaining.explain(task) for task in tasks}
    return ReplayResult(
        tasks=tasks, checkpoints=store.checkpoints_now(limit=10**9), dropped=dropped, explained=explained
    )


def replay_into(paths: Iterable[Path], settings: Settings, *, deliver: bool) -> ReplayCounts:
    """Record recordings in the settings' database; with `deliver`, also post their checkpoints by the
    settings' routes and sinks.

    Without it, no delivery is made, by other processes on that database neither. Checkpoints older than
    `notifications.max_age` are not posted in any case. Raises `ConfigError` for a file that is not
    telemetry, before anything is recorded.
    """
    observations, dropped = _read(paths, tenant=settings.intake.tenant)
    # Heartbeats belong to processes that ended long ago: recorded, they would be missed.
    observations, _ = map(list, without_beats(observations))
    names = ", ".join(path.name for path in paths)
    return asyncio.run(_record(observations, dropped, settings, deliver=deliver, names=names))


def _read(paths: Iterable[Path], *, tenant: str = "default") -> tuple[list[Observation], dict[str, int]]:
    """Return all observations of recordings in order of time, and counts of what was dropped, by reason."""
    from spanpost.receivers.recordings import read_recording

    observations: list[Observation] = []
    dropped: dict[str, int] = {}
    for path in paths:
        for decoded in read_recording(path, tenant=tenant):
            observations += decoded.observations
            for reason, count in decoded.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
    observations.sort(key=lambda o: (o.at_ns, o.trace_id, o.span_id, o.part, o.index))
    return observations, dropped


async def _record(
    observations: list[Observation], dropped: dict[str, int], settings: Settings, *, deliver: bool, names: str
) -> ReplayCounts:
    from spanpost.store.postgres import PostgresStore
    from spanpost.store.timers import NEVER

    wait = timedelta(0) if deliver else NEVER
    # Fold due items here and now: another process would post them by its own routes.
    rules = msgspec.structs.replace(
        rules_of(settings), stall_rules=NO_STALL, announce_delay=wait, usage_delay=wait, launches=Launches()
    )
    if not deliver:
        rules = msgspec.structs.replace(rules, routes=Routes())
    store = open_store(settings, rules)
    if not isinstance(store, PostgresStore):
        raise ConfigError("replay --into: no database is set; set DATABASE_URL, or give --database-url")
    await store.open()
    try:
        total = Recorded()
        async with operation(store.acts.note_operation, "replay", names) as outcome:
            for start in range(0, len(observations), _BATCH):
                total = total.plus(await store.record(observations[start : start + _BATCH]))
            total = total.plus(await store.elapse() if deliver else await store.elapse_never())
            is_delivered = await _deliver(store, settings) if deliver else False
            outcome.said = f"{total.events} rows of {len(total.tasks)} tasks"
    finally:
        await store.close()
    for reason, count in total.dropped.items():
        dropped[reason] = dropped.get(reason, 0) + count
    return ReplayCounts(
        events=total.events,
        duplicates=total.duplicates,
        ignored=total.ignored,
        tasks=len(total.tasks),
        deliveries=total.deliveries,
        is_delivered=is_delivered,
        dropped=dropped,
    )


async def _deliver(store: PostgresStore, settings: Settings) -> bool:
    from spanpost.dispatch.dispatcher import Dispatcher, Pace

    sinks = open_sinks(settings)
    lend(sinks.values(), workspaces_of(settings, store))
    table = routes_of(settings).routes
    carriers = carriers_of(settings, sinks, {}, lambda: table)
    pace = Pace.of_timeout(settings.notifications.delivery_timeout)
    dispatcher = Dispatcher(store.outbox, store, carriers, pace=pace)
    try:
        return await dispatcher.drain(_DELIVER)
    finally:
        await dispatcher.close(5.0)
        for sink in sinks.values():
            await sink.close()
