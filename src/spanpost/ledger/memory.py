"""The ledger that keeps everything in memory: for agents without a database, for replay, for tests."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.deliveries import Delivery, Mode, Receipt, Urgency
from spanpost.domain.observations import Observation
from spanpost.domain.outcomes import GiveUp, Outcome, RetryAt
from spanpost.domain.records import UNFOLDABLE, Recorded
from spanpost.domain.tasks import Task
from spanpost.fold import walk
from spanpost.fold.batch import Folded, Placed, Rules
from spanpost.fold.letters import Letter
from spanpost.fold.records import domain_of
from spanpost.fold.work import Key, R
from spanpost.ledger.base import DeliveryRow, TaskQuery

log = logging.getLogger("spanpost.ledger.memory")
_URGENCY = {Urgency.APPROVAL: 0, Urgency.END: 1, Urgency.ERROR: 2, Urgency.NORMAL: 3}


class _Records:
    """A `Work` over a dictionary: everything is at hand, nothing is ever missing."""

    def __init__(self) -> None:
        self.by_key: dict[Key, msgspec.Struct] = {}
        #: Keys by domain, to let go of a trace as a whole; the domain touched last stands last.
        self.domains: dict[bytes, list[Key]] = {}

    def get(self, key: Key, kind: type[R]) -> R | None:
        return self.by_key.get(key)  # type: ignore[return-value]  # a key names its kind

    def put(self, key: Key, record: msgspec.Struct) -> None:
        if key not in self.by_key:
            self.domains.setdefault(key[:16], []).append(key)
        self.by_key[key] = record

    def drop(self, key: Key) -> None:
        self.by_key.pop(key, None)

    def touch(self, domains: Iterable[bytes]) -> None:
        """Put domains last in the order of being let go."""
        for domain in domains:
            keys = self.domains.pop(domain, None)
            if keys is not None:
                self.domains[domain] = keys

    def forget(self, domain: bytes) -> None:
        """Let go of all records of a domain."""
        for key in self.domains.pop(domain, ()):
            self.by_key.pop(key, None)


def _domains_of(task: Task) -> tuple[bytes, bytes]:
    """Return the domains under which a task's records lie: its trace's, and its explicit id's."""
    return domain_of(task.tenant, task.trace_id), task.uid.bytes


class _Letter(msgspec.Struct):
    """A delivery as it is kept."""

    id: int
    letter: Letter
    tenant: str
    born_at: datetime
    state: str = "waiting"
    attempt: int = 0
    not_before: datetime | None = None
    lease_until: datetime | None = None
    is_unknown: bool = False
    receipt: Receipt | None = None
    error: str = ""
    #: Counts up when a state letter is replaced while it is under way: the newest is sent after.
    revision: int = 0
    sent_revision: int = -1


