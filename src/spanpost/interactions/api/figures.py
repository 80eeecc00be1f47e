"""JSON of sums, costs and budgets in the API."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from spanpost.interactions.api.schemas import MONEY


class SumsBody(BaseModel):
    """Sums over tasks. Tokens and cost are those of the tasks' own model calls."""

    tasks: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: str | None = Field(description=MONEY)
    unpriced_calls: int
    llm_calls: int
    tool_calls: int
    tool_errors: int
    ended: int
    failed: int
    seconds_mean: float | None = Field(description="Seconds, of the tasks that ended.")
    seconds_p50: float | None
    seconds_p95: float | None


class AgentSums(SumsBody):
    """Sums of an agent."""

    agent_name: str | None


class DaySums(SumsBody):
    """Sums of a day (UTC)."""

    day: str | None


class StatusSums(SumsBody):
    """Sums of a status."""

    status: str | None


class StatsBody(BaseModel):
    """Sums over the announced tasks that began in a period."""

    since: str
    until: str
    total: SumsBody
    agents: list[AgentSums] = Field(description="The 200 agents with most tasks.")
    days: list[DaySums]
    statuses: list[StatusSums]


class BudgetRaise(BaseModel):
    """A raise of a budget by a person."""

    by: str
    at: str
    until: str
    share: float = Field(description="Share of the limit in the settings.")


class CostBody(BaseModel):
    """What a pull request, a person's requests or a repository cost."""

    key: str | None = Field(
        description="The pull request, person or repository; null: tasks without one. Untrusted text."
    )
    cost_usd: str | None = Field(description=MONEY)
    tasks: int = Field(description="Root tasks.")
    pull_requests: int
    partial: bool = Field(description="Some model calls have no known cost: the true cost is higher.")


class BudgetSpent(BaseModel):
    """Spending from a budget in its current period, for one scope."""

    budget: str
    scope: dict[str, str] = Field(description="Its scope by attribute; empty: the whole tenant.")
    began_at: str
    ends_at: str
    cost_usd: str
    tokens: int
    calls: int
    unpriced_calls: int
    tool_calls: int
    wall_seconds: float = Field(description="Wall time of the tasks, where a budget limits it.")
    limit_usd: str | None = Field(description="This limit and the others: with the raises.")
    limit_tokens: int | None
    limit_calls: int | None
    limit_tool_calls: int | None
    limit_seconds: float | None
    left_usd: str | None = Field(description="This rest and the others: without what agents reserved.")
    left_tokens: int | None
    left_calls: int | None
    reserved_usd: str
    reserved_tokens: int
    reserved_calls: int
    share: float = Field(description="Used share of the tightest limit; above 1 when it is overspent.")
    at_limit: Literal["warn", "ask", "pause", "cancel"]
    raises: list[BudgetRaise]


class ProviderLimit(BaseModel):
    """How often a provider limited the calls of an account in one day (UTC)."""

    account: str
    provider: str
    model: str
    kind: Literal["rate_limit", "quota"]
    day: str
    count: int


class UsageBody(BaseModel):
    """Budgets, fullest first, and provider limits, newest first."""

    budgets: list[BudgetSpent]
    provider_limits: list[ProviderLimit]
