"""A ledger in memory whose letters are carried out, for properties of messages: who is told what, and what stands at the end."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.deliveries import Delivery, Mode, Receipt
from spanpost.domain.outcomes import Absent, Found, Outcome, RetryAt
from spanpost.fold import walk
from spanpost.fold.batch import Folded, Placed, Rules
from spanpost.fold.matching import Match
from spanpost.fold.routes import Route, Routes
from spanpost.ledger.base import unlimited
from spanpost.ledger.memory import MemoryLedger
from tests.fold.histories import NOW, placed

__all__ = ["ROUTES", "Post", "placed", "posted"]

_EVER = timedelta(days=36_500)
#: One window without routes; one in which ann's tasks have a place of their own, and errors are told in a third place.
ROUTES = Routes(
    sinks=("window", "board"),
    routes=(
        Route(sink="window", max_age=_EVER),
        Route(sink="board", address="errors", match=Match(status="error"), max_age=_EVER),
        Route(sink="board", address="ann", match=Match(agent="ann"), max_age=_EVER, every=timedelta(seconds=30)),
        Route(sink="board", address="all", max_age=_EVER),
    ),
)


class Post(MemoryLedger):
    """Folds readings instead of attributes, and carries letters as a random far side lets it."""

    def __init__(self, random: Random, routes: Routes = ROUTES) -> None:
        self.now = NOW
        super().__init__(
            Rules(windows={"gpt-x": 1000}, routes=routes), clock=lambda: self.now, keep=None, jitter=random.random,
            lease=timedelta(hours=9),
        )  # fmt: skip
        self.random = random
        self.seen: set[tuple[bytes, bytes]] = set()
        #: What was shown last, by lane; and each piece of news that was told, by sink and key.
        self.stands: dict[tuple[str, str], Delivery] = {}
        self.news: dict[tuple[str, str], list[Delivery]] = {}
        self.edits: list[Delivery] = []
        self._held: list[Delivery] = []
        self._lost: set[int] = set()

    def take(self, batch: list[Placed]) -> None:
        new = []
        for p in batch:
            if (p.event_id, p.content_hash) not in self.seen:
                self.seen.add((p.event_id, p.content_hash))
                new.append(p)
        self._write(self._tried(walk.fold(self._records, new, self.rules, self.now)))

    def _tried(self, folded: Folded) -> Folded:
        return folded

    def settled(self) -> None:
        """Let all settling times pass."""
        self.now += timedelta(hours=1)
        self.elapse_now(self.now)

    def carry(self, *, is_last: bool = False) -> None:
        """Have some letters go, some answers come late, some get lost; at last, all that there is."""
        held, self._held = self._held, []
        for delivery in held:
            self._answer(delivery)
        for _ in range(10_000 if is_last else self.random.randrange(4)):
            claimed = self._letters.claim(("window", "board"), 50 if is_last else 2, unlimited)
            if not claimed and is_last:
                break
            for delivery in claimed:
                if not is_last and self.random.random() < 0.3:
                    self._held.append(delivery)
                else:
                    self._answer(delivery, is_sure=is_last)
            if is_last:
                self.now += timedelta(seconds=1)
        else:
            assert not is_last, "letters for ever"

    def _answer(self, delivery: Delivery, *, is_sure: bool = False) -> None:
        outcome: Outcome
        if delivery.is_unknown:
            lane = (delivery.sink, delivery.lane)
            there = delivery.id in self._lost
            self._lost.discard(delivery.id)
            outcome = Found(receipt=Receipt(ref={"lane": delivery.lane})) if there or delivery.receipt else Absent()
            if delivery.mode is Mode.STATE and lane in self.stands:
                outcome = Found(receipt=Receipt(ref={"lane": delivery.lane}))
        elif not is_sure and self.random.random() < 0.2:
            arrives = self.random.random() < 0.5
            if arrives:
                self._show(delivery)
                self._lost.add(delivery.id)
            outcome = RetryAt(at=self.now, reason="lost", reconcile=True)
        else:
            self._show(delivery)
            outcome = Receipt(ref={"lane": delivery.lane})
        self._letters.settle(delivery, outcome)

    def _show(self, delivery: Delivery) -> None:
        lane = (delivery.sink, delivery.lane)
        if delivery.mode is Mode.STATE:
            if delivery.has_moved:
                assert lane in self.stands or delivery.is_unknown, "an end without a message"
            self.stands[lane] = delivery
            return
        assert lane in self.stands, "news without a message"
        if delivery.receipt is not None:
            self.edits.append(delivery)
            return
        self.news.setdefault((delivery.sink, delivery.key), []).append(delivery)

    # --- what must hold at the end ------------------------------------------------------------------------------------

    def faults(self) -> list[str]:
        """Return what is wrong with what stands at the end."""
        out = []
        roots = {t.message_uid: t for t in self._tasks.values() if t.is_announced and t.root_uid == t.uid}
        if len(roots) != sum(t.is_announced and t.root_uid == t.uid for t in self._tasks.values()):
            out.append("two tasks have one message")
        live: dict[tuple[str, UUID], set[str]] = {}
        for (sink, lane), shown in self.stands.items():
            _, address, uid = lane.split("|")
            task = self._tasks.get(shown.task.uid)
            if shown.has_moved:
                root = shown.task.root_uid
                if UUID(uid) in roots and self._stands(sink, address, roots[UUID(uid)]):
                    out.append(f"ended, though it is a task's: {lane}")
                if shown.task.task_id and (root not in self._tasks or self._tasks[root].root_uid != root):
                    out.append(f"went on in what is no root: {lane}")
                self.unlinked += bool(shown.task.task_id and shown.moved_to is None)
                if not shown.task.task_id:
                    self.nameless = True
                continue
            if task is None or UUID(uid) not in roots or roots[UUID(uid)].uid != task.uid:
                out.append(f"left standing: {lane}")
            elif shown.task != self.shown_now(task.uid) and self._stands(sink, address, task, is_now=True):
                out.append(f"an old text: {lane}")
            live.setdefault((sink, UUID(uid)), set()).add(address)
        for uid_, root_ in roots.items():
            for sink in self.rules.routes.sinks:
                wanted = {a for a in ("", "ann", "all") if self._stands(sink, a, root_)}
                if uid_ is None or live.get((sink, uid_), set()) - {"errors"} != wanted:
                    out.append(f"not where it belongs: {sink} {uid_} {wanted} {live.get((sink, uid_))}")
        for (sink, key), told in self.news.items():
            if len(told) > 1 and not key.endswith("|way"):
                out.append(f"told twice: {sink} {key}")
        told_ids = {(sink, d.checkpoint.id) for (sink, _), all_ in self.news.items() for d in all_ if d.checkpoint is not None}
        for checkpoint in self._checkpoints.values():
            task = self._tasks.get(checkpoint.task_uid)
            root = self.task(task.root_uid) if task is not None and task.root_uid is not None else None
            if root is not None and root.is_announced and ("window", checkpoint.id) not in told_ids:
                out.append(f"never told: {checkpoint.kind} {checkpoint.text}")
        for row in self._letters._letters.values():
            if row.state != "delivered" and (row.is_state or row.reason != "gone"):
                out.append(f"{row.state} {row.reason} {row.letter.mode} {row.lane}")
        return out

    nameless = False
    unlinked = 0

    def shown_now(self, uid: UUID) -> object:
        task = self.task(uid)
        return self.shown_task(task)

    def shown_task(self, task: object) -> object:
        return MemoryLedger.shown(self, task)  # type: ignore[arg-type]

    def _stands(self, sink: str, address: str, root: object, *, is_now: bool = False) -> bool:
        from spanpost.fold.routes import chosen

        places = [r.address for r in chosen(root, self.rules.routes, sink=sink) if is_now or not r.match.is_passing]  # type: ignore[arg-type]
        return address in places


def told_of(checkpoint: Checkpoint) -> datetime:
    return checkpoint.at


def posted(batch: list[Placed], random: Random, routes: Routes = ROUTES) -> Post:
    """Feed a history shuffled, with repeats, in small batches, between which settling times pass and letters go."""
    ledger = Post(random, routes)
    mixed = [*batch, *random.choices(batch, k=random.randrange(1 + len(batch)))]
    random.shuffle(mixed)
    while mixed:
        k = random.choice((1, 1, 2, 5))
        ledger.take(mixed[:k])
        mixed = mixed[k:]
        if random.random() < 0.5:
            ledger.settled()
        ledger.carry()
    for _ in range(3):
        ledger.settled()
    ledger.carry(is_last=True)
    ledger.settled()
    ledger.carry(is_last=True)
    return ledger
