"""The budgets that a task spends from, for an agent that asks before it spends: `budget`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from opentelemetry import trace

from spanpost.agent.background import begin
from spanpost.agent.gateway import ControlUnavailable, Unreachable
from spanpost.agent.provider import control
from spanpost.agent.task import Task, current_task

#: Default timeout of a query, seconds.
TIMEOUT = 5.0
#: Maximum number of attributes that are sent, and of characters of each.
_MOST, _LONGEST = 100, 200


@dataclass(frozen=True)
class AgentBudget:
    """One budget that the task spends from, as of the newest telemetry."""

    #: Its name in the settings.
    name: str
    #: Attributes of the tasks that it limits; empty: all tasks of the tenant.
    scope: Mapping[str, str]
    #: When its period ends, in UTC.
    ends_at: datetime
    #: What all of its tasks spent in the period, in US dollars and in tokens.
    spent_usd: Decimal
    #: Input and output tokens together.
    spent_tokens: int
    #: The rest, at least 0; None: not limited.
    left_usd: Decimal | None
    #: Tokens left; None: not limited.
    left_tokens: int | None
    #: Model calls left; None: not limited.
    left_calls: int | None = None
    #: Used share of the tightest limit; 1: used up.
    share: float = 0.0
    #: What happens when it is used up: warn, ask, pause or cancel.
    at_limit: str = "warn"

    def allows(self, usd: Decimal | float = 0, tokens: int = 0, calls: int = 0) -> bool:
        """Return whether something is left, and at least this much."""
        left = ((self.left_usd, Decimal(str(usd))), (self.left_tokens, tokens), (self.left_calls, calls))
        return self.share < 1 and all(rest is None or (rest > 0 and rest >= asked) for rest, asked in left)


@dataclass(frozen=True)
class Allowance:
    """All budgets that the task spends from. Without any, nothing is limited."""

    #: One for each budget that limits the task.
    budgets: tuple[AgentBudget, ...]

    @property
    def left_usd(self) -> Decimal | None:
        """Dollars left in the tightest budget; None: not limited."""
        return min((b.left_usd for b in self.budgets if b.left_usd is not None), default=None)

    @property
    def left_tokens(self) -> int | None:
        """Tokens left in the tightest budget; None: not limited."""
        return min((b.left_tokens for b in self.budgets if b.left_tokens is not None), default=None)

    @property
    def left_calls(self) -> int | None:
        """Model calls left in the tightest budget; None: not limited."""
        return min((b.left_calls for b in self.budgets if b.left_calls is not None), default=None)

    def allows(self, usd: Decimal | float = 0, tokens: int = 0, calls: int = 0) -> bool:
        """Return whether every budget has something left, and at least this much.

        For example ``if not (await budget()).allows(usd=0.5): ...``.
        """
        return all(b.allows(usd, tokens, calls) for b in self.budgets)

    def __bool__(self) -> bool:
        """Return whether every budget has something left."""
        return self.allows()


async def budget(task: Task | None = None, *, timeout: float = TIMEOUT) -> Allowance:  # noqa: ASYNC109
    """Return the remaining budgets of a task (default: the current one).

    Nothing is reserved: `budget_reserved` does that. Calls count as soon as spanpost has seen them.

    Raises `ControlUnavailable` if no gateway can be asked, or none answers within `timeout` seconds. The
    agent then decides.
    """
    return await asyncio.wrap_future(begin(_asked(*task_of(task), timeout)))


def budget_sync(task: Task | None = None, *, timeout: float = TIMEOUT) -> Allowance:
    """Return the remaining budgets of a task; blocks this thread. See `budget`."""
    return begin(_asked(*task_of(task), timeout)).result()


def task_of(task: Task | None) -> tuple[str, dict[str, Any]]:
    """Return a name of the task, and its attributes: spanpost may not know the task yet."""
    task = task or current_task()
    span = task.span if task is not None else trace.get_current_span()
    context = span.get_span_context()
    ref = task.task_id if task is not None and task.task_id else ""
    if not ref and context.is_valid:
        ref = f"{context.trace_id:032x}"
    said: dict[str, Any] = {}
    for source in (getattr(getattr(span, "resource", None), "attributes", None), getattr(span, "attributes", None)):
        for name, value in (source or {}).items():
            if isinstance(value, (str, int, float)):
                said[name] = value[:_LONGEST] if isinstance(value, str) else value
    return ref, dict(list(said.items())[-_MOST:])


async def _asked(ref: str, attributes: Mapping[str, Any], timeout: float) -> Allowance:  # noqa: ASYNC109
    try:
        async with asyncio.timeout(timeout):
            answer = await control().budget(ref, attributes)
    except (TimeoutError, Unreachable) as error:
        why = str(error) or f"no answer within {timeout:g} s"
        raise ControlUnavailable(f"what may be spent cannot be asked just now: {why}") from None
    return allowance_of(answer.get("budgets", ()))


def allowance_of(budgets: Iterable[Mapping[str, Any]]) -> Allowance:
    """Return the budgets of an answer."""
    return Allowance(tuple(map(_budget, budgets)))


def _budget(answer: Mapping[str, Any]) -> AgentBudget:
    left = answer.get("left_usd")
    return AgentBudget(
        name=str(answer.get("budget", "")),
        scope=dict(answer.get("scope") or {}),
        ends_at=datetime.fromisoformat(answer["ends_at"]),
        spent_usd=Decimal(answer.get("cost_usd") or 0),
        spent_tokens=int(answer.get("tokens") or 0),
        left_usd=None if left is None else Decimal(left),
        left_tokens=answer.get("left_tokens"),
        left_calls=answer.get("left_calls"),
        share=float(answer.get("share") or 0),
        at_limit=str(answer.get("at_limit") or "warn"),
    )
