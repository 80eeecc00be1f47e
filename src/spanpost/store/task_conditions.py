"""Conditions of a list of tasks in PostgreSQL. The table is `agent_tasks t`."""

from __future__ import annotations

from typing import Any, Final

from spanpost.model.queries import TaskFilter

#: A task's start in the order of lists: one without a start comes last.
START: Final = "coalesce(t.started_at, '-infinity'::timestamptz)"


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
    ):
        if words:
            add(f"t.{column} = ANY(?::text[])", list(words))
    if asked.since is not None:
        add(f"{START} >= ?", asked.since)
    if asked.until is not None:
        add(f"{START} < ?", asked.until)
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
    if asked.statuses:
        add(
            "(t.ended_at IS NULL OR t.status = ANY(?::text[])) AND spanpost_phase(t) = ANY(?::text[])",
            list(asked.statuses),
        )
    return where, values
