"""Spending of budgets, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from spanpost.model.budgets import Growth, Limits, Spent, Used
from spanpost.model.observations import Observation
from spanpost.model.recorded import Limited
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
from spanpost.store.memory_tables import MemoryTables
from spanpost.tasks import budgets as spend
from spanpost.tasks.budgets import Budget, SpentKey
from spanpost.tasks.provider_limits import of_account

#: Pairs of account and day whose provider limits are kept.
_KEPT: Final = 10_000


class MemoryBudgets:
    """The same as `usage` and `budgets`, over dictionaries."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        self._clock = tables.clock
        self._spent: dict[SpentKey, Spent] = {}
        #: Finalized usage by task and model, in quarters of an hour; and the budget periods that have begun.
        self._used: dict[tuple[UUID, str], list[tuple[datetime, Used]]] = {}
        self._begun: set[tuple[str, datetime]] = set()
        self._limits: Counter[tuple[tuple[str, str, str, str, str], date]] = Counter()

    def keep(self, growths: Sequence[Growth]) -> list[Observation]:
        """Charge usage to budgets; return the records of thresholds that it crossed.

        Call it before `keep_use` of the same batch.
        """
        now, passed = self._clock(), []
        self._spent = {key: spent for key, spent in self._spent.items() if spent.ends_at > now}
        drawn = spend.drawn(self._tables.rules.budgets, growths, now)
        self._begin([budget for budget, _ in drawn.values()], now)
        for key, (budget, growth) in drawn.items():
            known = self._spent.pop(key, None) or spend.opened(budget, key[1], key[2], now)
            self._spent[key], record = spend.grown(known, budget, growth, now)
            if record is not None:
                passed.append(record)
        return passed

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
            key = budget.name, spend.period_of(budget, now)[0]
            if key in self._begun:
                continue
            self._begun = {one for one in self._begun if one[0] != budget.name} | {key}
            used = [
                Growth(
                    task=tasks[uid],
                    calls=(one := _sum([u for at, u in kept if at >= key[1]])).calls,
                    unpriced=one.unpriced,
                    tokens=(one.usage.input or 0) + (one.usage.output or 0),
                    cost_usd=one.usage.cost_usd or Decimal(0),
                )
                for (uid, _), kept in self._used.items()
                if uid in tasks and any(at >= key[1] for at, _ in kept)
            ]
            self._spent |= {spend.key_of(spent): spent for spent in spend.begun(budget, used, now)}

    def count_limits(self, limited: Sequence[Limited]) -> None:
        """Count calls that providers throttled."""
        if limited:
            today = self._clock().astimezone(UTC).date()
            self._limits.update((of_account(one), today) for one in limited)
            for key in list(self._limits)[:-_KEPT]:
                del self._limits[key]

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """List how often providers throttled calls."""
        found = [
            Limits(tenant=key[0], account=key[1], provider=key[2], model=key[3], kind=key[4], day=day, count=count)
            for (key, day), count in reversed(self._limits.items())
            if tenant in (None, key[0])
        ]
        return found[:limit]

    async def allowance(self, task: Task) -> list[Spent]:
        """Return each budget that a task spends from, with its current amount."""
        budgets = self._tables.rules.budgets
        self._begin([budget for budget in budgets if spend.scope_of(budget, task) is not None], self._clock())
        return spend.standing(budgets, self._spent, task, self._clock())

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """List the spending in the current periods, the latest change first."""
        now = self._clock()
        found = [
            spent for spent in reversed(self._spent.values()) if spent.ends_at > now and tenant in (None, spent.tenant)
        ]
        return found[:limit]


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
