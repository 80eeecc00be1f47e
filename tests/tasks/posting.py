"""A simulated sink that delays and loses answers, and the conditions that hold on it at the end."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, TypeVar, cast
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.deliveries import Delivery, DeliveryRow, Mode, Receipt
from spanpost.model.outcomes import Arrived, NotArrived, Outcome, RetryAt
from spanpost.model.tasks import Task
from spanpost.routing.planned import ON_THE_WAY
from spanpost.routing.routes import Route, Routes, Verbosity, chosen
from spanpost.store.memory import MemoryStore
from spanpost.tasks import batches
from spanpost.tasks.folded import FoldRules, Placed
from spanpost.tasks.stall import NO_STALL
from tests.tasks.histories import NOW

T = TypeVar("T")

SINKS = ("window", "board")
#: One sink with one place; and a sink where ann's tasks have a place of their own, and failed tasks a third.
ROUTES = Routes(
    sinks=SINKS,
    routes=(
        Route(sink="window"),
        Route(sink="board", address="errors", status="error"),
        Route(sink="board", address="ann", agent="ann", interval=timedelta(seconds=30)),
        Route(sink="board", address="all"),
    ),
    max_age=timedelta(days=36_500),
)
RULES = FoldRules(windows={"gpt-x": 1000}, routes=ROUTES, stall_rules=NO_STALL)
#: The same, where a message appears with the first end or question, and checkpoints are edited into it.
LIMITED_LOG = msgspec.structs.replace(
    RULES,
    routes=msgspec.structs.replace(
        ROUTES,
        routes=tuple(replace(route, verbosity=Verbosity.FINAL) for route in ROUTES.routes),
        editing=frozenset(SINKS),
    ),
)


class FarSide:
    """What people see: what each message shows, by ordering key, and each delivery of a checkpoint.

    Some answers come late (`hold`), some are lost, after what was sent arrived or before.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.stands: dict[tuple[str, str], Delivery] = {}
        self.checkpoints: dict[tuple[str, str], list[Delivery]] = {}
        self.held: list[Delivery] = []
        #: Deliveries that arrived although their answer was lost.
        self._arrived: set[int] = set()
        self.wrongs: list[str] = []

    def holds(self, delivery: Delivery) -> bool:
        """Return whether the answer to a delivery is to come later."""
        if self.random.random() < 0.3:
            self.held.append(delivery)
            return True
        return False

    def answer(self, delivery: Delivery, *, is_sure: bool = False) -> Outcome:
        """Take a delivery, or lose it."""
        receipt = Receipt(ref={"ordering_key": delivery.ordering_key})
        if delivery.is_unknown:
            is_there = delivery.id in self._arrived or delivery.receipt is not None
            self._arrived.discard(delivery.id)
            return Arrived(receipt=receipt) if is_there else NotArrived()
        if not is_sure and self.random.random() < 0.2:
            if self.random.random() < 0.5:
                self._show(delivery)
                self._arrived.add(delivery.id)
            return RetryAt(at=NOW, reason="lost", reconcile=True)
        self._show(delivery)
        return receipt

    def _show(self, delivery: Delivery) -> None:
        place = (delivery.sink, delivery.ordering_key)
        if delivery.mode is Mode.STATE:
            if delivery.has_moved and place not in self.stands:
                self.wrongs.append(f"an end where nothing stands: {place}")
            self.stands[place] = delivery
            return
        if place not in self.stands:
            self.wrongs.append(f"a checkpoint below no message: {delivery.key}")
        if delivery.receipt is None:
            self.checkpoints.setdefault((delivery.sink, delivery.key), []).append(delivery)


