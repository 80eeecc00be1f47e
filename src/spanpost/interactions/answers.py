"""Answers for agents that wait: people's decisions, acts and budgets.

One listener a process. A waiting agent reads the database once, then sleeps until its topic is notified or
its time is over; it does not poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from spanpost.control_protocol import ApprovalAnswer, BudgetAnswer, PersonAct, TaskAnswer
from spanpost.model.budgets import Spent
from spanpost.model.interventions import ApprovalRow, InterventionState, StandingAct, Verb
from spanpost.model.observations import Observation
from spanpost.model.readings import ReportedDecision
from spanpost.model.tasks import Task
from spanpost.routing.matching import described
from spanpost.tasks.approvals import APPROVAL, TASK, topic_of
from spanpost.tasks.interventions import is_whole, why_not_whole
from spanpost.tasks.json_form import spent_json

T = TypeVar("T")

#: Acts that are passed to an agent.
VERBS: Final = (Verb.CANCEL, Verb.PAUSE, Verb.RESUME, Verb.MESSAGE)
#: Acts in one answer, at most.
_MOST: Final = 100
_NO_TASK: Final = UUID(int=0)


class AnswerStore(Protocol):
    """**Protocol:** what agents that wait need of the store. Raises `StoreUnavailable`."""

    async def question(self, tenant: str, approval_id: str, mark: str, trace: str) -> tuple[ApprovalRow | None, str]:
        """Return the question with an id, and why it gets no answer, if so. `mark` and `trace` narrow it.

        `mark` is the digest of the question's words. From now on spanpost answers the question: telemetry
        does not.
        """
        ...

    async def refer(self, tenant: str, ref: str) -> Task | None: ...

    async def allowance(self, task: Task) -> Sequence[Spent]:
        """Return each budget that a task spends from."""
        ...

    async def deeds(self, task: Task, verbs: Sequence[str], after: int, limit: int) -> list[StandingAct]:
        """Return what people asked of a task after a number, without acts on a run that has ended."""
        ...

    async def listen(self, hears: Callable[[bytes], None]) -> None: ...

    async def record(self, batch: Sequence[Observation]) -> object: ...


class UnknownQuestion(Exception):
    """The tenant has no such question or task."""


class Answers:
    """Answers the agents of one process. All of it runs in one loop."""

    def __init__(self, interaction_store: AnswerStore) -> None:
        self._interaction_store = interaction_store
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._listens: asyncio.Task[None] | None = None
        self.is_ended = False

    def end(self) -> None:
        """End all waits: each waiting agent gets what is known now."""
        self.is_ended = True
        self._on_topic(b"")

    def _on_topic(self, topic: bytes) -> None:
        waiting = (
            self._waiting.get(topic, ()) if topic else [event for events in self._waiting.values() for event in events]
        )
        for event in list(waiting):
            event.set()

    async def ask(self, tenant: str, record: Observation) -> None:
        """Record a question. It is stored when this returns."""
        await self._interaction_store.record([record])

    async def approval(
        self, tenant: str, id: str, mark: str = "", trace: str = "", wait: float = 0.0
    ) -> ApprovalAnswer:
        """Return the outcome of a question once it is decided, or after `wait` seconds.

        Raises `UnknownQuestion`.
        An outcome is a person's decision through spanpost, or the deadline. A decision that telemetry
        reports is returned as reported.
        """

        async def read() -> tuple[tuple[ApprovalRow, str] | None, bool]:
            row, why = await self._interaction_store.question(tenant, id, mark, trace)
            return (row, why) if row is not None else None, row is not None and not why and is_closed(row)

        found = await self._until(topic_of(tenant, APPROVAL, id), read, wait)
        if found is None:
            said = f"{' in the words of this mark' if mark else ''}{' by that trace' if trace else ''}"
            raise UnknownQuestion(
                f"nothing was asked under the id {id[:100]!r}{said}; the mark is computed from the words as they were sent"
            )
        return answer_of(*found)

    async def task(self, tenant: str, ref: str, after: int = 0, wait: float = 0.0) -> TaskAnswer:
        """Return the acts on a task after a number, once there are any or after `wait` seconds."""

        async def read() -> tuple[tuple[Task, list[StandingAct]] | None, bool]:
            task = await self._interaction_store.refer(tenant, ref)
            if task is None:
                return None, False
            deeds = await self._interaction_store.deeds(task, VERBS, after, _MOST)
            return (task, deeds), bool(deeds)

        found = await self._until(topic_of(tenant, TASK, ref), read, wait)
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
        """Return what a task may still spend; for an unknown task, what one with these attributes may."""
        task = (await self._interaction_store.refer(tenant, ref) if ref else None) or Task(
            uid=_NO_TASK, tenant=tenant, task_id=ref
        )
        return {
            "budgets": [
                spent_json(spent) for spent in await self._interaction_store.allowance(described(task, attributes))
            ]
        }

    async def _until(self, topic: bytes, read: Callable[[], Awaitable[tuple[T | None, bool]]], wait: float) -> T | None:
        """Repeat a lookup until it finds something or the time is over; then return the last result."""
        if wait <= 0 or self.is_ended:
            return (await read())[0]
        event = asyncio.Event()
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
            waiting = self._waiting[topic]
            waiting.discard(event)
            if not waiting:
                del self._waiting[topic]

    def begin(self) -> asyncio.Task[None]:
        """Start the one listener of the process."""
        if self._listens is None:
            self._listens = asyncio.create_task(self._interaction_store.listen(self._on_topic))
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
