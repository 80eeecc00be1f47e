"""Budgets of money and tokens: their limits and what was spent."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from spanpost.model.tasks import Task
from spanpost.model.usage import Usage


class Growth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Growth of a task's finalized figures; negative when they had been too high."""

    task: Task
    calls: int
    #: Calls whose cost is unknown.
    unpriced: int
    #: Input and output, including cache and reasoning.
    tokens: int
    cost_usd: Decimal


class Used(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Growth of a task's finalized figures for one model; negative when they had been too high."""

    task_uid: UUID
    tenant: str
    #: As the calls name it; empty when they do not.
    model: str
    calls: int
    unpriced: int
    usage: Usage


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How often a provider limited the calls of one account in one day (UTC, by the store's clock)."""

    tenant: str
    account: str
    provider: str
    model: str
    #: rate_limit, or quota
    kind: str
    day: date
    count: int


class Spent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Spending of one budget in one period and scope. Times are by the store's clock."""

    budget: str
    tenant: str
    #: Attributes and values that the budget is kept for, sorted; empty: the whole tenant.
    scope: tuple[tuple[str, str], ...] = ()
    began_at: datetime
    ends_at: datetime
    cost_usd: Decimal = Decimal(0)
    tokens: int = 0
    calls: int = 0
    #: Calls whose cost is unknown: the true cost is higher.
    unpriced: int = 0
    #: The limits when it was last counted; None: not limited.
    limit_usd: Decimal | None = None
    limit_tokens: int | None = None
    #: The highest share already warned of in this period.
    warned: float = 0.0

    @property
    def share(self) -> float:
        """Used share of the tighter limit; above 1 when it is overspent."""
        used = float(self.cost_usd / self.limit_usd) if self.limit_usd else 0.0
        return max(used, self.tokens / self.limit_tokens if self.limit_tokens else 0.0)

    @property
    def left_usd(self) -> Decimal | None:
        """Dollars left, at least 0; None: not limited."""
        return None if self.limit_usd is None else max(self.limit_usd - self.cost_usd, Decimal(0))

    @property
    def left_tokens(self) -> int | None:
        """Tokens left, at least 0; None: not limited."""
        return None if self.limit_tokens is None else max(self.limit_tokens - self.tokens, 0)
