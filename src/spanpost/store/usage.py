"""Usage of tasks in PostgreSQL, by model and quarter of an hour; and the usage with which new budgets begin.

Rows are written under their task's lock. A budget begins once: the first transaction that finds it missing
counts the usage before in its period, and all others wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from spanpost.model.budgets import BudgetFigures, Used, UsedBefore
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
from spanpost.routing.matching import FIELDS, described
from spanpost.store.rows import tidy
from spanpost.tasks.amounts import nano
from spanpost.tasks.budgets import Budget, asked_of

_COUNTS: Final = (
    "calls",
    "unpriced",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_SUMS: Final = (*_COUNTS, "cost_usd")
_KEEP = f"""
INSERT INTO model_usage AS u (task_uid, model, at, tenant, {", ".join(_SUMS)})
SELECT k.task_uid, k.model, date_bin('15 min', clock_timestamp(), 'epoch'), k.tenant,
  {", ".join(f"k.{c}" for c in _SUMS)}
FROM unnest($1::uuid[], $2::text[], $3::text[], {", ".join(f"${n}::bigint[]" for n in range(4, 11))}, $11::numeric[])
  AS k(task_uid, model, tenant, {", ".join(_SUMS)})
ON CONFLICT (task_uid, model, at) DO UPDATE SET {", ".join(f"{c} = u.{c} + excluded.{c}" for c in _SUMS)}"""
_OF = f"""
SELECT tenant, model, {", ".join(f"sum({c})::bigint" for c in _COUNTS)}, sum(cost_usd)
FROM model_usage WHERE task_uid = $1 GROUP BY tenant, model ORDER BY model"""
# New rows are returned with true. Rows that existed before this transaction are returned with false: they
# stay even if it is rolled back.
_BEGIN = """
WITH k AS (SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS k(budget, began_at)),
new AS (
  INSERT INTO budgets_begun (budget, began_at) SELECT * FROM k ORDER BY 1
  ON CONFLICT DO NOTHING RETURNING budget
)
SELECT budget, true FROM new
UNION ALL SELECT b.budget, false FROM budgets_begun b JOIN k USING (budget) WHERE b.at < now()"""
#: Roles 4 to 6 are spans that own a subtree: their attribute wins over the resource, and that over spans
#: below.
_ATTRIBUTE = """
LEFT JOIN LATERAL (
  SELECT coalesce(
    CASE WHEN e.role BETWEEN 4 AND 6 THEN e.attributes->>{name} END, e.resource->>{name}, e.attributes->>{name}
  ) AS said
  FROM agent_events e WHERE e.task_uid = u.task_uid AND (e.attributes ? {name} OR e.resource ? {name})
  ORDER BY
    CASE WHEN e.role BETWEEN 4 AND 6 AND e.attributes ? {name} THEN 0 WHEN e.resource ? {name} THEN 1 ELSE 2 END,
    e.occurred_at
  LIMIT 1
) AS {alias} ON true"""
#: Names of budgets that are known to have begun.
Begun = set[str]
_NOBODY: Final = UUID(int=0)


async def keep(connection: Any, used: Sequence[Used]) -> None:
    """Add finalized usage."""
    rows: dict[tuple[UUID, str], list[Any]] = {}
    for one in map(tidy, used):
        u = one.usage
        figures = (one.calls, one.unpriced, u.input, u.output, u.cache_read, u.cache_write, u.reasoning, u.cost_usd)
        known = rows.setdefault((one.task_uid, one.model), [one.tenant, *[0] * len(_COUNTS), Decimal(0)])
        for n, figure in enumerate(figures, 1):
            known[n] += figure or 0
    found = [(*key, *row) for key, row in sorted(rows.items()) if any(row[1:])]
    if found:
        await connection.execute(_KEEP, *([row[n] for row in found] for n in range(len(found[0]))))


async def of(connection: Any, task_uid: UUID) -> list[Used]:
    """Return a task's finalized usage, by model."""
    rows = await connection.fetch(_OF, task_uid)
    return [
        Used(
            task_uid=task_uid,
            tenant=tenant,
            model=model,
            calls=calls,
            unpriced=unpriced,
            usage=Usage(
                input=given, output=made, cache_read=read, cache_write=written, reasoning=thought, cost_usd=cost
            ),
        )
        for tenant, model, calls, unpriced, given, made, read, written, thought, cost in rows
    ]


async def begin(
    connection: Any, budgets: Sequence[tuple[Budget, datetime]], begun: Begun
) -> list[tuple[Budget, list[UsedBefore]]]:
    """Return the budgets that begin in this transaction, with the usage since that time."""
    asked = {budget.name: (budget, at) for budget, at in budgets if budget.name not in begun}
    if not asked:
        return []
    rows = await connection.fetch(_BEGIN, sorted(asked), [asked[name][1] for name in sorted(asked)])
    begun.update(row[0] for row in rows if not row[1])
    new = {row[0] for row in rows if row[1]}
    return [(budget, await _before(connection, budget, at)) for name, (budget, at) in asked.items() if name in new]


async def _before(connection: Any, budget: Budget, began: datetime) -> list[UsedBefore]:
    """Return the usage since then, one value for all tasks with equal values of the budget's fields."""
    names = sorted(asked_of(budget))
    columns, joins, given = [], [], []
    for n, name in enumerate(names):
        if name in FIELDS:
            columns.append(f"t.{FIELDS[name]}")
        else:
            given.append(name)
            joins.append(_ATTRIBUTE.format(name=f"${len(given) + 1}::text", alias=f"said_{n}"))
            columns.append(f"said_{n}.said")
    shown = "".join(f", {column}" for column in columns)
    rows = await connection.fetch(
        "SELECT u.tenant, sum(u.calls)::bigint, sum(u.unpriced)::bigint, sum(u.tokens)::bigint,"
        f" sum(u.cost_usd){shown} FROM ("
        " SELECT task_uid, tenant, sum(calls) AS calls, sum(unpriced) AS unpriced,"
        " sum(input_tokens + output_tokens) AS tokens, sum(cost_usd) AS cost_usd"
        " FROM model_usage WHERE at >= $1 GROUP BY 1, 2"
        f") AS u JOIN agent_tasks t ON t.uid = u.task_uid {' '.join(joins)} GROUP BY u.tenant{shown}",
        began,
        *given,
    )
    found = []
    for tenant, calls, unpriced, tokens, cost_usd, *values in rows:
        said = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        task = described(Task(uid=_NOBODY, tenant=tenant, task_id=""), said)
        found.append(UsedBefore(task=task, figures=BudgetFigures(calls, unpriced, tokens, nano(cost_usd))))
    return found
