"""The part of the Postgres store for people: record interventions, look up questions, expire them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import (
    ApprovalRow,
    Intervention,
    InterventionState,
    Result,
    StandingAct,
    Verb,
    Verdict,
)
from spanpost.model.queries import ApprovalQuery
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.routing import launch_orders as ordering
from spanpost.store import intervention_rows, launch_orders
from spanpost.store.folding import Folding
from spanpost.store.listener import Listener
from spanpost.store.own_records import domains_of, fold_in
from spanpost.store.protocols import Hears
from spanpost.store.rows import tidy
from spanpost.tasks import interventions as judging
from spanpost.tasks import questions
from spanpost.tasks.approvals import APPROVAL, topic_of


class PostgresInterventions:
    """The questions and interventions of a `PostgresStore`."""

    def __init__(self, store: Folding, listener: Listener) -> None:
        self._store = store
        self._listener = listener

    # --- acts --------------------------------------------------------------------------------------------------------

    async def intervene(self, act: Intervention) -> Verdict:
        """Record a person's act and its effect. See `Interventions.intervene`."""
        act = tidy(msgspec.structs.replace(act, text=act.text[:_LONGEST_TEXT], refusal=act.refusal[:_LONGEST_TEXT]))
        topic = topic_of(act.tenant, "act", act.idempotency_key)

        async def foreseen(connection: Any) -> set[bytes]:
            row, task = await self._subject(connection, act)
            return {topic} if row is None and task is None else {topic, *self._touched(act, row, task)}

        return await self._store.widening(partial(self._intervene, act), await self._store.run(foreseen))

    def _touched(self, act: Intervention, row: ApprovalRow | None, task: Task | None) -> set[bytes]:
        """Return the domains that an act touches if it is granted."""
        if row is not None:
            record = judging.decided(msgspec.structs.replace(row, decision="?"), row.requested_at)
            return domains_of(record) | {topic_of(row.tenant, APPROVAL, row.approval_id)}
        return domains_of(judging.done(act, task, act.at)) if task is not None else set()

    async def _subject(
        self, connection: Any, act: Intervention, *, is_locked: bool = False
    ) -> tuple[ApprovalRow | None, Task | None]:
        if not act.verb.is_decision:
            return None, await intervention_rows.task(connection, act.key)
        if is_locked:
            await intervention_rows.lock_words(connection, act.key)
        row = await intervention_rows.approval(connection, act.key)
        return row, await intervention_rows.task(connection, row.task_uid) if row is not None else None

    async def _intervene(self, act: Intervention, connection: Any, locked: set[bytes]) -> Verdict:
        now = await self._store.lock(connection, locked)
        before = await intervention_rows.verdict_of(connection, act)
        if before is not None:
            return msgspec.structs.replace(before, is_repeat=True)
        row, task = await self._subject(connection, act, is_locked=True)
        standing = None
        if act.verb is Verb.RETRY and act.launcher and task is not None:
            # Retries of the same run wait for each other: they lock the same trace.
            await self._store.lock_more(connection, locked, self._touched(act, None, task) - locked)
            standing = await launch_orders.standing(connection, task)
        verdict = judging.judge(act, row, task, now, standing)
        if verdict.result is Result.UNKNOWN:
            row = None  # the person may not learn that the question exists
        recorded = Recorded()
        if verdict.result is Result.DONE:
            await self._store.lock_more(connection, locked, self._touched(act, row, task) - locked)
            if row is not None:
                verdict = msgspec.structs.replace(verdict, decided_at=now)
                row = judging.taken(row, act, now)
                await intervention_rows.write(connection, row)
                recorded = await fold_in(self._store, connection, judging.decided(row, now), locked, now)
                recorded = recorded.plus(await self._answer_others(connection, row, locked, now))
                await intervention_rows.notify(connection, {topic_of(row.tenant, APPROVAL, row.approval_id)})
            elif task is not None:
                recorded = await fold_in(self._store, connection, judging.done(act, task, now), locked, now)
                await intervention_rows.notify(connection, judging.topics_of(task))
            first = await launch_orders.first(connection, task) if task is not None else None
            who = {"by": judging.name_of(act.actor), "by_id": judging.id_of(act.actor)}
            order = ordering.of_act(act, task, first, now, **who)
            if order is not None:
                placed = await launch_orders.place(connection, [order])
                recorded = recorded.plus(Recorded(deliveries=len(placed)))
                verdict = msgspec.structs.replace(verdict, order_id=order.id)
        await intervention_rows.write_act(connection, act, verdict, row)
        return msgspec.structs.replace(verdict, recorded=recorded)

    async def _answer_others(self, connection: Any, row: ApprovalRow, locked: set[bytes], now: datetime) -> Recorded:
        """Answer all questions with the same wording and id; the first `_AT_ONCE` tasks show it at once."""
        recorded = Recorded()
        for other in (await intervention_rows.answer_others(connection, row))[:_AT_ONCE]:
            record = judging.decided(other, now)
            await self._store.lock_more(connection, locked, domains_of(record) - locked)
            recorded = recorded.plus(await fold_in(self._store, connection, record, locked, now))
        return recorded

    async def await_answer(self, key: UUID) -> None:
        """Note that an agent waits for the answer to a question. See `Interventions.await_answer`."""
        row = await self._store.run(partial(intervention_rows.approval, key=key))
        if row is None or row.is_asked:
            return
        domains = domains_of(judging.awaiting(row, row.requested_at)) | {
            topic_of(row.tenant, APPROVAL, row.approval_id)
        }
        await self._store.widening(partial(self._await_answer, key), domains)

    async def _await_answer(self, key: UUID, connection: Any, locked: set[bytes]) -> None:
        now = await self._store.lock(connection, locked)
        row = await intervention_rows.approval(connection, key, is_locked=True)
        if row is not None and not row.is_asked:
            row = questions.awaited(row)
            await intervention_rows.write(connection, row)
            await fold_in(self._store, connection, judging.awaiting(row, now), locked, now)

    # --- deadlines ---------------------------------------------------------------------------------------------------

    async def expire(self, timers: Sequence[bytes]) -> Recorded:
        """Expire or escalate questions whose timers are due."""
        total = Recorded()
        for timer in timers:
            key = UUID(bytes=timer[:16])
            row = await self._store.run(partial(intervention_rows.approval, key=key))
            domains = {timer[:16]}
            if row is not None:
                record = judging.decided(msgspec.structs.replace(row, decision="?"), row.requested_at)
                escalation = judging.escalated(row, row.requested_at)
                domains |= domains_of(record) | domains_of(escalation)
            total = total.plus(await self._store.widening(partial(self._overdue, timer), domains))
        return total

    async def _overdue(self, timer: bytes, connection: Any, locked: set[bytes]) -> Recorded:
        now = await self._store.lock(connection, locked)
        if not await connection.fetchval("DELETE FROM timers WHERE key = $1 AND at <= $2 RETURNING true", timer, now):
            return Recorded()
        row = await intervention_rows.approval(connection, UUID(bytes=timer[:16]), is_locked=True)
        if row is None or row.state is not InterventionState.OPEN or row.expires_at is None:
            return Recorded()
        if row.expires_at > now:
            await intervention_rows.set_timers(connection, [(row.key, row.expires_at)])
            return Recorded()
        row, record = judging.overdue(row, now)
        if record is None:
            return Recorded()
        await self._store.lock_more(connection, locked, domains_of(record) - locked)
        await intervention_rows.write(connection, row)
        if row.state is InterventionState.OPEN and row.expires_at is not None:
            await intervention_rows.set_timers(connection, [(row.key, row.expires_at)])
        if row.state is not InterventionState.OPEN:
            await intervention_rows.write_deadline(connection, row)
        recorded = await fold_in(self._store, connection, record, locked, now)
        await intervention_rows.notify(connection, {topic_of(row.tenant, APPROVAL, row.approval_id)})
        return recorded

    # --- reads -------------------------------------------------------------------------------------------------------

    async def approval(self, key: UUID) -> ApprovalRow | None:
        """Return a question by its opaque key."""
        return await self._store.run(lambda c: intervention_rows.approval(c, key))

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRow]:
        """List questions, newest first."""
        return await self._store.run(lambda c: intervention_rows.approvals(c, query))

    async def deeds(
        self, task_uid: UUID, verbs: Sequence[str], after: int = 0, limit: int = 100, *, since: datetime | None = None
    ) -> list[StandingAct]:
        """Return acts on a task that were granted. See `Interventions.deeds`."""
        return await self._store.run(lambda c: intervention_rows.deeds(c, task_uid, verbs, after, limit, since))

    async def last_end(self, task_uid: UUID) -> datetime | None:
        """Return when the newest end of a run of the task was recorded."""
        return await self._store.run(lambda c: intervention_rows.last_end(c, task_uid))

    async def is_first(self, key: str) -> bool:
        """Remember a request for an hour; False when it was received before."""
        return await self._store.run(lambda c: intervention_rows.is_first(c, key))

    async def listen(self, hears: Hears) -> None:
        """Call `hears` for every decision and act from now on."""
        with suppress(StoreUnavailable):  # the listener keeps trying
            await self._listener.add(hears)

    def listen_no_more(self, hears: Hears) -> None:
        """Stop calling `hears`."""
        self._listener.remove(hears)


#: Most characters that are kept of a person's text.
_LONGEST_TEXT = 8_000
#: Most tasks with the same question that show a decision in its transaction; the others show it when they
#: change next.
_AT_ONCE = 20