class MemoryLedger:
    """A `Ledger` without a database. Audit rows are not kept: only their identities, `remember` of them, the newest.

    It lives as long as an agent's process, so it is bounded: beyond `keep` traces those that were quiet longest are let go,
    with their tasks, checkpoints and finished deliveries; tasks under way are let go only beyond ten times as many (counted as
    lost, ``memory``). With `keep` None nothing is let go. `clock` stands in for the database's clock.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lease: timedelta = timedelta(seconds=60),
        remember: int = 200_000,
        keep: int | None = 2_000,
    ) -> None:
        self.rules = rules if rules is not None else Rules()
        self._clock = clock
        self._lease = lease
        self._remember = remember
        self._keep = keep
        self._records = _Records()
        self._identities: dict[bytes, None] = {}
        self._tasks: dict[UUID, Task] = {}
        self._heirs: dict[UUID, UUID] = {}
        self._checkpoints: dict[UUID, Checkpoint] = {}
        self._timers: dict[Key, datetime] = {}
        self._letters: dict[int, _Letter] = {}
        self._letter_ids: dict[tuple[str, str], int] = {}
        self._lane_receipts: dict[tuple[str, str], Receipt] = {}
        self._numbers = itertools.count(1)
        self._events = 0
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to let go."""

    # --- recording ------------------------------------------------------------------------------------------------------

    async def record(self, batch: Sequence[Observation]) -> Recorded:
        """Fold a batch. See `Ledger.record`."""
        return self.record_now(batch)

    def record_now(self, batch: Sequence[Observation]) -> Recorded:
        """Fold a batch without an event loop."""
        try:
            placed = walk.prepare(batch, keeps_content=self.rules.keeps_content)
        except Exception:
            if len(batch) == 1:
                return self._lose(batch[0])
            return self._apart(batch)
        new: list[Placed] = []
        for p in placed:
            identity = p.event_id + p.content_hash
            if identity not in self._identities:
                self._identities[identity] = None
                new.append(p)
        while len(self._identities) > self._remember:
            del self._identities[next(iter(self._identities))]
        try:
            folded = walk.fold(self._records, new, self.rules, self._clock())
        except Exception:
            for p in new:
                self._identities.pop(p.event_id + p.content_hash, None)
            mended = self._mended(walk.domains(new))
            total = mended.plus(self._lose(new[0].source) if len(new) == 1 else self._apart([p.source for p in new]))
            total.repeats += len(batch) - len(new)
            return total
        recorded = self._write(folded)
        parts = Counter(new[i].observation.part.name.lower() for i in folded.recorded)
        recorded.events = sum(parts.values())
        recorded.parts = dict(parts)
        recorded.repeats = len(batch) - len(new)
        recorded.passed_over = len(new) - len(folded.recorded)
        self._events += recorded.events
        self._records.touch(sorted(walk.domains(new)))
        if self._keep is not None and len(self._records.domains) > self._keep * 5 // 4:
            forgotten = self._let_go(self._keep)
            if forgotten:
                recorded.lost["memory"] = recorded.lost.get("memory", 0) + forgotten
        return recorded

    def _let_go(self, keep: int) -> int:
        """Let go of the traces that were quiet longest, a fifth at a time; return how many tasks under way were among them."""
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
        self._heirs = {uid: heir for uid, heir in self._heirs.items() if heir in self._tasks}
        self._checkpoints = {id: c for id, c in self._checkpoints.items() if c.task_uid not in dropped}
        self._timers = {key: at for key, at in self._timers.items() if key[:16] not in gone}
        for number, row in list(self._letters.items()):
            if row.letter.task_uid in dropped and row.state in ("delivered", "dead"):
                del self._letters[number]
                self._letter_ids.pop((row.letter.sink, row.letter.key), None)
                self._lane_receipts.pop((row.letter.sink, row.letter.lane), None)
        return sum(task.ended_at is None for task in dropped.values())

    def _apart(self, batch: Sequence[Observation]) -> Recorded:
        """Record a batch one by one, because one of it spoils the rest."""
        total = Recorded()
        for o in batch:
            total = total.plus(self.record_now([o]))
        return total

    def _mended(self, domains: Iterable[bytes]) -> Recorded:
        """Make good what a fold left half done in these domains."""
        total = Recorded()
        for key in [key for domain in domains for key in self._records.domains.get(domain, ())]:
            with suppress(Exception):  # the task that cannot be folded: it stays as it was
                total = total.plus(self._write(walk.mend(self._records, [key], self.rules, self._clock())))
        return total

    @staticmethod
    def _lose(o: Observation) -> Recorded:
        log.warning("an observation (%s) cannot be folded and is lost: this is a fault of spanpost", o.part.name, exc_info=True)
        return Recorded(lost={UNFOLDABLE: 1})

    async def elapse(self) -> Recorded:
        """Fold what has fallen due by the clock."""
        return self.elapse_now(self._clock())

    def elapse_now(self, now: datetime) -> Recorded:
        """Fold what has fallen due by then."""
        due = sorted(key for key, at in self._timers.items() if at <= now)
        for key in due:
            del self._timers[key]
        return self._write(walk.elapse(self._records, due, self.rules, now)) if due else Recorded()

    def _write(self, folded: Folded) -> Recorded:
        for timer in folded.timers:
            self._timers[timer.key] = timer.at
        for move in folded.moves:
            for checkpoint in list(self._checkpoints.values()):
                if checkpoint.unit == move.unit_from and checkpoint.trace_id == move.trace_id:
                    moved = msgspec.structs.replace(checkpoint, unit=move.unit_to, task_uid=move.task_uid)
                    self._checkpoints[moved.id] = moved
        for id in folded.retracted:
            self._checkpoints.pop(id, None)
        new = [c for c in folded.checkpoints if c.id not in self._checkpoints]
        for checkpoint in folded.checkpoints:
            self._checkpoints[checkpoint.id] = checkpoint
        for uid, heir in folded.gone:
            self._tasks.pop(uid, None)
            if heir is not None:
                self._heirs[uid] = heir
        for task in folded.tasks:
            self._tasks[task.uid] = task
        for letter in folded.letters:
            self._post(letter)
        return Recorded(
            tasks=folded.tasks,
            started=folded.started,
            ended=folded.ended,
            checkpoints=new,
            settled=folded.settled,
            corrections=folded.corrections,
            deliveries=len(folded.letters),
            lost=folded.lost,
        )

    # --- deliveries -----------------------------------------------------------------------------------------------------

    def _post(self, letter: Letter) -> None:
        now = self._clock()
        task = self._tasks.get(letter.task_uid)
        tenant = task.tenant if task is not None else "default"
        known = self._letter_ids.get((letter.sink, letter.key))
        if known is None:
            number = next(self._numbers)
            self._letter_ids[letter.sink, letter.key] = number
            self._letters[number] = _Letter(number, letter, tenant, now)
            return
        row = self._letters[known]
        if letter.mode is Mode.NEWS:
            return  # told before
        if _URGENCY[letter.urgency] > _URGENCY[row.letter.urgency] and row.state == "waiting":
            letter = msgspec.structs.replace(letter, urgency=row.letter.urgency)
        row.letter = letter
        row.revision += 1
        if row.state in ("delivered", "dead"):
            row.state, row.attempt, row.born_at, row.not_before, row.error = "waiting", 0, now, None, ""

    async def claim(self, sinks: Sequence[str], limit: int) -> list[Delivery]:
        """Lease what is due: one per lane, the lane's state before its first news, then news in order."""
        now = self._clock()
        lanes: dict[tuple[str, str], list[_Letter]] = {}
        busy: set[tuple[str, str]] = set()
        for row in self._letters.values():
            lane = (row.letter.sink, row.letter.lane)
            if row.state == "sending" and row.lease_until is not None and row.lease_until <= now:
                row.state, row.is_unknown = "waiting", True
            if row.state == "sending":
                busy.add(lane)
            elif row.state == "waiting" and row.letter.sink in sinks:
                lanes.setdefault(lane, []).append(row)
        due = []
        for lane, rows in lanes.items():
            if lane in busy:
                continue
            first = min(rows, key=lambda r: self._turn(lane, r))
            if first.not_before is None or first.not_before <= now:
                due.append(first)
        due.sort(key=lambda r: (min(_URGENCY[x.letter.urgency] for x in lanes[r.letter.sink, r.letter.lane]), r.born_at, r.id))
        out = []
        for row in due[:limit]:
            delivery = self._delivery(row, now)
            if delivery is not None:
                out.append(delivery)
        return out

    def _turn(self, lane: tuple[str, str], row: _Letter) -> tuple[int, int]:
        is_state = row.letter.mode is Mode.STATE
        if is_state:
            return (0 if lane not in self._lane_receipts else 2, row.id)
        return (1, row.id)

    def _delivery(self, row: _Letter, now: datetime) -> Delivery | None:
        letter = row.letter
        task = self.task(letter.task_uid)
        checkpoint = self._checkpoints.get(letter.checkpoint_id) if letter.checkpoint_id is not None else None
        if task is None or (letter.mode is Mode.NEWS and checkpoint is None):
            row.state, row.error = "dead", "what it told of is no more"
            return None
        row.state, row.lease_until, row.attempt = "sending", now + self._lease, row.attempt + 1
        row.sent_revision = row.revision
        return Delivery(
            id=row.id,
            tenant=row.tenant,
            sink=letter.sink,
            address=letter.address,
            lane=letter.lane,
            mode=letter.mode,
            key=letter.key,
            urgency=letter.urgency,
            task=task,
            children=tuple(t for t in self._tasks.values() if t.root_uid == task.uid and t.uid != task.uid),
            checkpoint=checkpoint,
            attempt=row.attempt,
            born_at=row.born_at,
            not_before=row.not_before,
            lane_receipt=self._lane_receipts.get((letter.sink, letter.lane)),
            receipt=row.receipt,
            is_unknown=row.is_unknown,
        )

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Say what became of a claimed delivery. A lease that another took over settles nothing."""
        row = self._letters.get(delivery.id)
        if row is None or row.state != "sending" or row.attempt != delivery.attempt:
            return
        row.lease_until = None
        if isinstance(outcome, Receipt):
            if not (outcome.skipped and not outcome.ref):
                row.receipt = outcome
                if row.letter.mode is Mode.STATE:
                    self._lane_receipts[row.letter.sink, row.letter.lane] = outcome
            row.state, row.error, row.is_unknown = "delivered", "", False
            if row.letter.mode is Mode.STATE and row.revision > row.sent_revision:
                row.state, row.attempt, row.born_at, row.not_before = "waiting", 0, self._clock(), None
        elif isinstance(outcome, RetryAt):
            row.state, row.not_before = "waiting", outcome.at
            row.error = outcome.error or outcome.reason
            row.is_unknown = row.is_unknown or outcome.reconcile
        elif isinstance(outcome, GiveUp):
            row.state, row.error = "dead", outcome.error or outcome.reason

    async def due_in(self) -> float | None:
        """Seconds until something can be done; None when nothing waits."""
        now = self._clock()
        # What waits behind another letter of its lane is due when that one is: else the pump would turn in a circle.
        lanes: dict[tuple[str, str], list[_Letter]] = {}
        leases: dict[tuple[str, str], datetime] = {}
        for row in self._letters.values():
            lane = (row.letter.sink, row.letter.lane)
            if row.state == "sending" and row.lease_until is not None:
                leases[lane] = row.lease_until
            elif row.state == "waiting":
                lanes.setdefault(lane, []).append(row)
        times = list(leases.values())
        for lane, rows in lanes.items():
            if lane not in leases:
                head = min(rows, key=lambda row, lane=lane: self._turn(lane, row))  # type: ignore[misc]
                times.append(head.not_before or now)
        times += self._timers.values()
        return max(0.0, (min(times) - now).total_seconds()) if times else None

    # --- looking --------------------------------------------------------------------------------------------------------

    def task(self, uid: UUID) -> Task | None:
        """Return a task by its uid, or the one that took it over."""
        for _ in range(8):
            task = self._tasks.get(uid)
            if task is not None or uid not in self._heirs:
                return task
            uid = self._heirs[uid]
        return None

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Return tasks, newest first."""
        return self.tasks_now(query)

    def tasks_now(self, query: TaskQuery) -> list[Task]:
        """Return tasks, newest first, without an event loop."""
        found = [
            t
            for t in self._tasks.values()
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

    async def deliveries(self, *, state: str | None = None, sink: str | None = None, limit: int = 100) -> list[DeliveryRow]:
        """List deliveries, oldest first."""
        rows = []
        for row in self._letters.values():
            if (state is not None and row.state != state) or (sink is not None and row.letter.sink != sink):
                continue
            task = self.task(row.letter.task_uid)
            checkpoint = self._checkpoints.get(row.letter.checkpoint_id) if row.letter.checkpoint_id is not None else None
            rows.append(
                DeliveryRow(
                    id=row.id,
                    sink=row.letter.sink,
                    address=row.letter.address,
                    lane=row.letter.lane,
                    mode=row.letter.mode,
                    state=row.state,
                    task_id=task.task_id if task is not None else "",
                    kind=checkpoint.kind if checkpoint is not None else "state",
                    attempt=row.attempt,
                    born_at=row.born_at,
                    not_before=row.not_before,
                    error=row.error,
                )
            )
        return rows[:limit]

    async def retry_deliveries(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """Set dead deliveries waiting again."""
        count = 0
        for row in self._letters.values():
            if row.state == "dead" and (ids is None or row.id in ids) and (sink is None or row.letter.sink == sink):
                row.state, row.attempt, row.not_before, row.born_at = "waiting", 0, None, self._clock()
                count += 1
        return count

    async def bury_deliveries(self, ids: Sequence[int]) -> int:
        """Give up waiting deliveries by hand."""
        count = 0
        for number in ids:
            row = self._letters.get(number)
            if row is not None and row.state == "waiting":
                row.state, row.error = "dead", "buried by hand"
                count += 1
        return count

    async def counts(self) -> dict[str, Any]:
        """Return what is kept."""
        return {
            "agent_events": self._events,
            "agent_tasks": len(self._tasks),
            "agent_checkpoints": len(self._checkpoints),
            "deliveries": dict(Counter(row.state for row in self._letters.values())),
        }
