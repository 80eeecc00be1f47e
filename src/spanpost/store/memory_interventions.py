"""Questions and interventions in memory: the same rules as `interventions`, over dictionaries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.model.ids import named
from spanpost.model.interventions import (
    ApprovalRow,
    Intervention,
    InterventionState,
    Result,
    StandingAct,
    Verb,
    Verdict,
)
from spanpost.model.observations import Observation
from spanpost.model.queries import ApprovalQuery, TimelineEntry, TimelineKey
from spanpost.model.recorded import BudgetAct, Recorded
from spanpost.model.standing_approvals import Scope, StandingApproval, StandingQuery
from spanpost.model.tasks import Task
from spanpost.routing import launch_orders as ordering
from spanpost.store.memory_acts import MemoryActs
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_launch_orders import MemoryLaunchOrders
from spanpost.store.memory_standing import MemoryStanding
from spanpost.store.memory_tables import MemoryTables
from spanpost.store.protocols import Hears
from spanpost.tasks import chains, questions
from spanpost.tasks import interventions as judging
from spanpost.tasks import standing_approvals as approving
from spanpost.tasks.approvals import APPROVAL, topic_of
from spanpost.tasks.budget_limits import SOURCE, LimitAct
from spanpost.tasks.overdue import overdue

log = logging.getLogger("spanpost.store.memory")

#: Interventions kept; the oldest are dropped.
_ACTS = 20_000


class _KeptAct(msgspec.Struct, frozen=True):
    number: int
    act: Intervention
    verdict: Verdict
    at: datetime


class MemoryInterventions:
    """Questions and interventions of one process. `record` records the observations that are made of them."""

    def __init__(
        self,
        tables: MemoryTables,
        heartbeats: MemoryHeartbeats,
        orders: MemoryLaunchOrders,
        record: Callable[[Sequence[Observation]], Recorded],
        answered: Callable[[UUID, Intervention, datetime], tuple[Intervention, list[BudgetAct]] | None],
    ) -> None:
        self._tables = tables
        self._heartbeats = heartbeats
        self._orders = orders
        self._record = record
        #: Raises a budget by the answer to its question (`MemoryBudgets.answered`).
        self._answered = answered
        self._clock = tables.clock
        self._timers = tables.timers
        self.rows: dict[UUID, ApprovalRow] = {}
        self._standing = MemoryStanding(tables)
        self._acts: dict[tuple[str, str], _KeptAct] = {}
        #: The rows of acts, as auditors read them.
        self.acts = MemoryActs(tables, self.rows)
        self._listeners: list[Hears] = []

    # --- questions ---------------------------------------------------------------------------------------------------

    def keep(self, tasks: Iterable[Task]) -> questions.KeptQuestion:
        """Update the questions of these tasks; return the changes."""
        tasks = list(tasks)
        _, asked = questions.questions_of(tasks)
        decided = [
            row
            for row in self.rows.values()
            if row.state is InterventionState.DECIDED and row.source not in ("", judging.RULE) and _words(row) in asked
        ]
        now = self._clock()
        standing = self._standing.now() if questions.tools_of(tasks, self.rows) else []
        kept = questions.keep(self.rows, sorted(decided, key=_decided_at, reverse=True), tasks, now, standing)
        self.rows.update(kept.rows)
        for one, row, task in kept.uses:
            self._standing.count(one.id, now)
            self.keep_act(*approving.use_of(one, row, task, now), now, row)
        for key, at in kept.timers:
            self._timers[key.bytes + judging.TIMER] = at
        for key, at in kept.next_places:
            self._timers[key.bytes + chains.NEXT] = at
        self._notify(kept.topics)
        return kept

    def expire(self, timers: Iterable[bytes], now: datetime) -> Recorded:
        """Expire questions whose deadline has passed."""
        total = Recorded()
        for timer in timers:
            row = self.rows.get(UUID(bytes=timer[:16]))
            if row is None or row.state is not InterventionState.OPEN or row.expires_at is None:
                continue
            if row.expires_at > now:
                self._timers[timer] = row.expires_at
                continue
            row, record = overdue(row, now)
            if record is None:
                continue
            self.rows[row.key] = row
            is_open = row.state is InterventionState.OPEN
            self.acts.keep_program_act(row, judging.ESCALATE if is_open else judging.EXPIRE, now)
            if is_open and row.expires_at is not None:
                self._timers[timer] = row.expires_at
            total = total.plus(self._record([record]))
            self._notify({topic_of(row.tenant, APPROVAL, row.approval_id)})
        return total

    def pass_on(self, timers: Iterable[bytes], now: datetime) -> Recorded:
        """Ask the next place of questions whose timers are due."""
        total = Recorded()
        for timer in timers:
            row = self.rows.get(UUID(bytes=timer[:16]))
            if row is None or row.state is not InterventionState.OPEN:
                continue
            row, record = chains.passed_on(row, now)
            if record is None:
                continue
            self.rows[row.key] = row
            self.acts.keep_program_act(row, judging.ASK_NEXT, now, row.asked[-1].place)
            if (at := chains.next_at(row)) is not None:
                self._timers[timer] = at
            total = total.plus(self._record([record]))
        return total

    async def withdraw(self, key: UUID, reason: str) -> Recorded:
        """Close an open question that nothing waits for any more."""
        row, now = self.rows.get(key), self._clock()
        if row is None or row.state is not InterventionState.OPEN:
            return Recorded()
        row = self.rows[key] = questions.withdrawn(row, reason, now)
        self.acts.keep_program_act(row, judging.WITHDRAW, now)
        recorded = self._record([judging.decided(row, now)])
        self._notify({topic_of(row.tenant, APPROVAL, row.approval_id)})
        return recorded

    def forget(self, tasks: Iterable[UUID]) -> None:
        """Drop the questions of these tasks."""
        gone = set(tasks)
        for key in [key for key, row in self.rows.items() if row.task_uid in gone]:
            del self.rows[key]

    # --- acts --------------------------------------------------------------------------------------------------------

    async def intervene(self, act: Intervention) -> Verdict:
        """Record what a person did, and its effects."""
        if (before := self.verdict_of(act)) is not None:
            return before
        now = self._clock()
        if act.verb is Verb.REVOKE:
            verdict = self._standing.revoke(act, now)
            self.keep_act(act, verdict, now)
            return msgspec.structs.replace(verdict, recorded=Recorded())
        row = self.rows.get(act.key) if act.verb.is_decision else None
        task = (
            self._task(row.task_uid if row is not None else act.key)
            if row is not None or not act.verb.is_decision
            else None
        )
        retried = task if act.verb is Verb.RETRY and act.launcher else None
        verdict = judging.judge(act, row, task, now, self._orders.standing(retried) if retried is not None else None)
        recorded = Recorded()
        topics: set[bytes] = set()
        if verdict.result is Result.COUNTED and row is not None:
            row = self.rows[row.key] = msgspec.structs.replace(row, votes=judging.votes_with(row, act, now))
            recorded = self._record([judging.counted(row, act, now)])
            topics = {topic_of(row.tenant, APPROVAL, row.approval_id)}
        elif verdict.result is Result.DONE:
            if row is not None:
                verdict = msgspec.structs.replace(verdict, decided_at=now)
                if act.scope is not Scope.ONCE and task is not None:
                    rule = self._standing.grant(act, row, task, now)
                    act = msgspec.structs.replace(act, rule=rule)
                    verdict = msgspec.structs.replace(verdict, rule=rule)
                row = self.rows[row.key] = judging.taken(row, act, now)
                others = [judging.taken(other, act, now) for other in self._undecided(row)]
                self.rows.update({other.key: other for other in others})
                recorded = self._record([judging.decided(each, now) for each in (row, *others)])
                topics = {topic_of(row.tenant, APPROVAL, row.approval_id)}
                if (budget := self._answered(row.key, act, now)) is not None and task is not None:
                    follow = await self.intervene(msgspec.structs.replace(budget[0], key=task.uid))
                    recorded = recorded.plus(follow.recorded or Recorded()).plus(Recorded(budget_acts=budget[1]))
            elif task is not None:
                recorded = self._record([judging.done(act, task, now)])
                topics = judging.topics_of(task)
            first = self._orders.first(task) if task is not None else None
            actor = {"by": judging.name_of(act.actor), "by_id": judging.id_of(act.actor)}
            order = ordering.of_act(act, task, first, now, **actor)
            if row is not None:
                order = ordering.of_decision(act, row, task, self._tables.rules.resume, now, **actor)
            if order is not None:
                recorded = recorded.plus(Recorded(deliveries=self._orders.put([order])))
                verdict = msgspec.structs.replace(verdict, order_id=order.id)
        self.keep_act(act, verdict, now, row if verdict.result is not Result.UNKNOWN else None)
        self._notify(topics)
        return msgspec.structs.replace(verdict, recorded=recorded)

    def verdict_of(self, act: Intervention) -> Verdict | None:
        """Return the verdict on the same act, if it was recorded before."""
        before = self._acts.get((act.tenant, act.idempotency_key))
        return msgspec.structs.replace(before.verdict, is_repeat=True) if before is not None else None

    def keep_act(self, act: Intervention, verdict: Verdict, now: datetime, row: ApprovalRow | None = None) -> None:
        """Keep an intervention with its verdict; `row`: the question as it stands."""
        number = self.acts.keep(act, verdict, now, row)
        self._acts[act.tenant, act.idempotency_key] = _KeptAct(number, act, verdict, now)
        if len(self._acts) > _ACTS:
            del self._acts[next(iter(self._acts))]

    def act_of_budget(self, limit: LimitAct) -> list[Observation] | None:
        """Record what a budget does to a task; return the observations to record next. None: it had no effect."""
        act, now = limit.act, self._clock()
        if (act.tenant, act.idempotency_key) in self._acts or self._done(limit.task.uid, limit.occasion):
            return None
        verdict = judging.judge(act, None, limit.task, now)
        self.keep_act(act, verdict, now)
        if verdict.result is not Result.DONE:
            return None
        self._notify(judging.topics_of(limit.task))
        done = judging.done(act, limit.task, now)
        return [done, limit.record] if limit.record is not None else [done]

    def was_resumed(self, task_uid: UUID, occasion: str) -> bool:
        """Tell whether a person resumed a task after a budget acted on it for this occasion."""
        return any(
            a.act.verb is Verb.RESUME
            and a.number > before.number
            and a.verdict.result is Result.DONE
            and self._is_of(a.verdict, task_uid)
            for before in self._done(task_uid, occasion)
            for a in self._acts.values()
        )

    def _done(self, task_uid: UUID, occasion: str) -> list[_KeptAct]:
        """Return a budget's acts on a task, and on those that became part of it, for one occasion."""
        return [
            a
            for a in self._acts.values()
            if a.act.source == SOURCE
            and a.act.idempotency_key.rpartition(" ")[0] == occasion
            and a.verdict.result is Result.DONE
            and self._is_of(a.verdict, task_uid)
        ]

    async def standing_approval(self, id: UUID) -> StandingApproval | None:
        """Return a standing approval."""
        return self._standing.rows.get(id)

    async def standing_approvals(self, query: StandingQuery) -> list[StandingApproval]:
        """List standing approvals, newest first."""
        return self._standing.listed(query)

    async def await_answer(self, key: UUID) -> None:
        """Note that an agent waits for the answer to a question."""
        row = self.rows.get(key)
        if row is not None and not row.is_asked:
            row = self.rows[key] = questions.awaited(row)
            self._record([judging.awaiting(row, self._clock())])

    def _undecided(self, row: ApprovalRow) -> list[ApprovalRow]:
        others = [other for other in self.rows.values() if _words(other) == _words(row) and other.key != row.key]
        return [
            other
            for other in others
            if not other.is_decided
            and other.state in (InterventionState.OPEN, InterventionState.DECIDED)
            and (other.needs <= judging.backing(row) or row.decision == Verb.DENY)
        ]

    # --- looking -----------------------------------------------------------------------------------------------------

    def _task(self, uid: UUID) -> Task | None:
        task = self._tables.task(uid)
        return self._heartbeats.shown(task) if task is not None else None

    async def approval(self, key: UUID) -> ApprovalRow | None:
        """Return a question by its opaque key."""
        return self.rows.get(key)

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRow]:
        """List questions, newest first."""
        found = [
            row
            for row in self.rows.values()
            if (query.tenant is None or row.tenant == query.tenant)
            and (query.approval_id is None or row.approval_id == query.approval_id)
            and (query.mark is None or row.mark == query.mark)
            and (query.trace is None or row.trace == query.trace)
            and (query.state is None or row.state == query.state)
            and (query.task_uid is None or row.task_uid == query.task_uid)
        ]
        found.sort(key=lambda row: (-row.requested_at.timestamp(), row.key))
        return found[: query.limit]

    async def last_end(self, task_uid: UUID) -> datetime | None:
        """Return when the newest end of a run of the task was recorded."""
        ends, checkpoints = self._tables.ends, self._tables.checkpoints
        known = [c for id in ends if (c := checkpoints.get(id)) is not None and c.task_uid == task_uid]
        newest = max(known, key=lambda c: (c.at, c.id), default=None)
        return ends[newest.id] if newest is not None else None

    async def deeds(
        self, task_uid: UUID, verbs: Sequence[str], after: int = 0, limit: int = 100, *, since: datetime | None = None
    ) -> list[StandingAct]:
        """Return a task's granted interventions, after a number and a moment."""
        found = [
            StandingAct(
                number=a.number, verb=str(a.act.verb), by=judging.name_of(a.act.actor), text=a.act.text, at=a.at
            )
            for a in self._acts.values()
            if a.number > after
            and (since is None or a.at > since)
            and a.verdict.result is Result.DONE
            and a.act.verb in verbs
            and self._is_of(a.verdict, task_uid)
        ]
        return found[:limit]

    def happenings(self, task_uid: UUID) -> list[TimelineEntry]:
        """Return a task's interventions, granted or not, for its timeline."""
        return [
            TimelineEntry(
                key=TimelineKey(a.at, 2, UUID(bytes=named(f"{a.act.tenant}\0act\0{a.act.idempotency_key}"))),
                kind=str(a.act.verb),
                text=a.act.text,
                by=judging.name_of(a.act.actor) or None,
                result=str(a.verdict.result),
                detail=a.act.refusal or self._question(a.act.key) or None,
                status=judging.decision_of(a.act) or None,
            )
            for a in self._acts.values()
            if self._is_of(a.verdict, task_uid)
        ]

    def _question(self, key: UUID) -> str:
        row = self.rows.get(key)
        return row.question if row is not None else ""

    def _is_of(self, verdict: Verdict, task_uid: UUID) -> bool:
        if verdict.task_uid is None:
            return False
        task = self._tables.task(verdict.task_uid)
        return task is not None and task.uid == task_uid

    async def is_first(self, key: str) -> bool:
        """Remember a request for an hour; False when it is a duplicate."""
        return self._tables.is_first(key)

    # --- notifying ---------------------------------------------------------------------------------------------------

    async def listen(self, hears: Hears) -> None:
        """Call `hears` for every decision and intervention from now on."""
        self._listeners.append(hears)

    def listen_no_more(self, hears: Hears) -> None:
        """Stop calling `hears`."""
        if hears in self._listeners:
            self._listeners.remove(hears)

    def _notify(self, topics: Iterable[bytes]) -> None:
        for topic in topics:
            for listener in list(self._listeners):
                try:
                    listener(topic)
                except Exception:  # a failing listener must not stop recording
                    log.exception("a listener of interventions failed")


def _words(row: ApprovalRow) -> tuple[str, str, str]:
    return row.tenant, row.approval_id, row.mark


def _decided_at(row: ApprovalRow) -> tuple[float, UUID]:
    return row.decided_at.timestamp() if row.decided_at is not None else 0.0, row.key
