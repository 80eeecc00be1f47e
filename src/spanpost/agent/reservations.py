"""Reserve from a task's budgets before a call, and give back after it: `budget_reserved`."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, TypeVar
from uuid import uuid4

from spanpost.agent.background import begin
from spanpost.agent.gateway import ControlUnavailable, Unreachable
from spanpost.agent.provider import Control, control
from spanpost.agent.spending import TIMEOUT, Allowance, allowance_of, task_of
from spanpost.agent.task import Task
from spanpost.control_protocol import ReservationQuestion

T = TypeVar("T")
log = logging.getLogger("spanpost.agent")

#: Default time after which a reservation ends by itself: longer than a model call takes.
_LASTS = timedelta(minutes=10)


class BudgetRefused(RuntimeError):
    """A budget has less left than was to be reserved. `allowance` says how much."""

    def __init__(self, reason: str, allowance: Allowance) -> None:
        super().__init__(reason)
        self.reason = reason
        self.allowance = allowance


class BudgetReservation:
    """A reservation: `with` or `async with` makes it and gives it back. It can be entered once."""

    def __init__(self, task: Task | None, asked: ReservationQuestion, timeout: float) -> None:
        self._task = task
        self._asked = asked
        self._timeout = timeout

    async def __aenter__(self) -> Allowance:
        return await asyncio.wrap_future(begin(self._reserve(*task_of(self._task))))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.wrap_future(begin(self._give_back()))

    def __enter__(self) -> Allowance:
        return begin(self._reserve(*task_of(self._task))).result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        begin(self._give_back()).result()

    async def _reserve(self, ref: str, attributes: dict[str, Any]) -> Allowance:
        asked: ReservationQuestion = {**self._asked, "ref": ref, "attributes": attributes}
        answer = await self._call(lambda source: source.reserve(asked))
        allowance = allowance_of(answer["budgets"])
        if not answer["is_granted"]:
            raise BudgetRefused(answer["reason"] or "the gateway refuses the reservation", allowance)
        return allowance

    async def _give_back(self) -> None:
        try:
            await self._call(lambda source: source.give_back(self._asked["id"]))
        except ControlUnavailable as error:  # it ends by itself
            log.info("a reservation could not be given back, and ends by itself: %s", error)

    async def _call(self, call: Callable[[Control], Coroutine[Any, Any, T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await call(control())
        except (TimeoutError, Unreachable) as error:
            why = str(error) or f"no answer within {self._timeout:g} s"
            raise ControlUnavailable(f"nothing can be reserved just now: {why}") from None


def budget_reserved(
    task: Task | None = None,
    *,
    calls: int = 1,
    tokens: int = 0,
    usd: Decimal | float = 0,
    lasts: timedelta = _LASTS,
    timeout: float = TIMEOUT,
) -> BudgetReservation:
    """Reserve from all budgets of a task (default: the current one) for the time of a `with` or `async with` block.

    `calls` model calls that use up to `tokens` and `usd` together. Raises `BudgetRefused` if a budget does not
    hold them beside what others reserved, and `ControlUnavailable` if no gateway can be asked, or none answers
    within `timeout` seconds: then nothing is reserved, and the block is not entered. After `lasts` the
    reservation ends even if this process is gone.
    """
    if calls < 0 or tokens < 0 or not (math.isfinite(usd) and usd >= 0) or lasts <= timedelta(0):
        raise ValueError("budget_reserved: calls, tokens and usd are 0 or more, and lasts is more than 0")
    asked: ReservationQuestion = {
        "id": str(uuid4()),
        "ref": "",
        "attributes": {},
        "calls": calls,
        "tokens": tokens,
        "usd": f"{Decimal(str(usd)):f}",
        "lasts": lasts.total_seconds(),
    }
    return BudgetReservation(task, asked, timeout)
