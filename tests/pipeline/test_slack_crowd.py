"""A thousand tasks in one channel for ten minutes on a test clock: age of each message, and calls.

The bound: of N changing tasks each message shows the newest state within N / (edits a minute) plus a minute, because
the longest waiting one goes first. Urgent ones go before the rest, on calls reserved for them.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, RateLimit, SinkCall
from spanpost.routing.routes import Route, Routes, Verbosity
from spanpost.sinks.slack.calls import Response, SlackRequest
from spanpost.sinks.slack.rates import Rates
from spanpost.sinks.slack.sink import SlackSink
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing.observed import an_event, ended, started

TASKS = int(os.environ.get("SPANPOST_TEST_TASKS") or (1000 if os.environ.get("CI") == "true" else 300))
MINUTES = 10
ROOT_SPAN = {"agent.name": "coder", "agent.repo": "shop"}
URGENT = (Kind.APPROVAL_REQUESTED, Kind.END, Kind.ERROR)


class Wire:
    """A Slack that answers at once, and keeps each message's text."""

    def __init__(self) -> None:
        self.calls: list[SlackRequest] = []
        self.wasted = 0
        self._shown: dict[str, str] = {}

    async def call(self, request: SlackRequest) -> Response:
        self.calls.append(request)
        ts = str(request.arguments.get("ts") or f"1.{len(self._shown):06d}")
        said = repr({k: v for k, v in request.arguments.items() if k in ("text", "blocks", "attachments")})
        self.wasted += self._shown.get(ts) == said
        self._shown[ts] = said
        thread = {"thread_ts": request.arguments["thread_ts"]} if "thread_ts" in request.arguments else {}
        return Response(body={"ok": True, "channel": "C1", "ts": ts, "message": {"ts": ts, **thread}})

    async def close(self) -> None: ...


