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
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.routing import launch_orders as ordering
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_launch_orders import MemoryLaunchOrders
from spanpost.store.memory_tables import MemoryTables
from spanpost.store.protocols import Hears
from spanpost.tasks import interventions as judging
from spanpost.tasks import questions
from spanpost.tasks.approvals import APPROVAL, topic_of

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
    ) -> None:
        self._tables = tables
        self._heartbeats = heartbeats
        self._orders = orders
        self._record = record
        self._clock = tables.clock
        self._timers = tables.timers
        self.rows: dict[UUID, ApprovalRow] = {}
        self._acts: dict[tuple[str, str], _KeptAct] = {}
        self._numbers = 0
        self._listeners: list[Hears] = []

    # --- questions ---------------------------------------------------------------------------------------------------

    def keep(self, tasks: Iterable[Task]) -> list[Observation]:
        """Update the questions of these tasks; return the observations to record next."""
        tasks = list(tasks)
        _, asked = questions.questions_of(tasks)
        decided = [
            row
            for row in self.rows.values()
            if row.is_decided and row.state is InterventionState.DECIDED and _words(row) in asked
        ]
        kept = questions.keep(self.rows, sorted(decided, key=_decided_at, reverse=True), tasks, self._clock())
        self.rows.update(kept.rows)
        for key, at in kept.timers:
            self._timers[key.bytes + judging.TIMER] = at
        self._notify(kept.topics)
        return kept.owed

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
            row, record = judging.overdue(row, now)
            if record is None:
                continue
            self.rows[row.key] = row
            if row.state is InterventionState.OPEN and row.expires_at is not None:
                self._timers[timer] = row.expires_at
            total = total.plus(self._record([record]))
            self._notify({topic_of(row.tenant, APPROVAL, row.approval_id)})
        return total

    def forget(self, tasks: Iterable[UUID]) -> None:
        """Drop the questions of these tasks."""
        gone = set(tasks)
        self.rows = {key: row for key, row in self.rows.items() if row.task_uid not in gone}

    # --- acts --------------------------------------------------------------------------------------------------------

    async def intervene(self, act: Intervention) -> Verdict:
        """Record what a person did, and its effects."""
        before = self._acts.get((act.tenant, act.idempotency_key))
        if before is not None:
            return msgspec.structs.replace(before.verdict, is_repeat=True)
        now = self._clock()
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
        if verdict.result is Result.DONE:
            if row is not None:
                verdict = msgspec.structs.replace(verdict, decided_at=now)
                row = self.rows[row.key] = judging.taken(row, act, now)
                others = [judging.taken(other, act, now) for other in self._undecided(row)]
                self.rows.update({other.key: other for other in others})
                recorded = self._record([judging.decided(each, now) for each in (row, *others)])
                topics = {topic_of(row.tenant, APPROVAL, row.approval_id)}
            elif task is not None:
                recorded = self._record([judging.done(act, task, now)])
                topics = judging.topics_of(task)
            first = self._orders.first(task) if task is not None else None
            actor = {"by": judging.name_of(act.actor), "by_id": judging.id_of(act.actor)}
            order = ordering.of_act(act, task, first, now, **actor)
            if order is not None:
                recorded = recorded.plus(Recorded(deliveries=self._orders.put([order])))
                verdict = msgspec.structs.replace(verdict, order_id=order.id)
        self._numbers += 1
        self._acts[act.tenant, act.idempotency_key] = _KeptAct(self._numbers, act, verdict, now)
        if len(self._acts) > _ACTS:
            del self._acts[next(iter(self._acts))]
        self._notify(topics)
        return msgspec.structs.replace(verdict, recorded=recorded)

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
            if not other.is_decided and other.state in (InterventionState.OPEN, InterventionState.DECIDED)
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
                status=(judging.decision_of(a.act) if a.act.verb.is_decision else "") or None,
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
