"""Spending of budgets in PostgreSQL: one row for each budget, tenant, scope and period (or step of a window).

Rows are locked in one order and as the last ones of a transaction that records, so these locks never
deadlock. The rows of reservations and of questions follow them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.budgets import BudgetRefusal, Growth, Limits, Raise, Reservation, Spent, Used
from spanpost.model.costs import CostsBy, DaySpend, ResultCost, SpendBy
from spanpost.model.interventions import Intervention
from spanpost.model.recorded import BudgetAct, Limited
from spanpost.model.tasks import Task
from spanpost.store import day_spending, reservations, usage
from spanpost.store.rows import json_text, tidy
from spanpost.store.transactions import Transact
from spanpost.tasks import budget_limits
from spanpost.tasks import budgets as spend
from spanpost.tasks.budget_limits import KeptSpending, LimitQuestion, Place
from spanpost.tasks.budgets import STEPS, Budget, key_of
from spanpost.tasks.provider_limits import of_account
from spanpost.tasks.reservations import Reserved
from spanpost.text.repair import mend_value

_COLUMNS = (
    "budget", "tenant", "scope", "began_at", "ends_at", "cost_usd", "tokens", "calls", "unpriced", "tool_calls",
    "wall_time", "limit_usd", "limit_tokens", "limit_calls", "limit_tool_calls", "limit_time", "warned", "raises",
    "at_limit",
)  # fmt: skip
_JSON = ("scope", "raises")
_SELECT = "SELECT " + ", ".join(f"s.{c}::text" if c in _JSON else f"s.{c}" for c in _COLUMNS) + " FROM spending s"
_PLACES = "unnest($1::text[], $2::text[], $3::text[]) AS k(budget, tenant, scope)"
#: All rows of some scopes that may count now: the newest `STEPS` + 2.
_OF = f"""
{_SELECT} JOIN {_PLACES} ON s.budget = k.budget AND s.tenant = k.tenant AND s.scope = k.scope::jsonb
WHERE s.ends_at > $4 OR s.began_at = ANY($5::timestamptz[])
ORDER BY s.budget, s.tenant, s.scope, s.began_at"""
_OPEN = """
INSERT INTO spending (budget, tenant, scope, began_at, ends_at)
SELECT k.budget, k.tenant, k.scope::jsonb, k.began_at, k.ends_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[]) WITH ORDINALITY
  AS k(budget, tenant, scope, began_at, ends_at, n) ORDER BY n ON CONFLICT DO NOTHING"""
_WRITE = f"""
UPDATE spending SET {
    ", ".join(f"{c} = ${n}{'::text::jsonb' if c in _JSON else ''}" for n, c in enumerate(_COLUMNS, 1) if n > 4)
}, changed_at = clock_timestamp()
WHERE budget = $1 AND tenant = $2 AND scope = $3::text::jsonb AND began_at = $4"""
_NOW = f"""
{_SELECT} WHERE s.ends_at > clock_timestamp() AND ($1::text IS NULL OR s.tenant = $1)
ORDER BY s.changed_at DESC LIMIT $2"""
#: Acts of budgets on these tasks and on those that became part of them, and acts with these keys.
_DONE = """
SELECT task_uid, idempotency_key FROM human_interventions
WHERE (task_uid = ANY($1::uuid[]) AND result = 'done' AND via = 'budget') OR idempotency_key = ANY($2::text[])"""
#: Whether a person resumed a task after a budget's act on it.
_RESUMED = """
SELECT EXISTS (
  SELECT FROM human_interventions r JOIN human_interventions b ON b.task_uid = r.task_uid AND r.number > b.number
  WHERE b.task_uid = $1 AND b.via = 'budget' AND b.result = 'done' AND starts_with(b.idempotency_key, $2 || ' ')
    AND r.verb = 'resume' AND r.result = 'done'
)"""
_ASK = """
INSERT INTO budget_questions (key, budget, tenant, scope, period, raises, task_uid)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7) ON CONFLICT DO NOTHING"""
_ASKED = """
SELECT key, budget, tenant, scope::text, period, raises, task_uid FROM budget_questions WHERE key = $1"""

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

_COST_KEYS = {"pr": "pull_request", "person": "requested_by", "repo": "repo"}
_COSTS = """
SELECT coalesce({key}, '') AS key, sum(cost_usd) AS cost_usd, count(DISTINCT uid)::int AS tasks,
  count(DISTINCT pull_request)::int AS pull_requests, coalesce(bool_or(unpriced_calls > 0), false) AS is_partial
FROM agent_result_costs
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::timestamptz IS NULL OR started_at >= $2)
  AND (NOT $4::boolean OR pull_request IS NOT NULL)
