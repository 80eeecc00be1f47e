"""What is spent of budgets, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from spanpost.domain.observations import Observation
from spanpost.domain.spend import Growth, Spent
from spanpost.domain.tasks import Task
from spanpost.fold import spend
from spanpost.fold.spend import SpendBudget, SpentKey


class MemorySpend:
    """The twin of `ledger.spend`."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._spent: dict[SpentKey, Spent] = {}

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

    def allowance(self, budgets: Sequence[SpendBudget], task: Task) -> list[Spent]:
        """Return each budget that a task spends from, as it stands."""
        return spend.standing(budgets, self._spent, task, self._clock())

    def listed(self, tenant: str | None, limit: int) -> list[Spent]:
        """List what is spent in the periods that are now, what changed last first."""
        now = self._clock()
        found = [spent for spent in reversed(self._spent.values()) if spent.ends_at > now and tenant in (None, spent.tenant)]
        return found[:limit]
