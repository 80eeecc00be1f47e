"""A store in memory, for tests of interactions alone: the first decision counts, repeats change nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from msgspec.structs import replace

from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import ApprovalRow, Intervention, InterventionState, Result, Verb, Verdict
from spanpost.model.queries import ApprovalFilter, Page, TaskFilter, TaskQuestion
from spanpost.model.readings import Approval
from spanpost.model.tasks import Task

AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


class InteractionStore:
    """Tasks and questions are in `known`, by key, with the messages that show them. `rows` are the
    interventions.
    """

    def __init__(self) -> None:
        self.reader = self.interventions = self.alerts = self.acts = self
        self.known: dict[UUID, tuple[Task, Approval | None, set[tuple[str, str]]]] = {}
        self.rows: list[Intervention] = []
        self.verdicts: dict[str, Verdict] = {}
        self.decided: dict[UUID, str] = {}
        self.seen_requests: set[str] = set()
        self.is_away = False
        #: Held, no request is answered.
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: Counter[str] = Counter()

    def ask(self, task: Task, channel: str, ts: str, approval: Approval | None = None) -> UUID:
        """Add a question, or a task, with its message; return its key."""
        key = task.uid
        if approval is not None:
            key = uuid4()
            approval = replace(approval, key=key)
            task = replace(task, approvals=(approval,))
        self.known[key] = (task, approval, {(channel, ts)})
        return key

    @property
    def granted(self) -> list[Intervention]:
        """Return the granted acts."""
        return [row for row in self.rows if not row.refusal]

    async def _answer(self, call: str) -> None:
        self.calls[call] += 1
        await self.gate.wait()
        if self.is_away:
            raise StoreUnavailable("away")

    async def intervene(self, intervention: Intervention) -> Verdict:
        await self._answer("intervene")
        if (known := self.verdicts.get(intervention.idempotency_key)) is not None:
            return Verdict(result=known.result, is_repeat=True)
        verdict = self.verdicts[intervention.idempotency_key] = self._judge(intervention)
        self.rows.append(intervention)
        return verdict

    def _judge(self, act: Intervention) -> Verdict:
        if act.verb is Verb.START:
            return Verdict(result=Result.REFUSED if act.refusal else Result.DONE)
        if act.key not in self.known:
            return Verdict(result=Result.UNKNOWN)
        if act.refusal:
            return Verdict(result=Result.REFUSED)
        if not act.verb.is_decision:
            return Verdict(result=Result.DONE)
        if act.key in self.decided:
            decision, _, by = self.decided[act.key].partition(" ")
            return Verdict(result=Result.DECIDED, decision=decision, by=by)
        self.decided[act.key] = f"{act.option if act.verb is Verb.CHOOSE else act.verb} {act.actor.id}"
        return Verdict(result=Result.DONE)

    async def approval(self, key: UUID) -> ApprovalRow | None:
        await self._answer("approval")
        task, approval, _ = self.known.get(key, (None, None, None))
        return _row(key, task, approval) if task is not None and approval is not None else None

    async def find(self, key: UUID) -> Task | None:
        await self._answer("find")
        return next((task for task, _, _ in self.known.values() if task.uid == key), None)

    async def shown_in(self, sink: str, ref: Mapping[str, Any]) -> Task | None:
        await self._answer("shown_in")
        place = ref["channel"], ref["ts"]
        return next((task for task, _, places in self.known.values() if place in places), None)

    async def tasks(self, asked: TaskFilter, after: Any, limit: int) -> Page[Task]:
        await self._answer("tasks")
        found = [task for task, approval, _ in self.known.values() if approval is None and asked.takes(task)]

        def order(key: Any) -> Any:
            return key.started_at or datetime(1, 1, 1, tzinfo=UTC), key.uid

        found.sort(key=order, reverse=True)
        found = [task for task in found if after is None or order(task) < order(after)]
        return Page(items=found[:limit], next="more" if len(found) > limit else None)

    async def task(self, tenant: str, ref: str) -> Task | None:
        await self._answer("task")
        own = (task for task, _, _ in self.known.values() if task.tenant == tenant)
        return next((task for task in own if ref in (task.task_id, str(task.uid))), None)

    async def approvals(self, asked: ApprovalFilter, after: Any, limit: int) -> Page[TaskQuestion]:
        await self._answer("approvals")
        found = [
            TaskQuestion(row=_row(key, task, approval), task=task)
            for key, (task, approval, _) in self.known.items()
            if approval is not None and task.tenant == asked.tenant and key not in self.decided
        ]
        return Page(items=found[:limit], next="more" if len(found) > limit else None)

    async def shown_at(self, sink: str, uids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
        found = {task.uid: min(places) for task, _, places in self.known.values() if places}
        return {uid: dict(zip(("channel", "ts"), found[uid], strict=True)) for uid in uids if uid in found}

    async def is_first(self, key: str) -> bool:
        if self.is_away:
            raise StoreUnavailable("away")
        is_first = key not in self.seen_requests
        self.seen_requests.add(key)
        return is_first


def _row(key: UUID, task: Task, approval: Approval) -> ApprovalRow:
    return ApprovalRow(
        key=key,
        tenant=task.tenant,
        task_uid=task.uid,
        approval_id=approval.id,
        mark=approval.mark,
        question=approval.question,
        detail=approval.detail,
        options=approval.options,
        risk=approval.risk,
        tool=approval.tool,
        needs=approval.needs,
        is_cut=approval.is_cut,
        decision=approval.decision,
        by=approval.by,
        source=approval.source,
        state=InterventionState.DECIDED if approval.decision else InterventionState.OPEN,
        requested_at=AT,
    )