GROUP BY 1 ORDER BY 2 DESC NULLS LAST, coalesce({key}, '') COLLATE "C" LIMIT $3"""


async def keep(
    connection: Any, growths: Sequence[Growth], budgets: Sequence[Budget], now: datetime, begun: usage.Begun
) -> KeptSpending:
    """Add spending; return what that comes to. Call it before `usage.keep` of the same batch."""
    by_name = {budget.name: budget for budget in budgets}
    places = budget_limits.by_place(_tidied(growth) for growth in growths if growth.budget in by_name)
    if not places:
        return KeptSpending([], [])
    known = await _locked(connection, places, by_name, now, begun)
    kept, rows = KeptSpending([], []), []
    for place, grown in places.items():
        found = budget_limits.reached(by_name[place[0]], known.get(place, []), grown, now)
        rows += [_row(row) for row in found.rows]
        kept.acts.extend(found.acts)
        if found.warning is not None:
            kept.passed.append(found.warning)
    await connection.executemany(_WRITE, rows)
    await reservations.consume(connection, places)
    if kept.acts:
        uids, keys = [one.task.uid for one in kept.acts], [one.act.idempotency_key for one in kept.acts]
        done = {(row[0], row[1].rpartition(" ")[0]) for row in await connection.fetch(_DONE, uids, keys)}
        kept = KeptSpending(kept.passed, [one for one in kept.acts if (one.task.uid, one.occasion) not in done])
    return kept


async def ask(connection: Any, asked: LimitQuestion) -> None:
    """Keep what a question is about."""
    await connection.execute(
        _ASK, asked.key, asked.budget, asked.tenant, json_text(dict(asked.scope)), asked.period, asked.raises,
        asked.task_uid,
    )  # fmt: skip


async def answered(
    connection: Any, key: UUID, act: Intervention, budgets: Sequence[Budget], now: datetime
) -> tuple[Intervention, list[BudgetAct]] | None:
    """Raise a budget by a person's answer to its question; return the act on the task that the answer stands for.

    With it the raise, if there was one. None: the question is not a budget's.
    """
    row = await connection.fetchrow(_ASKED, key)
    if row is None:
        return None
    asked = LimitQuestion(**dict(row) | {"scope": _scope_of(row["scope"])})
    budget = next((one for one in budgets if one.name == asked.budget), None)
    counted = []
    if budget is not None:
        place = asked.budget, asked.tenant, asked.scope
        current = spend.opened(budget, asked.tenant, asked.scope, now)
        await _open(connection, [current])
        rows = (await _rows(connection, [place], [current.began_at], now, is_locked=True)).get(place, [])
        raised = budget_limits.raised(asked, budget, rows, act, now)
        if raised is not None:
            await connection.execute(_WRITE, *_row(raised))
            counted.append(BudgetAct(budget=asked.budget, tenant=asked.tenant, act="raise"))
    return budget_limits.follow_up(asked, act, now), counted


async def _locked(
    connection: Any, places: Mapping[Place, Sequence[Growth]], budgets: Mapping[str, Budget], now: datetime,
    begun: usage.Begun,
) -> dict[Place, list[Spent]]:  # fmt: skip
    """Return the rows of these scopes, locked; those of the growth exist then."""
    names = {place[0] for place in places}
    await _begin(connection, [budgets[name] for name in sorted(names)], now, begun)
    asked = {(*place, g.began_at): g for place, grown in places.items() for g in grown}
    began = sorted({key[3] for key in asked})
    known = await _rows(connection, list(places), began, now, is_locked=True)
    missing = asked.keys() - {key_of(row) for rows in known.values() for row in rows}
    if not missing:
        return known
    new = [asked[key] for key in sorted(missing)]
    await _open(connection, new)
    return await _rows(connection, list(places), began, now, is_locked=True)


async def _open(connection: Any, new: Sequence[Growth | Spent]) -> None:
    places = [(one.budget, one.tenant, one.scope) for one in new]
    await connection.execute(_OPEN, *_columns(places), [one.began_at for one in new], [one.ends_at for one in new])


async def _rows(
    connection: Any, places: Sequence[Place], began: Sequence[datetime], now: datetime, *, is_locked: bool = False
) -> dict[Place, list[Spent]]:
    lock = " FOR UPDATE OF s" if is_locked else ""
    found: dict[Place, list[Spent]] = {}
    for row in map(_spent, await connection.fetch(_OF + lock, *_columns(places), now, began)):
        found.setdefault((row.budget, row.tenant, row.scope), []).append(row)
    return found


async def _begin(connection: Any, budgets: Sequence[Budget], now: datetime, begun: usage.Begun) -> None:
    """Write the earlier spending of new budgets."""
    asked = [(budget, spend.period_of(budget, now)[0]) for budget in budgets]
    for budget, used in await usage.begin(connection, asked, begun):
        rows = sorted(spend.begun(budget, used, now), key=key_of)
        if rows:
            await _open(connection, rows)
            await connection.executemany(_WRITE, list(map(_row, rows)))


def _tidied(growth: Growth) -> Growth:
    """Return growth whose scope PostgreSQL accepts."""
    if all(value.isprintable() for _, value in growth.scope):
        return growth
    scope = tuple((name, mend_value(value)[0]) for name, value in growth.scope)
    return msgspec.structs.replace(growth, scope=scope)


def _row(spent: Spent) -> tuple[Any, ...]:
    values = {name: getattr(spent, name) for name in _COLUMNS}
    values["scope"], values["raises"] = json_text(dict(spent.scope)), json_text(spent.raises)
    return tuple(values.values())


async def standing(
    connection: Any, budgets: Sequence[Budget], task: Task, begun: usage.Begun, *, is_locked: bool = False
) -> tuple[list[Spent], datetime]:
    """Return each budget that a task spends from, with its spending and what is reserved, and the time.

    `is_locked`: open and lock their rows.
    """
    now = await connection.fetchval("SELECT clock_timestamp()")
    asked = {budget.name: scope for budget in budgets if (scope := spend.scope_of(budget, task)) is not None}
    if not asked:
        return [], now
    by_name = {budget.name: budget for budget in budgets if budget.name in asked}
    await _begin(connection, list(by_name.values()), now, begun)
    new = [spend.opened(budget, task.tenant, asked[name], now) for name, budget in sorted(by_name.items())]
    places = [key_of(one)[:3] for one in new]
    if is_locked:
        await _open(connection, new)
    rows = await _rows(connection, places, [one.began_at for one in new], now, is_locked=is_locked)
    counted = [r for place, found in rows.items() for r in found if budget_limits.counts(r, by_name[place[0]], now)]
    found = spend.standing(budgets, counted, task, now)
    return await reservations.beside(connection, found), now


async def listed(connection: Any, tenant: str | None, limit: int, budgets: Sequence[Budget] = ()) -> list[Spent]:
    """List the spending in the current periods, last changed first."""
    rolling = any(budget.rolling is not None for budget in budgets)
    rows = await connection.fetch(_NOW, tenant, limit * (STEPS + 1) if rolling else limit)
    now = await connection.fetchval("SELECT clock_timestamp()")
    return budget_limits.listed(map(_spent, rows), budgets, now)[:limit]


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
    values["scope"] = _scope_of(values["scope"])
    values["raises"] = tuple(msgspec.json.decode(values["raises"], type=list[Raise]))
    return Spent(**values)


def _scope_of(text: str) -> spend.Scope:
    return tuple(sorted(msgspec.json.decode(text, type=dict[str, str]).items()))


def _columns(places: Iterable[Place]) -> tuple[list[Any], ...]:
    found = list(places)
    return [k[0] for k in found], [k[1] for k in found], [json_text(dict(k[2])) for k in found]


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
        if not budgets:
            return []
        return (await self._run(lambda c: standing(c, budgets, task, self._begun)))[0]

    async def refusal(self, task: Task, tool: str, tool_input: Mapping[str, Any] | None) -> BudgetRefusal | None:
        """Return why a budget refuses the next tool call of a task. See `Budgets.refusal`."""
        budgets = {budget.name: budget for budget in self._budgets() if budget.acts}
        return await self._run(lambda c: self._refusal(c, budgets, task, tool, tool_input)) if budgets else None

    async def _refusal(
        self, connection: Any, budgets: Mapping[str, Budget], task: Task, tool: str,
        tool_input: Mapping[str, Any] | None,
    ) -> BudgetRefusal | None:  # fmt: skip
        found, now = await standing(connection, list(budgets.values()), task, self._begun)
        for spent in found:
            budget = budgets[spent.budget]
            if budget_limits.refuses(budget, spent, tool, tool_input):
                occasion = budget_limits.occasion_of(budget, spent, now)
                if not await connection.fetchval(_RESUMED, task.uid, occasion):
                    return budget_limits.refusal_of(spent, budget)
        return None

    async def reserve(self, reservation: Reservation, task: Task) -> Reserved:
        """Reserve from each budget of a task. See `Budgets.reserve`."""
        budgets = self._budgets()

        async def reserve(connection: Any) -> Reserved:
            found, now = await standing(connection, budgets, task, self._begun, is_locked=True)
            return await reservations.reserve(connection, reservation, found, now)

        return await self._run(reserve)

    async def give_back(self, tenant: str, id: UUID) -> None:
        """Give a reservation back. See `Budgets.give_back`."""
        await self._run(lambda c: reservations.give_back(c, tenant, id))

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """List the spending in the current periods."""
        budgets = self._budgets()
        return await self._run(lambda c: listed(c, tenant, limit, budgets))

    async def costs(self, tenant: str | None, by: CostsBy, since: datetime | None, limit: int) -> list[ResultCost]:
        """List what pull requests, people or repositories cost, the highest first."""
        rows = await self._run(lambda c: c.fetch(_COSTS.format(key=_COST_KEYS[by]), tenant, since, limit, by == "pr"))
        return [ResultCost(**dict(row)) for row in rows]

    async def days(self, tenant: str, by: SpendBy, days: Sequence[datetime], until: datetime) -> list[DaySpend]:
        """List what model calls cost on each day."""
        return await self._run(lambda c: day_spending.read(c, tenant, by, days, until))

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """List how often providers refused calls."""
        return await self._run(lambda c: limits(c, tenant, limit))
