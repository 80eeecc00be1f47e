"""Settings of `budgets`: budgets of money and tokens."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from spanpost.settings.conditions import ConditionSettings
from spanpost.settings.section import Zone, are_ascending
from spanpost.tasks.budgets import WORDS, Budget

Level = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class BudgetSettings(ConditionSettings, Budget):
    """A budget for the tasks that meet all conditions, counted for each tenant separately. A condition that
    is not given matches every task.
    """

    name: Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")] = Field(
        description="Name of the budget in warnings, rows and answers to agents. A new name is a new budget."
    )
    period: Literal["day", "month", "year"] = Field(
        default="day", description="Length of the period after which the budget starts again."
    )
    limit_usd: Annotated[Decimal, Field(gt=0, le=1_000_000_000, allow_inf_nan=False)] | None = Field(
        default=None,
        description="US dollars. Model calls of unknown cost are not included; they are counted separately.",
    )
    limit_tokens: Annotated[int, Field(gt=0, le=10**15)] | None = Field(
        default=None, description="Input and output tokens."
    )
    per: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Count separately for each value of these: `agent`, `person` (`agent.requested_by`), `team` "
        "(`agent.team`), `type`, `environment`, `service`, or any attribute by name. A task without the "
        "attribute does not use the budget.",
    )
    warn_at: tuple[Level, ...] = Field(
        default=Budget.warn_at,
        description="Shares of the limit at which to warn, ascending, each once a period; `[]` for none.",
    )
    timezone: Zone = Field(
        default="UTC", description="IANA name of the time zone in which days, months and years begin: `Asia/Seoul`."
    )

    _ascending = field_validator("warn_at")(are_ascending)

    @field_validator("per")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or len(value) > 5:
            raise ValueError("names each attribute once, and five at most")
        if "tenant" in value:
            raise ValueError("a budget is always each tenant's own: leave `tenant` out")
        return tuple(WORDS.get(name, name) for name in value)

    @model_validator(mode="after")
    def _has_limit(self) -> BudgetSettings:
        if self.limit_usd is None and self.limit_tokens is None:
            raise ValueError(f"budget {self.name!r} has no limit: set limit_usd or limit_tokens, or both")
        return self


def are_different(budgets: tuple[BudgetSettings, ...]) -> tuple[BudgetSettings, ...]:
    """Return budgets with different names. Raises ValueError."""
    names = [budget.name for budget in budgets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two budgets are called {twice[0]!r}: give each a name of its own")
    return budgets
