"""Budgets: their limits, what was spent, and what a person raised."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID

import msgspec

from spanpost.model.tasks import Task
from spanpost.model.usage import Usage

#: What happens to a task that spends from a budget which is used up.
AtLimit = Literal["warn", "ask", "pause", "cancel"]
#: The share of its limit by which one answer of a person raises a budget.
RAISE: Final = Decimal("0.2")


class BudgetFigures(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """BudgetFigures that budgets count. They may be negative where they are a difference."""

    calls: int = 0
    #: Calls whose cost is unknown.
    unpriced: int = 0
    #: Input and output, including cache and reasoning.
    tokens: int = 0
    #: Cost in nano-dollars.
    cost: int = 0
    tool_calls: int = 0
    #: Wall time in milliseconds.
    millis: int = 0

    def plus(self, other: BudgetFigures) -> BudgetFigures:
        """Return the sum."""
        return BudgetFigures(*map(int.__add__, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))

    def minus(self, other: BudgetFigures) -> BudgetFigures:
        """Return the difference."""
        return BudgetFigures(*map(int.__sub__, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))

    def at_least_zero(self) -> BudgetFigures:
        """Return the figures with 0 in place of what is negative."""
        figures = msgspec.structs.astuple(self)
        return self if min(figures) >= 0 else BudgetFigures(*(max(n, 0) for n in figures))


NO_FIGURES: Final = BudgetFigures()


class Growth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Growth of what a task is seen to have used, for one budget and scope; negative when it had been too high."""

    budget: str
    tenant: str
    scope: tuple[tuple[str, str], ...]
    #: Start of the budget's period (of a rolling budget, of the step) that it is counted in, and when that ends.
    began_at: datetime
    ends_at: datetime
    figures: BudgetFigures
    task: Task
    #: The task is open and spends from that scope now: a budget that is used up may act on it.
    is_open: bool = True


class UsedBefore(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Usage of tasks that was finalized before a budget was set."""

    #: A task, or in its place one with the attributes that decide about the budget.
    task: Task
    figures: BudgetFigures


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


class Raise(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One raise of a budget by a person: it holds for one scope until `until`."""

    by: str
    #: The person's id at the provider.
    by_id: str = ""
    at: datetime
    until: datetime
    #: Share of the limit in the settings.
    share: float = float(RAISE)


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
    tool_calls: int = 0
    #: Wall time of the tasks, each to its newest telemetry.
    wall_time: timedelta = timedelta(0)
    #: The limits when it was last counted, raised by `raises`; None: not limited.
    limit_usd: Decimal | None = None
    limit_tokens: int | None = None
    limit_calls: int | None = None
    limit_tool_calls: int | None = None
    limit_time: timedelta | None = None
    #: The highest share already warned of in this period.
    warned: float = 0.0
    raises: tuple[Raise, ...] = ()
    at_limit: AtLimit = "warn"
    #: Reserved by agents and not given back.
    reserved_usd: Decimal = Decimal(0)
    reserved_tokens: int = 0
    reserved_calls: int = 0

    @property
    def share(self) -> float:
        """Used share of the tightest limit; above 1 when it is overspent."""
        shares = [
            float(self.cost_usd / self.limit_usd) if self.limit_usd else 0.0,
            self.tokens / self.limit_tokens if self.limit_tokens else 0.0,
            self.calls / self.limit_calls if self.limit_calls else 0.0,
            self.tool_calls / self.limit_tool_calls if self.limit_tool_calls else 0.0,
            self.wall_time / self.limit_time if self.limit_time else 0.0,
        ]
        return max(shares)

    @property
    def is_used_up(self) -> bool:
        """Tell whether the tightest limit is reached."""
        return self.share >= 1

    @property
    def left_usd(self) -> Decimal | None:
        """Dollars left beside reservations, at least 0; None: not limited."""
        return None if self.limit_usd is None else max(self.limit_usd - self.cost_usd - self.reserved_usd, Decimal(0))

    @property
    def left_tokens(self) -> int | None:
        """Tokens left beside reservations, at least 0; None: not limited."""
        return None if self.limit_tokens is None else max(self.limit_tokens - self.tokens - self.reserved_tokens, 0)

    @property
    def left_calls(self) -> int | None:
        """Model calls left beside reservations, at least 0; None: not limited."""
        return None if self.limit_calls is None else max(self.limit_calls - self.calls - self.reserved_calls, 0)


class BudgetRefusal(msgspec.Struct, frozen=True, gc=False):
    """A tool call that a budget refuses because it is used up."""

    budget: str
    #: In words for the agent.
    reason: str


class Reservation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An agent's claim on the budgets of a task for calls that it is about to make."""

    #: Made by the agent: the same for every repetition of its request.
    id: UUID
    tenant: str
    #: One of the task's ids, or its trace.
    ref: str
    calls: int = 1
    tokens: int = 0
    usd: Decimal = Decimal(0)
    #: Until when it holds, unless it is given back before.
    lasts: timedelta = timedelta(minutes=10)
