"""Slack is down for ten minutes while many tasks are open: simulated, on the test's clock."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from spanpost.model.deliveries import Delivery, Mode, RateLimit, Receipt, SinkCall, Urgency
from spanpost.model.errors import Unavailable
from spanpost.model.outcomes import Outcome
from spanpost.routing.rate_limiting import PAUSES
from spanpost.routing.retries import Policy, decide
from spanpost.routing.routes import Routes
from spanpost.sinks.slack.sink import SlackSink
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing.observed import an_event, ended, started

TASKS = int(os.environ.get("SPANPOST_TEST_TASKS", "120"))
OUTAGE = timedelta(minutes=10)
ROOT_SPAN = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "coder"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}


class World:
    """A dispatcher and a Slack in one loop: claims are answered at once; time passes when none is possible."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.store = MemoryStore(
            FoldRules(routes=Routes(sinks=("slack",)), stall_rules=NO_STALL),
            clock=lambda: self.now,
            keep=None,
            jitter=lambda: 0.5,
        )
        self._sink = SlackSink()
        self.is_down = False
        self.calls: list[tuple[datetime, Delivery]] = []
        self._posted = 0

    def rate_limits(self, sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        return self._sink.rate_limits(address, call)

    async def run(self, until: datetime | None = None) -> None:
        """Run until that time, or until no delivery waits."""
        while True:
            for delivery in await self.store.outbox.claim(["slack"], 8, self.rate_limits):
                await self.store.outbox.finish(delivery, self._answer(delivery))
            await self.store.elapse()
            wait = await self.store.outbox.due_in(["slack"], self.rate_limits)
            then = self.now + timedelta(seconds=wait) if wait is not None else None
            if until is not None and (then is None or then >= until):
                self.now = until
                return
            if then is None:
                return
            self.now = then

    def _answer(self, delivery: Delivery) -> Outcome:
        if delivery.checkpoint is not None and delivery.checkpoint.kind == "start":
            return Receipt(skipped="the root message says so")
        self.calls.append((self.now, delivery))
        if self.is_down:
            error = Unavailable("connection refused", reason="refused")
            return decide(error, delivery.attempt, delivery.born_at, self.now, 0.5, Policy())
        self._posted += 1
        known = delivery.message_receipt
        return Receipt(ref={"channel": "C1", "ts": known.ref["ts"] if known is not None else str(self._posted)})


@pytest.mark.slow
@pytest.mark.proves("urgent-first", "slack-down")
async def test_after_an_outage_each_message_is_edited_once_and_what_is_urgent_goes_first() -> None:
    """During an outage calls are rare; then each task is edited once, questions and ends first."""
    world = World()
    for number in range(TASKS):
        world.store.record_now([started(trace=number + 1, span=1, name="agent", attributes=ROOT_SPAN)])
    await world.run()
    assert len({d.ordering_key for _, d in world.calls}) == TASKS

    world.is_down = True
    away_at, world.calls = world.now, []
    asks, ends = range(0, TASKS, 20), range(1, TASKS, 20)
    for part in range(3):
        for number in range(TASKS):
            said = TOOL | {"agent.progress": 5.0 * part, "agent.action": f"part {part}"}
            world.store.record_now(
                [ended(trace=number + 1, span=2 + part, parent=1, name="tool", attributes=said, at=part)]
            )
        await world.run(away_at + OUTAGE * (part + 1) / 4)
    for number in asks:
        asked = {"agent.approval.id": f"a-{number}", "agent.approval.question": "Deploy?"}
        world.store.record_now(
            [an_event(trace=number + 1, span=1, name="agent.approval.requested", attributes=asked, index=0)]
        )
    for number in ends:
        world.store.record_now([ended(trace=number + 1, span=1, name="agent", attributes=ROOT_SPAN, seconds=60)])
    await world.run(away_at + OUTAGE)
    # Eight calls under way when it fails; then one probe after each pause, which grows to a minute.
    assert len(world.calls) <= 8 + 13
    away = len(world.calls)

    world.is_down = False
    world.calls = []
    await world.run()
    # The probe that found it back.
    back_at = world.calls[0][0]
    assert back_at - away_at <= OUTAGE + 1.2 * PAUSES[1]
    edits = [(at, d) for at, d in world.calls if d.mode is Mode.STATE]
    assert Counter(Counter(d.ordering_key for _, d in edits).values()) == {1: TASKS}
    kinds = [d.checkpoint.kind for _, d in world.calls if d.checkpoint is not None]
    assert Counter(kinds) == {"approval_requested": len(asks), "end": len(ends)}

    took = edits[-1][0] - back_at
    # Questions and ends go first: posts at the channel's rate, edits at the rate of edits. The rest follows.
    urgent = {d.ordering_key for _, d in world.calls if d.urgency in (Urgency.APPROVAL, Urgency.END)}
    assert len(urgent) == len(asks) + len(ends)
    shown = max(at for at, d in world.calls if d.ordering_key in urgent) - back_at
    assert shown < took / 4

    [pace] = [b for b in world.rate_limits("slack", "", SinkCall.EDIT) if b.rate is not None]
    assert pace.rate is not None
    times = [at for at, _ in edits]
    for first, at in enumerate(times):
        assert bisect_right(times, at + timedelta(minutes=1)) - first <= pace.burst + pace.rate * 60
    print(
        f"\n{TASKS} tasks: {away} calls while it was away, found back after "
        f"{(back_at - away_at - OUTAGE).total_seconds():.0f} s;"
        f" {len(edits)} edits in {took.total_seconds():.0f} s, {len(urgent)} urgent tasks shown in "
        f"{shown.total_seconds():.0f} s"
    )
