"""Budgets of money and tokens: which task spends from which, and when a warning is due.

Rules. The use of a task's calls is spent once it is final, by the agent, person and so on that the task
names then, in the period of the store's clock. A new budget begins with what was used in its current period
before. It is kept per tenant, and within it per value of each attribute in `per`; a task that lacks one of
them spends from none. A warning is sent when a share is passed, once in a period: after a correction
downwards, passing it again sends none. Where a limit is raised, shares that are no longer passed may warn
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from spanpost import semconv as c
from spanpost.model.budgets import Growth, Spent
from spanpost.model.messages import LocaleMessage, Value
from spanpost.model.observations import Observation, Part, log_index, nanoseconds
from spanpost.model.tasks import Task
from spanpost.routing.matching import FIELDS, Match, attribute
from spanpost.text.wording import message, worded

#: Words that stand for attributes in `Budget.per`.
WORDS: Final[Mapping[str, str]] = {
    "agent": "agent.name",
    "person": c.REQUESTED_BY,
    "type": "agent.task.type",
    "environment": "deployment.environment.name",
    "service": "service.name",
    "team": c.TEAM,
}
_DAY: Final = timedelta(days=1)
#: Characters kept of a scope's value.
_VALUE: Final = 200


@dataclass(frozen=True, kw_only=True)
class Budget(Match):
    """A budget for the tasks that match, as the settings state it."""

    name: str
    period: Literal["day", "month", "year"] = "day"
    #: Attributes that separate it: each combination of values has its own spending.
    per: tuple[str, ...] = ()
    limit_usd: Decimal | None = None
    limit_tokens: int | None = None
    #: Shares of the limit to warn at, ascending.
    warn_at: tuple[float, ...] = (0.8, 1.0)
    #: IANA name of the time zone in which days begin.
    timezone: str = "UTC"

    @property
    def kept(self) -> frozenset[str]:
        """Names of the attributes that a task must keep for it."""
        return super().kept | {name for name in self.per if name not in FIELDS}


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


def scope_of(budget: Budget, task: Task) -> tuple[tuple[str, str], ...] | None:
    """Return the scope in which a task spends from a budget; None where it spends nothing of it."""
    if not budget.takes(task):
        return None
    found = {name: attribute(task, name) for name in sorted(budget.per)}
    scope = tuple((name, value[:_VALUE]) for name, value in found.items() if value)
    return scope if len(scope) == len(found) else None


def period_of(budget: Budget, now: datetime) -> tuple[datetime, datetime]:
    """Return the begin and the end of the current period."""
    zone = ZoneInfo(budget.timezone)
    began = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if budget.period == "day":
        ends = began + _DAY  # local time: a day may have 23 hours
    elif budget.period == "month":
        began = began.replace(day=1)
        ends = (began + 31 * _DAY).replace(day=1)
    else:
        began = began.replace(month=1, day=1)
        ends = began.replace(year=began.year + 1)
    return began.astimezone(now.tzinfo), ends.astimezone(now.tzinfo)


#: Key of a row of spending: budget, tenant, scope, and the begin of its period.
SpentKey = tuple[str, str, tuple[tuple[str, str], ...], datetime]


def key_of(spent: Spent) -> SpentKey:
    """Return the key of the row."""
    return spent.budget, spent.tenant, spent.scope, spent.began_at


def drawn(
    budgets: Sequence[Budget], growths: Iterable[Growth], now: datetime
) -> dict[SpentKey, tuple[Budget, list[Growth]]]:
    """Return the growth that is drawn from each budget, in the order in which the rows are locked."""
    found: dict[SpentKey, tuple[Budget, list[Growth]]] = {}
    for growth in growths:
        for budget in budgets:
            scope = scope_of(budget, growth.task)
            if scope is not None:
                key = (budget.name, growth.task.tenant, scope, period_of(budget, now)[0])
                found.setdefault(key, (budget, []))[1].append(growth)
    return dict(sorted(found.items(), key=lambda item: item[0]))


def opened(budget: Budget, tenant: str, scope: tuple[tuple[str, str], ...], now: datetime) -> Spent:
    """Return a budget from which nothing is spent yet."""
    began, ends = period_of(budget, now)
    return Spent(
        budget=budget.name,
        tenant=tenant,
        scope=scope,
        began_at=began,
        ends_at=ends,
        limit_usd=budget.limit_usd,
        limit_tokens=budget.limit_tokens,
    )


def begun(budget: Budget, used: Iterable[Growth], now: datetime) -> list[Spent]:
    """Return what was spent of a budget in its current period before it was set: nothing of that sends a warning."""
    found: dict[SpentKey, Spent] = {}
    for growth in used:
        scope = scope_of(budget, growth.task)
        if scope is not None:
            new = opened(budget, growth.task.tenant, scope, now)
            found[key_of(new)] = _sum(found.get(key_of(new), new), [growth])
    return list(found.values())


def _sum(spent: Spent, growths: Sequence[Growth]) -> Spent:
    return msgspec.structs.replace(
        spent,
        cost_usd=max(spent.cost_usd + sum((g.cost_usd for g in growths), Decimal(0)), Decimal(0)),
        tokens=max(spent.tokens + sum(g.tokens for g in growths), 0),
        calls=max(spent.calls + sum(g.calls for g in growths), 0),
        unpriced=max(spent.unpriced + sum(g.unpriced for g in growths), 0),
    )


def grown(spent: Spent, budget: Budget, growths: Iterable[Growth], now: datetime) -> tuple[Spent, Observation | None]:
    """Return the row with the new spending, and the record of the highest share that it passed, if any."""
    growths = list(growths)
    if (spent.limit_usd, spent.limit_tokens) != (budget.limit_usd, budget.limit_tokens):
        spent = msgspec.structs.replace(spent, limit_usd=budget.limit_usd, limit_tokens=budget.limit_tokens)
        passed = [share for share in budget.warn_at if share <= min(spent.share, spent.warned)]
        spent = msgspec.structs.replace(spent, warned=max(passed, default=0.0))
    after = _sum(spent, growths)
    share = after.share
    passed = [level for level in budget.warn_at if spent.warned < level <= share]
    if not passed:
        return after, None
    after = msgspec.structs.replace(after, warned=max(passed))
    return after, _passed(after, max(passed), growths[-1].task, now)


def standing(budgets: Sequence[Budget], spent: Mapping[SpentKey, Spent], task: Task, now: datetime) -> list[Spent]:
    """Return each budget that a task spends from, with its current state and limits."""
    found = []
    for budget in budgets:
        scope = scope_of(budget, task)
        if scope is None:
            continue
        new = opened(budget, task.tenant, scope, now)
        known = spent.get(key_of(new))
        found.append(
            new
            if known is None
            else msgspec.structs.replace(known, limit_usd=budget.limit_usd, limit_tokens=budget.limit_tokens)
        )
    return found


def in_words(spent: Spent) -> LocaleMessage:
    """Return the text of a budget's state: untrusted, where names of agents are in it."""
    whom = ", ".join(value for _, value in spent.scope)
    parts = []
    if spent.limit_usd is not None:
        parts.append(message("checkpoint.spent_usd", spent=f"{spent.cost_usd:,.2f}", limit=f"{spent.limit_usd:,.2f}"))
    if spent.limit_tokens is not None:
        parts.append(message("checkpoint.spent_tokens", spent=spent.tokens, limit=spent.limit_tokens))
    values: dict[str, Value] = {"budget": spent.budget, "percent": int(spent.share * 100), "figures": parts}
    return message("checkpoint.budget_of", scope=whom, **values) if whom else message("checkpoint.budget", **values)


def _passed(spent: Spent, level: float, task: Task, now: datetime) -> Observation:
    text = in_words(spent)
    attributes = {
        c.BUDGET_NAME: spent.budget,
        c.BUDGET_TEXT: worded(text)[0],
        c.BUDGET_MESSAGE: msgspec.json.encode(text).decode(),
        c.BUDGET_LEVEL: level,
        # The identity of the occurrence: the budget, its period, the level.
        c.BUDGET_KEY: blake2b(
            repr(
                (*key_of(spent)[:3], spent.began_at.isoformat(), level, str(spent.limit_usd), spent.limit_tokens)
            ).encode(),
            digest_size=16,
        ).hexdigest(),
    }
    if not task.span_id:
        attributes[c.TASK_ID] = task.task_id  # the task is known from log records alone: its id identifies it
    record = Observation(
        part=Part.INTERVENTION,
        trace_id=task.trace_id,
        span_id=task.span_id,
        tenant=task.tenant,
        name=c.EVENT_BUDGET,
        at_ns=nanoseconds(now),
        attributes=attributes,
    )
    return msgspec.structs.replace(record, index=log_index(record))