class Crowd:
    """Working tasks, a store and a dispatcher in one loop; time passes when nothing can be claimed."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        route = Route(sink="slack", verbosity=Verbosity.MILESTONES, interval=timedelta(seconds=30))
        routes = Routes(sinks=("slack",), routes=(route,), editing=frozenset({"slack"}))
        self.store = MemoryStore(
            FoldRules(routes=routes, stall_rules=NO_STALL), clock=lambda: self.now, keep=None, jitter=lambda: 0.5
        )
        self.wire = Wire()
        self.sink = SlackSink(
            transport=self.wire, rates=Rates(edits_per_minute=50.0), clock=lambda: self.now.timestamp()
        )
        #: Times since when a message is older than its task, and the ages that each reached.
        self.dirty: dict[str, datetime] = {}
        self.staleness: list[timedelta] = []
        #: Times of urgent checkpoints, by task and kind; and their delays.
        self.said: dict[tuple[str, Kind], datetime] = {}
        self.waited: Counter[Kind] = Counter()
        self.edits: list[datetime] = []
        self.skipped = 0

    def rate_limits(self, sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        return self.sink.rate_limits(address, call)

    def tell(self, *observations: Any) -> None:
        """Record something; the messages of its tasks are outdated from now on."""
        for task in self.store.record_now(list(observations)).tasks:
            self.dirty.setdefault(task.task_id, self.now)

    async def run(self, until: datetime | None = None) -> None:
        """Run until that time, or until no delivery waits."""
        while True:
            for delivery in await self.store.outbox.claim(["slack"], 8, self.rate_limits):
                await self._deliver(delivery)
            await self.store.elapse()
            wait = await self.store.outbox.due_in(["slack"], self.rate_limits)
            then = self.now + timedelta(seconds=wait) if wait is not None else None
            if until is not None and (then is None or then >= until):
                self.now = until
                return
            if then is None:
                return
            self.now = then

    async def _deliver(self, delivery: Delivery) -> None:
        before = len(self.wire.calls)
        receipt = await self.sink.deliver(delivery)
        await self.store.outbox.finish(delivery, receipt)
        task = delivery.task.task_id
        self.skipped += bool(receipt.skipped)
        if delivery.mode is Mode.STATE:
            since = self.dirty.pop(task, None)
            if since is not None:
                self.staleness.append(self.now - since)
            if len(self.wire.calls) > before and delivery.message_receipt is not None:
                self.edits.append(self.now)
        elif (
            delivery.checkpoint is not None
            and (at := self.said.pop((task, delivery.checkpoint.kind), None)) is not None
        ):
            kind = delivery.checkpoint.kind
            self.waited[kind] = max(self.waited[kind], int((self.now - at).total_seconds()))


def _root_span(number: int) -> dict[str, Any]:
    return ROOT_SPAN | {"agent.task.id": f"task {number}", "agent.task.name": f"task {number}"}


@pytest.mark.proves("urgent-first")
@pytest.mark.slow
async def test_a_thousand_tasks_in_one_channel_stay_readable() -> None:
    """Each message is updated within the bound, no call repeats a text, urgent ones take seconds."""
    dice, crowd = random.Random(7), Crowd()
    for number in range(TASKS):
        crowd.tell(started(trace=number + 1, span=1, name="agent", attributes=_root_span(number)))
    await crowd.run()
    assert len(crowd.wire.calls) == TASKS
    crowd.staleness, crowd.wire.calls, begun = [], [], crowd.now

    progress = dict.fromkeys(range(TASKS), 0.0)
    for index in range(1, MINUTES * 6 + 1):
        for number in dice.sample(sorted(progress), len(progress) // 3):
            # Half of the time more than a sign of life.
            progress[number] += dice.choice((0.0, 0.0, 3.0))
            said = {"agent.progress": progress[number], "agent.action": f"part {int(progress[number])}"}
            crowd.tell(an_event(trace=number + 1, span=1, name="moved", attributes=said, index=index, at=float(index)))
        for kind, name, number in zip(
            URGENT, ("agent.approval.requested", "", "agent.error"), dice.sample(sorted(progress), 3), strict=True
        ):
            crowd.said[f"task {number}", kind] = crowd.now
            if kind is Kind.END:
                del progress[number]
                crowd.tell(
                    ended(trace=number + 1, span=1, name="agent", attributes=_root_span(number), seconds=index + 1.0)
                )
            else:
                given = {"agent.approval.id": f"a{index}", "agent.approval.question": "Deploy?"}
                given = (
                    given
                    if kind is Kind.APPROVAL_REQUESTED
                    else {"exception.type": f"E{'x' * index}", "exception.message": "no"}
                )
                crowd.tell(
                    an_event(trace=number + 1, span=1, name=name, attributes=given, index=500 + index, at=index + 0.5)
                )
        await crowd.run(begun + timedelta(seconds=10 * index))
    busy = len(crowd.edits)
    await crowd.run()

    [pace] = [b for b in crowd.rate_limits("slack", "", SinkCall.EDIT) if b.rate is not None]
    assert pace.rate is not None
    for first, at in enumerate(crowd.edits):
        assert bisect_right(crowd.edits, at + timedelta(minutes=1)) - first <= pace.burst + pace.rate * 60
    bound = timedelta(minutes=TASKS / 50 + 1)
    worst = max(crowd.staleness)
    assert crowd.dirty == {}
    assert worst <= bound
    assert crowd.wire.wasted == 0
    assert crowd.said == {}
    assert max(crowd.waited.values()) <= 30
    posts = [r for r in crowd.wire.calls if r.method == "chat.postMessage"]
    ordered = sorted(crowd.staleness)
    print(
        f"\n{TASKS} tasks, {MINUTES} min: {busy} edits meanwhile, {len(crowd.edits)} in all, {len(posts)} "
        f"replies, {crowd.skipped} deliveries"
        f" without a call, {crowd.wire.wasted} calls wasted; staleness median "
        f"{ordered[len(ordered) // 2].total_seconds():.0f} s,"
        f" worst {worst.total_seconds():.0f} s (bound {bound.total_seconds():.0f} s); urgent at most"
        f" {', '.join(f'{kind} {seconds} s' for kind, seconds in sorted(crowd.waited.items()))}"
    )
