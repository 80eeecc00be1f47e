"""Spending of budgets in PostgreSQL: one row for each budget, tenant, scope and period.

Rows are locked in one order and as the last ones of a transaction that records, so these locks never
deadlock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.budgets import Growth, Limits, Spent, Used
from spanpost.model.observations import Observation
from spanpost.model.recorded import Limited
from spanpost.model.tasks import Task
from spanpost.store import usage
from spanpost.store.rows import json_text, tidy
from spanpost.store.transactions import Transact
from spanpost.tasks import budgets as spend
from spanpost.tasks.budgets import Budget, SpentKey, key_of
from spanpost.tasks.provider_limits import of_account

_COLUMNS = (
    "budget", "tenant", "scope", "began_at", "ends_at", "cost_usd", "tokens", "calls", "unpriced", "limit_usd",
    "limit_tokens", "warned",
)  # fmt: skip
_SELECT = "SELECT " + ", ".join(f"s.{c}" if c != "scope" else "s.scope::text" for c in _COLUMNS) + " FROM spending s"
_KEYS = "unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])"
_OPEN = f"""
INSERT INTO spending (budget, tenant, scope, began_at, ends_at)
SELECT k.budget, k.tenant, k.scope::jsonb, k.began_at, e.ends_at
FROM {_KEYS} WITH ORDINALITY AS k(budget, tenant, scope, began_at, n)
JOIN unnest($5::timestamptz[]) WITH ORDINALITY AS e(ends_at, n) USING (n)
ORDER BY n ON CONFLICT DO NOTHING"""
_OF = f"""
{_SELECT} JOIN {_KEYS} AS k(budget, tenant, scope, began_at)
  ON s.budget = k.budget AND s.tenant = k.tenant AND s.scope = k.scope::jsonb AND s.began_at = k.began_at
ORDER BY s.budget, s.tenant, s.scope, s.began_at"""
_WRITE = """
UPDATE spending SET cost_usd = $5, tokens = $6, calls = $7, unpriced = $8,
  limit_usd = $9, limit_tokens = $10, warned = $11,
  changed_at = clock_timestamp()
WHERE budget = $1 AND tenant = $2 AND scope = $3::text::jsonb AND began_at = $4"""
_NOW = f"""
{_SELECT} WHERE s.ends_at > clock_timestamp() AND ($1::text IS NULL OR s.tenant = $1)
ORDER BY s.changed_at DESC LIMIT $2"""

_LIMIT = """
INSERT INTO provider_limits AS l (tenant, account, provider, model, kind, day, count)
SELECT k.tenant, k.account, k.provider, k.model, k.kind, (clock_timestamp() AT TIME ZONE 'UTC')::date, k.n
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
  AS k(tenant, account, provider, model, kind, n)
