"""Settings of `budgets`: limits of money, tokens, calls and time, and what happens at them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from spanpost.model.budgets import AtLimit
from spanpost.settings.conditions import ConditionSettings
from spanpost.settings.section import Duration, Zone, are_ascending
from spanpost.tasks.budgets import WORDS, Budget

_SHORTEST, _LONGEST = timedelta(minutes=5), timedelta(days=366)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _in_seconds(value: object) -> object:
    """Return `24h`, `90m`, `7d` and the like as seconds; anything else as it is."""
    text = value.strip() if isinstance(value, str) else ""
    if text[-1:] in _UNITS and text[:-1].isascii() and text[:-1].isdigit() and len(text) < 12:
        return int(text[:-1]) * _UNITS[text[-1]]
    return value


Span = Annotated[Duration, BeforeValidator(_in_seconds)]
Level = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class BudgetSettings(ConditionSettings, Budget):
    """A budget for the tasks that meet all conditions, counted for each tenant separately. A condition that
    is not given matches every task.
    """

    name: Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")] = Field(
        description="Name of the budget in warnings, rows and answers to agents. A new name is a new budget."
    )
    period: Literal["hour", "day", "week", "month", "year", "task"] = Field(
        default="day",
        description="Length of the period after which the budget starts again. `task`: a budget for each task, "
        "its sub-agents included, that never starts again.",
    )
    rolling: Span | None = Field(
        default=None,
        description="In place of `period`: the window that ends now (`24h`, `90m`, `7d`), 5 minutes to 366 days. It "
        "moves in 24 steps.",
    )
    limit_usd: Annotated[Decimal, Field(gt=0, le=1_000_000_000, allow_inf_nan=False)] | None = Field(
        default=None,
        description="US dollars. Model calls of unknown cost are not included; they are counted separately.",
    )
    limit_tokens: Annotated[int, Field(gt=0, le=10**15)] | None = Field(
        default=None, description="Input and output tokens."
    )
    limit_calls: Annotated[int, Field(gt=0, le=10**12)] | None = Field(default=None, description="Model calls.")
    limit_tool_calls: Annotated[int, Field(gt=0, le=10**12)] | None = Field(default=None, description="Tool calls.")
    limit_time: Span | None = Field(
        default=None,
        description="Wall time (`8h`, `30m`) of the tasks together: of each from its start to its end, or to its "
        "newest telemetry.",
    )
    at_limit: AtLimit = Field(
        default=Budget.at_limit,
        description="What happens to a task that spends from the budget once it is used up: `warn` (nothing more), "
        "`ask` (it is paused until a person raises the limit by 20 % or stops it), `pause` or `cancel`. All but "
        "`warn` also refuse tool calls of coding agents with hooks. Reservations are refused by all.",
    )
    saving_tools: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=Budget.saving_tools,
        description="Tools that hooks do not refuse once the budget is used up, by their full names.",
    )
    saving_commands: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._/ -]+$")], ...] = Field(
        default=Budget.saving_commands,
        description="The same for commands of a shell, by their first words. Only one plain command is let through: "
        "none with `;`, `&`, `|`, `$`, backticks, redirections or line breaks.",
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
        limits = (self.limit_usd, self.limit_tokens, self.limit_calls, self.limit_tool_calls, self.limit_time)
        if all(limit is None for limit in limits):
            raise ValueError(
                f"budget {self.name!r} has no limit: set limit_usd or limit_tokens, limit_calls, limit_tool_calls or "
                "limit_time"
            )
        if self.limit_time is not None and not timedelta(0) < self.limit_time <= timedelta(days=36_500):
            raise ValueError(f"budget {self.name!r}: limit_time is more than 0, and 100 years at most")
        return self

    @model_validator(mode="after")
    def _makes_sense(self) -> BudgetSettings:
        """Refuse settings that would be without effect."""
        given = self.model_fields_set
        if self.rolling is not None:
            if "period" in given:
                raise ValueError(f"budget {self.name!r} has a period and is rolling: leave one of them out")
            if not _SHORTEST <= self.rolling <= _LONGEST:
                raise ValueError(f"budget {self.name!r}: rolling is 5 minutes to 366 days")
        if "timezone" in given and (self.rolling is not None or self.period in ("hour", "task")):
            raise ValueError(f"budget {self.name!r} has no days to begin: leave timezone out")
        if self.period == "task" and self.per:
            raise ValueError(f"budget {self.name!r} is kept for each task already: leave per out")
        if self.at_limit == "warn" and (useless := sorted(given & {"saving_tools", "saving_commands"})):
            raise ValueError(f"budget {self.name!r} refuses no tool call: leave {useless[0]} out, or set at_limit")
        return self


def are_different(budgets: tuple[BudgetSettings, ...]) -> tuple[BudgetSettings, ...]:
    """Return budgets with different names. Raises ValueError."""
    names = [budget.name for budget in budgets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two budgets are called {twice[0]!r}: give each a name of its own")
    return budgets
