"""Answers for agents that wait: people's decisions, acts and budgets.

One listener a process. A waiting agent reads the database once, then sleeps until its topic is notified or
its time is over; it does not poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from spanpost.control_protocol import ApprovalAnswer, BudgetAnswer, PersonAct, ReservationAnswer, TaskAnswer
from spanpost.model.budgets import BudgetRefusal, Reservation
from spanpost.model.interventions import ApprovalRow, InterventionState, StandingAct, Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import ApprovalQuery
from spanpost.model.readings import ReportedDecision
from spanpost.model.tasks import Task
from spanpost.routing.matching import described
from spanpost.store.protocols import Budgets, Interventions, Reader
from spanpost.tasks.approvals import APPROVAL, TASK, topic_of, trace_of_span
from spanpost.tasks.interventions import is_whole, why_not_whole
from spanpost.tasks.json_form import spent_json
from spanpost.tasks.questions import question_of

T = TypeVar("T")

#: Acts that are passed to an agent.
VERBS: Final = (Verb.CANCEL, Verb.PAUSE, Verb.RESUME, Verb.MESSAGE)
#: Acts in one answer, at most.
_MOST: Final = 100
#: Questions read for one id. If there are more, a caller that gives neither mark nor trace gets none.
_QUESTIONS: Final = 50
_NO_TASK: Final = UUID(int=0)


class UnknownQuestion(Exception):
    """The tenant has no such question or task."""


class Answers:
    """Answers the agents of one process. All of it runs in one loop.

    `record` records a question; `wake` is called when another process may have recorded deliveries.
    """

    def __init__(
        self,
        reader: Reader,
        interventions: Interventions,
        budgets: Budgets,
        *,
        record: Callable[[Sequence[Observation]], Awaitable[object]],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._reader = reader
        self._interventions = interventions
        self._budgets = budgets
        self._record = record
        self._wake = wake
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._listens: asyncio.Task[None] | None = None
        self.is_ended = False

    def end(self) -> None:
        """End all waits: each waiting agent gets the current state."""
        self.is_ended = True
        self._on_topic(b"")

    def _on_topic(self, topic: bytes) -> None:
        waiting = (
            self._waiting.get(topic, ()) if topic else [event for events in self._waiting.values() for event in events]
        )
        for event in list(waiting):
            event.set()

    def _hear(self, topic: bytes) -> None:
        self._on_topic(topic)
        self._wake()

    async def ask(self, record: Observation) -> None:
        """Record a question. It is stored when this returns."""
        await self.ask_all([record])

    async def ask_all(self, records: Sequence[Observation]) -> None:
        """Record a question with what belongs to it, in one transaction."""
        await self._record(records)

    async def approval(
        self, tenant: str, id: str, mark: str = "", trace: str = "", wait: float = 0.0
    ) -> ApprovalAnswer:
        """Return the outcome of a question once it is decided, or after `wait` seconds.

        Raises `UnknownQuestion`.
        An outcome is a person's decision through spanpost, or the deadline. A decision that telemetry
        reports is returned as reported.
        """

        async def read() -> tuple[tuple[ApprovalRow, str] | None, bool]:
            row, why = await self._question(tenant, id, mark, trace)
            return (row, why) if row is not None else None, row is not None and not why and is_closed(row)

        found = await self._until([topic_of(tenant, APPROVAL, id)], read, wait)
        if found is None:
            said = f"{' in the words of this mark' if mark else ''}{' by that trace' if trace else ''}"
            raise UnknownQuestion(
                f"nothing was asked under the id {id[:100]!r}{said}; the mark is computed from the words as "
                "they were sent"
            )
        return answer_of(*found)

    async def task(self, tenant: str, ref: str, after: int = 0, wait: float = 0.0) -> TaskAnswer:
        """Return the acts on a task after a number, once there are any or after `wait` seconds."""

        async def read() -> tuple[tuple[Task, list[StandingAct]] | None, bool]:
            task = await self._reader.refer(tenant, ref)
            if task is None:
                return None, False
            deeds = await self._deeds(task, after)
            return (task, deeds), bool(deeds)

        found = await self._until([topic_of(tenant, TASK, id) for id in (ref, trace_of_span(ref)) if id], read, wait)
        if found is None:
            raise UnknownQuestion(f"no task is known by {ref[:100]!r}")
        task, deeds = found
        acts: list[PersonAct] = [
            {"number": d.number, "verb": d.verb, "by": d.by, "text": d.text, "at": d.at.isoformat()} for d in deeds
        ]
        return {
            "task_id": task.task_id,
            "status": task.status,
            "after": deeds[-1].number if deeds else after,
            "acts": acts,
        }

    async def budget(self, tenant: str, ref: str, attributes: Mapping[str, Any]) -> BudgetAnswer:
        """Return a task's remaining budgets; for an unknown task, those of a task with these attributes."""
        task = await self._described(tenant, ref, attributes)
        return {"budgets": [spent_json(spent) for spent in await self._budgets.allowance(task)]}

    async def refusal(
        self, tenant: str, ref: str, attributes: Mapping[str, Any], tool: str, tool_input: Mapping[str, Any] | None
    ) -> BudgetRefusal | None:
        """Return why a budget that is used up refuses the next tool call of a task, in words for its agent.

        None: no budget refuses it. That grants nothing. `ref` is one of the task's ids or its trace, `attributes`
        are those of a task that spanpost may not know yet. Raises `StoreUnavailable`.
        """
        task = await self._described(tenant, ref, attributes)
        return await self._budgets.refusal(task, tool, tool_input)

    async def reserve(self, claim: Reservation, attributes: Mapping[str, Any]) -> ReservationAnswer:
        """Reserve from each budget of a task, or refuse. Safe to repeat."""
        task = await self._described(claim.tenant, claim.ref, attributes)
        found = await self._budgets.reserve(claim, task)
        return {
            "is_granted": not found.refusal,
            "reason": found.refusal,
            "expires_at": found.expires_at.isoformat() if found.expires_at is not None else None,
            "budgets": [spent_json(spent) for spent in found.budgets],
        }

    async def give_back(self, tenant: str, id: UUID) -> None:
        """Give back what is left of a reservation. Safe to repeat."""
        await self._budgets.give_back(tenant, id)

    async def _described(self, tenant: str, ref: str, attributes: Mapping[str, Any]) -> Task:
        known = await self._reader.refer(tenant, ref) if ref else None
        return described(known or Task(uid=_NO_TASK, tenant=tenant, task_id=ref), attributes)

    async def _question(self, tenant: str, approval_id: str, mark: str, trace: str) -> tuple[ApprovalRow | None, str]:
        """Return the question with an id, and why it gets no answer, if so. `mark` and `trace` narrow it.

        `mark` is the digest of the question's words. From now on spanpost answers the question: telemetry
        does not.
        """
        query = ApprovalQuery(
            tenant=tenant, approval_id=approval_id, mark=mark or None, trace=trace or None, limit=_QUESTIONS
        )
        rows = await self._interventions.approvals(query)
        row, why = question_of(rows, mark=mark, trace=trace, is_all=len(rows) < _QUESTIONS)
        if row is not None and not why and not row.is_asked:
            await self._interventions.await_answer(row.key)
            row = await self._interventions.approval(row.key)
        return row, why

    async def _deeds(self, task: Task, after: int) -> list[StandingAct]:
        """Return people's acts on a task after a number, without acts on a run that has ended."""
        # A task in its first run has no end yet.
        since = await self._interventions.last_end(task.uid) if task.runs > 1 or task.ended_at is not None else None
        return await self._interventions.deeds(task.uid, VERBS, after, _MOST, since=since)

    async def _until(
        self, topics: Sequence[bytes], read: Callable[[], Awaitable[tuple[T | None, bool]]], wait: float
    ) -> T | None:
        """Repeat a lookup until it finds something or the time is over; then return the last result."""
        if wait <= 0 or self.is_ended:
            return (await read())[0]
        event = asyncio.Event()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(event)
        try:
            await self._listen()
            deadline = asyncio.get_running_loop().time() + wait
            while True:
                event.clear()
                found, is_enough = await read()
                if is_enough or self.is_ended:
                    return found
                try:
                    async with asyncio.timeout_at(deadline):
                        await event.wait()
                except TimeoutError:
                    return found
        finally:
            for topic in topics:
                waiting = self._waiting[topic]
                waiting.discard(event)
                if not waiting:
                    del self._waiting[topic]

    def begin(self) -> asyncio.Task[None]:
        """Start the one listener of the process."""
        if self._listens is None:
            self._listens = asyncio.create_task(self._interventions.listen(self._hear))
        return self._listens

    async def _listen(self) -> None:
        await asyncio.shield(self.begin())


