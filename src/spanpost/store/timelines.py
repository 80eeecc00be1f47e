"""Timelines in PostgreSQL: checkpoints, calls and people's acts of a task, a page at a time in either order."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.queries import Page, TimelineEntry, TimelineFilter, TimelineKey
from spanpost.store.pages import LATEST, OLDEST, ROLES, bounds_of, page_of
from spanpost.store.rows import message_of

#: Each source: columns and tables, time and id, and what else must hold, by the filter's words.
_CHECKPOINTS: Final = (
    "c.id, c.at, c.kind, c.text, c.message, c.status, c.detail, c.span_id FROM agent_checkpoints c"
    " WHERE c.task_uid = $1",
    "c.at",
    "c.id",
    {"checkpoints": "true", "errors": "c.kind = 'error'", "people": "c.kind LIKE 'approval%'"},
)
_EVENTS: Final = (
    "e.event_id AS id, e.occurred_at AS at, e.role, e.name, e.status, e.status_message, e.span_id,"
    " (e.end_ns - e.start_ns) / 1e9 AS seconds, CASE WHEN $7 THEN e.attributes::text END AS content"
    " FROM agent_events e WHERE e.task_uid = $1 AND e.part = 0 AND e.role = ANY($8::smallint[])",
    "e.occurred_at",
    "e.event_id",
    {"calls": "true", "errors": "e.status = 2"},
)
_ACTS: Final = (
    "i.id, i.recorded_at AS at, i.verb, i.comment, i.actor, i.result, i.refusal, i.decision, i.question"
    " FROM human_interventions i WHERE i.task_uid = $1 AND i.idempotency_key IS NOT NULL",
    "i.recorded_at",
    "i.id",
    {"people": "true"},
)


async def read(
    connection: Any, task_uid: UUID, after: TimelineKey | None, limit: int, content: bool, asked: TimelineFilter
) -> Page[TimelineEntry]:
    """Return a page of a task's timeline."""
    found: list[TimelineEntry] = []
    way = asked.is_newest_first

    async def rows(number: int, source: Any, *more: Any) -> list[Any]:
        columns, at, id, words = source
        shown = [condition for word, condition in words.items() if word in asked.of] if asked.of else ["true"]
        if not shown:
            return []
        order = "DESC" if way else "ASC"
        # The bound on the time alone lets the planner leave out partitions.
        query = (
            f"SELECT {columns} AND ({' OR '.join(shown)}) AND {at} BETWEEN $5 AND $6"
            f" AND {at} {'<=' if way else '>='} $2 AND ({at}, {id}) {'<' if way else '>'} ($2, $3)"
            f" ORDER BY {at} {order}, {id} {order} LIMIT $4"
        )
        bounds = bounds_of(after, number, is_descending=way)
        limits = asked.since or OLDEST, asked.until or LATEST
        fetched: list[Any] = await connection.fetch(query, task_uid, *bounds, limit + 1, *limits, *more)
        return fetched

    for row in await rows(0, _CHECKPOINTS):
        found.append(
            TimelineEntry(
                key=TimelineKey(row["at"], 0, row["id"]),
                kind=row["kind"],
                text=row["text"],
                message=message_of(row["message"]),
                status=row["status"],
                detail=row["detail"] or None,
                span_id=row["span_id"],
            )
        )
    found += {row["id"]: _event(row) for row in await rows(1, _EVENTS, content, sorted(ROLES))}.values()
    for row in await rows(2, _ACTS):
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
    return page_of(sorted(found, key=lambda one: one.key, reverse=way), limit, lambda one: one.key)


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
