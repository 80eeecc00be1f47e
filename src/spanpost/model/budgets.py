"""Budgets of money and tokens: what is set, and what of it is spent."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from spanpost.model.tasks import Task
from spanpost.model.usage import Usage


class Growth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the settled figures of a task grew by; less than 0 where they had been too high."""

    task: Task
    calls: int
    #: Of the calls those of which no cost is known.
    unpriced: int
    #: Input and output; cache and reasoning are within.
    tokens: int
    cost_usd: Decimal


class Used(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the settled figures of a task grew by, of one model; less than 0 where they had been too high."""

    task_uid: UUID
    tenant: str
    #: As the calls say it; empty where they do not.
    model: str
    calls: int
    unpriced: int
    usage: Usage


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How often a provider held calls of one account back, in one day (UTC, by the store's clock)."""

    tenant: str
    account: str
    provider: str
    model: str
    #: rate_limit, or quota
    kind: str
    day: date
    count: int


class Spent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was spent of one budget in one period, by those that it is kept for. Times are of the store's clock."""

    budget: str
    tenant: str
    #: Whom it is kept for: attribute and value, sorted; empty for all of the tenant.
    scope: tuple[tuple[str, str], ...] = ()
    began_at: datetime
    ends_at: datetime
    cost_usd: Decimal = Decimal(0)
    tokens: int = 0
    calls: int = 0
    #: Calls of which no cost is known: the true cost is higher.
    unpriced: int = 0
    #: What it was when it was last counted; None: not limited.
    limit_usd: Decimal | None = None
    limit_tokens: int | None = None
    #: The highest share that was warned of in this period.
    warned: float = 0.0

    @property
    def share(self) -> float:
        """Used share of the tighter limit; above 1 when it is overspent."""
        used = float(self.cost_usd / self.limit_usd) if self.limit_usd else 0.0
        return max(used, self.tokens / self.limit_tokens if self.limit_tokens else 0.0)

    @property
    def left_usd(self) -> Decimal | None:
        """Dollars that are left, 0 at least; None: not limited."""
        return None if self.limit_usd is None else max(self.limit_usd - self.cost_usd, Decimal(0))

    @property
    def left_tokens(self) -> int | None:
        """Tokens that are left, 0 at least; None: not limited."""
        return None if self.limit_tokens is None else max(self.limit_tokens - self.tokens, 0)
