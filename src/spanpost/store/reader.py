"""Queries for people and the API in PostgreSQL: pages by key, timelines, sums, the stream of checkpoints.

The stream. Transactions commit in another order than they begin, so a cursor over a number given at the
insert would skip rows that are committed later. Each checkpoint has the id of its transaction (`xid`), and
only rows below the oldest open transaction are read: no row can be inserted before them any more. The price:
any long writing transaction on that server delays the stream. Within a transaction the order is by
`first_at`, which never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.queries import (
    ApprovalFilter,
    ApprovalKey,
    Page,
    Position,
    Stats,
    StreamedCheckpoint,
    Sums,
    TaskFilter,
    TaskKey,
    TaskQuestion,
    TimelineEntry,
    TimelineKey,
)
from spanpost.model.tasks import Task
from spanpost.store import context_curves, intervention_rows
from spanpost.store.beginnings import beginning
from spanpost.store.erasing import tombstones
from spanpost.store.heartbeats import shown
from spanpost.store.pages import NIL, OLDEST, ROLES, bounds_of, page_of, stats_of, trace_of, uuid_of
from spanpost.store.rows import CHECKPOINT_COLUMNS, checkpoint_of, message_of
from spanpost.store.stat_rows import STATS, sums_of
from spanpost.store.transactions import Transact
from spanpost.tasks.context_curve import Point

_START: Final = "coalesce(t.started_at, '-infinity'::timestamptz)"
_ANY_ID = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t
WHERE t.tenant = $1 AND (t.task_id = $2 OR t.aliases @> to_jsonb($2::text))
ORDER BY t.task_id = $2 DESC, t.started_at DESC NULLS LAST, t.uid LIMIT 1"""
_OF_TRACE = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE t.tenant = $1 AND t.trace_id = $2
ORDER BY t.parent_uid IS NULL DESC, t.started_at NULLS LAST, t.uid LIMIT 1"""
_CHECKPOINTS = """
SELECT c.id, c.at, c.kind, c.text, c.message, c.status, c.detail, c.span_id FROM agent_checkpoints c
WHERE c.task_uid = $1 AND (c.at, c.id) > ($2, $3) ORDER BY c.at, c.id LIMIT $4"""
_EVENTS = """
SELECT e.event_id AS id, e.occurred_at AS at, e.role, e.name, e.status, e.status_message, e.span_id,
  (e.end_ns - e.start_ns) / 1e9 AS seconds,
  CASE WHEN $5 THEN e.attributes::text END AS content
FROM agent_events e
WHERE e.task_uid = $1 AND e.part = 0 AND e.role = ANY($6::smallint[])
  AND e.occurred_at >= $2 AND (e.occurred_at, e.event_id) > ($2, $3)
ORDER BY e.occurred_at, e.event_id LIMIT $4"""
_ACTS = """
SELECT i.id, i.recorded_at AS at, i.verb, i.comment, i.actor, i.result, i.refusal, i.decision, i.question
FROM human_interventions i
WHERE i.task_uid = $1 AND i.idempotency_key IS NOT NULL AND (i.recorded_at, i.id) > ($2, $3)
ORDER BY i.recorded_at, i.id LIMIT $4"""
_HEAD = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
_STREAM = f"""
SELECT c.xid::text, c.first_at, {", ".join(f"c.{name}" for name in CHECKPOINT_COLUMNS.split(", "))},
  t.doc, spanpost_phase(t) AS phase
FROM agent_checkpoints c JOIN agent_tasks t ON t.uid = c.task_uid
WHERE c.xid >= $1::text::xid8 AND c.xid < pg_snapshot_xmin(pg_current_snapshot())
  AND (c.xid > $1::text::xid8 OR (c.first_at, c.id) > ($2, $3)) AND ($4::text IS NULL OR c.tenant = $4)
