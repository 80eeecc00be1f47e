"""What an agent may still spend, asked before it does: `budget`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from opentelemetry import trace

from spanpost.agent.background import begin
from spanpost.agent.gateway import ControlUnavailable, Unreachable
from spanpost.agent.provider import control
from spanpost.agent.task import Task, current_task

#: How long an answer is waited for where nobody says, seconds.
STALL_RULES = 5.0
#: Attributes that are sent along, and characters of each.
_MOST, _LONGEST = 100, 200


@dataclass(frozen=True)
class AgentBudget:
    """One budget that the task spends from, as it stood when its last settled call was counted."""

    name: str
    #: Whom it is kept for, by attribute; empty: all of the tenant.
    scope: Mapping[str, str]
    ends_at: datetime
    spent_usd: Decimal
    spent_tokens: int
    #: What is left, 0 at least; None where it is not limited.
    left_usd: Decimal | None
    left_tokens: int | None

    def allows(self, usd: Decimal | float = 0, tokens: int = 0) -> bool:
        """Tell whether there is anything left, and so much."""
        return (self.left_usd is None or (self.left_usd > 0 and self.left_usd >= Decimal(str(usd)))) and (
            self.left_tokens is None or (self.left_tokens > 0 and self.left_tokens >= tokens)
        )


@dataclass(frozen=True)
class Allowance:
    """All budgets that the task spends from; none where nobody set one for it: then nothing is limited."""

    budgets: tuple[AgentBudget, ...]

    @property
    def left_usd(self) -> Decimal | None:
        """Dollars that the tightest leaves; None: not limited."""
        return min((b.left_usd for b in self.budgets if b.left_usd is not None), default=None)

    @property
    def left_tokens(self) -> int | None:
        """Tokens that the tightest leaves; None: not limited."""
        return min((b.left_tokens for b in self.budgets if b.left_tokens is not None), default=None)

    def allows(self, usd: Decimal | float = 0, tokens: int = 0) -> bool:
        """Tell whether every budget has anything left, and so much: ``if not (await budget()).allows(usd=0.5): ...``."""
        return all(b.allows(usd, tokens) for b in self.budgets)

    def __bool__(self) -> bool:
        """Tell whether every budget has anything left."""
        return self.allows()


async def budget(task: Task | None = None, *, timeout: float = STALL_RULES) -> Allowance:  # noqa: ASYNC109
    """Ask what the task (else the current one) may still spend. Nothing is reserved, and calls count once they have settled.

    Raises `ControlUnavailable` where nobody can be asked, or nobody answered within `timeout` seconds: the agent decides then.
    """
    return await asyncio.wrap_future(begin(_asked(*_of(task), timeout)))


def budget_sync(task: Task | None = None, *, timeout: float = STALL_RULES) -> Allowance:
    """Ask what the task may still spend, waiting in this thread. See `budget`."""
    return begin(_asked(*_of(task), timeout)).result()


def _of(task: Task | None) -> tuple[str, dict[str, Any]]:
    """Return by what the task is known, and its attributes: spanpost may not have heard of it yet."""
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
            told = await control().budget(ref, attributes)
    except (TimeoutError, Unreachable) as error:
        why = str(error) or f"no answer within {timeout:g} s"
        raise ControlUnavailable(f"what may be spent cannot be asked just now: {why}") from None
    return Allowance(tuple(map(_budget, told.get("budgets", ()))))


def _budget(told: Mapping[str, Any]) -> AgentBudget:
    left = told.get("left_usd")
    return AgentBudget(
        name=str(told.get("budget", "")),
        scope=dict(told.get("scope") or {}),
        ends_at=datetime.fromisoformat(told["ends_at"]),
        spent_usd=Decimal(told.get("cost_usd") or 0),
        spent_tokens=int(told.get("tokens") or 0),
        left_usd=None if left is None else Decimal(left),
        left_tokens=told.get("left_tokens"),
    )
