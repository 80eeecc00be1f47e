"""Queries for people and the API in PostgreSQL: pages by key, timelines, sums, the stream of checkpoints.

The stream. Transactions commit in another order than they begin, so a cursor over a number given at the
insert would skip rows that are committed later. Each checkpoint has the id of its transaction (`xid`), and
only rows below the oldest open transaction are read: no row can be inserted before them any more. The price:
any long writing transaction on that server delays the stream. Within a transaction the order is by
`first_at`, which never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.queries import (
    WHOLE_TIMELINE,
    ApprovalFilter,
    ApprovalKey,
    Facets,
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
)
from spanpost.model.tasks import Task
from spanpost.model.totals import Totals
from spanpost.model.usage import Usage
from spanpost.model.waterfalls import Waterfall
from spanpost.store import context_curves, intervention_rows, task_conditions, task_facets, timelines, waterfalls
from spanpost.store.erasing import tombstones
from spanpost.store.heartbeats import shown
from spanpost.store.pages import NIL, OLDEST, page_of, stats_of, trace_of, uuid_of
from spanpost.store.rows import CHECKPOINT_COLUMNS, checkpoint_of
from spanpost.store.task_conditions import START
from spanpost.store.transactions import Transact
from spanpost.tasks.context_curve import Point
from spanpost.tasks.folded import PriceSource

_ANY_ID = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t
WHERE t.tenant = $1 AND (t.task_id = $2 OR t.aliases @> to_jsonb($2::text))
ORDER BY t.task_id = $2 DESC, t.started_at DESC NULLS LAST, t.uid LIMIT 1"""
_OF_TRACE = """
SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE t.tenant = $1 AND t.trace_id = $2
ORDER BY t.parent_uid IS NULL DESC, t.started_at NULLS LAST, t.uid LIMIT 1"""
_STATS = f"""
SELECT grouping(agent_name, day, status) AS which, agent_name, day::text, status, count(*) AS tasks,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
  sum(unpriced_calls) AS unpriced_calls, sum(llm_calls) AS llm_calls,
  sum(tool_calls) AS tool_calls, sum(tool_errors) AS tool_errors, count(seconds) AS ended,
  count(*) FILTER (WHERE status = 'error') AS failed, avg(seconds) AS seconds_mean,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds_p50,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS seconds_p95
FROM (
  SELECT t.agent_name, (t.started_at AT TIME ZONE 'UTC')::date AS day, spanpost_phase(t) AS status,
    t.input_tokens, t.output_tokens, t.cost_usd, t.unpriced_calls, t.llm_calls, t.tool_calls, t.tool_errors,
    extract(epoch FROM t.ended_at - t.started_at)::float8 AS seconds
  FROM agent_tasks t
  WHERE t.tenant = $1 AND {START} >= $2 AND {START} < $3 AND t.started_at IS NOT NULL AND t.announced
) found
GROUP BY GROUPING SETS ((), (agent_name), (day), (status))"""
_TOTALS = "SELECT * FROM agent_task_totals WHERE uid = ANY($1::uuid[]) AND tasks > 1"
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


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


