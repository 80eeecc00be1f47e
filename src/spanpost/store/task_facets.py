"""Facets of a list of tasks in PostgreSQL: one scan of a bounded number of tasks counts the values of every field."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from spanpost.model import queries
from spanpost.model.queries import FACET_FIELDS, FACETS_SHOWN, Facets, FacetValue, TaskFilter
from spanpost.store import task_conditions

_NAMES: Final = ", ".join(FACET_FIELDS)
_COLUMNS: Final = ", ".join(
    f"{task_conditions.STATUS if column == 'status' else f't.{column}'} AS {name}"
    for name, column in FACET_FIELDS.items()
)
_SETS: Final = ", ".join(f"({name})" for name in FACET_FIELDS)


#: Start of the first task beyond the newest `FACETED`; an index has them in this order.
_FLOOR: Final = f"""
SELECT nullif({task_conditions.START}, '-infinity') FROM agent_tasks t
WHERE t.tenant = $1 AND {task_conditions.START} < coalesce($2::timestamptz, 'infinity')
  AND {task_conditions.START} >= coalesce($3::timestamptz, '-infinity')
ORDER BY {task_conditions.START} DESC, t.uid DESC OFFSET $4 LIMIT 1"""


async def read(connection: Any, asked: TaskFilter) -> Facets:
    """Return how many tasks a filter matches, and their most frequent values: among the newest tasks."""
    floor = await connection.fetchval(_FLOOR, asked.tenant, asked.until, asked.since, queries.FACETED)
    where, values = task_conditions.of(msgspec.structs.replace(asked, since=floor or asked.since))
    rows = await connection.fetch(
        f"SELECT * FROM (SELECT grouping({_NAMES}) AS which, {_NAMES}, count(*)::int AS count,"
        " sum(cost_usd) AS cost_usd,"
        f" row_number() OVER (PARTITION BY grouping({_NAMES}) ORDER BY count(*) DESC) AS place"
        f" FROM (SELECT {_COLUMNS}, t.cost_usd FROM agent_tasks t WHERE {' AND '.join(where) or 'true'}) found"
        f" GROUP BY GROUPING SETS ((), {_SETS})) counted WHERE place <= {FACETS_SHOWN} ORDER BY which, place",
        *values,
    )
    every = (1 << len(FACET_FIELDS)) - 1
    fields: dict[str, list[FacetValue]] = {name: [] for name in FACET_FIELDS}
    total, cost = 0, None
    # In `grouping` the first name is the highest bit; 0 is what was grouped by.
    by_bits = {every & ~(1 << (len(FACET_FIELDS) - 1 - n)): name for n, name in enumerate(FACET_FIELDS)}
    for row in rows:
        if row["which"] == every:
            total, cost = row["count"], row["cost_usd"]
        else:
            name = by_bits[row["which"]]
            fields[name].append(FacetValue(row[name], row["count"]))
    return Facets(total=total, cost_usd=cost, fields=fields, since=floor)
