"""Spending of budgets, in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.budgets import BudgetFigures, BudgetRefusal, Growth, Limits, Reservation, Spent, Used, UsedBefore
from spanpost.model.costs import CostsBy, DaySpend, ResultCost, SpendBy
from spanpost.model.interventions import Intervention
from spanpost.model.recorded import BudgetAct, Limited
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
from spanpost.store import day_spending
from spanpost.store.memory_tables import MemoryTables
from spanpost.tasks import budget_limits, result_costs
from spanpost.tasks import budgets as spend
from spanpost.tasks.amounts import nano
from spanpost.tasks.budget_limits import KeptSpending, LimitQuestion, Place, by_place
from spanpost.tasks.budgets import EPOCH, Budget, SpentKey
from spanpost.tasks.provider_limits import of_account
from spanpost.tasks.reservations import (
    LINGER,
    Claim,
    Reserved,
    claims_of,
    consumed,
    refs_of,
    why_refused,
    with_reserved,
)

#: Pairs of account and day whose provider limits are kept.
_KEPT: Final = 10_000


class MemoryBudgets:
    """The same as `usage` and `budgets`, over dictionaries."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        self._clock = tables.clock
        self._spent: dict[SpentKey, Spent] = {}
        #: Finalized usage by task and model, in quarters of an hour; and the budgets that have begun.
        self._used: dict[tuple[UUID, str], list[tuple[datetime, Used]]] = {}
        self._begun: set[str] = set()
        self._claims: dict[tuple[str, UUID, str], Claim] = {}
        self._asked: dict[UUID, LimitQuestion] = {}
        #: Whether a person resumed a task after a budget acted on it for this occasion.
        self.was_resumed: Callable[[UUID, str], bool] = lambda task, occasion: False
        self._limits: Counter[tuple[tuple[str, str, str, str, str], date]] = Counter()

    def keep(self, growths: Sequence[Growth]) -> KeptSpending:
        """Charge usage to budgets; return what that comes to. Call it before `keep_use` of the same batch."""
        now, kept = self._clock(), KeptSpending([], [])
        self._spent = {key: spent for key, spent in self._spent.items() if spent.ends_at > now or key[3] == EPOCH}
        by_name = self._by_name
        self._begin([by_name[name] for name in sorted({g.budget for g in growths} & by_name.keys())], now)
        for place, grown in by_place(g for g in growths if g.budget in by_name).items():
            found = budget_limits.reached(by_name[place[0]], self._rows(place), grown, now)
            for row in found.rows:
                self._spent.pop(spend.key_of(row), None)
                self._spent[spend.key_of(row)] = row
            kept.acts.extend(found.acts)
            if found.warning is not None:
                kept.passed.append(found.warning)
            for growth in grown:
                self._consume(growth)
        return kept

    @property
    def _by_name(self) -> dict[str, Budget]:
        return {budget.name: budget for budget in self._tables.rules.budgets}

    def _rows(self, place: Place) -> list[Spent]:
        return [row for key, row in self._spent.items() if key[:3] == place]

    def _consume(self, growth: Growth) -> None:
        refs = refs_of(growth.task)
        own = [
            claim
            for claim in self._claims.values()
            if (claim.budget, claim.tenant) == (growth.budget, growth.tenant) and claim.ref in refs
        ]
        for claim in consumed(own, growth.figures):
            key = claim.tenant, claim.id, claim.budget
            if claim.calls:
                self._claims[key] = claim
            else:
                del self._claims[key]

    # --- questions ---------------------------------------------------------------------------------------------------

    def ask(self, asked: LimitQuestion) -> None:
        """Keep what a question is about."""
        self._asked[asked.key] = asked
        while len(self._asked) > _KEPT:
            del self._asked[next(iter(self._asked))]

    def answered(self, key: UUID, act: Intervention, now: datetime) -> tuple[Intervention, list[BudgetAct]] | None:
        """Raise a budget by a person's answer to its question; return the act that the answer stands for."""
        asked = self._asked.get(key)
        if asked is None:
            return None
        place = asked.budget, asked.tenant, asked.scope
        raised = budget_limits.raised(asked, self._by_name.get(asked.budget), self._rows(place), act, now)
        counted = []
        if raised is not None:
            self._spent[spend.key_of(raised)] = raised
            counted.append(BudgetAct(budget=asked.budget, tenant=asked.tenant, act="raise"))
        return budget_limits.follow_up(asked, act, now), counted

    # --- usage -------------------------------------------------------------------------------------------------------

    def keep_use(self, used: Sequence[Used]) -> None:
        """Add finalized usage."""
        now = self._clock()
        at = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
        for one in used:
            kept = self._used.setdefault((one.task_uid, one.model), [])
            before = [kept.pop()[1]] if kept and kept[-1][0] == at else []
            kept.append((at, _sum([*before, one])))

    async def usage(self, task_uid: UUID) -> list[Used]:
        """Return a task's finalized usage, by model."""
        return [_sum([u for _, u in kept]) for (uid, _), kept in sorted(self._used.items()) if uid == task_uid]

    def forget(self, tasks: Collection[UUID]) -> None:
        """Drop the usage of these tasks."""
        self._used = {key: kept for key, kept in self._used.items() if key[0] not in tasks}

    def _begin(self, budgets: Sequence[Budget], now: datetime) -> None:
        """Charge earlier usage to budgets that are new."""
        tasks = self._tables.tasks
        for budget in budgets:
            if budget.name in self._begun:
                continue
            self._begun.add(budget.name)
            began = spend.period_of(budget, now)[0]
            used = []
            for (uid, _), kept in self._used.items():
                if uid in tasks and (counted := [u for at, u in kept if at >= began]):
                    one = _sum(counted)
                    tokens = (one.usage.input or 0) + (one.usage.output or 0)
                    figures = BudgetFigures(one.calls, one.unpriced, tokens, nano(one.usage.cost_usd or Decimal(0)))
                    used.append(UsedBefore(task=tasks[uid], figures=figures))
            self._spent |= {spend.key_of(spent): spent for spent in spend.begun(budget, used, now)}

    def count_limits(self, limited: Sequence[Limited]) -> None:
        """Count calls that providers throttled."""
        if limited:
            today = self._clock().astimezone(UTC).date()
            self._limits.update((of_account(one), today) for one in limited)
            for key in list(self._limits)[:-_KEPT]:
                del self._limits[key]

    async def costs(self, tenant: str | None, by: CostsBy, since: datetime | None, limit: int) -> list[ResultCost]:
        """List what pull requests, people or repositories cost, the highest first."""
        tasks = list(self._tables.tasks.values())
        roots = {
            task.uid
            for task in tasks
            if tenant in (None, task.tenant)
            and (since is None or (task.started_at is not None and task.started_at >= since))
        }
        return result_costs.listed([task for task in tasks if (task.root_uid or task.uid) in roots], by)[:limit]

    async def days(self, tenant: str, by: SpendBy, days: Sequence[datetime], until: datetime) -> list[DaySpend]:
        """List what model calls cost on each day."""
        found = []
        for (uid, model), kept in self._used.items():
            task = self._tables.task(uid)
            key = model if by == "model" else getattr(task, day_spending.FIELDS[by], None) or ""
            for at, used in kept:
                if used.tenant == tenant and days[0] <= at < until:
                    found.append(
                        DaySpend(
                            day=day_spending.day_of(days[bisect_right(days, at) - 1]),
                            key=key,
                            cost_usd=used.usage.cost_usd or Decimal(0),
                            calls=used.calls,
                            unpriced=used.unpriced,
                            input_tokens=used.usage.input or 0,
                            output_tokens=used.usage.output or 0,
                            cache_read_tokens=used.usage.cache_read or 0,
                        )
                    )
        return day_spending.gathered(found)

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """List how often providers throttled calls."""
        found = [
            Limits(tenant=key[0], account=key[1], provider=key[2], model=key[3], kind=key[4], day=day, count=count)
            for (key, day), count in reversed(self._limits.items())
            if tenant in (None, key[0])
        ]
        return found[:limit]

    def _standing(self, task: Task, budgets: Sequence[Budget], now: datetime) -> list[Spent]:
        self._begin([budget for budget in budgets if spend.scope_of(budget, task) is not None], now)
        by_name = {budget.name: budget for budget in budgets}
        counted = [
            row
            for row in self._spent.values()
            if row.budget in by_name and budget_limits.counts(row, by_name[row.budget], now)
        ]
        self._claims = {key: claim for key, claim in self._claims.items() if claim.expires_at > now}
        return [
            with_reserved(
                spent,
                [
                    claim
                    for claim in self._claims.values()
                    if (claim.budget, claim.tenant, claim.scope) == (spent.budget, spent.tenant, spent.scope)
                ],
            )
            for spent in spend.standing(budgets, counted, task, now)
        ]

    async def allowance(self, task: Task) -> list[Spent]:
        """Return each budget that a task spends from, with its current amount."""
        return self._standing(task, self._tables.rules.budgets, self._clock())

    async def refusal(self, task: Task, tool: str, tool_input: Mapping[str, Any] | None) -> BudgetRefusal | None:
        """Return why a budget refuses the next tool call of a task. See `Budgets.refusal`."""
        now = self._clock()
        budgets = {budget.name: budget for budget in self._tables.rules.budgets if budget.acts}
        for spent in self._standing(task, list(budgets.values()), now):
            budget = budgets[spent.budget]
            if budget_limits.refuses(budget, spent, tool, tool_input) and not self.was_resumed(
                task.uid, budget_limits.occasion_of(budget, spent, now)
            ):
                return budget_limits.refusal_of(spent, budget)
        return None

    async def reserve(self, reservation: Reservation, task: Task) -> Reserved:
        """Reserve from each budget of a task. See `Budgets.reserve`."""
        now = self._clock()
        standing = self._standing(task, self._tables.rules.budgets, now)
        known = [c for c in self._claims.values() if (c.tenant, c.id) == (reservation.tenant, reservation.id)]
        if known:
            return Reserved(expires_at=max(c.expires_at for c in known), budgets=standing)
        if why := why_refused(reservation, standing):
            return Reserved(refusal=why, budgets=standing)
        for claim in claims_of(reservation, standing, now):
            self._claims[claim.tenant, claim.id, claim.budget] = claim
        return Reserved(expires_at=now + reservation.lasts, budgets=standing)

    async def give_back(self, tenant: str, id: UUID) -> None:
        """Give a reservation back. See `Budgets.give_back`."""
        until = self._clock() + LINGER
        for key, claim in self._claims.items():
            if key[:2] == (tenant, id):
                self._claims[key] = msgspec.structs.replace(claim, expires_at=min(claim.expires_at, until))

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """List the spending in the current periods, the latest change first."""
        now = self._clock()
        found = [
            spent for spent in reversed(self._spent.values()) if spent.ends_at > now and tenant in (None, spent.tenant)
        ]
        return budget_limits.listed(found, self._tables.rules.budgets, now)[:limit]


def _sum(kept: Sequence[Used]) -> Used:
    def total(field: str) -> int:
        return sum(getattr(one.usage, field) or 0 for one in kept)

    tokens = {name: total(name) for name in ("input", "output", "cache_read", "cache_write", "reasoning")}
    cost_usd = sum((one.usage.cost_usd or Decimal(0) for one in kept), Decimal(0))
    first = kept[0]
    return Used(
        task_uid=first.task_uid,
        tenant=first.tenant,
        model=first.model,
        calls=sum(one.calls for one in kept),
        unpriced=sum(one.unpriced for one in kept),
        usage=Usage(**tokens, cost_usd=cost_usd),
    )