def is_closed(row: ApprovalRow) -> bool:
    """Tell whether a question has its final state."""
    return row.is_decided or row.state is InterventionState.VOID


def answer_of(row: ApprovalRow, why: str = "") -> ApprovalAnswer:
    """Return a question as its agent receives it; `why` says why the agent gets no answer."""
    is_answered = not why and is_closed(row)
    decided = row if is_answered else None
    reported = row.reported_decision
    if not row.is_decided and row.decision:
        reported = ReportedDecision(decision=row.decision, by=row.by, comment=row.comment, at=row.decided_at)
    return {
        "id": row.approval_id,
        "state": str(row.state if is_answered else InterventionState.OPEN),
        "decision": decided.decision if decided is not None else "",
        "by": decided.by if decided is not None else "",
        "comment": decided.comment if decided is not None else "",
        "source": decided.source if decided is not None else "",
        "is_expired": decided is not None and decided.state is InterventionState.EXPIRED,
        "decided_at": decided.decided_at.isoformat()
        if decided is not None and decided.decided_at is not None
        else None,
        "expires_at": row.expires_at.isoformat() if row.expires_at is not None else None,
        "can_be_approved": is_whole(row),
        "reason": why or ("" if is_answered else why_not_whole(row)),
        "reported_decision": {"decision": reported.decision, "by": reported.by, "comment": reported.comment}
        if reported is not None and not why
        else None,
    }


def as_said(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as the receiver takes them: tuples as lists, empty values left out."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in attributes.items()
        if value not in (None, "", ())
    }
