"""Settings of the room `spend`: budgets of money and tokens."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from spanpost.settings.routes import Words
from spanpost.settings.section import Section, Zone

Level = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class BudgetSettings(Section):
    """A budget of the tasks that meet all conditions, of each tenant by itself. Not given: takes any."""

    name: Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")] = Field(
        description="What it is called: in warnings, rows and answers to agents. Another name is another budget."
    )
    period: Literal["day", "month", "year"] = Field(default="day", description="How long it is for; then it begins anew.")
    limit_usd: Annotated[Decimal, Field(gt=0, le=1_000_000_000, allow_inf_nan=False)] | None = Field(
        default=None, description="Dollars. Model calls of which no cost is known are not in it; they are counted beside it."
    )
    limit_tokens: Annotated[int, Field(gt=0, le=10**15)] | None = Field(default=None, description="Input and output tokens.")
    per: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Kept apart by each value of these: `agent`, `person` (`agent.requested_by`), `team` (`agent.team`), `type`, "
        "`environment`, `service`, or any attribute by its name. A task without it spends nothing of the budget.",
    )
    tenant: Words | None = Field(default=None, description="Takes tasks of this tenant; `*` stands for anything.")
    agent: Words | None = Field(default=None, description="Takes tasks of the agent with this name.")
    environment: Words | None = Field(default=None, description="Takes tasks of this `deployment.environment.name`.")
    attributes: dict[str, Words] = Field(default={}, description="Takes tasks with these attributes, as a route does.")
    warn_at: tuple[Level, ...] = Field(
        default=(0.8, 1.0), description="Shares of the limit at which to warn, ascending, once in a period each; `[]` for none."
    )

    @field_validator("warn_at")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("must be ascending, without repeats")
        return value

    @field_validator("per")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or len(value) > 5:
            raise ValueError("names each attribute once, and five at most")
        if "tenant" in value:
            raise ValueError("a budget is always each tenant's own: leave `tenant` out")
        return value

    @model_validator(mode="after")
    def _has_limit(self) -> BudgetSettings:
        if self.limit_usd is None and self.limit_tokens is None:
            raise ValueError(f"budget {self.name!r} has no limit: set limit_usd or limit_tokens, or both")
        return self


class SpendSettings(Section):
    """Budgets of money and tokens: counted as model calls settle, warned of, and told to agents that ask."""

    budgets: tuple[BudgetSettings, ...] = Field(default=(), max_length=100, description="The budgets.")
    timezone: Zone = Field(
        default="UTC", description="IANA name of the time zone in which days, months and years begin: `Asia/Seoul`."
    )

    @field_validator("budgets")
    @classmethod
    def _names_differ(cls, value: tuple[BudgetSettings, ...]) -> tuple[BudgetSettings, ...]:
        names = [budget.name for budget in value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two budgets are called {twice[0]!r}: give each a name of its own")
        return value