ORDER BY c.xid, c.first_at, c.id LIMIT $5"""
#: In a database that was restored from another server, transaction ids are those of the other server.
_FOREIGN = "UPDATE agent_checkpoints SET xid = NULL WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())"
_CHANGED = """
SELECT t.uid, t.updated_at FROM agent_tasks t
WHERE (t.ended_at IS NULL OR t.end_reason = 'interrupted') AND t.updated_at > $1 ORDER BY t.updated_at LIMIT $2"""
_SHOWN_AT = """
SELECT DISTINCT ON (d.task_uid) d.task_uid, (d.receipt -> 'ref')::text AS ref FROM deliveries d
WHERE d.sink = $1 AND d.task_uid = ANY($2::uuid[]) AND d.mode = 'state' AND d.receipt ? 'ref'
ORDER BY d.task_uid, d.id DESC"""
#: The range over `at`, which has an index, bounds the scan; `recorded_at` selects.
_ENDED = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE t.parent_uid IS NULL AND t.uid IN (
  SELECT c.task_uid FROM agent_checkpoints c WHERE c.at >= $1::timestamptz - $3::interval AND c.kind = 'end'
    AND c.recorded_at >= $1 AND c.recorded_at < $2)
ORDER BY t.uid"""
_OF_UIDS = "SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE t.uid = ANY($1::uuid[])"


