"""Milestones: which progress is one, and how often they are posted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.outcomes import Outcome
from spanpost.routing.noise import hours
from spanpost.routing.planned import PlannedDelivery
from spanpost.routing.routes import Route, Routes, Verbosity
from spanpost.store.memory import MemoryStore
from spanpost.tasks.delivery_plans import RootMessage
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.milestones import before_later
from spanpost.tasks.reported import Held
from spanpost.testing import observed
from spanpost.testing.nouns import a_checkpoint, a_task
from spanpost.testing.observed import an_event, ended, started

ROOT_SPAN = {"agent.task.name": "job"}
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
INTERVAL = timedelta(seconds=30)


class App:
    """A memory store on a clock of its own, with one task in it, and the checkpoints that it posted."""

    def __init__(
        self,
        verbosity: Verbosity = Verbosity.MILESTONES,
        interval: timedelta = INTERVAL,
        root_span: dict[str, Any] = ROOT_SPAN,
        after: timedelta = timedelta(0),
    ) -> None:
        self.now = NOON
        routes = Routes(
            sinks=("s",),
            routes=(Route(sink="s", verbosity=verbosity, interval=interval, after=after),),
            editing=frozenset({"s"}),
        )
        self.states: list[float] = []
        self.store = MemoryStore(FoldRules(routes=routes), clock=lambda: self.now, keep=None)
        self._index = 0
        self.store.record_now([started(trace=1, span=1, name="agent", attributes=root_span)])
        self.posted: list[tuple[float, Checkpoint]] = []

    async def say(self, after: float = 0.0, name: str = "moved", **attributes: Any) -> None:
        """Let time pass, then report an event of the agent."""
        await self.until((self.now - NOON).total_seconds() + after)
        self._index += 1
        given = {f"agent.{key.replace('__', '.')}": value for key, value in attributes.items()}
        at = 1.0 + (self.now - NOON).total_seconds() + self._index / 1000
        self.store.record_now([an_event(trace=1, span=1, name=name, attributes=given, index=self._index, at=at)])
        await self._drain()

    async def until(self, seconds: float) -> None:
        """Let time pass, and post what falls due when it does."""
        until = NOON + timedelta(seconds=seconds)
        while True:
            wait = await self.store.outbox.due_in(["s"])
            if wait is None or self.now + timedelta(seconds=wait) > until:
                break
            self.now += timedelta(seconds=wait)
            await self.store.elapse()
            await self._drain()
        self.now = until

    async def _drain(self) -> None:
        while claimed := await self.store.outbox.claim(["s"], 10):
            for delivery in claimed:
                if delivery.mode is Mode.CHECKPOINT and delivery.checkpoint is not None:
                    self.posted.append(((self.now - NOON).total_seconds(), delivery.checkpoint))
                if delivery.mode is Mode.STATE:
                    self.states.append((self.now - NOON).total_seconds())
                await self.store.outbox.finish(delivery, self._answer(delivery))

    def _answer(self, delivery: Delivery) -> Outcome:
        return Receipt(ref={"ts": "1"})

    def texts(self, *kinds: Kind) -> list[tuple[float, str]]:
        wanted = kinds or (Kind.MILESTONE, Kind.CHECKPOINT)
        return [(at, c.text) for at, c in self.posted if c.kind in wanted]


async def test_a_step_and_each_fifth_are_milestones_and_nothing_between():
    """Progress that crosses no fifth, a repeated step, and events between are no milestones."""
    app = App(interval=timedelta(0))
    for progress in (5, 19, 21, 25, 39.9, 40, 41, 38, 45, 99, 100):
        await app.say(progress=progress)
    assert [c.progress for _, c in app.posted] == [21, 40, 99, 100]
    app = App(interval=timedelta(0))
    for name, index in (("Plan", 1), ("Plan", 1), ("Fetch", 2), ("Fetch", 2), ("Write", 3)):
        await app.say(step__name=name, step__index=index, step__count=3)
    assert app.texts() == [(0.0, "1/3 Plan"), (0.0, "2/3 Fetch"), (0.0, "3/3 Write")]


async def test_what_the_agent_said_with_it_is_the_milestone():
    """A checkpoint that comes with a new step is posted in its own words, once; any other is not posted."""
    app = App(interval=timedelta(0))
    await app.say(name="agent.checkpoint", checkpoint__message="Reading the alert", step__name="Read")
    await app.say(name="agent.checkpoint", checkpoint__message="still reading")
    assert app.texts() == [(0.0, "Reading the alert")]
    live = App(Verbosity.LIVE, timedelta(0))
    await live.say(name="agent.checkpoint", checkpoint__message="Reading the alert", step__name="Read")
    await live.say(name="agent.checkpoint", checkpoint__message="still reading")
    assert [text for _, text in live.texts()] == ["Reading the alert", "still reading"]


async def test_the_progress_that_a_run_starts_with_is_no_milestone():
    """A live span that has progress at its start posts only its later checkpoints and milestones, in order."""
    app = App(Verbosity.LIVE, timedelta(0), ROOT_SPAN | {"agent.progress": 20, "agent.step.name": "Find"})
    await app.say(name="agent.checkpoint", checkpoint__message="Planning", progress=5)
    await app.say(name="agent.checkpoint", checkpoint__message="Looking", progress=20, step__name="Find")
    await app.say(progress=40)
    assert [text for _, text in app.texts()] == ["Planning", "Looking", "Find"]


async def test_milestones_come_apart_and_the_newest_wins():
    """The first of many milestones within the interval is posted at once, the last when it is due, none twice."""
    app = App()
    for i in range(1, 21):
        await app.say(2, step__name=f"step {i}", step__index=i)
    await app.until(200)
    assert app.texts() == [(2.0, "step 1"), (32.0, "step 15"), (62.0, "step 20")]


async def test_what_is_urgent_never_waits_and_a_milestone_before_it_comes_first():
    """Questions, errors and the end are posted at once; a milestone that waited is posted before them, in order of
    time, and none after the end.
    """
    app = App()
    await app.say(step__name="one")
    await app.say(1, step__name="two")
    await app.say(1, name="agent.approval.requested", approval__id="a", approval__question="Deploy?")
    await app.say(1, name="agent.error")
    await app.say(step__name="three")
    app.store.record_now(
        [ended(trace=1, span=1, name="agent", attributes=ROOT_SPAN | {"agent.status": "complete"}, seconds=10)]
    )
    await app._drain()
    await app.until(300)
    assert [(at, c.kind) for at, c in app.posted if c.kind is not Kind.MILESTONE] == [
        (2.0, Kind.APPROVAL_REQUESTED), (3.0, Kind.ERROR), (3.0, Kind.APPROVAL_REQUESTED), (3.0, Kind.END)
    ]  # fmt: skip
    assert [c.text for _, c in app.posted][:3] == ["one", "two", "Deploy?"]
    assert app.texts(Kind.MILESTONE) == [(0.0, "one"), (2.0, "two")]


async def test_steps_that_were_made_up_are_no_milestones():
    """An agent that reports no steps has its tool calls as steps, which are not posted."""
    app = App()
    tool = {"gen_ai.operation.name": "execute_tool"}
    for i in range(5):
        app.store.record_now(
            [ended(trace=1, span=10 + i, parent=1, name="tool", attributes=tool | {"gen_ai.tool.name": f"t{i}"})]
        )
    await app.until(100)
    assert app.posted == []


async def test_a_message_that_waits_appears_when_its_task_ran_long_enough(monkeypatch):
    """With `after` a silent task's message appears by a timer, and that of a task that ended before never."""
    monkeypatch.setattr(observed, "BEGAN", int(NOON.timestamp() * 1e9))
    for is_short, states in ((False, [30.0]), (True, [])):
        app = App(after=timedelta(seconds=30))
        await app.say(1, step__name="one")
        if is_short:
            end = ROOT_SPAN | {"agent.status": "complete"}
            app.store.record_now([ended(trace=1, span=1, name="agent", attributes=end, seconds=5)])
        await app.until(200)
        assert (app.states, app.posted) == (states, [])


