"""What an agent is told of people's answers, waiting for them where it must: one ear for all who wait in a process.

Whoever waits looks first, then sleeps until its topic is told, or until its time is over: nobody asks the database meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from spanpost.control_protocol import Act, ApprovalAnswer, BudgetAnswer, TaskAnswer
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

#: What an agent is told of.
VERBS: Final = (Verb.CANCEL, Verb.PAUSE, Verb.RESUME, Verb.MESSAGE)
#: Acts of one answer.
_MOST: Final = 100
_NO_TASK: Final = UUID(int=0)


class AnswerStore(Protocol):
    """**Protocol:** what the store does for agents that wait. It raises `LedgerUnavailable` when it cannot be reached."""

    async def question(self, tenant: str, approval_id: str, mark: str, trace: str) -> tuple[ApprovalRow | None, str]:
        """Return what was asked under an id, in those words and by that trace where they are named, and why no answer is told of it.

        It is spanpost that is asked from now on: no telemetry answers it.
        """
        ...

    async def refer(self, tenant: str, ref: str) -> Task | None: ...

    async def allowance(self, task: Task) -> Sequence[Spent]:
        """Return each budget that a task spends from."""
        ...

    async def deeds(self, task: Task, verbs: Sequence[str], after: int, limit: int) -> list[StandingAct]:
        """Return what people asked of a task after a number, without what was asked of a run that has ended."""
        ...

    async def listen(self, hears: Callable[[bytes], None]) -> None: ...

    async def record(self, batch: Sequence[Observation]) -> object: ...


class UnknownQuestion(Exception):
    """There is no such thing in that tenant."""


class Answers:
    """Answers agents, of one process. All of it in one loop."""

    def __init__(self, interaction_store: AnswerStore) -> None:
        self._interaction_store = interaction_store
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._listens: asyncio.Task[None] | None = None
        self.is_ended = False

    def end(self) -> None:
        """Let nobody wait any more: who does is answered with what is known."""
        self.is_ended = True
        self._hear(b"")

    def _hear(self, topic: bytes) -> None:
        waiting = self._waiting.get(topic, ()) if topic else [event for events in self._waiting.values() for event in events]
        for event in list(waiting):
            event.set()

    async def ask(self, tenant: str, record: Observation) -> None:
        """Record a question; it is kept when this returns."""
        await self._interaction_store.record([record])

    async def approval(self, tenant: str, id: str, mark: str = "", trace: str = "", wait: float = 0.0) -> ApprovalAnswer:
        """Return what became of a question, as soon as it is decided or `wait` seconds are over. Raises `UnknownQuestion`.

        A person's decision through spanpost is one, or a deadline's; what telemetry tells of a decision is told as that.
        """

        async def look() -> tuple[tuple[ApprovalRow, str] | None, bool]:
            row, why = await self._interaction_store.question(tenant, id, mark, trace)
            return (row, why) if row is not None else None, row is not None and not why and is_closed(row)

        found = await self._until(topic_of(tenant, APPROVAL, id), look, wait)
        if found is None:
            said = f"{' in the words of this mark' if mark else ''}{' by that trace' if trace else ''}"
            raise UnknownQuestion(
                f"nothing was asked under the id {id[:100]!r}{said}; the mark is computed from the words as they were sent"
            )
        return told_of(*found)

    async def task(self, tenant: str, ref: str, after: int = 0, wait: float = 0.0) -> TaskAnswer:
        """Return what people asked of a task since a number, as soon as there is something or `wait` seconds are over."""

        async def look() -> tuple[tuple[Task, list[StandingAct]] | None, bool]:
            task = await self._interaction_store.refer(tenant, ref)
            if task is None:
                return None, False
            deeds = await self._interaction_store.deeds(task, VERBS, after, _MOST)
            return (task, deeds), bool(deeds)

        found = await self._until(topic_of(tenant, TASK, ref), look, wait)
        if found is None:
            raise UnknownQuestion(f"no task is known by {ref[:100]!r}")
        task, deeds = found
        told: list[Act] = [{"number": d.number, "verb": d.verb, "by": d.by, "text": d.text, "at": d.at.isoformat()} for d in deeds]
        return {"task_id": task.task_id, "status": task.status, "after": deeds[-1].number if deeds else after, "acts": told}

    async def budget(self, tenant: str, ref: str, attributes: Mapping[str, Any]) -> BudgetAnswer:
        """Return what a task may still spend; of one that was not heard of yet, what one with these attributes may."""
        task = (await self._interaction_store.refer(tenant, ref) if ref else None) or Task(uid=_NO_TASK, tenant=tenant, task_id=ref)
        return {"budgets": [spent_json(spent) for spent in await self._interaction_store.allowance(described(task, attributes))]}

    async def _until(self, topic: bytes, look: Callable[[], Awaitable[tuple[T | None, bool]]], wait: float) -> T | None:
        """Look until there is something, or the time is over; then return what there is."""
        if wait <= 0 or self.is_ended:
            return (await look())[0]
        event = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(event)
        try:
            await self._listen()
            deadline = asyncio.get_running_loop().time() + wait
            while True:
                event.clear()
                found, is_enough = await look()
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
        """Begin to listen, once for all who wait."""
        if self._listens is None:
            self._listens = asyncio.create_task(self._interaction_store.listen(self._hear))
        return self._listens

    async def _listen(self) -> None:
        await asyncio.shield(self.begin())


def is_closed(row: ApprovalRow) -> bool:
    """Tell whether nothing more comes of a question for who waits."""
    return row.is_decided or row.state is InterventionState.VOID


def told_of(row: ApprovalRow, why: str = "") -> ApprovalAnswer:
    """Return a question as an agent is told of it; `why` it is told of no answer, where it is not."""
    is_told = not why and is_closed(row)
    decided = row if is_told else None
    told = row.told
    if not row.is_decided and row.decision:
        told = ReportedDecision(decision=row.decision, by=row.by, comment=row.comment, at=row.decided_at)
    return {
        "id": row.approval_id,
        "state": str(row.state if is_told else InterventionState.OPEN),
        "decision": decided.decision if decided is not None else "",
        "by": decided.by if decided is not None else "",
        "comment": decided.comment if decided is not None else "",
        "source": decided.source if decided is not None else "",
        "is_expired": decided is not None and decided.state is InterventionState.EXPIRED,
        "decided_at": decided.decided_at.isoformat() if decided is not None and decided.decided_at is not None else None,
        "expires_at": row.expires_at.isoformat() if row.expires_at is not None else None,
        "can_be_approved": is_whole(row),
        "reason": why or ("" if is_told else why_not_whole(row)),
        "told": {"decision": told.decision, "by": told.by, "comment": told.comment} if told is not None and not why else None,
    }


def as_said(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as a door takes them: tuples as lists, without what is empty."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items() if value not in (None, "", ())}
