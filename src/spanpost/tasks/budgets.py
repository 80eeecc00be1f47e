"""Budgets: which task spends from which, and in which period.

Rules. What a task is seen to have used is spent at once, and corrected when it turns out otherwise. It is
spent in the period of the store's clock, by the agent, person and so on that the task names by now: where the
task names another later, what it spent in the current period moves there. A new budget begins with what was
finalized in its current period before. It is kept per tenant, and within it per value of each attribute in
`per`; a task that lacks one of them spends from none. The budget of one task is kept for its root task: what
its sub-agents use is part of it. A rolling budget is kept in `STEPS` steps of its window; a call leaves the
sum up to one step late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from spanpost import semconv as c
from spanpost.model.budgets import RAISE, AtLimit, BudgetFigures, Spent, UsedBefore
from spanpost.model.messages import LocaleMessage, Value
from spanpost.model.tasks import Task
from spanpost.routing.matching import FIELDS, Match, attribute
from spanpost.tasks.amounts import dollars
from spanpost.tasks.saving_work import COMMANDS, TOOLS
from spanpost.text.wording import message

#: Words that stand for attributes in `Budget.per`.
WORDS: Final[Mapping[str, str]] = {
    "agent": "agent.name",
    "person": c.REQUESTED_BY,
    "type": "agent.task.type",
    "environment": "deployment.environment.name",
    "service": "service.name",
    "team": c.TEAM,
}
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
#: Characters kept of a scope's value.
_VALUE: Final = 200
#: Name of the root task's uid in the scope of a budget for each task.
TASK: Final = "task"
#: Steps of a rolling budget's window.
STEPS: Final = 24
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: How long the budget of a task is listed after its newest telemetry.
_OPEN_FOR: Final = timedelta(days=7)

Scope = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Budget(Match):
    """A budget for the tasks that match, as the settings state it."""

    name: str
    period: Literal["hour", "day", "week", "month", "year", "task"] = "day"
    #: A window that ends now, in place of a period.
    rolling: timedelta | None = None
    #: Attributes that separate it: each combination of values has its own spending.
    per: tuple[str, ...] = ()
    limit_usd: Decimal | None = None
    limit_tokens: int | None = None
    #: Model calls.
    limit_calls: int | None = None
    limit_tool_calls: int | None = None
    #: Wall time of the tasks together.
    limit_time: timedelta | None = None
    at_limit: AtLimit = "warn"
    #: Tool calls that are not refused: by the tool's name, and by the first words of a shell's command.
    saving_tools: tuple[str, ...] = TOOLS
    saving_commands: tuple[str, ...] = COMMANDS
    #: Shares of the limit to warn at, ascending.
    warn_at: tuple[float, ...] = (0.8, 1.0)
    #: IANA name of the time zone in which days begin.
    timezone: str = "UTC"

    @property
    def kept(self) -> frozenset[str]:
        """Names of the attributes that a task must keep for it."""
        return super().kept | {name for name in self.per if name not in FIELDS}

    @property
    def acts(self) -> bool:
        """Tell whether it acts on tasks once it is used up."""
        return self.at_limit != "warn"


def asked_of(budget: Budget) -> frozenset[str]:
    """Return the attributes of a task that decide whether it spends from a budget, and in which scope."""
    fields = {
        "agent.name": budget.agent,
        "agent.topic": budget.topic,
        "deployment.environment.name": budget.environment,
        "service.name": budget.service,
        "agent.repo": budget.repo,
    }
    return frozenset(budget.per) | frozenset(budget.attributes) | {name for name, wanted in fields.items() if wanted}


def scope_of(budget: Budget, task: Task) -> Scope | None:
    """Return the scope in which a task spends from a budget; None where it spends nothing of it."""
    if not budget.takes(task):
        return None
    if budget.period == TASK:
        return ((TASK, str(task.root_uid or task.uid)),)
    found = {name: attribute(task, name) for name in sorted(budget.per)}
    scope = tuple((name, value[:_VALUE]) for name, value in found.items() if value)
    return scope if len(scope) == len(found) else None


def period_of(budget: Budget, now: datetime) -> tuple[datetime, datetime]:
    """Return the begin and the end of the current period; of a rolling budget, of the current step.

    A step ends when none of it is in the window any more.
    """
    if budget.rolling is not None:
        step = budget.rolling / STEPS
        began = EPOCH + step * ((now - EPOCH) // step)
        return began, began + step + budget.rolling
    if budget.period == TASK:
        return EPOCH, now + _OPEN_FOR
    if budget.period == "hour":  # not local time: an hour that a change of clocks repeats is two
        began = EPOCH + _HOUR * ((now - EPOCH) // _HOUR)
        return began, began + _HOUR
    zone = ZoneInfo(budget.timezone)
    began = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if budget.period == "day":
        ends = began + _DAY  # local time: a day may have 23 hours
    elif budget.period == "week":
        began -= began.weekday() * _DAY
        ends = began + 7 * _DAY
    elif budget.period == "month":
        began = began.replace(day=1)
        ends = (began + 31 * _DAY).replace(day=1)
    else:
        began = began.replace(month=1, day=1)
        ends = began.replace(year=began.year + 1)
    return began.astimezone(now.tzinfo), ends.astimezone(now.tzinfo)


#: Key of a row of spending: budget, tenant, scope, and the begin of its period.
SpentKey = tuple[str, str, Scope, datetime]


def key_of(spent: Spent) -> SpentKey:
    """Return the key of the row."""
    return spent.budget, spent.tenant, spent.scope, spent.began_at


def opened(budget: Budget, tenant: str, scope: Scope, now: datetime) -> Spent:
    """Return a budget from which nothing is spent yet."""
    began, ends = period_of(budget, now)
    return limited(Spent(budget=budget.name, tenant=tenant, scope=scope, began_at=began, ends_at=ends), budget)


def limited(spent: Spent, budget: Budget) -> Spent:
    """Return the spending with the limits of the settings, raised by what people granted."""
    factor = 1 + RAISE * len(spent.raises) if spent.raises else Decimal(1)
    return msgspec.structs.replace(
        spent,
        at_limit=budget.at_limit,
        limit_usd=None if budget.limit_usd is None else budget.limit_usd * factor,
        limit_tokens=None if budget.limit_tokens is None else ceil(budget.limit_tokens * factor),
        limit_calls=None if budget.limit_calls is None else ceil(budget.limit_calls * factor),
        limit_tool_calls=None if budget.limit_tool_calls is None else ceil(budget.limit_tool_calls * factor),
        limit_time=None if budget.limit_time is None else budget.limit_time * float(factor),
    )


def added(spent: Spent, figures: BudgetFigures) -> Spent:
    """Return the spending with these figures added."""
    return msgspec.structs.replace(
        spent,
        cost_usd=spent.cost_usd + dollars(figures.cost),
        tokens=spent.tokens + figures.tokens,
        calls=spent.calls + figures.calls,
        unpriced=spent.unpriced + figures.unpriced,
        tool_calls=spent.tool_calls + figures.tool_calls,
        wall_time=spent.wall_time + timedelta(milliseconds=figures.millis),
    )


def together(rows: Sequence[Spent], budget: Budget) -> Spent:
    """Return the sum of a budget's rows in one scope: of a rolling budget one for each step, of others only one."""
    rows = sorted(rows, key=lambda row: row.began_at)
    newest = rows[-1]
    if len(rows) > 1:
        newest = msgspec.structs.replace(
            newest,
            began_at=rows[0].began_at,
            cost_usd=sum((row.cost_usd for row in rows), Decimal(0)),
            tokens=sum(row.tokens for row in rows),
            calls=sum(row.calls for row in rows),
            unpriced=sum(row.unpriced for row in rows),
            tool_calls=sum(row.tool_calls for row in rows),
            wall_time=sum((row.wall_time for row in rows), timedelta(0)),
            warned=max(row.warned for row in rows),
            raises=tuple(one for row in rows for one in row.raises),
        )
    return limited(newest, budget)


