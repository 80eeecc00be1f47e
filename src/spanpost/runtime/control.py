"""People's answers in the process that follows its own agents: the backend of `spanpost.agent.control`
without a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec

from spanpost.agent.gateway import GatewayClosed, Unreachable
from spanpost.control_protocol import (
    ApprovalAnswer,
    BudgetAnswer,
    ReservationAnswer,
    ReservationQuestion,
    TaskAnswer,
)
from spanpost.interactions.answers import Answers, UnknownQuestion, as_said
from spanpost.model.budgets import Reservation
from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.observations import Observation, Origin, Part, log_index

if TYPE_CHECKING:
    from spanpost.runtime.pipeline import Pipeline

T = TypeVar("T")


class InProcess:
    """Answers from the pipeline of this process."""

    #: Seconds. No proxy lies between that would cut a long wait.
    wait = 300.0

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def ask(
        self, said: Mapping[str, Any], trace_id: int, span_id: int, at_ns: int, resource: Mapping[str, Any]
    ) -> None:
        """Record a question."""
        record = Observation(
            part=Part.LOG,
            trace_id=trace_id.to_bytes(16, "big") if trace_id else b"",
            span_id=span_id.to_bytes(8, "big") if span_id else b"",
            tenant=self._pipeline.settings.intake.tenant,
            name=said["event.name"],
            at_ns=at_ns,
            severity=9,
            attributes=as_said({name: value for name, value in said.items() if name != "event.name"}),
            origin=Origin(resource=as_said(resource), scope="spanpost.agent"),
        )
        record = msgspec.structs.replace(record, index=log_index(record))
        await self._in_loop(lambda answers, tenant: answers.ask(record))

    async def approval(self, id: str, mark: str, trace_id: int, wait: float) -> ApprovalAnswer | None:
        """Return the state of a question of a trace."""
        return await self._in_loop(lambda answers, tenant: answers.approval(tenant, id, mark, f"{trace_id:032x}", wait))

    async def task(self, ref: str, after: int, wait: float) -> TaskAnswer | None:
        """Return people's acts on a task."""
        return await self._in_loop(lambda answers, tenant: answers.task(tenant, ref, after, wait))

    async def budget(self, ref: str, attributes: Mapping[str, Any]) -> BudgetAnswer:
        """Return a task's remaining budgets."""
        return await self._in_loop(lambda answers, tenant: answers.budget(tenant, ref, as_said(attributes))) or {
            "budgets": []
        }

    async def reserve(self, asked: ReservationQuestion) -> ReservationAnswer:
        """Reserve from a task's budgets."""

        async def reserve(answers: Answers, tenant: str) -> ReservationAnswer:
            claim = Reservation(
                id=UUID(asked["id"]),
                tenant=tenant,
                ref=asked["ref"],
                calls=asked["calls"],
                tokens=asked["tokens"],
                usd=Decimal(asked["usd"]),
                lasts=timedelta(seconds=asked["lasts"]),
            )
            return await answers.reserve(claim, as_said(asked["attributes"]))

        return await self._in_loop(reserve) or {"is_granted": False, "reason": "", "expires_at": None, "budgets": []}

    async def give_back(self, id: str) -> None:
        """Give a reservation back."""
        await self._in_loop(lambda answers, tenant: answers.give_back(tenant, UUID(id)))

    async def _in_loop(self, question: Callable[[Answers, str], Coroutine[Any, Any, T]]) -> T | None:
        """Await a question in the pipeline's loop."""
        pipeline = self._pipeline
        if pipeline.is_shut:
            raise GatewayClosed("spanpost was shut down in this process: no person can be asked any more")
        try:
            await asyncio.to_thread(pipeline.start)  # a forked child has not started it yet
            answer = pipeline.begin(question(pipeline.components.answers, pipeline.settings.intake.tenant))
            return await asyncio.wrap_future(answer)
        except UnknownQuestion:
            return None
        except (StoreUnavailable, ConfigError) as error:
            raise Unreachable(str(error)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unreachable("spanpost is being shut down in this process") from None
