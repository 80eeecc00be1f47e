"""What is spent of budgets, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from spanpost.model.budgets import Growth, Limits, Spent, Used
from spanpost.model.observations import Observation
from spanpost.model.recorded import Limited
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
from spanpost.tasks import budgets as spend
from spanpost.tasks.budgets import Budget, SpentKey
from spanpost.tasks.provider_limits import of_account

#: Accounts and days of which limits are remembered.
_KEPT: Final = 10_000


class MemorySpend:
    """The twin of `ledger.spend`."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._spent: dict[SpentKey, Spent] = {}
        #: By task and model, when what of it settled; and the periods of budgets that have begun.
        self._used: dict[tuple[UUID, str], list[tuple[datetime, Used]]] = {}
        self._begun: set[tuple[str, datetime]] = set()
        self._limits: Counter[tuple[tuple[str, str, str, str, str], date]] = Counter()

    def keep(self, growths: Sequence[Growth], budgets: Sequence[Budget], tasks: Mapping[UUID, Task]) -> list[Observation]:
        """Add what was spent; return the records of shares that were passed by it. To be called before `keep_use` of the same."""
        now, passed = self._clock(), []
        self._spent = {key: spent for key, spent in self._spent.items() if spent.ends_at > now}
        drawn = spend.drawn(budgets, growths, now)
        self._begin([budget for budget, _ in drawn.values()], tasks, now)
        for key, (budget, growth) in drawn.items():
            known = self._spent.pop(key, None) or spend.opened(budget, key[1], key[2], now)
            self._spent[key], record = spend.grown(known, budget, growth, now)
            if record is not None:
                passed.append(record)
        return passed

    def keep_use(self, used: Sequence[Used]) -> None:
        """Add what settled."""
        now = self._clock()
        at = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
        for one in used:
            told = self._used.setdefault((one.task_uid, one.model), [])
            before = [told.pop()[1]] if told and told[-1][0] == at else []
            told.append((at, _sum([*before, one])))

    def usage(self, task_uid: UUID) -> list[Used]:
        """Return what a task's calls came to that have settled, by model."""
        return [_sum([u for _, u in told]) for (uid, _), told in sorted(self._used.items()) if uid == task_uid]

    def forget(self, tasks: Collection[UUID]) -> None:
        """Let go of what these tasks used."""
        self._used = {key: told for key, told in self._used.items() if key[0] not in tasks}

    def _begin(self, budgets: Sequence[Budget], tasks: Mapping[UUID, Task], now: datetime) -> None:
        """Count what was used before of budgets that are newly set."""
        for budget in budgets:
            key = budget.name, spend.period_of(budget, now)[0]
            if key in self._begun:
                continue
            self._begun = {one for one in self._begun if one[0] != budget.name} | {key}
            used = [
                Growth(
                    task=tasks[uid],
                    calls=(one := _sum([u for at, u in told if at >= key[1]])).calls,
                    unpriced=one.unpriced,
                    tokens=(one.usage.input or 0) + (one.usage.output or 0),
                    cost_usd=one.usage.cost_usd or Decimal(0),
                )
                for (uid, _), told in self._used.items()
                if uid in tasks and any(at >= key[1] for at, _ in told)
            ]
            self._spent |= {spend.key_of(spent): spent for spent in spend.begun(budget, used, now)}

    def count_limits(self, limited: Sequence[Limited]) -> None:
        """Count calls that providers held back."""
        if limited:
            today = self._clock().astimezone(UTC).date()
            self._limits.update((of_account(one), today) for one in limited)
            for key in list(self._limits)[:-_KEPT]:
                del self._limits[key]

    def limits(self, tenant: str | None, limit: int) -> list[Limits]:
        """List how often providers held calls back."""
        found = [
            Limits(tenant=key[0], account=key[1], provider=key[2], model=key[3], kind=key[4], day=day, count=count)
            for (key, day), count in reversed(self._limits.items())
            if tenant in (None, key[0])
        ]
        return found[:limit]

    def allowance(self, budgets: Sequence[Budget], task: Task, tasks: Mapping[UUID, Task]) -> list[Spent]:
        """Return each budget that a task spends from, as it stands."""
        self._begin([budget for budget in budgets if spend.scope_of(budget, task) is not None], tasks, self._clock())
        return spend.standing(budgets, self._spent, task, self._clock())

    def listed(self, tenant: str | None, limit: int) -> list[Spent]:
        """List what is spent in the periods that are now, what changed last first."""
        now = self._clock()
        found = [spent for spent in reversed(self._spent.values()) if spent.ends_at > now and tenant in (None, spent.tenant)]
        return found[:limit]


def _sum(told: Sequence[Used]) -> Used:
    def total(field: str) -> int:
        return sum(getattr(one.usage, field) or 0 for one in told)

    tokens = {name: total(name) for name in ("input", "output", "cache_read", "cache_write", "reasoning")}
    cost_usd = sum((one.usage.cost_usd or Decimal(0) for one in told), Decimal(0))
    first = told[0]
    return Used(
        task_uid=first.task_uid,
        tenant=first.tenant,
        model=first.model,
        calls=sum(one.calls for one in told),
        unpriced=sum(one.unpriced for one in told),
        usage=Usage(**tokens, cost_usd=cost_usd),
    )