ON CONFLICT (tenant, account, provider, model, kind, day)
DO UPDATE SET count = l.count + excluded.count, last_at = clock_timestamp()"""
_LIMITS = """
SELECT tenant, account, provider, model, kind, day, count::int FROM provider_limits
WHERE ($1::text IS NULL OR tenant = $1) ORDER BY last_at DESC LIMIT $2"""


async def keep(
    connection: Any, growths: Sequence[Growth], budgets: Sequence[Budget], now: datetime, begun: usage.Begun
) -> list[Observation]:
    """Add spending; return the records of the thresholds that it passed.

    Call it before `usage.keep` of the same growths.
    """
    drawn = spend.drawn(budgets, [msgspec.structs.replace(g, task=tidy(g.task)) for g in growths], now)
    if not drawn:
        return []
    await _begin(connection, [(budget, key[3]) for key, (budget, _) in drawn.items()], now, begun)
    ends = [spend.period_of(budget, now)[1] for budget, _ in drawn.values()]
    await connection.execute(_OPEN, *_columns(drawn), ends)
    known = {
        key_of(spent): spent
        for spent in map(_spent, await connection.fetch(f"{_OF} FOR UPDATE OF s", *_columns(drawn)))
    }
    passed, rows = [], []
    for key, (budget, growth) in drawn.items():
        spent, record = spend.grown(known[key], budget, growth, now)
        rows.append(_row(spent))
        if record is not None:
            passed.append(record)
    await connection.executemany(_WRITE, rows)
    return passed


async def _begin(
    connection: Any, budgets: Sequence[tuple[Budget, datetime]], now: datetime, begun: usage.Begun
) -> None:
    """Write the earlier spending of new budgets."""
    for budget, growths in await usage.begin(connection, budgets, begun):
        rows = sorted(spend.begun(budget, growths, now), key=key_of)
        if rows:
            await connection.execute(_OPEN, *_columns(map(key_of, rows)), [row.ends_at for row in rows])
            await connection.executemany(_WRITE, list(map(_row, rows)))


def _row(spent: Spent) -> tuple[Any, ...]:
    counted = (spent.cost_usd, spent.tokens, spent.calls, spent.unpriced)
    key = key_of(spent)
    return (*key[:2], _scope(key), key[3], *counted, spent.limit_usd, spent.limit_tokens, spent.warned)


async def allowance(connection: Any, budgets: Sequence[Budget], task: Task, begun: usage.Begun) -> list[Spent]:
    """Return each budget that a task spends from, with its spending."""
    now = await connection.fetchval("SELECT clock_timestamp()")
    asked = [budget for budget in budgets if spend.scope_of(budget, task) is not None]
    await _begin(connection, [(budget, spend.period_of(budget, now)[0]) for budget in asked], now, begun)
    fresh = spend.standing(budgets, {}, task, now)
    rows = await connection.fetch(_OF, *_columns(map(key_of, fresh))) if fresh else []
    return spend.standing(budgets, {key_of(spent): spent for spent in map(_spent, rows)}, task, now)


async def listed(connection: Any, tenant: str | None, limit: int) -> list[Spent]:
    """List the spending in the current periods, last changed first."""
    return [_spent(row) for row in await connection.fetch(_NOW, tenant, limit)]


async def count_limits(connection: Any, limited: Sequence[Limited]) -> None:
    """Count calls that providers refused for their limits."""
    counted = sorted(Counter(of_account(one) for one in map(tidy, limited)).items())
    columns = [list(column) for column in zip(*(key for key, _ in counted), strict=True)]
    await connection.execute(_LIMIT, *columns, [n for _, n in counted])


async def limits(connection: Any, tenant: str | None, limit: int) -> list[Limits]:
    """List how often providers refused calls, by account and day, newest first."""
    return [Limits(**dict(row)) for row in await connection.fetch(_LIMITS, tenant, limit)]


def _spent(row: Any) -> Spent:
    values = dict(row)
    values["scope"] = tuple(sorted(msgspec.json.decode(values["scope"], type=dict[str, str]).items()))
    return Spent(**values)


def _columns(keys: Iterable[SpentKey]) -> tuple[list[Any], ...]:
    found = list(keys)
    return [k[0] for k in found], [k[1] for k in found], [_scope(k) for k in found], [k[3] for k in found]


def _scope(key: SpentKey) -> str:
    return json_text(dict(key[2]))


class PostgresBudgets:
    """The budgets of a `PostgresStore`. `budgets` returns the current ones; `begun` belongs to the store."""

    def __init__(self, run: Transact, budgets: Callable[[], Sequence[Budget]], begun: usage.Begun) -> None:
        self._run = run
        self._budgets = budgets
        self._begun = begun

    async def usage(self, task_uid: UUID) -> list[Used]:
        """Return the finalized usage of a task, by model."""
        return await self._run(lambda c: usage.of(c, task_uid))

    async def allowance(self, task: Task) -> list[Spent]:
        """Return each budget that a task spends from."""
        budgets = self._budgets()
        return await self._run(lambda c: allowance(c, budgets, task, self._begun)) if budgets else []

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """List the spending in the current periods."""
        return await self._run(lambda c: listed(c, tenant, limit))

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """List how often providers refused calls."""
        return await self._run(lambda c: limits(c, tenant, limit))
