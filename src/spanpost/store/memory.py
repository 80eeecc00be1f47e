"""Store that keeps everything in memory: for agents without a database, for replay and for tests."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.fleet import SHOWN, Fleet
from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.model.recorded import UNFOLDABLE, Recorded
from spanpost.model.tasks import Task
from spanpost.store import faults
from spanpost.store.memory_access_tokens import MemoryAccessTokens
from spanpost.store.memory_alerts import MemoryAlerts
from spanpost.store.memory_budgets import MemoryBudgets
from spanpost.store.memory_curves import MemoryCurves
from spanpost.store.memory_deliveries import MemoryOutbox
from spanpost.store.memory_fleet import fleet
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_installations import MemoryInstallations
from spanpost.store.memory_interventions import MemoryInterventions
from spanpost.store.memory_launch_orders import MemoryLaunchOrders
from spanpost.store.memory_reader import MemoryReader
from spanpost.store.memory_sessions import MemorySessions
from spanpost.store.memory_tables import MemoryTables, own_domains_of
from spanpost.store.memory_tenant_totals import MemoryTenantTotals
from spanpost.store.steady_clock import steady_now
from spanpost.tasks import batches, durations, provider_limits
from spanpost.tasks.chains import NEXT
from spanpost.tasks.evaluations import any_evaluated
from spanpost.tasks.folded import Folded, FoldRules, Placed
from spanpost.tasks.interventions import TIMER
from spanpost.tasks.milestones import TIMERS
from spanpost.tasks.questions import speaks_of_approvals
from spanpost.tasks.stall import without_beats
from spanpost.tasks.work import Key, Work


class MemoryStore:
    """A `Store` without a database. It keeps no audit rows, only the identities of the newest `remember` observations.

    It lives as long as an agent's process, so it is bounded. Beyond `keep` traces it drops the least recently
    active ones with their tasks, checkpoints and finished deliveries. It drops open tasks only beyond ten times
    `keep` traces (counted as dropped, reason ``memory``). With `keep` None it drops nothing. `clock` replaces the
    database's clock.
    """

    def __init__(
        self,
        rules: FoldRules | None = None,
        *,
        clock: Callable[[], datetime] = steady_now,
        lease: timedelta = timedelta(seconds=60),
        remember: int = 200_000,
        keep: int | None = 2_000,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._remember = remember
        self._keep = keep
        self._tables = tables = MemoryTables(rules if rules is not None else FoldRules(), clock)
        self._heartbeats = MemoryHeartbeats(tables)
        self._curves = MemoryCurves(tables)
        self.outbox = MemoryOutbox(tables, self._heartbeats, lease, jitter)
        self.launch_orders = MemoryLaunchOrders(tables, self.outbox)
        self.budgets = MemoryBudgets(tables)
        self.interventions = MemoryInterventions(
            tables, self._heartbeats, self.launch_orders, self._record_now, self.budgets.answered
        )
        self.acts, self.launch_orders.keep_act = self.interventions.acts, self.interventions.keep_act
        self.budgets.was_resumed = self.interventions.was_resumed
        self.alerts = MemoryAlerts(tables, self._heartbeats, self.interventions, self._record_now)
        self.reader = MemoryReader(tables, self._heartbeats, self.outbox, self.interventions, self._curves)
        self.installations = MemoryInstallations(clock)
        self.sessions = MemorySessions(clock)
        self.access_tokens = MemoryAccessTokens()
        self.tenant_totals = MemoryTenantTotals(tables, self._heartbeats)
        self._identities: dict[bytes, None] = {}
        self._events = 0

    @property
    def rules(self) -> FoldRules:
        """The rules of the next fold. They may be replaced at any time."""
        return self._tables.rules

    @rules.setter
    def rules(self, rules: FoldRules) -> None:
        self._tables.rules = rules

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing: there is no connection to close."""

    # --- recording ---------------------------------------------------------------------------------------------------

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """Fold a batch. See `Store.record`. Blocks the loop until it is done."""
        return self.record_now(batch)

    def record_now(self, batch: Sequence[Observation]) -> Recorded:
        """Fold a batch without an event loop."""
        self._heartbeats.pulse()
        batch, beats = without_beats(batch)
        recorded = self._record_now(batch) if batch else Recorded()
        if beats and (back := self._heartbeats.hear(beats)):
            recorded = recorded.plus(self._record_now(back))
        dropped = faults.losses()
        redacted = redaction.found() if (redaction := self._tables.redaction) is not None else {}
        return recorded.plus(Recorded(dropped=dropped, redacted=redacted)) if dropped or redacted else recorded

    def _record_now(self, batch: Sequence[Observation]) -> Recorded:
        try:
            rules = self.rules
            placed = batches.prepare(
                batch,
                keeps_content=rules.keeps_content,
                prices=rules.prices,
                redaction=self._tables.redaction,
                key=self._tables.hash_key if rules.loops.enabled else None,
            )
        except Exception as error:
            faults.tell(error)
            return self._dropped() if len(batch) == 1 else self._one_by_one(batch)
        new: list[Placed] = []
        for p in placed:
            identity = p.event_id + p.content_hash
            if identity not in self._identities:
                self._identities[identity] = None
                new.append(p)
        while len(self._identities) > self._remember:
            del self._identities[next(iter(self._identities))]
        try:
            folded = batches.fold(self._tables.records, new, self.rules, self._clock())
        except Exception as error:
            faults.tell(error)
            for p in new:
                self._identities.pop(p.event_id + p.content_hash, None)
            mended = self._repaired(batches.domains(new))
            total = mended.plus(self._dropped() if len(new) == 1 else self._one_by_one([p.source for p in new]))
            total.duplicates += len(batch) - len(new)
            return total
        recorded = self._write(folded)
        if any(p.observation.part is not Part.INTERVENTION for p in new):
            self._heartbeats.recorded(folded.tasks, folded.started)
        owed: list[Observation] = []
        if speaks_of_approvals(new, folded):
            kept = self.interventions.keep(folded.tasks)
            owed = kept.owed
            self.outbox.withdraw(sorted(kept.unasked))
        if any_evaluated(folded):
            recorded.evaluated = self._tables.evaluate(folded.tasks)
        parts = Counter(new[i].observation.part.name.lower() for i in folded.recorded)
        recorded.timed = durations.timed(new, folded)
        recorded.limited = provider_limits.limited(new, folded)
        self.budgets.count_limits(recorded.limited)
        recorded.events = sum(parts.values())
        recorded.parts = dict(parts)
        recorded.duplicates = len(batch) - len(new)
        recorded.ignored = len(new) - len(folded.recorded)
        self._events += recorded.events
        self._curves.keep(new)
        self._tables.records.touch(sorted(batches.domains(new)))
        if self._keep is not None and len(self._tables.records.domains) > self._keep * 5 // 4:
            forgotten = self._evict(self._keep)
            if forgotten:
                recorded.dropped["memory"] = recorded.dropped.get("memory", 0) + forgotten
        recorded = self._spend_of(recorded, folded)
        return recorded.plus(self._record_now(owed)) if owed else recorded

    def _spend_of(self, recorded: Recorded, folded: Folded) -> Recorded:
        """Charge usage to its budgets; record the thresholds that it crossed, and what budgets do to tasks."""
        kept = self.budgets.keep(folded.growths) if folded.growths else None
        self.budgets.keep_use(folded.used)
        if kept is None:
            return recorded
        records = [*kept.passed]
        for limit in kept.acts:
            if (done := self.interventions.act_of_budget(limit)) is not None:
                recorded.budget_acts.append(limit.counted)
                records += done
                if limit.question is not None:
                    self.budgets.ask(limit.question)
        return recorded.plus(self._record_now(records)) if records else recorded

    def _evict(self, keep: int) -> int:
        """Drop the traces without activity for the longest time; return how many open tasks were among them."""
        under_way = {d for task in self._tables.tasks.values() if task.ended_at is None for d in own_domains_of(task)}
        gone: set[bytes] = set()
        for hard in (False, True):
            limit = keep * 10 if hard else keep
            for domain in list(self._tables.records.domains):
                if len(self._tables.records.domains) <= limit:
                    break
                if hard or domain not in under_way:
                    self._tables.records.forget(domain)
                    gone.add(domain)
        dropped = {uid: task for uid, task in self._tables.tasks.items() if not gone.isdisjoint(own_domains_of(task))}
        for uid in dropped:
            del self._tables.tasks[uid]
        self.budgets.forget(dropped)
        self._tables.successors = {
            uid: successor for uid, successor in self._tables.successors.items() if successor in self._tables.tasks
        }
        self._tables.checkpoints = {id: c for id, c in self._tables.checkpoints.items() if c.task_uid not in dropped}
        evaluations = self._tables.evaluations
        self._tables.evaluations = {id: one for id, one in evaluations.items() if one.task_uid not in dropped}
        self._tables.ends = {id: at for id, at in self._tables.ends.items() if id in self._tables.checkpoints}
        for key in [
            key
            for key in self._tables.timers
            if key[:16] in gone or (key[16:] == b"t" and UUID(bytes=key[:16]) in dropped)
        ]:
            del self._tables.timers[key]
        self.reader.forget()
        self._curves.forget(gone)
        self.outbox.forget(dropped.keys())
        self.interventions.forget(dropped.keys())
        self._heartbeats.forget(dropped.keys())
        return sum(task.ended_at is None for task in dropped.values())

    def _one_by_one(self, batch: Sequence[Observation]) -> Recorded:
        """Record a batch one by one, because one observation spoils the rest."""
        total = Recorded()
        for o in batch:
            total = total.plus(self._record_now([o]))
        return total

    def _repaired(self, domains: Iterable[bytes]) -> Recorded:
        """Repair the records that a failed fold left half done in these domains."""
        total = Recorded()
        for key in [key for domain in domains for key in self._tables.records.domains.get(domain, ())]:
            with suppress(Exception):  # the task that cannot be folded stays as it was
                total = total.plus(self._write(batches.mend(self._tables.records, [key], self.rules, self._clock())))
        return total

    @staticmethod
    def _dropped() -> Recorded:
        return Recorded(dropped={UNFOLDABLE: 1})

    @property
    def hash_key(self) -> bytes:
        """The key of this process's hashes."""
        return self._tables.hash_key

    async def listen_anew(self) -> None:
        """Restart every stall timeout: nothing could be received until now."""
        self._heartbeats.listen_anew()

    async def elapse(self) -> Recorded:
        """Fold what is due by the clock."""
        return self.elapse_now(self._clock())

    @property
    def work(self) -> Work:
        """The fold's records, for reading."""
        return self._tables.records

    def state_keys(self) -> list[Key]:
        """Return the keys of all task states."""
        return [key for key in self._tables.records.by_key if key[16:17] == b"g"]

    def elapse_now(self, now: datetime) -> Recorded:
        """Fold what is due at `now`."""
        due = self._tables.timers.take_due(now)
        recorded = Recorded()
        if folds := [key for key in due if key[16:17] in TIMERS]:
            folded = batches.elapse(self._tables.records, folds, self.rules, now)
            recorded = self._spend_of(self._write(folded), folded)
        if stalled := self._heartbeats.overdue(key for key in due if key[16:] == b"p"):
            recorded = recorded.plus(self._record_now(stalled))
        if silent := [key for key in due if key[16:] == b"t"]:
            checked = self._heartbeats.scan(silent, self.rules.routes)
            shown, checked.tasks = checked.tasks, []  # stored without the stall, which is computed on read
            recorded = recorded.plus(msgspec.structs.replace(self._write(checked), tasks=shown))
        if questions := [key for key in due if key[16:] == TIMER]:
            recorded = recorded.plus(self.interventions.expire(questions, now))
        if places := [key for key in due if key[16:] == NEXT]:
            recorded = recorded.plus(self.interventions.pass_on(places, now))
        return recorded

    def _write(self, folded: Folded) -> Recorded:
        for timer in folded.timers:
            self._tables.timers[timer.key] = timer.at
        if folded.moves:
            self._tables.move(folded.moves)
        self._tables.move_spans(folded.moved_spans)
        for id in folded.retracted:
            self._tables.checkpoints.pop(id, None)
            self._tables.ends.pop(id, None)
        self.outbox.withdraw(folded.retracted)
        new = [c for c in folded.checkpoints if c.id not in self._tables.checkpoints]
        fresh = {c.id for c in new}
        for checkpoint in folded.checkpoints:
            self._tables.checkpoints[checkpoint.id] = checkpoint
            if checkpoint.kind is Kind.END:
                self._tables.ends.setdefault(checkpoint.id, self._clock())
        if folded.retracted:
            self.reader.forget()
        if new:
            self.reader.tell(new)
        for uid, successor in folded.gone:
            self._tables.tasks.pop(uid, None)
            self._heartbeats.forget((uid,))
            if successor is not None:
                self._tables.successors[uid] = successor
                self.outbox.inherit(uid, successor)
        for task in folded.tasks:
            self._tables.tasks[task.uid] = task
        self.outbox.wake(folded.woken)
        for delivery in folded.deliveries:
            self.outbox.post(delivery, is_new=delivery.checkpoint_id in fresh)
        ordered = self.launch_orders.on_end(folded, self.rules.launches)
        return Recorded(
            tasks=folded.tasks,
            started=folded.started,
            ended=folded.ended,
            checkpoints=new,
            finalized=folded.finalized,
            corrections=folded.corrections,
            waited=durations.waited(folded, {c.id for c in new}),
            deliveries=len(folded.deliveries) + ordered,
            coalesced=self.outbox.take_coalesced(),
            dropped=folded.dropped,
        )

    async def why_not_writable(self, *, tries: bool) -> str:
        """Return nothing: memory takes writes."""
        return ""

    async def fleet(self, *, is_asked: bool = False) -> Fleet | None:
        """Return the figures of all open tasks, questions and deliveries."""
        spending, tokens = await self.budgets.spending(None, SHOWN), self.access_tokens.rows
        return fleet(self._tables, self._heartbeats, self.outbox, spending, tokens)

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Return tasks, newest first."""
        return self.tasks_now(query)

    def tasks_now(self, query: TaskQuery) -> list[Task]:
        """Return tasks, newest first, without an event loop."""
        found = [
            t
            for t in map(self._heartbeats.shown, self._tables.tasks.values())
            if (query.tenant is None or t.tenant == query.tenant)
            and (query.task_id is None or query.task_id in (t.task_id, *t.aliases))
            and (query.status is None or t.status == query.status)
            and (query.agent_name is None or t.agent_name == query.agent_name)
            and (query.is_announced is None or t.is_announced == query.is_announced)
        ]
        found.sort(key=lambda t: (t.started_at or datetime.min.replace(tzinfo=UTC), t.task_id), reverse=True)
        return found[: query.limit]

    def checkpoints_now(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """Return checkpoints in order of time, without an event loop."""
        return self._tables.checkpoints_of(task_uid)[:limit]

    async def counts(self) -> dict[str, Any]:
        """Return the number of kept rows, by kind."""
        return {
            "agent_events": self._events,
            "agent_tasks": len(self._tables.tasks),
            "agent_checkpoints": len(self._tables.checkpoints),
            "deliveries": self.outbox.states(),
        }
