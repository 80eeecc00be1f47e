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
from spanpost.model.standing_approvals import Scope, StandingApproval, StandingQuery
from spanpost.model.tasks import Task
from spanpost.routing import launch_orders as ordering
from spanpost.store import budgets, intervention_rows, launch_orders, standing_rows
from spanpost.store.folding import Folding
from spanpost.store.listener import Listener
from spanpost.store.own_records import domains_of, fold_in
from spanpost.store.protocols import Hears
from spanpost.store.rows import tidy
from spanpost.tasks import chains, questions
from spanpost.tasks import interventions as judging
from spanpost.tasks import standing_approvals as approving
from spanpost.tasks.approvals import APPROVAL, topic_of
from spanpost.tasks.overdue import overdue


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
        if act.verb is Verb.REVOKE:
            return await self._store.widening(partial(self._revoke, act), {topic})

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
        if verdict.result in (Result.DONE, Result.COUNTED):
            await self._store.lock_more(connection, locked, self._touched(act, row, task) - locked)
            if row is not None:
                if verdict.result is Result.COUNTED:
                    row = msgspec.structs.replace(row, votes=judging.votes_with(row, act, now))
                    record = judging.counted(row, act, now)
                else:
                    act, verdict = await self._grant(connection, act, verdict, row, task, now)
                    row = judging.taken(row, act, now)
                    record = judging.decided(row, now)
                await intervention_rows.write(connection, row)
                recorded = await fold_in(self._store, connection, record, locked, now)
                if verdict.result is Result.DONE:
                    recorded = recorded.plus(await self._answer_others(connection, row, locked, now))
                await intervention_rows.notify(connection, {topic_of(row.tenant, APPROVAL, row.approval_id)})
                recorded = recorded.plus(await self._answer_budget(connection, act, row, task, locked, now))
            elif task is not None:
                recorded = await fold_in(self._store, connection, judging.done(act, task, now), locked, now)
                await intervention_rows.notify(connection, judging.topics_of(task))
            first = await launch_orders.first(connection, task) if task is not None else None
            who = {"by": judging.name_of(act.actor), "by_id": judging.id_of(act.actor)}
            order = ordering.of_act(act, task, first, now, **who)
            if row is not None and verdict.result is Result.DONE:
                order = ordering.of_decision(act, row, task, self._store.rules.resume, now, **who)
            if order is not None:
                placed = await launch_orders.place(connection, [order])
                recorded = recorded.plus(Recorded(deliveries=len(placed)))
                verdict = msgspec.structs.replace(verdict, order_id=order.id)
        await intervention_rows.write_act(connection, act, verdict, row)
        return msgspec.structs.replace(verdict, recorded=recorded)

    async def _grant(
        self, connection: Any, act: Intervention, verdict: Verdict, row: ApprovalRow, task: Task | None, now: datetime
    ) -> tuple[Intervention, Verdict]:
        """Write the standing approval that an act grants, if it grants one; return both with its id."""
        verdict = msgspec.structs.replace(verdict, decided_at=now)
        if act.scope is Scope.ONCE or task is None:
            return act, verdict
        standing = approving.granted(act, row, task, now, self._store.rules.approvals)
        await standing_rows.write(connection, standing)
        return msgspec.structs.replace(act, rule=standing.id), msgspec.structs.replace(verdict, rule=standing.id)

    async def _revoke(self, act: Intervention, connection: Any, locked: set[bytes]) -> Verdict:
        now = await self._store.lock(connection, locked)
        before = await intervention_rows.verdict_of(connection, act)
        if before is not None:
            return msgspec.structs.replace(before, is_repeat=True)
        standing = await standing_rows.one(connection, act.key, is_locked=True)
        verdict = approving.revocation(act, standing, now)
        if verdict.result is Result.DONE and standing is not None:
            await standing_rows.revoke(connection, approving.revoked(standing, act, now))
        await intervention_rows.write_act(connection, act, verdict, None)
        return msgspec.structs.replace(verdict, recorded=Recorded())

    async def _answer_others(self, connection: Any, row: ApprovalRow, locked: set[bytes], now: datetime) -> Recorded:
        """Answer all questions with the same wording and id; the first `_AT_ONCE` tasks show it at once."""
        recorded = Recorded()
        for other in (await intervention_rows.answer_others(connection, row))[:_AT_ONCE]:
            record = judging.decided(other, now)
            await self._store.lock_more(connection, locked, domains_of(record) - locked)
            recorded = recorded.plus(await fold_in(self._store, connection, record, locked, now))
        return recorded

    async def _answer_budget(
        self, connection: Any, act: Intervention, row: ApprovalRow, task: Task | None, locked: set[bytes], now: datetime
    ) -> Recorded:
        """Do what a person's answer to a budget's question stands for: raise and resume, or cancel."""
        found = await budgets.answered(connection, row.key, act, self._store.rules.budgets, now)
        if found is None or task is None:
            return Recorded()
        follow, counted = found
        follow = msgspec.structs.replace(follow, key=task.uid)
        verdict = judging.judge(follow, None, task, now)
        await intervention_rows.write_act(connection, follow, verdict, None)
        if verdict.result is not Result.DONE:
            return Recorded(budget_acts=counted)
        record = judging.done(follow, task, now)
        await self._store.lock_more(connection, locked, domains_of(record) - locked)
        await intervention_rows.notify(connection, judging.topics_of(task))
        recorded = await fold_in(self._store, connection, record, locked, now)
        return recorded.plus(Recorded(budget_acts=counted))

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

    async def withdraw(self, key: UUID, reason: str) -> Recorded:
        """Close an open question that nothing waits for any more. See `Interventions.withdraw`."""
        row = await self._store.run(partial(intervention_rows.approval, key=key))
        if row is None or row.state is not InterventionState.OPEN:
            return Recorded()
        record = judging.decided(questions.withdrawn(row, reason, row.requested_at), row.requested_at)
        domains = domains_of(record) | {topic_of(row.tenant, APPROVAL, row.approval_id)}
        return await self._store.widening(partial(self._withdraw, key, reason), domains)

    async def _withdraw(self, key: UUID, reason: str, connection: Any, locked: set[bytes]) -> Recorded:
        now = await self._store.lock(connection, locked)
        row = await intervention_rows.approval(connection, key, is_locked=True)
        if row is None or row.state is not InterventionState.OPEN:
            return Recorded()
        row = questions.withdrawn(row, reason, now)
        record = judging.decided(row, now)
        await self._store.lock_more(connection, locked, domains_of(record) - locked)
        await intervention_rows.write(connection, row)
        await intervention_rows.write_program_act(connection, row, judging.WITHDRAW, now)
        recorded = await fold_in(self._store, connection, record, locked, now)
        await intervention_rows.notify(connection, {topic_of(row.tenant, APPROVAL, row.approval_id)})
        return recorded

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
        row, record = overdue(row, now)
        if record is None:
            return Recorded()
        await self._store.lock_more(connection, locked, domains_of(record) - locked)
        await intervention_rows.write(connection, row)
        if row.state is InterventionState.OPEN and row.expires_at is not None:
            await intervention_rows.set_timers(connection, [(row.key, row.expires_at)])
        verb = judging.ESCALATE if row.state is InterventionState.OPEN else judging.EXPIRE
        await intervention_rows.write_program_act(connection, row, verb, now)
        recorded = await fold_in(self._store, connection, record, locked, now)
        await intervention_rows.notify(connection, {topic_of(row.tenant, APPROVAL, row.approval_id)})
        return recorded

    async def pass_on(self, timers: Sequence[bytes]) -> Recorded:
        """Ask the next place of questions whose timers are due."""
        total = Recorded()
        for timer in timers:
            row = await self._store.run(partial(intervention_rows.approval, key=UUID(bytes=timer[:16])))
            record = chains.passed_on(row, row.requested_at)[1] if row is not None else None
            domains = {timer[:16]} | (domains_of(record) if record is not None else set())
            total = total.plus(await self._store.widening(partial(self._pass_on, timer), domains))
        return total

    async def _pass_on(self, timer: bytes, connection: Any, locked: set[bytes]) -> Recorded:
        now = await self._store.lock(connection, locked)
        if not await connection.fetchval("DELETE FROM timers WHERE key = $1 AND at <= $2 RETURNING true", timer, now):
            return Recorded()
        row = await intervention_rows.approval(connection, UUID(bytes=timer[:16]), is_locked=True)
        if row is None or row.state is not InterventionState.OPEN:
            return Recorded()
        row, record = chains.passed_on(row, now)
        if record is None:
            return Recorded()
        await self._store.lock_more(connection, locked, domains_of(record) - locked)
        await intervention_rows.write(connection, row)
        if (at := chains.next_at(row)) is not None:
            await intervention_rows.set_timers(connection, [(row.key, at)], chains.NEXT)
        place = row.asked[-1].place
        await intervention_rows.write_program_act(connection, row, judging.ASK_NEXT, now, place)
        return await fold_in(self._store, connection, record, locked, now)

    # --- reads -------------------------------------------------------------------------------------------------------

    async def approval(self, key: UUID) -> ApprovalRow | None:
        """Return a question by its opaque key."""
        return await self._store.run(lambda c: intervention_rows.approval(c, key))

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRow]:
        """List questions, newest first."""
        return await self._store.run(lambda c: intervention_rows.approvals(c, query))

    async def standing_approval(self, id: UUID) -> StandingApproval | None:
        """Return a standing approval."""
        return await self._store.run(lambda c: standing_rows.one(c, id))

    async def standing_approvals(self, query: StandingQuery) -> list[StandingApproval]:
        """List standing approvals, newest first."""
        return await self._store.run(lambda c: standing_rows.listed(c, query))

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