class PostgresReader:
    """The `Reader` of a `PostgresStore`."""

    def __init__(self, run: Transact, prices: Callable[[], PriceSource | None] = lambda: None) -> None:
        self._run = run
        self._prices = prices

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        """Return a page of tasks, newest first."""
        where, values = task_conditions.of(asked)
        by = task_conditions.ORDERS[asked.order_by]
        if after is not None:
            values.append(after.uid)
            key = f"${len(values)}"
            start = "'-infinity'::timestamptz"  # Python's datetime has no such value
            if (value := after.started_at if after.rank is None else after.rank) is not None:
                values.append(value)
                start = f"${len(values)}::{'timestamptz' if after.rank is None else 'float8'}"
            where.append(f"({by}, t.uid) < ({start}, {key})")
        values.append(limit + 1)
        # The page's uids first: sorting whole rows takes three times as long.
        query = (
            "SELECT t.doc, spanpost_phase(t) FROM agent_tasks t JOIN ("
            f"SELECT t.uid, {by} AS by FROM agent_tasks t WHERE {' AND '.join(where) or 'true'}"
            f" ORDER BY {by} DESC, t.uid DESC LIMIT ${len(values)}"
            ") page ON page.uid = t.uid ORDER BY page.by DESC, t.uid DESC"
        )
        found = [shown(*row) for row in await self._run(lambda c: c.fetch(query, *values))]
        return page_of(found, limit, lambda task: TaskKey.of(task, asked.order_by))

    async def facets(self, asked: TaskFilter) -> Facets:
        """Return how many tasks a filter matches, and their most frequent values."""
        return await self._run(lambda c: task_facets.read(c, asked))

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
        self,
        task_uid: UUID,
        after: TimelineKey | None,
        limit: int,
        *,
        content: bool,
        asked: TimelineFilter = WHOLE_TIMELINE,
    ) -> Page[TimelineEntry]:
        """Return a page of a task's timeline; span attributes only with `content`."""
        return await self._run(lambda c: timelines.read(c, task_uid, after, limit, content, asked))

    async def waterfall(self, task_uid: UUID, since: datetime | None, until: datetime | None) -> Waterfall:
        """Return what a task and those below it did in a window of time."""
        return await waterfalls.read(self._run, self._prices(), task_uid, since, until)

    async def version(self, task_uid: UUID) -> str:
        """Return what differs once anything of a task or of those below it was recorded."""
        return await waterfalls.version(self._run, task_uid)

    # --- sums and questions ------------------------------------------------------------------------------------------

    async def totals(self, uids: Iterable[UUID]) -> dict[UUID, Totals]:
        """Return the figures of tasks together with all tasks below them, of those that have any."""
        asked = list(uids)
        rows = await self._run(lambda c: c.fetch(_TOTALS, asked)) if asked else []
        return {
            row["uid"]: Totals(
                tasks=row["tasks"],
                llm_calls=int(row["llm_calls"]),
                unpriced_calls=int(row["unpriced_calls"]),
                usage=Usage(
                    input=_whole(row["input_tokens"]),
                    output=_whole(row["output_tokens"]),
                    cache_read=_whole(row["cache_read_tokens"]),
                    cache_write=_whole(row["cache_write_tokens"]),
                    reasoning=_whole(row["reasoning_tokens"]),
                    cost_usd=row["cost_usd"],
                ),
            )
            for row in rows
        }

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        """Return sums over the announced tasks that started from `since` until before `until`."""
        rows = await self._run(lambda c: c.fetch(_STATS, tenant, since, until))
        sums: dict[int, list[Sums]] = {0b111: [], 0b011: [], 0b101: [], 0b110: []}
        for row in rows:
            which = row["which"]
            word = {0b011: row["agent_name"], 0b101: row["day"], 0b110: row["status"]}.get(which)
            sums[which].append(_sums(row, word))
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
            where.append(task_conditions.beginning("a.key", "a.approval_id", asked.begins, values))
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


def _sums(row: Any, word: str | None) -> Sums:
    def count(name: str) -> int | None:
        return int(row[name]) if row[name] is not None else None

    return Sums(
        word=word,
        tasks=row["tasks"],
        input_tokens=count("input_tokens"),
        output_tokens=count("output_tokens"),
        cost_usd=row["cost_usd"],
        unpriced_calls=count("unpriced_calls") or 0,
        llm_calls=count("llm_calls") or 0,
        tool_calls=count("tool_calls") or 0,
        tool_errors=count("tool_errors") or 0,
        ended=row["ended"],
        failed=row["failed"],
        seconds_mean=row["seconds_mean"],
        seconds_p50=row["seconds_p50"],
        seconds_p95=row["seconds_p95"],
    )
