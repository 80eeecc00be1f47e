"""The rows of the memory store, shared by its parts: its counterpart of the tables in PostgreSQL."""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.launch_orders import Order
from spanpost.model.readings import Role
from spanpost.model.recorded import Evaluated
from spanpost.model.tasks import Task
from spanpost.readers.redaction import Redaction
from spanpost.store.memory_tasks import Tasks
from spanpost.tasks.evaluations import evaluated
from spanpost.tasks.folded import FoldRules, Move, SpanMove
from spanpost.tasks.record_keys import domain_of, node_key, subtree_key
from spanpost.tasks.records import STARTED, Node, Subtree, TaskState
from spanpost.tasks.work import Key, R

#: Requests that are remembered, and for how long; the oldest are dropped.
_REQUESTS = 20_000
_REMEMBERED = timedelta(hours=1)


class MemoryRecords:
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


class Timers(dict[Key, datetime]):
    """Timers by key. The next one is found without a scan."""

    def __init__(self) -> None:
        super().__init__()
        #: May hold timers that were changed or dropped; they are skipped when they come first.
        self._heap: list[tuple[datetime, Key]] = []

    def __setitem__(self, key: Key, at: datetime) -> None:
        if self.get(key) != at:
            super().__setitem__(key, at)
            heapq.heappush(self._heap, (at, key))

    def setdefault(self, key: Key, at: datetime) -> datetime:
        """Set a timer where there is none."""
        if key not in self:
            self[key] = at
        return self[key]

    def first(self) -> datetime | None:
        """Return when the next timer is due; None if there is none."""
        while self._heap and self.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: datetime) -> list[Key]:
        """Remove the timers that are due; return their keys, sorted."""
        due: list[Key] = []
        while (at := self.first()) is not None and at <= now:
            key = heapq.heappop(self._heap)[1]
            del self[key]
            due.append(key)
        return sorted(due)


class MemoryTables:
    """Tasks, checkpoints, timers, alerts and launch orders of one process, with the fold's records."""

    def __init__(self, rules: FoldRules, clock: Callable[[], datetime]) -> None:
        self.rules = rules
        self.clock = clock
        self.records = MemoryRecords()
        self.tasks = Tasks()
        #: The tasks that others were merged into.
        self.successors: dict[UUID, UUID] = {}
        self.checkpoints: dict[UUID, Checkpoint] = {}
        #: When each END was recorded.
        self.ends: dict[UUID, datetime] = {}
        self.timers = Timers()
        self.alerts: dict[UUID, Alert] = {}
        #: Evaluations by their ids.
        self.evaluations: dict[UUID, Evaluated] = {}
        self.orders: dict[UUID, Order] = {}
        self._requests: dict[str, datetime] = {}
        self.hash_key = secrets.token_bytes(32)

    @property
    def redaction(self) -> Redaction | None:
        """Redaction by the current rules, with a key that only this process knows."""
        redaction = self.rules.redaction
        if redaction is not None:
            redaction.keyed(self.hash_key)
        return redaction

    def task(self, uid: UUID) -> Task | None:
        """Return a task by its uid, or the task it was merged into."""
        for _ in range(8):
            task = self.tasks.get(uid)
            if task is not None or uid not in self.successors:
                return task
            uid = self.successors[uid]
        return None

    def evaluate(self, tasks: Iterable[Task]) -> list[Evaluated]:
        """Keep the evaluations of tasks; return those that are new."""
        found = evaluated(tasks)
        new = [one for id, one in sorted(found.items()) if id not in self.evaluations]
        self.evaluations |= found
        return new

    def checkpoints_of(self, task_uid: UUID | None) -> list[Checkpoint]:
        """Return the checkpoints of a task, or of all, in order of time."""
        found = [c for c in self.checkpoints.values() if task_uid is None or c.task_uid == task_uid]
        return sorted(found, key=lambda c: (c.at, c.id))

    def move(self, moves: Sequence[Move]) -> None:
        """Move checkpoints of subtrees that were merged into other tasks to those tasks."""
        known: dict[tuple[str, bytes, bytes], list[UUID]] = {}
        for checkpoint in self.checkpoints.values():
            known.setdefault((checkpoint.tenant, checkpoint.trace_id, checkpoint.subtree), []).append(checkpoint.id)
        for move in moves:
            ids = known.pop((move.tenant, move.trace_id, move.subtree_from), [])
            for id in ids:
                moved = msgspec.structs.replace(self.checkpoints[id], subtree=move.subtree_to, task_uid=move.task_uid)
                self.checkpoints[id] = moved
            if ids:
                known.setdefault((move.tenant, move.trace_id, move.subtree_to), []).extend(ids)

    def move_spans(self, moves: Sequence[SpanMove]) -> None:
        """Move checkpoints of spans that hang below another owning span than before."""
        for move in moves:
            for id, checkpoint in list(self.checkpoints.items()):
                its = (checkpoint.tenant, checkpoint.trace_id, checkpoint.span_id)
                if its == (move.tenant, move.trace_id, move.span_id):
                    self.checkpoints[id] = msgspec.structs.replace(
                        checkpoint, subtree=move.subtree, task_uid=move.task_uid
                    )

    def is_first(self, request: str) -> bool:
        """Remember a request for an hour; False when it is a duplicate."""
        now = self.clock()
        while self._requests:
            oldest = next(iter(self._requests))
            if now - self._requests[oldest] < _REMEMBERED and len(self._requests) < _REQUESTS:
                break
            del self._requests[oldest]
        if request in self._requests:
            return False
        self._requests[request] = now
        return True

    # --- span trees ---------------------------------------------------------------------------------------------------

    def has_open_call(self, tasks: Collection[Task], since: datetime) -> bool:
        """Tell whether these tasks have an open tool or model call that began after `since`."""
        since_ns = int(since.timestamp() * 1e9)
        uids = {task.uid.bytes for task in tasks}
        for domain in {domain_of(task.tenant, task.trace_id) for task in tasks}:
            for key in self.records.domains.get(domain, ()):
                node = self.records.by_key.get(key) if key[16:17] == b"c" else None
                if not isinstance(node, Node) or node.state != STARTED or node.role not in (Role.LLM, Role.TOOL):
                    continue
                if node.rank[0] > since_ns and self.owner(domain, key[17:]) in uids:
                    return True
        return False

    def domains_of(self, task: Task) -> set[bytes]:
        """Return the domains of the traces in which a task ran."""
        found = {domain_of(task.tenant, task.trace_id)}
        for domain in own_domains_of(task):
            for key in self.records.domains.get(domain, ()):
                state = self.records.by_key.get(key) if key[16:17] == b"g" else None
                if isinstance(state, TaskState) and state.uid == task.uid.bytes:
                    found |= {root[:16] for root in state.runs}
        return found

    def owner(self, domain: bytes, span_id: bytes) -> bytes:
        """Return the uid of the task that a span belongs to; empty if there is none."""
        records = self.records.by_key
        while isinstance(node := records.get(node_key(domain, span_id)), Node) and not node.owns_subtree:
            span_id = node.parent
        subtree = records.get(subtree_key(domain, span_id))
        state = records.get(subtree.state) if isinstance(subtree, Subtree) else None
        return state.uid if isinstance(state, TaskState) else b""


def own_domains_of(task: Task) -> tuple[bytes, bytes]:
    """Return the domains that hold a task's records: its trace's and that of its explicit id."""
    return domain_of(task.tenant, task.trace_id), task.uid.bytes
