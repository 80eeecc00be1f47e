"""Read access to the memory store: the same answers as `reader`, over dictionaries. It keeps no audit rows."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model import queries
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.queries import (
    FACET_FIELDS,
    FACETS_SHOWN,
    WHOLE_TIMELINE,
    ApprovalFilter,
    ApprovalKey,
    Facets,
    FacetValue,
    Page,
    Position,
    Stats,
    StreamedCheckpoint,
    Sums,
    TaskFilter,
    TaskKey,
    TaskQuestion,
    TimelineEntry,
    TimelineFilter,
    TimelineKey,
    is_begun,
)
from spanpost.model.tasks import Task
from spanpost.model.totals import Totals, together, totals
from spanpost.model.waterfalls import Waterfall
from spanpost.semconv import ERROR
from spanpost.store.memory_curves import MemoryCurves
from spanpost.store.memory_deliveries import MemoryOutbox
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_interventions import MemoryInterventions
from spanpost.store.memory_tables import MemoryTables
from spanpost.store.memory_waterfalls import version, waterfall
from spanpost.store.pages import NIL, OLDEST, bounds_of, page_of, stats_of, trace_of, uuid_of
from spanpost.tasks.approvals import trace_of_span
from spanpost.tasks.context_curve import Point


class MemoryReader:
    """The `Reader` of a `MemoryStore`."""

    def __init__(
        self,
        tables: MemoryTables,
        heartbeats: MemoryHeartbeats,
        outbox: MemoryOutbox,
        people: MemoryInterventions,
        curves: MemoryCurves,
    ) -> None:
        self._tables = tables
        self._heartbeats = heartbeats
        self._outbox = outbox
        self._people = people
        self._curves = curves
        self._clock = tables.clock
        self._stream: list[Position] = []
        self._number = 0

    def tell(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Append new checkpoints to the stream."""
        self._number += 1
        self._stream += sorted(Position(self._number, c.at, c.id) for c in checkpoints)

    def forget(self) -> None:
        """Drop checkpoints that the store no longer keeps."""
        self._stream = [one for one in self._stream if self._tables.checkpoints.get(one.id) is not None]

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """Return a page of tasks, newest first."""
        found = [task for task in map(self._heartbeats.shown, self._tables.tasks.values()) if asked.takes(task)]

        def key(task: Task) -> TaskKey:
            return TaskKey.of(task, asked.order_by)

        found.sort(key=lambda task: _order(key(task)), reverse=True)
        if after is not None:
            found = [task for task in found if _order(key(task)) < _order(after)]
        return page_of(found, limit, key)

    async def facets(self, asked: TaskFilter) -> Facets:
        """Return how many tasks a filter matches, and their most frequent values."""
        within = TaskFilter(tenant=asked.tenant, since=asked.since, until=asked.until, shows_all=True)
        newest = sorted(
            (t.started_at for t in self._tables.tasks.values() if within.takes(t) and t.started_at), reverse=True
        )
        floor = newest[queries.FACETED] if len(newest) > queries.FACETED else None
        asked = msgspec.structs.replace(asked, since=floor or asked.since)
        found = [task for task in map(self._heartbeats.shown, self._tables.tasks.values()) if asked.takes(task)]
        costs = [task.cost_usd for task in found if task.cost_usd is not None]
        fields = {
            name: [FacetValue(*one) for one in Counter(getattr(t, column) for t in found).most_common(FACETS_SHOWN)]
            for name, column in FACET_FIELDS.items()
        }
        return Facets(total=len(found), cost_usd=sum(costs, Decimal(0)) if costs else None, fields=fields, since=floor)

    async def task(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, its uid, or its trace id."""
        own = [task for task in self._tables.tasks.values() if task.tenant == tenant]
        named = [task for task in own if ref in (task.task_id, *task.aliases)]
        named.sort(key=lambda task: (task.task_id != ref, -_stamp(task.started_at), task.uid))
        found = named[0] if named else None
        if found is None and (uid := uuid_of(ref)) is not None:
            found = self._tables.task(uid)
            found = found if found is not None and found.tenant == tenant else None
        if found is None and (trace := trace_of(ref)) is not None:
            late = datetime.max.replace(tzinfo=UTC)
            of_trace = [task for task in own if task.trace_id == trace]
            of_trace.sort(key=lambda task: (task.parent_uid is not None, task.started_at or late, task.uid))
            found = of_trace[0] if of_trace else None
        return self._heartbeats.shown(found) if found is not None else None

    async def find(self, key: UUID) -> Task | None:
        """Return a task by its opaque key, or the task it was merged into."""
        task = self._tables.task(key)
        return self._heartbeats.shown(task) if task is not None else None

    async def refer(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, or the topmost living task of a trace."""
        own = [task for task in self._tables.tasks.values() if task.tenant == tenant]
        if named := _named(own, ref):
            return self._heartbeats.shown(named)
        late = datetime.max.replace(tzinfo=UTC)
        living = [task for task in own if task.trace_id.hex() == ref and _is_living(task)]
        living.sort(key=lambda task: (task.parent_uid is not None, task.started_at or late, task.uid))
        found = living[0] if living else _named(own, trace_of_span(ref))
        return self._heartbeats.shown(found) if found is not None else None

    async def shown_in(self, sink: str, ref: Mapping[str, Any]) -> Task | None:
        """Return the root task that a sink shows in a message."""
        uid = self._outbox.shown_in(sink, ref)
        task = self._tables.task(uid) if uid is not None else None
        root = self._tables.task(task.root_uid) if task is not None and task.root_uid is not None else None
        found = root or task
        return self._heartbeats.shown(found) if found is not None else None

    async def curve(self, task_uid: UUID) -> list[Point]:
        """Return how full a task's context was, oldest first."""
        task = self._tables.task(task_uid)
        return self._curves.of(task) if task is not None else []

    async def checkpoints(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """Return checkpoints in order of time."""
        return self._tables.checkpoints_of(task_uid)[:limit]

    async def timeline(
        self,
        task_uid: UUID,
        after: TimelineKey | None,
        limit: int,
        *,
        content: bool,
        asked: TimelineFilter = WHOLE_TIMELINE,
    ) -> Page[TimelineEntry]:
        """Return a page of the events of a task."""
        found = [
            TimelineEntry(
                key=TimelineKey(c.at, 0, c.id),
                kind=str(c.kind),
                text=c.text,
                message=c.message,
                status=c.status,
                detail=c.detail or None,
                span_id=c.span_id,
            )
            for c in self._tables.checkpoints_of(task_uid)
        ]
        found += self._people.happenings(task_uid)
        way = asked.is_newest_first

        def is_next(key: TimelineKey) -> bool:
            place, bounds = (key.at, key.id), bounds_of(after, key.source, is_descending=way)
            return place < bounds if way else place > bounds

        found = [one for one in found if is_next(one.key) and asked.takes(one)]
        return page_of(sorted(found, key=lambda one: one.key, reverse=way), limit, lambda one: one.key)

    async def waterfall(self, task_uid: UUID, since: datetime | None, until: datetime | None) -> Waterfall:
        """Return what a task and those below it did in a window of time."""
        return waterfall(self._tables, self._heartbeats, self._people, task_uid, since, until)

    async def version(self, task_uid: UUID) -> str:
        """Return what differs once anything of a task or of those below it was recorded."""
        return version(self._tables, self._heartbeats, task_uid)

    async def totals(self, uids: Iterable[UUID]) -> dict[UUID, Totals]:
        """Return the figures of tasks together with all tasks below them, of those that have any."""
        asked = set(uids)
        found = totals(self._tables.tasks.values()) if asked else {}
        return {uid: one for uid, one in found.items() if uid in asked}

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        """Return sums over the tasks that began in that time."""
        asked = TaskFilter(tenant=tenant, since=since, until=until)
        found = [task for task in map(self._heartbeats.shown, self._tables.tasks.values()) if asked.takes(task)]

        def by(word: Callable[[Task], str | None]) -> list[Sums]:
            states: dict[str | None, list[Task]] = {}
            for task in found:
                states.setdefault(word(task), []).append(task)
            return [_sums(name, tasks) for name, tasks in states.items()]

        def day(task: Task) -> str:
            assert task.started_at is not None
            return task.started_at.astimezone(UTC).date().isoformat()

        return stats_of(_sums(None, found), by(lambda task: task.agent_name), by(day), by(lambda task: task.status))

    async def approvals(self, asked: ApprovalFilter, after: ApprovalKey | None, limit: int) -> Page[TaskQuestion]:
        """Return a page of questions, newest first."""
        found = []
        for row in self._people.rows.values():
            stored = self._tables.task(row.task_uid)
            task = self._heartbeats.shown(stored) if stored is not None else None
            if (
                row.tenant == asked.tenant
                and (asked.state is None or row.state == asked.state)
                and (asked.agent is None or (task is not None and task.agent_name == asked.agent))
                and (asked.risk is None or row.risk == asked.risk)
                and (asked.task_uid is None or row.task_uid == asked.task_uid)
                and (not asked.begins or is_begun(row.key, row.approval_id, asked.begins))
                and (after is None or (row.requested_at, row.key) < (after.requested_at, after.key))
            ):
                found.append(TaskQuestion(row=row, task=task))
        found.sort(key=lambda one: (one.row.requested_at, one.row.key), reverse=True)
        return page_of(found, limit, lambda one: ApprovalKey(one.row.requested_at, one.row.key))

    async def head(self) -> Position:
        """Return the end of the stream."""
        return Position(self._number + 1, OLDEST, NIL)

    async def streamed(self, after: Position, limit: int, tenant: str | None = None) -> list[StreamedCheckpoint]:
        """Return the checkpoints after a position, in the order of the stream."""
        found: list[StreamedCheckpoint] = []
        for position in self._stream[bisect_right(self._stream, after) :]:
            checkpoint = self._tables.checkpoints.get(position.id)
            task = self._tables.task(checkpoint.task_uid) if checkpoint is not None else None
            if checkpoint is not None and task is not None and (tenant is None or checkpoint.tenant == tenant):
                found.append(
                    StreamedCheckpoint(position=position, checkpoint=checkpoint, task=self._heartbeats.shown(task))
                )
                if len(found) == limit:
                    break
        return found

    async def changed(self, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        """Return nothing: no other process changes this store."""
        return []

    async def now(self) -> datetime:
        """Return the time by the store's clock."""
        return self._clock()

    async def erased_at(self) -> datetime | None:
        """Return None: nothing is erased from memory, which ends with its process."""
        return None

    async def those(self, uids: Iterable[UUID]) -> list[Task]:
        """Return the existing tasks among `uids`."""
        found = [self._tables.task(uid) for uid in uids]
        return [self._heartbeats.shown(task) for task in found if task is not None]

    async def ended(self, since: datetime, until: datetime, latest: timedelta) -> list[Task]:
        """Return the root tasks whose end was first recorded in that time, at most `latest` after it happened."""
        ends = [self._tables.checkpoints.get(id) for id, at in self._tables.ends.items() if since <= at < until]
        uids = {end.task_uid for end in ends if end is not None and end.at >= since - latest}
        return sorted((task for task in await self.those(uids) if task.parent_uid is None), key=lambda task: task.uid)

    async def shown_at(self, sink: str, uids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return where a sink shows the state of these tasks; tasks without a message are left out."""
        return self._outbox.refs(sink, frozenset(uids))


def _named(tasks: Iterable[Task], ref: str) -> Task | None:
    named = [task for task in tasks if ref and ref in (task.task_id, *task.aliases)]
    return max(named, key=lambda task: (task.started_at or OLDEST, task.task_id), default=None)


def _is_living(task: Task) -> bool:
    return task.ended_at is None or task.end_reason == "interrupted"  # the agent of an interrupted task may come back


def _order(key: TaskKey) -> tuple[datetime | float, UUID]:
    return key.rank if key.rank is not None else key.started_at or OLDEST, key.uid


def _stamp(at: datetime | None) -> float:
    return at.timestamp() if at is not None else float("-inf")


def _sums(word: str | None, tasks: Sequence[Task]) -> Sums:
    figures = together(tasks)
    seconds = sorted(
        (t.ended_at - t.started_at).total_seconds()
        for t in tasks
        if t.ended_at is not None and t.started_at is not None
    )
    return Sums(
        word=word,
        tasks=len(tasks),
        input_tokens=figures.usage.input,
        output_tokens=figures.usage.output,
        cost_usd=figures.usage.cost_usd,
        unpriced_calls=figures.unpriced_calls,
        llm_calls=figures.llm_calls,
        tool_calls=sum(task.tool_calls for task in tasks),
        tool_errors=sum(task.tool_errors for task in tasks),
        ended=len(seconds),
        failed=sum(task.status == ERROR for task in tasks),
        seconds_mean=sum(seconds) / len(seconds) if seconds else None,
        seconds_p50=_share(seconds, 0.5),
        seconds_p95=_share(seconds, 0.95),
    )


def _share(ordered: Sequence[float], share: float) -> float | None:
    """Return the percentile `share` (0 to 1), interpolated as SQL's percentile_cont; None without values."""
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
