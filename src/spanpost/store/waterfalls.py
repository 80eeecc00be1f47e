"""The waterfall of a task in PostgreSQL: a bounded number of bars, however many calls there are.

A window with more calls than `MOST` is folded: each track is cut into `SLICES` of time, and a bar stands for the calls
of one kind that began in one slice. A narrower window is read call by call again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from spanpost.model.observations import Part
from spanpost.model.readings import Role
from spanpost.model.tasks import Task
from spanpost.model.waterfalls import TRACKS, AskedSpan, Bar, Tick, Waterfall
from spanpost.store.context_curves import CALL_COLUMNS, call_of
from spanpost.store.heartbeats import shown
from spanpost.store.pages import ROLES
from spanpost.store.task_conditions import STATUS
from spanpost.store.transactions import Transact
from spanpost.tasks.folded import PriceSource
from spanpost.tasks.waterfalls import OwnedCall, bar_of, uses_of

#: Calls that are read one by one; slices of a folded window; ticks, questions and model calls that are read.
MOST: Final = 800
SLICES: Final = 300
#: Newest calls of a track that are folded; in a narrower window there are others.
CALLS_READ: Final = 20_000
_TICKS, _QUESTIONS, _USES = 600, 200, 1_500
#: Tasks below each other, and tasks among which the tracks are chosen: PostgreSQL stops the recursion there, so a task
#: with 100,000 tasks below it costs no more. Nearer ones come first.
_DEPTH: Final = 16
_FAMILY_READ: Final = 400
_BELOW: Final = f"""
WITH RECURSIVE below AS (
  SELECT t.uid, t.tenant, 0 AS depth FROM agent_tasks t WHERE t.uid = $1
  UNION ALL
  SELECT c.uid, c.tenant, b.depth + 1 FROM below b JOIN agent_tasks c ON c.parent_uid = b.uid AND c.tenant = b.tenant
  WHERE b.depth < {_DEPTH}
), family AS MATERIALIZED (SELECT uid FROM below LIMIT {_FAMILY_READ})"""
_FAMILY: Final = f"""{_BELOW}
SELECT t.doc, spanpost_phase(t), t.cost_usd FROM agent_tasks t WHERE t.uid IN (SELECT uid FROM family)
ORDER BY t.uid = $1 DESC, t.started_at NULLS LAST, t.uid LIMIT {TRACKS}"""
#: What is recorded of a task changes its row; what is erased is no more to be shown.
_VERSION: Final = f"""{_BELOW}
SELECT md5(concat(
  string_agg(concat_ws(' ', t.uid, t.updated_at, {STATUS}), ';' ORDER BY t.uid),
  (SELECT erased_at FROM erased_traces WHERE key = '')
)) FROM agent_tasks t WHERE t.uid IN (SELECT uid FROM family)"""
#: Ended calls that touch the window. `occurred_at` is a call's end and has an index.
_WHERE: Final = f"""e.task_uid = ANY($1::uuid[]) AND e.part = {int(Part.ENDED)} AND e.role = ANY($2::smallint[])
  AND e.occurred_at >= $3 AND e.start_ns <= $4"""
_COUNT: Final = f"SELECT count(*) FROM (SELECT FROM audit_rows e WHERE {_WHERE} LIMIT {MOST + 1}) AS kept"
_CALLS: Final = f"SELECT e.task_uid, e.status, {CALL_COLUMNS} FROM agent_events e WHERE {_WHERE} LIMIT {MOST}"
_OPEN: Final = f"""
SELECT e.task_uid, e.status, {CALL_COLUMNS} FROM agent_events e
WHERE e.task_uid = ANY($1::uuid[]) AND e.part = {int(Part.STARTED)} AND e.role = ANY($2::smallint[])
  AND NOT EXISTS (
    SELECT FROM audit_rows d WHERE d.task_uid = e.task_uid AND d.part = {int(Part.ENDED)} AND d.trace_id = e.trace_id
      AND d.span_id = e.span_id AND d.occurred_at >= e.occurred_at
  ) LIMIT 100"""
_FOLDED: Final = f"""
SELECT task_uid, role, min(start_ns) AS start_ns, max(end_ns) AS end_ns, count(*)::int AS count,
  (count(*) FILTER (WHERE status = 2))::int AS errors, mode() WITHIN GROUP (ORDER BY name) AS name
