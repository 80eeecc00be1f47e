"""Store that keeps everything in memory: for agents without a database, for replay and for tests."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.budgets import Limits, Spent, Used
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Delivery
from spanpost.model.fleet import Fleet
from spanpost.model.interventions import ApprovalRow, Intervention, StandingAct, Verdict
from spanpost.model.launch_orders import Order, Taken
from spanpost.model.observations import Observation, Part
from spanpost.model.outcomes import Outcome
from spanpost.model.readings import Role
from spanpost.model.recorded import UNFOLDABLE, Recorded
from spanpost.model.tasks import Task
from spanpost.readers.redaction import Redaction
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.semconv import FINAL_STATUSES
from spanpost.store import faults
from spanpost.store.memory_alerts import MemoryAlerts
from spanpost.store.memory_browse import MemoryBrowse
from spanpost.store.memory_budgets import MemorySpend
from spanpost.store.memory_curves import MemoryCurves
from spanpost.store.memory_deliveries import MemoryDeliveries
from spanpost.store.memory_fleet import open_approvals, open_tasks
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_installations import MemoryInstallations
from spanpost.store.memory_interventions import MemoryInterventions
from spanpost.store.memory_launch_orders import Orders
from spanpost.store.memory_sessions import MemorySessions
from spanpost.store.memory_tasks import Tasks
from spanpost.store.protocols import (
    SHOWN,
    Alerted,
    ApprovalQuery,
    DeliveryRow,
    Hears,
    OrderQuery,
    OrderRow,
    RateLimitRow,
    RateLimits,
    TaskQuery,
    unlimited,
)
from spanpost.tasks import batches, durations, provider_limits
from spanpost.tasks.folded import Folded, FoldRules, Move, Placed
from spanpost.tasks.health import health
from spanpost.tasks.interventions import TIMER
from spanpost.tasks.questions import speaks_of_approvals
from spanpost.tasks.records import STARTED, Node, Subtree, TaskState, domain_of, node_key, subtree_key
from spanpost.tasks.stall import without_beats
from spanpost.tasks.work import Key, R, Work


class _MemoryRecords:
    """A `Work` over a dictionary. All records are at hand, so `want` has nothing to fetch."""

    def __init__(self) -> None:
        self.by_key: dict[Key, msgspec.Struct] = {}
        #: Keys by domain, to drop a whole trace at once. The domain that was touched last comes last.
        self.domains: dict[bytes, list[Key]] = {}

    def get(self, key: Key, kind: type[R]) -> R | None:
        return self.by_key.get(key)  # type: ignore[return-value]  # a key names its kind

    def want(self, keys: Iterable[Key]) -> None:
        """Do nothing: all records are in memory."""

    def put(self, key: Key, record: msgspec.Struct) -> None:
        if key not in self.by_key:
            self.domains.setdefault(key[:16], []).append(key)
        self.by_key[key] = record

    def drop(self, key: Key) -> None:
        self.by_key.pop(key, None)

    def touch(self, domains: Iterable[bytes]) -> None:
        """Move domains to the end of the eviction order."""
        for domain in domains:
            keys = self.domains.pop(domain, None)
            if keys is not None:
                self.domains[domain] = keys

    def forget(self, domain: bytes) -> None:
        """Drop all records of a domain."""
        for key in self.domains.pop(domain, ()):
            self.by_key.pop(key, None)


def _is_living(task: Task) -> bool:
    return task.ended_at is None or task.end_reason == "interrupted"  # the agent of an interrupted task may come back


def _domains_of(task: Task) -> tuple[bytes, bytes]:
    """Return the domains that hold a task's records: its trace's and that of its explicit id."""
    return domain_of(task.tenant, task.trace_id), task.uid.bytes


class MemoryStore:
    """A `Store` without a database. It keeps no audit rows, only the identities of the newest `remember` observations.

    It lives as long as an agent's process, so it is bounded: beyond `keep` traces it drops those without activity for the
    longest time, with their tasks, checkpoints and finished deliveries. Open tasks are dropped only beyond ten times as
    many traces (counted as dropped, reason ``memory``). With `keep` None nothing is dropped. `clock` replaces the
    database's clock.
    """

    def __init__(
        self,
        rules: FoldRules | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lease: timedelta = timedelta(seconds=60),
        remember: int = 200_000,
        keep: int | None = 2_000,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.rules = rules if rules is not None else FoldRules()
        self._clock = clock
        self.lease = lease
        self._remember = remember
        self._keep = keep
        self._records = _MemoryRecords()
        self._identities: dict[bytes, None] = {}
        self._tasks = Tasks()
        self._successors: dict[UUID, UUID] = {}
        self._checkpoints: dict[UUID, Checkpoint] = {}
        #: When each END was recorded.
        self._ends: dict[UUID, datetime] = {}
        self._timers: dict[Key, datetime] = {}
        self._heartbeats = MemoryHeartbeats(self, clock, self.rules.stall_rules, self._timers, self.rules.outage)
        self._deliveries = MemoryDeliveries(self, clock, lease, jitter)
        self._orders = Orders(self._deliveries, clock)
        self._interventions = MemoryInterventions(self, clock, self._timers, self._orders)
        self._spend = MemorySpend(clock)
        #: Read access: pages by key, timelines, sums, the stream of checkpoints.
        self.browse = MemoryBrowse(self, self._interventions, clock)
        self.curves = MemoryCurves(self)
        self.installations = MemoryInstallations(clock)
        self.sessions = MemorySessions(clock)
        self._alerts = MemoryAlerts(self, clock)
        self._events = 0
        self._key = secrets.token_bytes(32)
        self._lock = asyncio.Lock()

    @property
    def _redaction(self) -> Redaction | None:
        """Redaction by the current rules, with a key that only this process knows."""
        redaction = self.rules.redaction
        if redaction is not None:
            redaction.keyed(self._key)
        return redaction

    async def open(self) -> None:
        """Do nothing: there is no connection to open."""

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
        redacted = redaction.found() if (redaction := self._redaction) is not None else {}
        return recorded.plus(Recorded(dropped=dropped, redacted=redacted)) if dropped or redacted else recorded

    def _record_now(self, batch: Sequence[Observation]) -> Recorded:
        try:
            rules = self.rules
            placed = batches.prepare(
                batch, keeps_content=rules.keeps_content, prices=rules.prices, redaction=self._redaction
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
            folded = batches.fold(self._records, new, self.rules, self._clock())
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
        owed = self._interventions.keep(folded.tasks) if speaks_of_approvals(new, folded) else []
        parts = Counter(new[i].observation.part.name.lower() for i in folded.recorded)
        recorded.timed = durations.timed(new, folded)
        recorded.limited = provider_limits.limited(new, folded)
        self._spend.count_limits(recorded.limited)
        recorded.events = sum(parts.values())
        recorded.parts = dict(parts)
        recorded.duplicates = len(batch) - len(new)
        recorded.ignored = len(new) - len(folded.recorded)
        self._events += recorded.events
        self.curves.keep(new)
        self._records.touch(sorted(batches.domains(new)))
        if self._keep is not None and len(self._records.domains) > self._keep * 5 // 4:
            forgotten = self._evict(self._keep)
            if forgotten:
                recorded.dropped["memory"] = recorded.dropped.get("memory", 0) + forgotten
        recorded = self._spend_of(recorded, folded)
        return recorded.plus(self._record_now(owed)) if owed else recorded

    def _spend_of(self, recorded: Recorded, folded: Folded) -> Recorded:
        """Charge usage to its budgets, and record the thresholds that it crossed."""
        passed = self._spend.keep(folded.growths, self.rules.budgets, self._tasks) if folded.growths else []
        self._spend.keep_use(folded.used)
        return recorded.plus(self._record_now(passed)) if passed else recorded

    def _evict(self, keep: int) -> int:
        """Drop the traces without activity for the longest time; return how many open tasks were among them."""
        under_way = {d for task in self._tasks.values() if task.ended_at is None for d in _domains_of(task)}
        gone: set[bytes] = set()
        for hard in (False, True):
            limit = keep * 10 if hard else keep
            for domain in list(self._records.domains):
                if len(self._records.domains) <= limit:
                    break
                if hard or domain not in under_way:
                    self._records.forget(domain)
                    gone.add(domain)
        dropped = {uid: task for uid, task in self._tasks.items() if not gone.isdisjoint(_domains_of(task))}
        for uid in dropped:
            del self._tasks[uid]
        self._spend.forget(dropped)
        self._successors = {uid: successor for uid, successor in self._successors.items() if successor in self._tasks}
        self._checkpoints = {id: c for id, c in self._checkpoints.items() if c.task_uid not in dropped}
        self._ends = {id: at for id, at in self._ends.items() if id in self._checkpoints}
        for key in [
            key for key in self._timers if key[:16] in gone or (key[16:] == b"t" and UUID(bytes=key[:16]) in dropped)
        ]:
            del self._timers[key]
        self.browse.forget()
        self.curves.forget(gone)
        self._deliveries.forget(dropped.keys())
        self._interventions.forget(dropped.keys())
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
        for key in [key for domain in domains for key in self._records.domains.get(domain, ())]:
            with suppress(Exception):  # the task that cannot be folded stays as it was
                total = total.plus(self._write(batches.mend(self._records, [key], self.rules, self._clock())))
        return total

    @staticmethod
    def _dropped() -> Recorded:
        return Recorded(dropped={UNFOLDABLE: 1})

    async def listen_anew(self) -> None:
        """Restart every stall timeout: nothing could be received until now."""
        self._heartbeats.listen_anew()

    async def elapse(self) -> Recorded:
        """Fold what is due by the clock."""
        return self.elapse_now(self._clock())

    @property
    def work(self) -> Work:
        """The fold's records, for reading."""
        return self._records

    def state_keys(self) -> list[Key]:
        """Return the keys of all task states."""
        return [key for key in self._records.by_key if key[16:17] == b"g"]

    def elapse_now(self, now: datetime) -> Recorded:
        """Fold what is due at `now`."""
        due = sorted(key for key, at in self._timers.items() if at <= now)
        for key in due:
            del self._timers[key]
        recorded = Recorded()
        if folds := [key for key in due if key[16:17] in (b"g", b"w")]:
            folded = batches.elapse(self._records, folds, self.rules, now)
            recorded = self._spend_of(self._write(folded), folded)
        if stalled := self._heartbeats.overdue(key for key in due if key[16:] == b"p"):
            recorded = recorded.plus(self._record_now(stalled))
        if silent := [key for key in due if key[16:] == b"t"]:
            checked = self._heartbeats.scan(silent, self.rules.routes)
            shown, checked.tasks = checked.tasks, []  # stored without the stall, which is computed on read
            recorded = recorded.plus(msgspec.structs.replace(self._write(checked), tasks=shown))
        if questions := [key for key in due if key[16:] == TIMER]:
            recorded = recorded.plus(self._interventions.expire(questions, now))
        return recorded

    def record_own(self, records: Sequence[Observation]) -> Recorded:
        """Record observations that this store makes itself."""
        return self._record_now(records)

    def _move(self, moves: Sequence[Move]) -> None:
        """Move checkpoints of subtrees that were merged into other tasks to those tasks."""
        known: dict[tuple[bytes, bytes], list[UUID]] = {}
        for checkpoint in self._checkpoints.values():
            known.setdefault((checkpoint.trace_id, checkpoint.subtree), []).append(checkpoint.id)
        for move in moves:
            ids = known.pop((move.trace_id, move.subtree_from), [])
            for id in ids:
                moved = msgspec.structs.replace(self._checkpoints[id], subtree=move.subtree_to, task_uid=move.task_uid)
                self._checkpoints[id] = moved
            if ids:
                known.setdefault((move.trace_id, move.subtree_to), []).extend(ids)

    def _write(self, folded: Folded) -> Recorded:
        for timer in folded.timers:
            self._timers[timer.key] = timer.at
        if folded.moves:
            self._move(folded.moves)
        for id in folded.retracted:
            self._checkpoints.pop(id, None)
            self._ends.pop(id, None)
        self._deliveries.withdraw(folded.retracted)
        new = [c for c in folded.checkpoints if c.id not in self._checkpoints]
        fresh = {c.id for c in new}
        for checkpoint in folded.checkpoints:
            self._checkpoints[checkpoint.id] = checkpoint
            if checkpoint.kind is Kind.END:
                self._ends.setdefault(checkpoint.id, self._clock())
        if folded.retracted:
            self.browse.forget()
        if new:
            self.browse.tell(new)
        for uid, successor in folded.gone:
            self._tasks.pop(uid, None)
            self._heartbeats.forget((uid,))
            if successor is not None:
                self._successors[uid] = successor
                self._deliveries.inherit(uid, successor)
        for task in folded.tasks:
            self._tasks[task.uid] = task
        self._deliveries.wake(folded.woken)
        for delivery in folded.deliveries:
            self._deliveries.post(delivery, is_new=delivery.checkpoint_id in fresh)
        ordered = self._orders.on_end(folded, self.rules.launches)
        return Recorded(
            tasks=folded.tasks,
            started=folded.started,
            ended=folded.ended,
            checkpoints=new,
            finalized=folded.finalized,
            corrections=folded.corrections,
            waited=durations.waited(folded, {c.id for c in new}),
            deliveries=len(folded.deliveries) + ordered,
            coalesced=self._deliveries.take_coalesced(),
            dropped=folded.dropped,
        )

    # --- deliveries --------------------------------------------------------------------------------------------------

    async def claim(self, sinks: Sequence[str], limit: int, rate_limits: RateLimits = unlimited) -> list[Delivery]:
        """Lease due deliveries: one per ordering key, the state before its first checkpoint, then checkpoints in order."""
        return self._deliveries.claim(sinks, limit, rate_limits)

    async def settle(self, delivery: Delivery, outcome: Outcome) -> list[OpenCircuit]:
        """Store the outcome of a claimed delivery. Without effect if another process took the lease over."""
        return self._deliveries.settle(delivery, outcome)

    async def due_in(self, sinks: Sequence[str] | None = None, rate_limits: RateLimits = unlimited) -> float | None:
        """Return the seconds until something is due; None when nothing waits."""
        self._heartbeats.pulse()
        waits = [] if (due := self._deliveries.due_in(sinks, rate_limits)) is None else [due]
        if self._timers:
            waits.append(max(0.0, (min(self._timers.values()) - self._clock()).total_seconds()))
        return min(waits, default=None)

    async def rate_limits(self, *, is_closed: bool = False) -> list[RateLimitRow]:
        """List rate limits."""
        return self._deliveries.rate_limits(is_closed=is_closed)

    async def reopen_rate_limits(self, keys: Sequence[str]) -> int:
        """Close circuit breakers by hand, so that calls are allowed at once."""
        return self._deliveries.reopen(keys)

    # --- looking -----------------------------------------------------------------------------------------------------

    def stored(self) -> Collection[Task]:
        """Return all tasks as they were folded."""
        return self._tasks.values()

    def has_open_call(self, tasks: Collection[Task], since: datetime) -> bool:
        """Tell whether these tasks have an open tool or model call that began after `since`."""
        since_ns = int(since.timestamp() * 1e9)
        uids = {task.uid.bytes for task in tasks}
        for domain in {domain_of(task.tenant, task.trace_id) for task in tasks}:
            for key in self._records.domains.get(domain, ()):
                node = self._records.by_key.get(key) if key[16:17] == b"c" else None
                if not isinstance(node, Node) or node.state != STARTED or node.role not in (Role.LLM, Role.TOOL):
                    continue
                if node.rank[0] > since_ns and self.owner(domain, key[17:]) in uids:
                    return True
        return False

    def domains_of(self, task: Task) -> set[bytes]:
        """Return the domains of the traces in which a task ran."""
        found = {domain_of(task.tenant, task.trace_id)}
        for domain in _domains_of(task):
            for key in self._records.domains.get(domain, ()):
                state = self._records.by_key.get(key) if key[16:17] == b"g" else None
                if isinstance(state, TaskState) and state.uid == task.uid.bytes:
                    found |= {root[:16] for root in state.runs}
        return found

    def owner(self, domain: bytes, span_id: bytes) -> bytes:
        """Return the uid of the task that a span belongs to; empty if there is none."""
        records = self._records.by_key
        while isinstance(node := records.get(node_key(domain, span_id)), Node) and not node.owns_subtree:
            span_id = node.parent
        subtree = records.get(subtree_key(domain, span_id))
        state = records.get(subtree.state) if isinstance(subtree, Subtree) else None
        return state.uid if isinstance(state, TaskState) else b""

    def shown(self, task: Task) -> Task:
        """Return a task with its current status."""
        return self._heartbeats.shown(task)

    def task(self, uid: UUID) -> Task | None:
        """Return a task by its uid, or the task it was merged into."""
        for _ in range(8):
            task = self._tasks.get(uid)
            if task is not None or uid not in self._successors:
                return task
            uid = self._successors[uid]
        return None

    async def allowance(self, task: Task) -> list[Spent]:
        """Return each budget that a task spends from."""
        return self._spend.allowance(self.rules.budgets, task, self._tasks)

    async def usage(self, task_uid: UUID) -> list[Used]:
        """Return a task's finalized usage, by model."""
        return self._spend.usage(task_uid)

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """List what was spent of budgets."""
        return self._spend.listed(tenant, limit)

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """List how often providers throttled calls."""
        return self._spend.limits(tenant, limit)

    async def fleet(self) -> Fleet | None:
        """Return the figures of all open tasks, questions and deliveries."""
        now = self._clock()
        living = [t for t in self._tasks.values() if t.status not in FINAL_STATUSES and not t.is_alert]
        spending = self._spend.listed(None, SHOWN)
        return Fleet(
            tasks=open_tasks((self.shown(t), (now - self._heartbeats.last_seen_at(t)).total_seconds()) for t in living),
            approvals=open_approvals(living, self._checkpoints.values(), now),
            deliveries=self._deliveries.fleet(),
            closed_rate_limits=dict(Counter(row.why for row in self._deliveries.rate_limits(is_closed=True))),
            health=health(map(self.shown, self._tasks.values()), spending, now),
            spending=spending,
        )

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Return tasks, newest first."""
        return self.tasks_now(query)

    def tasks_now(self, query: TaskQuery) -> list[Task]:
        """Return tasks, newest first, without an event loop."""
        found = [
            t
            for t in map(self._heartbeats.shown, self._tasks.values())
            if (query.tenant is None or t.tenant == query.tenant)
            and (query.task_id is None or query.task_id in (t.task_id, *t.aliases))
            and (query.status is None or t.status == query.status)
            and (query.agent_name is None or t.agent_name == query.agent_name)
            and (query.is_announced is None or t.is_announced == query.is_announced)
        ]
        floor = datetime.min.replace(tzinfo=UTC)
        found.sort(key=lambda t: (t.started_at or floor, t.task_id), reverse=True)
        return found[: query.limit]

    async def checkpoints(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """Return checkpoints in order of time."""
        return self.checkpoints_now(task_uid=task_uid, limit=limit)

    def checkpoints_now(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """Return checkpoints in order of time, without an event loop."""
        found = [c for c in self._checkpoints.values() if task_uid is None or c.task_uid == task_uid]
        found.sort(key=lambda c: (c.at, c.id))
        return found[:limit]

    def checkpoint(self, id: UUID) -> Checkpoint | None:
        """Return a checkpoint by its id."""
        return self._checkpoints.get(id)

    def order_of(self, id: UUID) -> Order | None:
        """Return a launch order by its id."""
        return self._orders.known.get(id)

    def below(self, root: Task) -> tuple[Task, ...]:
        """Return the tasks below a root task."""
        return tuple(map(self.shown, self._tasks.below(root.uid)))

    def alert(self, id: UUID) -> Alert | None:
        """Return an alert by its id."""
        return self._alerts.kept.get(id)

    async def alerts(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """Return the kept alerts among `ids`."""
        return {id: self._alerts.kept[id] for id in ids if id in self._alerts.kept}

    async def take_alert(self, alert: Alert) -> Alerted:
        """Keep an alert and attach it to its task."""
        return self._alerts.take(alert if (redaction := self._redaction) is None else redaction.alert(alert))

    # --- people ------------------------------------------------------------------------------------------------------

    async def intervene(self, act: Intervention) -> Verdict:
        """Record what a person did, and its effects. See `Store.intervene`."""
        return self._interventions.intervene(act)

    async def await_answer(self, key: UUID) -> None:
        """Note that an agent waits for the answer to a question."""
        self._interventions.await_answer(key)

    async def note_operation(self, what: str, user: str, detail: str) -> None:
        """Do nothing: a store in memory has no command line."""

    async def order(self, order: Order, *, signature: str = "") -> Taken:
        """Place a launch order, with the delivery that carries it. See `Store.order`."""
        if signature and not self._interventions.is_first(signature):
            return Taken.REPLAYED
        order = order if (redaction := self._redaction) is None else redaction.order(order)
        return Taken.NEW if self._orders.place([order]) else Taken.KNOWN

    async def orders(self, query: OrderQuery) -> list[OrderRow]:
        """List launch orders, newest first."""
        return self._orders.listed(query)

    async def approval(self, key: UUID) -> ApprovalRow | None:
        """Return a question by its opaque key."""
        return self._interventions.rows.get(key)

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRow]:
        """List questions, newest first."""
        return self._interventions.listed(query)

    async def find_task(self, key: UUID) -> Task | None:
        """Return a task by its opaque key, or the task it was merged into."""
        task = self.task(key)
        return self.shown(task) if task is not None else None

    async def refer(self, tenant: str, ref: str) -> Task | None:
        """Return a task by any of its ids, or the topmost living task of a trace."""
        if found := self.tasks_now(TaskQuery(tenant=tenant, task_id=ref, limit=1)):
            return found[0]
        living = [t for t in self._tasks.values() if t.tenant == tenant and t.trace_id.hex() == ref and _is_living(t)]
        floor = datetime.max.replace(tzinfo=UTC)
        living.sort(key=lambda t: (t.parent_uid is not None, t.started_at or floor, t.uid))
        return self.shown(living[0]) if living else None

    async def shown_in(self, sink: str, ref: Mapping[str, Any]) -> Task | None:
        """Return the root task that a sink shows in a message."""
        uid = self._deliveries.shown_in(sink, ref)
        task = self.task(uid) if uid is not None else None
        root = self.task(task.root_uid) if task is not None and task.root_uid is not None else None
        found = root or task
        return self.shown(found) if found is not None else None

    def refs(self, sink: str, uids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return where a sink shows the state of these tasks."""
        return self._deliveries.refs(sink, uids)

    async def deeds(
        self, task_uid: UUID, verbs: Sequence[str], after: int = 0, limit: int = 100, *, since: datetime | None = None
    ) -> list[StandingAct]:
        """Return a task's granted interventions, after a number and a moment."""
        return self._interventions.deeds(task_uid, verbs, after, limit, since)

    async def last_end(self, task_uid: UUID) -> datetime | None:
        """Return when the newest end of a run of the task was recorded."""
        known = [c for id in self._ends if (c := self._checkpoints.get(id)) is not None and c.task_uid == task_uid]
        newest = max(known, key=lambda c: (c.at, c.id), default=None)
        return self._ends[newest.id] if newest is not None else None

    async def is_first(self, key: str) -> bool:
        """Remember a request for an hour; False when it is a duplicate."""
        return self._interventions.is_first(key)

    async def listen(self, hears: Hears) -> None:
        """Call `hears` for every decision and intervention from now on."""
        self._interventions.listen(hears)

    def listen_no_more(self, hears: Hears) -> None:
        """Stop calling `hears`."""
        self._interventions.listen_no_more(hears)

    async def deliveries(
        self, *, state: str | None = None, sink: str | None = None, limit: int = 100
    ) -> list[DeliveryRow]:
        """List deliveries, oldest first."""
        return self._deliveries.listed(state, sink, limit)

    async def retry_deliveries(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """Set dead deliveries waiting again."""
        return self._deliveries.revive(ids, sink)

    async def discard_deliveries(self, ids: Sequence[int]) -> int:
        """Discard waiting deliveries by hand."""
        return self._deliveries.discard(ids)

    async def counts(self) -> dict[str, Any]:
        """Return the number of kept rows, by kind."""
        return {
            "agent_events": self._events,
            "agent_tasks": len(self._tasks),
            "agent_checkpoints": len(self._checkpoints),
            "deliveries": self._deliveries.states(),
        }
