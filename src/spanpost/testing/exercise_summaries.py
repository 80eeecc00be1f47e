"""Tests of digests and boards in every store: each is placed once, by any process, and shown as one
message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, RateLimit, Receipt, SinkCall
from spanpost.model.errors import DeliveryError
from spanpost.model.launch_orders import OrderQuery
from spanpost.model.observations import Observation
from spanpost.model.summaries import Board, Digest
from spanpost.routing.launch_orders import KEPT
from spanpost.routing.routes import Route, Routes
from spanpost.runtime.summaries import Summaries
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_orders import done
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event, started

#: Routes of the agents in these tests.
DIGEST = Route(sink="slack", address="#daily", agent=("writer", "editor"), digest="hourly")
BOARD = Route(sink="slack", address="#board", board=True)
CARRIER = "summary:slack"


class Wall:
    """A sink that keeps its messages: (key, content), one entry for each call."""

    name = "slack"

    def __init__(self) -> None:
        self.shown: list[tuple[str, Digest | Board]] = []
        self.edits = 0

    async def deliver(self, delivery: Delivery) -> Receipt:
        assert delivery.summary is not None
        assert delivery.mode is Mode.STATE
        self.shown.append((delivery.key, delivery.summary.content))
        if delivery.message_receipt is not None:
            self.edits += 1
            return Receipt(ref=delivery.message_receipt.ref)
        return Receipt(ref={"ts": str(len(self.shown))})

    async def reconcile(self, deliveries: Sequence[Delivery]) -> Mapping[int, Receipt | DeliveryError | None]:
        return {}

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        return ()

    async def close(self) -> None: ...


def rules(*routes: Route) -> FoldRules:
    """Return rules by which these routes lead to Slack."""
    return FoldRules(routes=Routes(sinks=("slack",), routes=routes, editing=frozenset({"slack"})))


def made_by(store: Store, wall: Wall, *routes: Route) -> Summaries:
    """Return the digests and boards of one process."""
    return Summaries(
        store.reader, store.launch_orders, {"slack": wall}, lambda: rules(*routes).routes, "default", lambda: None
    )


async def carry(store: Store, summaries: Summaries) -> int:
    """Deliver what waits; return the number of deliveries."""
    count = 0
    while claimed := await store.outbox.claim([CARRIER], 50):
        for delivery in claimed:
            await store.outbox.finish(delivery, await summaries.carriers[CARRIER].deliver(delivery))
        count += len(claimed)
    return count


def at_work(agent: str, trace: int, said: dict[str, Any] | None = None) -> Observation:
    """Return the beginning of a task."""
    return started(
        trace=trace, span=1, name="agent", attributes={"agent.task.name": agent, "agent.name": agent, **(said or {})}
    )


def asks(trace: int) -> Observation:
    """Return a question of a task."""
    said = {"agent.approval.id": f"a{trace}", "agent.approval.question": "Deploy?"}
    return an_event(trace=trace, span=1, name="agent.approval.requested", index=0, attributes=said)


class ExerciseSummaries(Exercised):
    """Tests of digests and boards in every store."""

    async def test_ends_are_found_by_when_they_were_recorded(self, make_store: MakeStore) -> None:
        """A root task whose end was recorded within a period is found then, whatever its sender's clock
        says; not before, and not an old one.
        """
        store = await make_store()
        now = await store.reader.now()
        await store.record([done("writer", trace=1, ago=7200), done("old", trace=2, ago=200_000), at_work("editor", 3)])
        later = now + timedelta(hours=1)
        day = timedelta(days=1)
        assert [task.name for task in await store.reader.ended(now - timedelta(minutes=1), later, day)] == ["writer"]
        assert await store.reader.ended(now - timedelta(hours=3), now - timedelta(minutes=1), day) == []
        await store.record([done("writer", trace=1, ago=7200)])  # recorded again, it ends no second time
        assert len(await store.reader.ended(now - timedelta(minutes=1), later, day)) == 1

    async def test_beside_a_digest_a_task_has_no_message(self, make_store: MakeStore) -> None:
        """A task that runs and ends makes no delivery.

        One that asks a question has its message at once, until its end.
        """
        store = await make_store(rules(DIGEST))
        await store.record([at_work("writer", 1), done("writer", trace=2), done("writer", trace=3, status="error")])
        assert await store.outbox.claim(["slack"], 50) == []
        await store.record([at_work("editor", 4), asks(4)])
        delivered: list[tuple[str, str]] = []
        while claimed := await store.outbox.claim(["slack"], 50):
            delivered += [(str(delivery.mode), delivery.task.status) for delivery in claimed]
            for delivery in claimed:
                await store.outbox.finish(delivery, Receipt(ref={"ts": "1"}))
        assert delivered == [("state", "waiting"), ("checkpoint", "waiting")]
        await store.record([done("editor", trace=4)])
        last = []
        for _ in range(2):  # the question is edited: it ended; and the message is
            [one] = await store.outbox.claim(["slack"], 50)
            await store.outbox.finish(one, Receipt(ref={"ts": "1"}))
            of = None if one.checkpoint is None else (one.checkpoint.kind, one.checkpoint.ref)
            last.append((str(one.mode), one.task.status, of))
        assert sorted(last, key=lambda one: one[0]) == [
            ("checkpoint", "complete", (Kind.APPROVAL_REQUESTED, "a4")),
            ("state", "complete", None),
        ]

    async def test_failures_come_at_once_where_the_route_says_so(self, make_store: MakeStore) -> None:
        """Beside a digest with failures, a failed task has a message and its end; a successful one has none."""
        store = await make_store(rules(replace(DIGEST, digest_failures=True)))
        await store.record([done("writer", trace=1), done("editor", trace=2, status="error")])
        claimed = await store.outbox.claim(["slack"], 50)
        assert [delivery.task.name for delivery in claimed] == ["editor"]

    async def test_a_digest_is_posted_once(self, make_store: MakeStore) -> None:
        """One message an hour shows what ended and what waits, whatever the number of processes; an empty
        hour has none.
        """
        store = await make_store(rules(DIGEST))
        wall, now = Wall(), await store.reader.now()
        ends = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        await store.record(
            [
                done("writer", {"agent.topic": "a"}, trace=1),
                done("editor", trace=2, status="error"),
                done("stranger", trace=3),
                at_work("writer", 4),
                asks(4),
            ]
        )
        processes = [made_by(store, wall, DIGEST) for _ in range(2)]
        if (other := await self.another(store)) is not None:
            processes.append(made_by(other, wall, DIGEST))
        due = ends + timedelta(seconds=31)
        placed = await asyncio.gather(*(app.scan(due) for app in processes))
        assert sum(placed) == 1
        assert await carry(store, processes[0]) == 1
        assert [await app.scan(due + timedelta(minutes=1)) for app in processes] == [0] * len(processes)
        restarted = made_by(store, wall, DIGEST)
        assert await restarted.scan(due + timedelta(minutes=2)) == 0
        [(_, delivered)] = wall.shown
        assert isinstance(delivered, Digest)
        assert (delivered.ended, delivered.living, delivered.ends_at) == (
            {"complete": 1, "error": 1},
            {"waiting": 1},
            ends,
        )
        assert [task.name for task in (*delivered.failed, *delivered.needy)] == ["editor", "writer"]

    async def test_a_digest_waits_for_late_records(self, make_store: MakeStore) -> None:
        """Just after the end of its period no digest is made yet."""
        store = await make_store(rules(DIGEST))
        await store.record([done("writer", trace=1)])
        app, now = made_by(store, Wall(), DIGEST), await store.reader.now()
        ends = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        assert await app.scan(ends + timedelta(seconds=20)) == 0
        assert await app.scan(ends + timedelta(seconds=30)) == 1

    async def test_a_board_is_one_message(self, make_store: MakeStore) -> None:
        """It begins with the first task, is edited only when it changed, and another process continues it."""
        store = await make_store(rules(BOARD))
        wall, now = Wall(), datetime.now(UTC)
        processes = [made_by(store, wall, BOARD), made_by(await self.another(store) or store, wall, BOARD)]
        assert await processes[0].scan(now) == 0
        await store.record([at_work("writer", 1), at_work("editor", 2), asks(2)])
        minute = timedelta(minutes=1)
        assert sum(await asyncio.gather(*(app.scan(now + minute) for app in processes))) == 1
        await carry(store, processes[0])
        assert [await app.scan(now + 2 * minute) for app in processes] == [0, 0]
        await store.record([done("editor", trace=2)])
        assert [await app.scan(now + 3 * minute) for app in processes] == [1, 0]
        await carry(store, processes[1])
        restarted = made_by(store, wall, BOARD)
        await store.record([done("writer", trace=1)])
        assert await restarted.scan(now + 4 * minute) == 1
        await carry(store, restarted)
        listed = [
            [task.name for task in delivered.tasks] for _, delivered in wall.shown if isinstance(delivered, Board)
        ]
        assert listed == [["editor", "writer"], ["writer"], []]
        assert (len({key for key, _ in wall.shown}), wall.edits) == (1, 2)

    async def test_of_boards_that_wait_the_newest_is_shown(self, make_store: MakeStore) -> None:
        """After an outage the current board is shown, and no older one. Processes take turns, one at a time."""
        store = await make_store(rules(BOARD))
        wall, now = Wall(), datetime.now(UTC)
        app = made_by(store, wall, BOARD)
        for n in range(3):
            await store.record([at_work(f"agent-{n}", n + 1)])
            assert await app.scan(now + n * timedelta(minutes=1)) == 1
        [first] = await store.outbox.claim([CARRIER], 50)
        assert await store.outbox.claim([CARRIER], 50) == []
        await store.outbox.finish(first, await app.carriers[CARRIER].deliver(first))
        assert await carry(store, app) == 2
        [(_, delivered)] = wall.shown
        assert isinstance(delivered, Board)
        assert {task.name for task in delivered.tasks} == {"agent-0", "agent-1", "agent-2"}

    async def test_old_boards_are_removed(self, make_store: MakeStore) -> None:
        """Of a board that keeps changing the newest orders are stored, with their deliveries; it stays one message."""
        store = await make_store(rules(BOARD))
        wall, now = Wall(), datetime.now(UTC)
        app = made_by(store, wall, BOARD)
        for n in range(KEPT + 8):
            await store.record([at_work(f"agent-{n}", n + 1)])
            assert await app.scan(now + n * timedelta(minutes=1)) == 1
            await carry(store, app)
        assert len(await store.launch_orders.listed(OrderQuery(carrier=CARRIER, limit=100))) == KEPT
        assert len(await store.outbox.deliveries(sink=CARRIER)) == KEPT
        assert (len(wall.shown), wall.edits) == (KEPT + 8, KEPT + 7)

    async def test_a_doubtful_board_is_reconciled(self, make_store: MakeStore) -> None:
        """A doubtful first post of a board is reconciled by its lasting key; a doubtful edit is made again."""
        store = await make_store(rules(BOARD))
        wall, now = _Doubtful(), datetime.now(UTC)
        app = made_by(store, wall, BOARD)
        await store.record([at_work("writer", 1)])
        await app.scan(now)
        [delivery] = await store.outbox.claim([CARRIER], 50)
        answers = await app.carriers[CARRIER].reconcile([delivery])
        assert answers == {delivery.id: None}
        assert [one.key for one in wall.asked] == [f"summary|{delivery.order.task_uid}" if delivery.order else ""]
        await store.outbox.finish(delivery, await app.carriers[CARRIER].deliver(delivery))
        await store.record([at_work("editor", 2)])
        await app.scan(now + timedelta(minutes=1))
        [edit] = await store.outbox.claim([CARRIER], 50)
        assert await app.carriers[CARRIER].reconcile([edit]) == {edit.id: None}
        assert len(wall.asked) == 1


class _Doubtful(Wall):
    """A sink whose reconciliation finds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Delivery] = []

    async def reconcile(self, deliveries: Sequence[Delivery]) -> Mapping[int, Receipt | DeliveryError | None]:
        self.asked += deliveries
        return {delivery.id: None for delivery in deliveries}