FROM (
  SELECT c.task_uid, c.role, c.start_ns, c.end_ns, c.status, coalesce(c.name, s.name, '') AS name
  FROM unnest($1::uuid[]) AS track(uid) CROSS JOIN LATERAL (
    SELECT e.task_uid, e.role, e.start_ns, e.end_ns, e.status, e.name, e.set_id FROM audit_rows e
    WHERE {_WHERE.replace("= ANY($1::uuid[])", "= track.uid")}
    ORDER BY e.occurred_at DESC LIMIT {CALLS_READ}
  ) c LEFT JOIN attribute_sets s ON s.id = c.set_id
) e GROUP BY task_uid, role, (greatest(start_ns, $5) - $5) / $6 ORDER BY 3 LIMIT {SLICES * len(ROLES) * 4}"""
_CHECKPOINTS: Final = f"""
SELECT task_uid, at, kind, status, text FROM agent_checkpoints
WHERE task_uid = ANY($1::uuid[]) AND at BETWEEN $2 AND $3 AND kind NOT LIKE 'approval%'
ORDER BY at DESC LIMIT {_TICKS}"""
_ASKED: Final = f"""
SELECT key, task_uid, question, requested_at AS asked_at, decided_at AS closed_at, state FROM approvals
WHERE task_uid = ANY($1::uuid[]) AND requested_at <= $3 AND coalesce(decided_at, 'infinity') >= $2
ORDER BY requested_at DESC LIMIT {_QUESTIONS}"""
#: Of very many model calls every n-th, evenly over the whole time, and the last one.
_MODEL_CALLS: Final = f"""
WITH calls AS (
  SELECT e.occurred_at, e.event_id, row_number() OVER (ORDER BY e.occurred_at DESC, e.event_id) - 1 AS place,
    count(*) OVER () / {_USES} + 1 AS stride
  FROM unnest($1::uuid[]) AS track(uid) CROSS JOIN LATERAL (
    SELECT a.occurred_at, a.event_id FROM audit_rows a
    WHERE a.task_uid = track.uid AND a.part = {int(Part.ENDED)} AND a.role = {int(Role.LLM)}
    ORDER BY a.occurred_at DESC LIMIT {CALLS_READ}
  ) e
)
SELECT e.task_uid, e.status, {CALL_COLUMNS} FROM calls c
JOIN agent_events e ON e.occurred_at = c.occurred_at AND e.event_id = c.event_id
WHERE c.place % c.stride = 0 AND e.task_uid = ANY($1::uuid[])"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def version(run: Transact, task_uid: UUID) -> str:
    """Return what differs once anything of a task or of those below it was recorded."""
    return str(await run(lambda c: c.fetchval(_VERSION, task_uid)))


async def read(
    run: Transact, prices: PriceSource | None, task_uid: UUID, since: datetime | None, until: datetime | None
) -> Waterfall:
    """Return what a task and those below it did in a window; without limits all of it, with the line of its cost."""

    async def fetch(connection: Any) -> Any:
        family = await connection.fetch(_FAMILY, task_uid)
        tracks = [shown(row[0], row[1]) for row in family]
        uids = [task.uid for task in tracks]
        first, last = _window(tracks, since, until, await connection.fetchval("SELECT clock_timestamp()"))
        bounds = (uids, sorted(ROLES), first, _nanoseconds(last))
        is_folded = await connection.fetchval(_COUNT, *bounds) > MOST
        if is_folded:
            slice_ns = max((_nanoseconds(last) - _nanoseconds(first)) // SLICES, 1)
            calls = await connection.fetch(_FOLDED, *bounds, _nanoseconds(first), slice_ns)
        else:
            calls = await connection.fetch(_CALLS, *bounds)
        still_open = (
            await connection.fetch(_OPEN, uids, sorted(ROLES)) if any(t.ended_at is None for t in tracks) else []
        )
        ticks = await connection.fetch(_CHECKPOINTS, uids, first, last)
        asked = await connection.fetch(_ASKED, uids, first, last)
        # A part of the window has the whole's lines already.
        uses = await connection.fetch(_MODEL_CALLS, uids) if since is None and until is None else []
        costs = [row["cost_usd"] for row in family if row["cost_usd"] is not None]
        return tracks, calls, still_open, ticks, asked, uses, sum(costs, Decimal(0)) if costs else None, is_folded

    tracks, calls, still_open, ticks, asked, uses, cost, is_folded = await run(fetch)

    def make() -> Waterfall:
        bars = [_folded(row) for row in calls] if is_folded else [bar_of(_owned(row), prices) for row in calls]
        bars += [bar_of(_owned(row, Part.STARTED), prices) for row in still_open]
        folded = Counter[UUID]()
        for row in calls if is_folded else ():
            folded[row["task_uid"]] += row["count"]
        return Waterfall(
            tracks=tracks,
            bars=sorted((one for one in bars if one is not None), key=lambda one: one.started_at),
            ticks=[Tick(**dict(row)) for row in reversed(ticks)],
            questions=[AskedSpan(**dict(row)) for row in reversed(asked)],
            uses=uses_of((_owned(row) for row in uses), cost, prices),
            is_folded=is_folded,
            is_cut=any(count >= CALLS_READ for count in folded.values()),
        )

    # Reading a thousand calls takes a tenth of a second: meanwhile the loop records.
    return await asyncio.to_thread(make)


def _window(
    tracks: Sequence[Task], since: datetime | None, until: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    starts = [task.started_at for task in tracks if task.started_at is not None]
    ends = [task.ended_at or task.last_event_at or now for task in tracks]
    if any(task.ended_at is None for task in tracks):
        ends.append(now)
    first = since or min(starts, default=now - timedelta(hours=1))
    return first, max(until or max(ends, default=now), first + timedelta(milliseconds=1))


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def _owned(row: Any, part: Part = Part.ENDED) -> OwnedCall:
    return OwnedCall(row["task_uid"], call_of(row, part, row["status"]))


def _folded(row: Any) -> Bar:
    return Bar(
        task_uid=row["task_uid"],
        kind=ROLES[row["role"]],
        name=row["name"],
        started_at=_EPOCH + timedelta(microseconds=row["start_ns"] // 1000),
        ended_at=_EPOCH + timedelta(microseconds=row["end_ns"] // 1000),
        count=row["count"],
        errors=row["errors"],
    )