def faults(
    far: FarSide,
    tasks: Mapping[UUID, Task],
    checkpoints: Iterable[Checkpoint],
    rows: Iterable[DeliveryRow],
    routes: Routes,
) -> list[str]:
    """Return the faults of the messages at the end, after all deliveries."""
    out = list(far.wrongs)
    roots = [t for t in tasks.values() if t.is_announced and t.root_uid == t.uid]
    owners = {str(t.message_uid): t for t in roots}
    if len(owners) < len(roots):
        out.append("two tasks have one message")
    live: dict[tuple[str, UUID], set[str]] = {}
    for (sink, ordering_key), shown in far.stands.items():
        _, address, uid = ordering_key.split("|")
        owner = owners.get(uid)
        if shown.has_moved:
            if owner is not None and address in _places(owner, sink, routes):
                out.append(f"ended, though it is a task's: {ordering_key}")
            to = tasks.get(shown.task.root_uid) if shown.task.root_uid is not None else None
            if shown.task.task_id and (to is None or to.root_uid != to.uid):
                out.append(f"went on in what is no root: {ordering_key}")
        elif owner is None or owner.uid != shown.task.uid:
            out.append(f"left standing: {ordering_key}")
        else:
            live.setdefault((sink, owner.uid), set()).add(address)
            if address in _places(owner, sink, routes, is_now=True) and shown.task != owner:
                out.append(f"an old text: {ordering_key}")
    for root in roots:
        for sink in routes.sinks:
            if live.get((sink, root.uid), set()) - {"errors"} != _places(root, sink, routes):
                out.append(f"a task without its message: {root.task_id} in {sink}")
    out += [
        f"posted {len(copies)} times: {key}"
        for (_, key), copies in far.checkpoints.items()
        if len(copies) > 1 and not key.endswith(ON_THE_WAY)
    ]
    posted_ids = {
        d.checkpoint.id
        for (sink, _), copies in far.checkpoints.items()
        for d in copies
        if d.checkpoint is not None and sink == SINKS[0]
    }
    for checkpoint in checkpoints:
        task = tasks.get(checkpoint.task_uid)
        if task is not None and task.is_announced and checkpoint.id not in posted_ids:
            out.append(f"never posted: {checkpoint.text}")
    # A retracted checkpoint has no task: its delivery need not arrive.
    return out + [
        f"{row.state}: {row.mode} {row.ordering_key}"
        for row in rows
        if row.state != "delivered" and row.reason != "gone"
    ]


def _places(task: Task, sink: str, routes: Routes, *, is_now: bool = False) -> set[str]:
    return {route.address for route in chosen(task, routes, sink=sink) if is_now or not route.is_passing}


def at_once(asked: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that waits for nothing."""
    try:
        asked.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    raise AssertionError("it waits")


class Post(MemoryStore):
    """Folds readings instead of attributes, and has its deliveries carried."""

    def __init__(self, random: Random, rules: FoldRules = RULES) -> None:
        self.now = NOW
        super().__init__(rules, clock=lambda: self.now, keep=None, jitter=random.random, lease=timedelta(days=9))
        self.random = random
        self.far = FarSide(random)
        self.seen: set[tuple[bytes, bytes]] = set()

    def take(self, batch: list[Placed]) -> None:
        """Record the new observations of a batch."""
        new = [
            p
            for p in {(p.event_id, p.content_hash): p for p in batch}.values()
            if (p.event_id, p.content_hash) not in self.seen
        ]
        self.seen.update((p.event_id, p.content_hash) for p in new)
        self._write(batches.fold(self._tables.records, new, self.rules, self.now))

    def elapse_settling_times(self) -> None:
        """Let all settling times pass."""
        self.now += timedelta(hours=1)
        self.elapse_now(self.now)

    def carry(self) -> None:
        """Carry some deliveries."""
        held, self.far.held = self.far.held, []
        for delivery in held:
            self._record_outcome(delivery, self.far.answer(delivery))
        for _ in range(self.random.randrange(4)):
            for delivery in at_once(self.outbox.claim(SINKS, 2)):
                if not self.far.holds(delivery):
                    self._record_outcome(delivery, self.far.answer(delivery))

    def _record_outcome(self, delivery: Delivery, outcome: Outcome) -> None:
        at_once(self.outbox.finish(delivery, outcome))

    def finish(self) -> None:
        """Carry all deliveries."""
        for delivery in self.far.held:
            self._record_outcome(delivery, self.far.answer(delivery))
        self.far.held = []
        for _ in range(1000):
            claimed = at_once(self.outbox.claim(SINKS, 50))
            if not claimed:
                return
            for delivery in claimed:
                self._record_outcome(delivery, self.far.answer(delivery, is_sure=True))
        self.far.wrongs.append("deliveries for ever")

    def faults(self) -> list[str]:
        """Return the faults of the messages at the end."""
        rows = at_once(self.outbox.deliveries(limit=10_000))
        tasks = {uid: self._heartbeats.shown(task) for uid, task in self._tables.tasks.items()}
        return faults(self.far, tasks, self._tables.checkpoints.values(), rows, self.rules.routes)


def torn(batch: list[Placed], random: Random) -> list[list[Placed]]:
    """Return a history shuffled, with repeats, in small batches."""
    mixed = [*batch, *random.choices(batch, k=random.randrange(1 + len(batch)))]
    random.shuffle(mixed)
    out = []
    while mixed:
        k = random.choice((1, 1, 2, 5))
        out.append(mixed[:k])
        mixed = mixed[k:]
    return out


def posted(batch: list[Placed], random: Random, rules: FoldRules = RULES) -> Post:
    """Feed a torn history; settling times pass and deliveries go between its batches; at the end all deliveries go."""
    store = Post(random, rules)
    for part in torn(batch, random):
        store.take(part)
        if random.random() < 0.5:
            store.elapse_settling_times()
        store.carry()
    for _ in range(3):
        store.elapse_settling_times()
    store.finish()
    store.elapse_settling_times()
    store.finish()
    return store