class PostgresReader:
    """The `Reader` of a `PostgresStore`."""

    def __init__(self, run: Transact) -> None:
        self._run = run

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """Return a page of tasks, newest first."""
        where, values = _conditions(asked)
        if after is not None:
            values.append(after.uid)
            key = f"${len(values)}"
            start = "'-infinity'::timestamptz"  # Python's datetime has no such value
            if after.started_at is not None:
                values.append(after.started_at)
                start = f"${len(values)}::timestamptz"
            where.append(f"({_START}, t.uid) < ({start}, {key})")
        values.append(limit + 1)
        query = (
            f"SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE {' AND '.join(where) or 'true'}"
            f" ORDER BY {_START} DESC, t.uid DESC LIMIT ${len(values)}"
        )
        found = [shown(*row) for row in await self._run(lambda c: c.fetch(query, *values))]
        return page_of(found, limit, lambda task: TaskKey(task.started_at, task.uid))

    async def task(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, its uid, or its trace's id."""

        async def read(connection: Any) -> Task | None:
            row = await connection.fetchrow(_ANY_ID, tenant, ref)
            if row is None and (uid := uuid_of(ref)) is not None:
                found = await intervention_rows.task(connection, uid)
                if found is not None and found.tenant == tenant:
                    return found
            if row is None and (trace := trace_of(ref)) is not None:
                row = await connection.fetchrow(_OF_TRACE, tenant, trace)
            return shown(*row) if row is not None else None

        found: Task | None = await self._run(read)
        return found

    async def find(self, key: UUID) -> Task | None:
        """Return a task by its opaque key, or the task that it was merged into."""
        return await self._run(lambda c: intervention_rows.task(c, key))

    async def refer(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, or by a trace id the topmost living task of the trace."""
        return await self._run(lambda c: intervention_rows.referred(c, tenant, ref))

    async def shown_in(self, sink: str, ref: Mapping[str, Any]) -> Task | None:
        """Return the root task that a sink shows in a message."""
        return await self._run(lambda c: intervention_rows.shown_in(c, sink, ref))

    async def curve(self, task_uid: UUID) -> list[Point]:
        """Return how full a task's context window was, oldest first; only its newest calls."""
        return await self._run(lambda c: context_curves.read(c, task_uid))

    async def checkpoints(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """Return checkpoints in order of time."""
        found = await self._run(
            lambda c: c.fetch(
                f"SELECT {CHECKPOINT_COLUMNS} FROM agent_checkpoints"
                " WHERE ($1::uuid IS NULL OR task_uid = $1) ORDER BY at, id LIMIT $2",
                task_uid,
                limit,
            )
        )
        return [checkpoint_of(row) for row in found]

    async def timeline(
        self, task_uid: UUID, after: TimelineKey | None, limit: int, *, content: bool
    ) -> Page[TimelineEntry]:
        """Return a page of a task's timeline, oldest first; span attributes only with `content`."""

        async def read(connection: Any) -> list[TimelineEntry]:
            found: list[TimelineEntry] = []
            for row in await connection.fetch(_CHECKPOINTS, task_uid, *bounds_of(after, 0), limit + 1):
                key = TimelineKey(row["at"], 0, row["id"])
                found.append(
                    TimelineEntry(
                        key=key,
                        kind=row["kind"],
                        text=row["text"],
                        message=message_of(row["message"]),
                        status=row["status"],
                        detail=row["detail"] or None,
                        span_id=row["span_id"],
                    )
                )
            events: dict[UUID, TimelineEntry] = {}
            for row in await connection.fetch(
                _EVENTS, task_uid, *bounds_of(after, 1), limit + 1, content, sorted(ROLES)
            ):
                events[row["id"]] = _event(row)
            found += events.values()
            for row in await connection.fetch(_ACTS, task_uid, *bounds_of(after, 2), limit + 1):
                found.append(
                    TimelineEntry(
                        key=TimelineKey(row["at"], 2, row["id"]),
                        kind=row["verb"],
                        text=row["comment"],
                        by=row["actor"] or None,
                        result=row["result"],
                        detail=row["refusal"] or row["question"] or None,
                        status=row["decision"] or None,
                    )
                )
            return sorted(found, key=lambda one: one.key)

        found: list[TimelineEntry] = await self._run(read)
        return page_of(found, limit, lambda one: one.key)

    # --- sums and questions ------------------------------------------------------------------------------------------

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        """Return sums over the announced tasks that started from `since` until before `until`."""
        rows = await self._run(lambda c: c.fetch(STATS, tenant, since, until))
        sums: dict[int, list[Sums]] = {0b111: [], 0b011: [], 0b101: [], 0b110: []}
        for row in rows:
            which = row["which"]
            word = {0b011: row["agent_name"], 0b101: row["day"], 0b110: row["status"]}.get(which)
            sums[which].append(sums_of(row, word))
        return stats_of(sums[0b111][0] if sums[0b111] else Sums(), sums[0b011], sums[0b101], sums[0b110])

    async def approvals(self, asked: ApprovalFilter, after: ApprovalKey | None, limit: int) -> Page[TaskQuestion]:
        """Return a page of questions, newest first."""
        where, values = ["a.tenant = $1"], list[Any]([asked.tenant])
        for column, value in (
            ("a.state", asked.state),
            ("t.agent_name", asked.agent),
            ("a.risk", asked.risk),
            ("a.task_uid", asked.task_uid),
        ):
            if value is not None:
                values.append(value)
                where.append(f"{column} = ${len(values)}")
        if asked.begins:
            where.append(beginning("a.key", "a.approval_id", asked.begins, values))
        if after is not None:
            values += [after.requested_at, after.key]
            where.append(f"(a.requested_at, a.key) < (${len(values) - 1}, ${len(values)})")
        values.append(limit + 1)
        query = (
            f"SELECT {intervention_rows.COLUMNS}, t.doc AS doc,"
            " CASE WHEN t.uid IS NOT NULL THEN spanpost_phase(t) END AS phase"
            f" FROM approvals a LEFT JOIN agent_tasks t ON t.uid = a.task_uid WHERE {' AND '.join(where)}"
            f" ORDER BY a.requested_at DESC, a.key DESC LIMIT ${len(values)}"
        )
        found = []
        for row in await self._run(lambda c: c.fetch(query, *values)):
            said = dict(row)
            doc, phase = said.pop("doc"), said.pop("phase")
            found.append(
                TaskQuestion(row=intervention_rows.row_of(said), task=shown(doc, phase) if doc is not None else None)
            )
        return page_of(found, limit, lambda one: ApprovalKey(one.row.requested_at, one.row.key))

    # --- the stream --------------------------------------------------------------------------------------------------

    async def head(self) -> Position:
        """Return the end of the stream: checkpoints recorded from now on come after it."""

        async def read(connection: Any) -> str:
            await connection.execute(_FOREIGN)
            number: str = await connection.fetchval(_HEAD)
            return number

        return Position(int(await self._run(read)), OLDEST, NIL)

    async def streamed(self, after: Position, limit: int, tenant: str | None = None) -> list[StreamedCheckpoint]:
        """Return checkpoints after a position, in the order of the stream."""
        rows = await self._run(lambda c: c.fetch(_STREAM, str(after.number), after.at, after.id, tenant, limit))
        found = []
        for row in rows:
            said = dict(row)
            number, first_at, doc, phase = (said.pop(name) for name in ("xid", "first_at", "doc", "phase"))
            checkpoint = checkpoint_of(said)
            found.append(
                StreamedCheckpoint(
                    position=Position(int(number), first_at, checkpoint.id),
                    checkpoint=checkpoint,
                    task=shown(doc, phase),
                )
            )
        return found

    async def changed(self, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        """Return the open tasks that changed after `since`, with the time, oldest first.

        See `CheckpointStream.changed`.
        """
        rows = await self._run(lambda c: c.fetch(_CHANGED, since, limit))
        return [(row["uid"], row["updated_at"]) for row in rows]

    async def now(self) -> datetime:
        """Return the time by the store's clock."""
        at: datetime = await self._run(lambda c: c.fetchval("SELECT clock_timestamp()"))
        return at

    async def erased_at(self) -> datetime | None:
        """Return when something was last erased. See `CheckpointStream.erased_at`."""
        return await self._run(tombstones.last)

    async def those(self, uids: Iterable[UUID]) -> list[Task]:
        """Return the existing tasks among `uids`."""
        return [shown(*row) for row in await self._run(lambda c: c.fetch(_OF_UIDS, list(uids)))]

    async def ended(self, since: datetime, until: datetime, latest: timedelta) -> list[Task]:
        """Return the root tasks whose end was first recorded in `[since, until)`. See `Reader.ended`."""
        return [shown(*row) for row in await self._run(lambda c: c.fetch(_ENDED, since, until, latest))]

    async def shown_at(self, sink: str, uids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return where a sink shows these tasks (`ref` of the receipt), by uid."""
        rows = await self._run(lambda c: c.fetch(_SHOWN_AT, sink, list(uids)))
        return {row["task_uid"]: msgspec.json.decode(row["ref"]) for row in rows}


def _conditions(asked: TaskFilter) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []

    def add(condition: str, value: Any) -> None:
        values.append(value)
        where.append(condition.replace("?", f"${len(values)}"))

    if asked.tenant is not None:
        add("t.tenant = ?", asked.tenant)
    for column, words in (
        ("agent_name", asked.agents),
        ("topic", asked.topics),
        ("type", asked.types),
        ("environment", asked.environments),
    ):
        if words:
            add(f"t.{column} = ANY(?::text[])", list(words))
    if asked.since is not None:
        add(f"{_START} >= ?", asked.since)
    if asked.until is not None:
        add(f"{_START} < ?", asked.until)
        where.append("t.started_at IS NOT NULL")
    if asked.is_root:
        where.append("t.parent_uid IS NULL")
    if asked.parent is not None:
        add("t.parent_uid = ?", asked.parent)
    if asked.follows:
        add("(t.retry_of = ANY(?::text[]) OR t.caused_by = ANY(?::text[]))", list(asked.follows))
    if asked.order:
        add("t.order_id = ?", asked.order)
    if not asked.shows_all:
        where.append("t.announced")
    if asked.q:
        literal = asked.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        add("(t.name ILIKE ? OR t.action ILIKE ? OR t.task_id ILIKE ? OR t.agent_name ILIKE ?)", f"%{literal}%")
    if asked.begins:
        where.append(beginning("t.uid", "t.task_id", asked.begins, values))
    if asked.statuses:
        add(
            "(t.ended_at IS NULL OR t.status = ANY(?::text[])) AND spanpost_phase(t) = ANY(?::text[])",
            list(asked.statuses),
        )
    return where, values


def _event(row: Any) -> TimelineEntry:
    return TimelineEntry(
        key=TimelineKey(row["at"], 1, row["id"]),
        kind=ROLES[row["role"]],
        text=row["name"],
        status=("unset", "ok", "error")[row["status"]] if 0 <= row["status"] <= 2 else None,
        detail=row["status_message"] or None,
        seconds=float(row["seconds"]) if row["seconds"] is not None else None,
        span_id=row["span_id"],
        content=msgspec.json.decode(row["content"]) if row["content"] is not None else None,
    )
