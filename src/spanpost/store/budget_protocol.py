"""The protocol of budgets: one role of the store (`spanpost.store.protocols`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from spanpost.model.budgets import BudgetRefusal, Limits, Reservation, Spent, Used
from spanpost.model.costs import CostsBy, DaySpend, ResultCost, SpendBy
from spanpost.model.tasks import Task
from spanpost.tasks.reservations import Reserved


class Budgets(Protocol):
    """**Protocol:** budgets, their spending, and what agents reserve from them."""

    async def usage(self, task_uid: UUID) -> list[Used]:
        """**Protocol:** return the finalized usage of a task, by model."""
        ...

    async def allowance(self, task: Task) -> list[Spent]:
        """**Protocol:** return each budget that a task spends from, with what was seen to be spent, and is reserved."""
        ...

    async def refusal(self, task: Task, tool: str, tool_input: Mapping[str, Any] | None) -> BudgetRefusal | None:
        """**Protocol:** return why a budget that is used up refuses the next tool call of a task.

        None: no budget refuses it; it only saves work; or a person resumed the task after the budget's act.
        """
        ...

    async def reserve(self, reservation: Reservation, task: Task) -> Reserved:
        """**Protocol:** reserve from each budget of a task, or refuse. The same reservation again counts once."""
        ...

    async def give_back(self, tenant: str, id: UUID) -> None:
        """**Protocol:** give back what is left of a reservation. Safe to repeat."""
        ...

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """**Protocol:** list the spending in the current periods, last changed first."""
        ...

    async def costs(self, tenant: str | None, by: CostsBy, since: datetime | None, limit: int) -> list[ResultCost]:
        """**Protocol:** list what results cost (`tasks.result_costs`) of root tasks that began since, highest first."""
        ...

    async def days(self, tenant: str, by: SpendBy, days: Sequence[datetime], until: datetime) -> list[DaySpend]:
        """**Protocol:** list what finalized model calls cost on each day, by model, agent, and so on. `days`: when
        each day begins in its time zone, oldest first; the last one ends at `until`.
        """
        ...

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """**Protocol:** list how often providers refused calls, newest first.

        Counted by account, provider, model and day.
        """
        ...
