"""Conditions of a list of tasks in PostgreSQL. The table is `agent_tasks t`."""

from __future__ import annotations

from typing import Any, Final

from spanpost.model.queries import LEAST_PREFIX, TaskFilter, bounds

#: A task's start in the order of lists: one without a start comes last.
START: Final = "coalesce(t.started_at, '-infinity'::timestamptz)"
#: A task's cost and seconds, -1 where unknown.
COST: Final = "coalesce(t.cost_usd, -1)::float8"
SECONDS: Final = "coalesce(extract(epoch FROM coalesce(t.ended_at, t.last_event_at) - t.started_at), -1)::float8"
#: What a list is sorted by, the greatest first.
ORDERS: Final = {"newest": START, "cost": COST, "duration": SECONDS}
#: A task's status now. The function is called for open tasks alone: there are few of them.
STATUS: Final = "CASE WHEN t.ended_at IS NULL THEN spanpost_phase(t) ELSE t.status END"


def of(asked: TaskFilter) -> tuple[list[str], list[Any]]:
    """Return the conditions of a filter, and the values of their placeholders."""
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
        ("model", asked.models),
        ("requested_by", asked.people),
        ("repo", asked.repos),
        ("session_id", asked.sessions),
    ):
        if words:
            add(f"t.{column} = ANY(?::text[])", list(words))
    if asked.since is not None:
        add(f"{START} >= ?", asked.since)
    if asked.until is not None:
        add(f"{START} < ?", asked.until)
        where.append("t.started_at IS NOT NULL")
    for expression, least, most in (
        (COST, asked.min_cost, asked.max_cost),
        (SECONDS, asked.min_seconds, asked.max_seconds),
    ):
        if least is not None:
            add(f"{expression} >= ?::float8", least)
        if most is not None:
            add(f"{expression} BETWEEN 0 AND ?::float8", most)
    if asked.error:
        add("(t.error->>'type' ILIKE ? OR t.error->>'message' ILIKE ?)", _part(asked.error))
    if asked.is_below:
        where.append("t.parent_uid IS NOT NULL")
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
        columns = "title", "name", "action", "task_id", "agent_name"
        add(f"({' OR '.join(f't.{column} ILIKE ?' for column in columns)})", _part(asked.q))
    if asked.begins:
        where.append(beginning("t.uid", "t.task_id", asked.begins, values))
    if asked.statuses:
        add(
            "(t.ended_at IS NULL OR t.status = ANY(?::text[])) AND spanpost_phase(t) = ANY(?::text[])",
            list(asked.statuses),
        )
    return where, values


def beginning(key: str, id: str, begins: str, values: list[Any]) -> str:
    """Return the condition of `is_begun`, and append its values."""
    if len(begins) < LEAST_PREFIX:
        return "false"
    values.append(begins)
    condition = f"starts_with({id}, ${len(values)})"
    if (within := bounds(begins)) is not None:
        values += within
        condition = f"({condition} OR {key} BETWEEN ${len(values) - 1} AND ${len(values)})"
    return condition


def _part(text: str) -> str:
    literal = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{literal}%"