async def test_an_error_waits_for_the_message_of_its_task(monkeypatch):
    """With `after` a tool's failure is a line of the thread once the message is there, and never of a short task."""
    monkeypatch.setattr(observed, "BEGAN", int(NOON.timestamp() * 1e9))
    for is_short, posted in ((False, [(30.0, Kind.ERROR)]), (True, [])):
        app = App(after=timedelta(seconds=30))
        await app.say(1, name="agent.error", error__message="read_file: no such file")
        await app.say(1, step__name="one")
        if is_short:
            end = ROOT_SPAN | {"agent.status": "complete"}
            app.store.record_now([ended(trace=1, span=1, name="agent", attributes=end, seconds=5)])
        await app.until(200)
        assert [(at, c.kind) for at, c in app.posted] == posted


async def test_a_held_milestone_does_not_pass_with_a_decision_in_quiet_hours():
    """A milestone that waited for its interval stays held when the hours begin, though a decision passes."""
    row = a_task()
    held = Held(reported_at=0.0, checkpoint=a_checkpoint(at=NOON), of=b"k", due_at=60.0)
    found = [PlannedDelivery(sink="s", address="", ordering_key="o", mode=Mode.CHECKPOINT, key="q", task_uid=row.uid)]
    for quiet, order in ((None, 2), (hours("11:00-13:30"), 1)):
        routes = Routes(sinks=("s",), routes=(Route(sink="s", quiet=quiet),))
        root = RootMessage(b"k", row, routes, NOON)
        several = list(found)
        decided = a_checkpoint(key="decided", at=NOON + timedelta(seconds=1), kind=Kind.APPROVAL_RESOLVED)
        left = before_later({"o": held}, several, decided, NOON, root.may_pass)
        assert (len(several), left["o"].checkpoint is None) == (order, order == 2)