def begun(budget: Budget, used: Iterable[UsedBefore], now: datetime) -> list[Spent]:
    """Return what was spent of a budget in its current period before it was set: nothing of that sends a warning."""
    found: dict[SpentKey, Spent] = {}
    for one in used:
        scope = scope_of(budget, one.task)
        if scope is not None:
            new = opened(budget, one.task.tenant, scope, now)
            found[key_of(new)] = added(found.get(key_of(new), new), one.figures)
    return list(found.values())


def standing(budgets: Sequence[Budget], known: Iterable[Spent], task: Task, now: datetime) -> list[Spent]:
    """Return each budget that a task spends from, with its current state and limits.

    `known`: all rows of these budgets and scopes that count now.
    """
    rows: dict[tuple[str, str, Scope], list[Spent]] = {}
    for row in known:
        rows.setdefault(key_of(row)[:3], []).append(row)
    found = []
    for budget in budgets:
        scope = scope_of(budget, task)
        if scope is not None:
            new = opened(budget, task.tenant, scope, now)
            found.append(together(rows.get(key_of(new)[:3]) or [new], budget))
    return found


def in_words(spent: Spent) -> LocaleMessage:
    """Return the text of a budget's state: untrusted, where names of agents are in it."""
    whom = ", ".join(value for name, value in spent.scope if name != TASK)
    parts = []
    if spent.limit_usd is not None:
        parts.append(message("checkpoint.spent_usd", spent=f"{spent.cost_usd:,.2f}", limit=f"{spent.limit_usd:,.2f}"))
    if spent.limit_tokens is not None:
        parts.append(message("checkpoint.spent_tokens", spent=spent.tokens, limit=spent.limit_tokens))
    if spent.limit_calls is not None:
        parts.append(message("checkpoint.spent_calls", spent=spent.calls, limit=spent.limit_calls))
    if spent.limit_tool_calls is not None:
        parts.append(message("checkpoint.spent_tool_calls", spent=spent.tool_calls, limit=spent.limit_tool_calls))
    if spent.limit_time is not None:
        used, limit = (str(timedelta(seconds=int(t.total_seconds()))) for t in (spent.wall_time, spent.limit_time))
        parts.append(message("checkpoint.spent_time", spent=used, limit=limit))
    values: dict[str, Value] = {"budget": spent.budget, "percent": int(spent.share * 100), "figures": parts}
    return message("checkpoint.budget_of", scope=whom, **values) if whom else message("checkpoint.budget", **values)
