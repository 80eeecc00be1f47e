"""Rows of evaluations in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spanpost.model.recorded import Evaluated
from spanpost.model.tasks import Task
from spanpost.store.rows import tidy
from spanpost.tasks.evaluations import evaluated

_COLUMNS = (
    "id", "tenant", "task_uid", "source", "name", "score", "label", "explanation", "by", "by_id", "subject", "at",
)  # fmt: skip
_TYPES = (
    "uuid", "text", "uuid", "text", "text", "float8", "text", "text", "text", "text", "text", "timestamptz",
)  # fmt: skip
# A row moves with its task. Its other columns never change.
_KEEP = f"""
INSERT INTO evaluations AS e ({", ".join(_COLUMNS)})
SELECT * FROM unnest({", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_TYPES, 1))})
ON CONFLICT (id) DO UPDATE SET task_uid = excluded.task_uid WHERE e.task_uid <> excluded.task_uid
RETURNING id, (xmax = 0) AS is_new"""


async def keep(connection: Any, tasks: Sequence[Task]) -> list[Evaluated]:
    """Write the evaluations of tasks; return those that are new."""
    found = evaluated(map(tidy, tasks))
    if not found:
        return []
    columns = list(zip(*(_row(found[id]) for id in sorted(found)), strict=True))
    written = await connection.fetch(_KEEP, *map(list, columns))
    new = {row["id"] for row in written if row["is_new"]}
    return [one for id, one in sorted(found.items()) if id in new]


def _row(one: Evaluated) -> tuple[Any, ...]:
    e = one.evaluation
    source = "person" if e.is_person else "telemetry"
    who = (e.by, e.by_id, e.subject, e.at)
    return (e.id, one.tenant, one.task_uid, source, e.name, e.score, e.label, e.explanation, *who)
