"""The behaviour that every ledger shares, as a class of tests: subclass it and give it a fixture named `make_ledger`.

    class TestMine(ExerciseLedger):
        @pytest.fixture
        async def make_ledger(self): ...   # gives: async (rules=Rules(), lease=timedelta(seconds=60)) -> an open, empty Ledger

It knows the `Ledger` protocol alone. Tests are coroutines (pytest-asyncio in auto mode runs them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from spanpost.domain.checkpoints import Kind
from spanpost.domain.deliveries import Delivery, Mode, Receipt
from spanpost.domain.observations import Observation
from spanpost.domain.outcomes import Absent, GiveUp, RetryAt
from spanpost.fold.batch import Rules
from spanpost.fold.routes import Routes
from spanpost.fold.silence import NO_SILENCE
from spanpost.ledger.base import Ledger, TaskQuery
from spanpost.testing.observed import a_run, an_event, ended, started

SINK = "probe"
#: Nobody is silent unless a test is about that.
TELLING = Rules(routes=Routes(sinks=(SINK,)), patience=NO_SILENCE)
POSTED = Receipt(ref={"ts": "1.0"})
_AT_ONCE = timedelta(0)


class MakeLedger(Protocol):
    """**Protocol:** makes an open, empty ledger."""

    def __call__(self, rules: Rules = TELLING, lease: timedelta = timedelta(seconds=60)) -> Awaitable[Ledger]: ...


async def drain(ledger: Ledger, outcome: Callable[[Delivery], Any] = lambda _: POSTED) -> list[Delivery]:
    """Deliver until nothing is due and return what was delivered, in order."""
    out: list[Delivery] = []
    while claimed := await ledger.claim([SINK], 100):
        for delivery in claimed:
            await ledger.settle(delivery, outcome(delivery))
            out.append(delivery)
    return out


def _told(deliveries: list[Delivery]) -> list[str]:
    return [d.checkpoint.text if d.checkpoint is not None else f"[{d.task.status}]" for d in deliveries]


class ExerciseLedger:
    """What every ledger does."""

    # --- recording ----------------------------------------------------------------------------------------------------

    async def test_a_run_becomes_a_task_with_its_own_figures(self, make_ledger: MakeLedger) -> None:
        """A run of an agent is one task: named, ended, with its calls counted once."""
        ledger = await make_ledger()
        recorded = await ledger.record(a_run("refactor"))
        [task] = await ledger.tasks(TaskQuery())
        assert (task.name, task.status, task.llm_calls, task.tool_calls) == ("refactor", "complete", 1, 1)
        assert (task.input_tokens, task.output_tokens) == (100, 20)
        assert recorded.events == len(a_run("refactor"))
        assert sum(recorded.parts.values()) == recorded.events
        assert recorded.started == recorded.ended == [task.uid]

    async def test_open_tasks_are_counted_by_status(self, make_ledger: MakeLedger) -> None:
        """Tasks that have not ended are counted under their status, those that have are not."""
        ledger = await make_ledger()
        nothing = await ledger.fleet()
        assert nothing is not None
        assert nothing.by_status == {}
        box: dict[str, Any] = {"agent.task.name": "live", "gen_ai.operation.name": "invoke_agent"}
        await ledger.record([*a_run("over"), started(trace=3, span=1, name="agent", attributes=box)])
        fleet = await ledger.fleet()
        assert fleet is not None
        assert fleet.by_status == {"starting": 1}
        assert 0 <= fleet.tasks[0].silence < 60

    async def test_states_that_give_way_are_counted(self, make_ledger: MakeLedger) -> None:
        """A state that waits and is replaced by a newer one is an edit saved, counted under its sink; news never is."""
        ledger = await make_ledger()
        box: dict[str, Any] = {"agent.task.id": "gives-way", "agent.task.name": "live", "gen_ai.operation.name": "invoke_agent"}
        first = await ledger.record([started(trace=3, span=1, name="agent", attributes=box)])
        second = await ledger.record([ended(trace=3, span=1, name="agent", attributes=box)])
        assert first.coalesced == {}
        assert set(second.coalesced.values()) == {1}

    async def test_a_repeat_is_nothing_new(self, make_ledger: MakeLedger) -> None:
        """A batch that comes again changes nothing, tells nothing and is counted as repeats."""
        ledger = await make_ledger()
        batch = a_run("once")
        await ledger.record(batch)
        before = (await ledger.tasks(TaskQuery()), await ledger.checkpoints(), await ledger.counts())
        await drain(ledger)
        again = await ledger.record(batch)
        assert (again.events, again.repeats, again.checkpoints, again.started) == (0, len(batch), [], [])
        after = (await ledger.tasks(TaskQuery()), await ledger.checkpoints(), await ledger.counts())
        assert after[:2] == before[:2]
        assert after[2]["agent_events"] == before[2]["agent_events"]
        assert await ledger.claim([SINK], 10) == []

    async def test_a_repeat_within_one_batch_is_one(self, make_ledger: MakeLedger) -> None:
        """A batch that holds an observation twice records it once."""
        ledger = await make_ledger()
        batch = a_run("twice")
        recorded = await ledger.record([*batch, *batch])
        assert (recorded.events, recorded.repeats) == (len(batch), len(batch))

    async def test_one_at_a_time_is_as_good_as_all_at_once(self, make_ledger: MakeLedger) -> None:
        """The same observations in one batch and one by one, children first, make the same task and the same told news."""
        whole, single = await make_ledger(), await make_ledger()
        batch = a_run("either way")
        await whole.record(batch)
        for observation in reversed(batch):
            await single.record([observation])

        async def seen(ledger: Ledger) -> Any:
            return await ledger.tasks(TaskQuery()), {c.id for c in await ledger.checkpoints()}

        [first], first_told = await seen(whole)
        [second], second_told = await seen(single)
        figures = ("task_id", "name", "status", "llm_calls", "tool_calls", "input_tokens", "artifacts", "agent_name")
        assert [getattr(first, f) for f in figures] == [getattr(second, f) for f in figures]
        assert first_told == second_told

    async def test_what_is_not_of_an_agent_is_passed_over(self, make_ledger: MakeLedger) -> None:
        """Spans of other things are counted, not recorded."""
        ledger = await make_ledger()
        recorded = await ledger.record([ended(trace=9, span=1, name="GET /", attributes={"http.request.method": "GET"})])
        assert (recorded.events, recorded.passed_over) == (0, 1)
        assert await ledger.tasks(TaskQuery()) == []

    async def test_an_empty_batch_is_nothing(self, make_ledger: MakeLedger) -> None:
        """Recording nothing answers that nothing was new."""
        ledger = await make_ledger()
        assert (await ledger.record([])).events == 0

    async def test_a_task_is_seen_while_it_runs(self, make_ledger: MakeLedger) -> None:
        """A live start makes the task, events move it on, the end ends it: one task, one start, one end."""
        ledger = await make_ledger()
        box: dict[str, Any] = {"agent.task.name": "live", "gen_ai.operation.name": "invoke_agent"}
        first = await ledger.record([started(trace=3, span=1, name="agent", attributes=box)])
        [task] = await ledger.tasks(TaskQuery())
        assert (task.status in ("starting", "working"), first.started) == (True, [task.uid])
        await ledger.record([an_event(trace=3, span=1, name="agent.checkpoint", attributes={"agent.progress": 40.0}, index=0)])
        [task] = await ledger.tasks(TaskQuery())
        assert task.progress == 40.0
        last = await ledger.record([ended(trace=3, span=1, name="agent", attributes=box)])
        assert last.ended == [task.uid]
        kinds = [c.kind for c in await ledger.checkpoints(task_uid=task.uid)]
        assert kinds.count(Kind.START) == kinds.count(Kind.END) == 1

    async def test_tasks_are_found_by_what_people_know(self, make_ledger: MakeLedger) -> None:
        """Tasks are listed newest first and found by status, agent, tenant and any id they were known by."""
        ledger = await make_ledger()
        bad = a_run("bad", trace=3, at=-30.0, is_failed=True)
        await ledger.record([*a_run("old", trace=1, at=-60.0), *a_run("new", trace=2), *bad])
        names = [t.name for t in await ledger.tasks(TaskQuery())]
        assert names == ["new", "bad", "old"]
        assert [t.name for t in await ledger.tasks(TaskQuery(limit=1))] == ["new"]
        assert [t.name for t in await ledger.tasks(TaskQuery(status="error"))] == ["bad"]
        assert await ledger.tasks(TaskQuery(tenant="stranger")) == []
        assert len(await ledger.tasks(TaskQuery(agent_name="coder"))) == 3
        [old] = [t for t in await ledger.tasks(TaskQuery()) if t.name == "old"]
        for alias in (old.task_id, *old.aliases):
            assert [t.name for t in await ledger.tasks(TaskQuery(task_id=alias))] == ["old"]

    async def test_checkpoints_come_in_order_of_time(self, make_ledger: MakeLedger) -> None:
        """News is listed by when it happened, of all tasks or of one, and reads back as it was told."""
        ledger = await make_ledger()
        recorded = await ledger.record([*a_run("b", trace=2), *a_run("a", trace=1, at=-60.0)])
        told = await ledger.checkpoints()
        assert [c.at for c in told] == sorted(c.at for c in told)
        assert {c.id: c for c in told} == {c.id: c for c in recorded.checkpoints}
        said = {(c.message.key, *c.message.values.values()) for c in told if c.message is not None}
        assert {("checkpoint.started", "a"), ("checkpoint.started", "b")} <= said
        uid = told[0].task_uid
        assert {c.task_uid for c in await ledger.checkpoints(task_uid=uid)} == {uid}
        assert len(await ledger.checkpoints(limit=1)) == 1

    async def test_one_bad_observation_does_not_spoil_its_batch(self, make_ledger: MakeLedger) -> None:
        """What no ledger can take is lost alone and counted; its siblings are recorded, the repeated batch is a repeat."""
        ledger = await make_ledger()
        broken = msgspec.structs.replace(a_run("x")[0], trace_id=None)
        batch = [*a_run("a"), broken, *a_run("b", trace=2)]
        recorded = await ledger.record(batch)
        assert (recorded.events, recorded.lost) == (len(batch) - 1, {"unfoldable": 1})
        assert len(await ledger.tasks(TaskQuery())) == 2
        again = await ledger.record(batch)
        assert (again.events, again.repeats) == (0, len(batch) - 1)

    async def test_hostile_text_loses_nothing(self, make_ledger: MakeLedger) -> None:
        """NUL, NaN and huge numbers in one observation neither raise nor take its siblings along."""
        ledger = await make_ledger()
        worst: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "a\0b",
            "x": float("nan"),
            "y": 2**64 - 1,
            "z": "\0",
            "\0key": ["\0", {"deep": "\0"}],
        }
        batch = [*a_run("siblings"), ended(trace=1, span=77, parent=1, name="bad\0", attributes=worst)]
        recorded = await ledger.record(batch)
        assert recorded.events == len(batch)
        [task] = await ledger.tasks(TaskQuery())
        assert task.tool_calls == 2
        more = await ledger.record([ended(trace=1, span=78, parent=1, name="after", attributes={"gen_ai.operation.name": "chat"})])
        assert more.events == 1

    # --- letters ------------------------------------------------------------------------------------------------------

    async def test_the_message_goes_first_then_news_in_order(self, make_ledger: MakeLedger) -> None:
        """Of a lane the state is delivered before any news, the news in the order it was told, each with the lane's receipt."""
        ledger = await make_ledger()
        await ledger.record([*steps(3)])
        out = await drain(ledger)
        assert out[0].mode is Mode.STATE
        assert out[0].lane_receipt is None
        news = [d for d in out if d.mode is Mode.NEWS]
        assert [d.checkpoint.text for d in news if d.checkpoint is not None and d.checkpoint.kind is Kind.CHECKPOINT] == [
            "step 0",
            "step 1",
            "step 2",
        ]
        assert all(d.lane_receipt == POSTED for d in news)
        assert len({d.key for d in out}) == len(out)

    async def test_one_letter_of_a_lane_is_under_way(self, make_ledger: MakeLedger) -> None:
        """While a letter of a lane is claimed no other of that lane is handed out; of other lanes it is."""
        ledger = await make_ledger()
        await ledger.record(steps(2))
        [first] = await ledger.claim([SINK], 10)
        assert await ledger.claim([SINK], 10) == []
        await ledger.record(steps(1, trace=2))
        [other] = await ledger.claim([SINK], 10)
        assert other.lane != first.lane
        await ledger.settle(first, POSTED)
        [second] = await ledger.claim([SINK], 10)
        assert (second.lane, second.mode) == (first.lane, Mode.NEWS)

    async def test_a_newer_state_replaces_a_waiting_one(self, make_ledger: MakeLedger) -> None:
        """Ten changes of a task that nobody delivered yet are one letter, which carries the newest."""
        ledger = await make_ledger()
        for i in range(10):
            await ledger.record(moved(i * 10.0, index=i))
        out = await drain(ledger)
        states = [d for d in out if d.mode is Mode.STATE]
        assert [d.task.progress for d in states] == [90.0]

    async def test_what_changes_while_it_is_sent_is_sent_after(self, make_ledger: MakeLedger) -> None:
        """A state that changed while the former was under way is delivered once more, with the receipt to edit."""
        ledger = await make_ledger()
        await ledger.record(moved(10.0, index=0))
        [first] = await ledger.claim([SINK], 10)
        await ledger.record(moved(50.0, index=1))
        await ledger.settle(first, POSTED)
        states = [d for d in await drain(ledger) if d.mode is Mode.STATE]
        assert [(d.task.progress, d.receipt) for d in states] == [(50.0, POSTED)]

    async def test_a_delivered_state_rests_until_something_changes(self, make_ledger: MakeLedger) -> None:
        """After everything was delivered nothing is due; the next change makes the lane's message due again."""
        ledger = await make_ledger()
        await ledger.record(moved(10.0, index=0))
        await drain(ledger)
        assert await ledger.claim([SINK], 10) == []
        await ledger.record(moved(20.0, index=1))
        assert [d.task.progress for d in await drain(ledger) if d.mode is Mode.STATE] == [20.0]

    async def test_the_most_urgent_lane_goes_first(self, make_ledger: MakeLedger) -> None:
        """Of two lanes that wait, the one that holds a question to a person goes first, though it came last."""
        ledger = await make_ledger()
        await ledger.record(steps(1, trace=1))
        asked = {"agent.approval.id": "a1", "agent.approval.question": "deploy?"}
        question = an_event(trace=2, span=1, name="agent.approval.requested", attributes=asked, index=50)
        await ledger.record([*steps(1, trace=2), question])
        [first] = await ledger.claim([SINK], 1)
        assert first.task.name == "steps 2"

    async def test_news_that_is_retried_keeps_its_place(self, make_ledger: MakeLedger) -> None:
        """A letter that failed for now is due again at its time, counts its attempts, and nothing of its lane overtakes it."""
        ledger = await make_ledger()
        await ledger.record(steps(2))
        [state] = await ledger.claim([SINK], 10)
        await ledger.settle(state, POSTED)
        [news] = await ledger.claim([SINK], 10)
        await ledger.settle(news, RetryAt(at=in_seconds(3600), reason="unavailable", error="down"))
        assert await ledger.claim([SINK], 10) == []
        [row] = [r for r in await ledger.deliveries() if r.id == news.id]
        assert (row.state, row.error, row.attempt) == ("waiting", "down", 1)
        due = await ledger.due_in()
        assert due is not None
        assert 3500 < due <= 3600

    async def test_a_retry_that_is_due_comes_again(self, make_ledger: MakeLedger) -> None:
        """A letter whose time has come is handed out again; a doubtful one says so, and to look it up is no attempt to send it."""
        ledger = await make_ledger()
        await ledger.record(steps(1))
        [first] = await ledger.claim([SINK], 10)
        await ledger.settle(first, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
        [again] = await ledger.claim([SINK], 10)
        assert (again.id, again.key, again.attempt, again.is_unknown) == (first.id, first.key, first.attempt, True)
        await ledger.settle(again, POSTED)
        later = await drain(ledger)
        assert not any(d.is_unknown for d in later)

    async def test_looks_do_not_count_as_attempts(self, make_ledger: MakeLedger) -> None:
        """However often a doubtful letter was looked up, sending it anew is its second attempt: patience grows by failures alone."""
        ledger = await make_ledger()
        await ledger.record(steps(0))
        [first] = await ledger.claim([SINK], 10)
        await ledger.settle(first, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
        for _ in range(3):
            [look] = await ledger.claim([SINK], 10)
            assert (look.id, look.is_unknown, look.attempt) == (first.id, True, 1)
            await ledger.settle(look, RetryAt(at=in_seconds(-1), reason="unreconciled", has_looked=True))
        [look] = await ledger.claim([SINK], 10)
        assert look.looks == 3
        await ledger.settle(look, Absent())
        [again] = await ledger.claim([SINK], 10)
        assert (again.id, again.is_unknown, again.attempt) == (first.id, False, 2)
        await ledger.settle(again, POSTED)

    async def test_a_lease_that_ran_out_is_taken_over(self, make_ledger: MakeLedger) -> None:
        """A letter whose holder fell silent is handed out again, marked doubtful; the first holder's late answer changes nothing."""
        ledger = await make_ledger(lease=_AT_ONCE)
        await ledger.record(steps(1))
        [lost] = await ledger.claim([SINK], 10)
        [found] = await ledger.claim([SINK], 10)
        assert (found.id, found.is_unknown, found.attempt) == (lost.id, True, lost.attempt)
        await ledger.settle(lost, GiveUp(reason="late"))
        assert [r.state for r in await ledger.deliveries() if r.id == lost.id] == ["sending"]
        await ledger.settle(found, POSTED)
        assert [r.state for r in await ledger.deliveries() if r.id == lost.id] == ["delivered"]

    async def test_dead_letters_are_kept_listed_and_revived(self, make_ledger: MakeLedger) -> None:
        """A letter that is given up is listed with its error, blocks nothing, and waits again when it is retried."""
        ledger = await make_ledger()
        await ledger.record(steps(2))
        [state] = await ledger.claim([SINK], 10)
        await ledger.settle(state, POSTED)
        [news] = await ledger.claim([SINK], 10)
        await ledger.settle(news, GiveUp(reason="rejected", error="archived channel"))
        rest = await drain(ledger)
        assert news.id not in {d.id for d in rest}
        [dead] = await ledger.deliveries(state="dead")
        assert (dead.id, dead.error, dead.sink, dead.mode) == (news.id, "archived channel", SINK, "news")
        assert await ledger.retry_deliveries([dead.id + 1000]) == 0
        assert await ledger.retry_deliveries([dead.id]) == 1
        assert [d.id for d in await drain(ledger)] == [dead.id]
        assert await ledger.deliveries(state="dead") == []

    async def test_what_nobody_could_look_up_is_sent_when_a_person_says_so(self, make_ledger: MakeLedger) -> None:
        """Revived by hand a doubtful letter is looked up again, but one that could not be looked up is sent."""
        ledger = await make_ledger()
        await ledger.record(steps(1))
        for reason, is_looked_up in (("expired", True), ("unverifiable", False)):
            [letter] = await ledger.claim([SINK], 10)
            await ledger.settle(letter, RetryAt(at=letter.claimed_at or letter.born_at, reason="reset", reconcile=True))
            [doubtful] = await ledger.claim([SINK], 10)
            assert doubtful.is_unknown
            await ledger.settle(doubtful, GiveUp(reason=reason))
            assert await ledger.retry_deliveries([doubtful.id]) == 1
            [again] = await ledger.claim([SINK], 10)
            assert again.is_unknown is is_looked_up
            if is_looked_up:
                await ledger.settle(again, Absent())

    async def test_waiting_letters_can_be_buried(self, make_ledger: MakeLedger) -> None:
        """Burying takes waiting letters out of their lane; all of a sink's dead can be revived at once."""
        ledger = await make_ledger()
        await ledger.record(steps(2))
        waiting = [r.id for r in await ledger.deliveries(state="waiting", sink=SINK)]
        assert await ledger.bury_deliveries(waiting) == len(waiting)
        assert await ledger.claim([SINK], 10) == []
        assert await ledger.retry_deliveries(sink="another") == 0
        assert await ledger.retry_deliveries(sink=SINK) == len(waiting)
        assert len(await drain(ledger)) == len(waiting)

    async def test_only_the_sinks_asked_for_are_served(self, make_ledger: MakeLedger) -> None:
        """A claim for other sinks finds nothing."""
        ledger = await make_ledger()
        await ledger.record(steps(1))
        assert await ledger.claim(["another"], 10) == []
        assert len(await ledger.claim(["another", SINK], 10)) == 1

    async def test_a_skipped_state_lets_news_go(self, make_ledger: MakeLedger) -> None:
        """When a sink skips the state on purpose the lane's news is not held up for want of a message."""
        ledger = await make_ledger()
        await ledger.record(steps(2))
        out = await drain(ledger, lambda d: Receipt(skipped="muted") if d.mode is Mode.STATE else POSTED)
        assert out[0].mode is Mode.STATE
        assert sum(d.mode is Mode.NEWS for d in out) >= 2
        assert all(d.lane_receipt is None for d in out)

    async def test_children_travel_with_their_root(self, make_ledger: MakeLedger) -> None:
        """The state of a task carries its child tasks, and the news of a child goes into its root's lane."""
        ledger = await make_ledger()
        await ledger.record(_family())
        out = await drain(ledger)
        assert len({d.lane for d in out}) == 1
        [state] = [d for d in out if d.mode is Mode.STATE]
        assert [c.name for c in state.children] == ["child"]

    async def test_when_something_is_due(self, make_ledger: MakeLedger) -> None:
        """Nothing waits: None. Something can be delivered: 0. Everything was delivered: None again."""
        ledger = await make_ledger()
        assert await ledger.due_in() is None
        await ledger.record(steps(1))
        assert await ledger.due_in() == 0
        await drain(ledger)
        assert await ledger.due_in() is None

    async def test_an_orphan_is_announced_after_it_settled(self, make_ledger: MakeLedger) -> None:
        """What lies under no known box is not told at once; when its settling time is over it is."""
        ledger = await make_ledger(rules=msgspec.structs.replace(TELLING, settle=_AT_ONCE))
        call: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 1}
        tool: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
        await ledger.record(
            [
                ended(trace=5, span=2, parent=1, name="chat", attributes=call),
                ended(trace=5, span=3, parent=1, name="tool", attributes=tool),
            ]
        )
        assert await ledger.claim([SINK], 10) == []
        assert await ledger.due_in() == 0
        recorded = await ledger.elapse()
        assert [t.is_announced for t in recorded.tasks] == [True]
        [state] = [d for d in await drain(ledger) if d.mode is Mode.STATE]
        assert state.task.llm_calls == 1
        assert (await ledger.elapse()).tasks == []

    async def test_counts_say_what_is_kept(self, make_ledger: MakeLedger) -> None:
        """Counts name the rows of each table and the letters of each state."""
        ledger = await make_ledger()
        await ledger.record(a_run("counted"))
        before = await ledger.counts()
        assert (before["agent_events"], before["agent_tasks"]) == (len(a_run("counted")), 1)
        assert before["deliveries"]["waiting"] > 0
        out = await drain(ledger)
        assert (await ledger.counts())["deliveries"] == {"delivered": len(out)}


def in_seconds(seconds: float) -> datetime:
    """Return a moment so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def steps(count: int, trace: int = 1) -> list[Observation]:
    """Return a task that started and told so many checkpoints."""
    box: dict[str, Any] = {"agent.task.name": f"steps {trace}"}
    said = [{"agent.checkpoint.message": f"step {i}"} for i in range(count)]
    events = [an_event(trace=trace, span=1, name="agent.checkpoint", attributes=a, index=i, at=1.0 + i) for i, a in enumerate(said)]
    return [started(trace=trace, span=1, name="agent", attributes=box), *events]


def moved(percent: float, index: int, trace: int = 1) -> list[Observation]:
    """Return a task that told how far it is."""
    box: dict[str, Any] = {"agent.task.name": "moving"}
    told = an_event(trace=trace, span=1, name="moved", attributes={"agent.progress": percent}, index=index, at=1.0 + index)
    return [started(trace=trace, span=1, name="agent", attributes=box), told]


def _family() -> list[Observation]:
    tool: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "delegate"}
    return [
        started(trace=1, span=1, name="parent", attributes={"agent.task.name": "parent", "agent.name": "boss"}),
        started(trace=1, span=2, parent=1, name="tool", attributes=tool),
        started(trace=1, span=3, parent=2, name="child", attributes={"agent.task.name": "child", "agent.name": "worker"}),
    ]


__all__ = ["POSTED", "SINK", "TELLING", "ExerciseLedger", "MakeLedger", "drain", "in_seconds", "moved", "steps"]
