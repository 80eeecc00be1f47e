"""What is spent of budgets, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Final

from spanpost.domain.observations import Observation
from spanpost.domain.records import Limited
from spanpost.domain.spend import Growth, Limits, Spent
from spanpost.domain.tasks import Task
from spanpost.fold import spend
from spanpost.fold.quota import of_account
from spanpost.fold.spend import SpendBudget, SpentKey

#: Accounts and days of which limits are remembered.
_KEPT: Final = 10_000


class MemorySpend:
    """The twin of `ledger.spend`."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._spent: dict[SpentKey, Spent] = {}
        self._limits: Counter[tuple[tuple[str, str, str, str, str], date]] = Counter()

    def keep(self, growths: Sequence[Growth], budgets: Sequence[SpendBudget]) -> list[Observation]:
        """Add what was spent; return the records of shares that were passed by it."""
        now, passed = self._clock(), []
        self._spent = {key: spent for key, spent in self._spent.items() if spent.ends_at > now}
        for key, (budget, growth) in spend.drawn(budgets, growths, now).items():
            known = self._spent.pop(key, None) or spend.opened(budget, key[1], key[2], now)
            self._spent[key], record = spend.grown(known, budget, growth, now)
            if record is not None:
                passed.append(record)
        return passed

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

    def allowance(self, budgets: Sequence[SpendBudget], task: Task) -> list[Spent]:
        """Return each budget that a task spends from, as it stands."""
        return spend.standing(budgets, self._spent, task, self._clock())

    def listed(self, tenant: str | None, limit: int) -> list[Spent]:
        """List what is spent in the periods that are now, what changed last first."""
        now = self._clock()
        found = [spent for spent in reversed(self._spent.values()) if spent.ends_at > now and tenant in (None, spent.tenant)]
        return found[:limit]
