"""The behaviour that every store shares, as a class of tests: subclass it with a fixture named `make_store`.

    class TestMine(ExerciseStore):
        @pytest.fixture
        async def make_store(self): ...   # a `MakeStore`: returns an open, empty store

It uses the `Store` protocol alone. Tests are coroutines (pytest-asyncio in auto mode runs them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.observations import Observation
from spanpost.model.outcomes import GiveUp, NotArrived, RetryAt
from spanpost.model.queries import TaskQuery
from spanpost.routing.routes import Routes
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing.observed import a_run, an_event, ended, started

SINK = "probe"
#: Every checkpoint is delivered to `SINK`, and no task is stalled.
ROUTED_RULES = FoldRules(routes=Routes(sinks=(SINK,)), stall_rules=NO_STALL)
POSTED = Receipt(ref={"ts": "1.0"})
_AT_ONCE = timedelta(0)


class MakeStore(Protocol):
    """**Protocol:** makes an open, empty store."""

    def __call__(
        self, rules: FoldRules = ROUTED_RULES, lease: timedelta = timedelta(seconds=60)
    ) -> Awaitable[Store]: ...


async def drain(store: Store, outcome: Callable[[Delivery], Any] = lambda _: POSTED) -> list[Delivery]:
    """Deliver until nothing is due and return the deliveries, in order."""
    out: list[Delivery] = []
    while claimed := await store.outbox.claim([SINK], 100):
        for delivery in claimed:
            await store.outbox.finish(delivery, outcome(delivery))
            out.append(delivery)
    return out


def _delivered(deliveries: list[Delivery]) -> list[str]:
    return [d.checkpoint.text if d.checkpoint is not None else f"[{d.task.status}]" for d in deliveries]


class ExerciseStore:
    """What every store does."""

    # --- recording ---------------------------------------------------------------------------------------------------

    async def test_a_run_becomes_a_task_with_its_own_figures(self, make_store: MakeStore) -> None:
        """A run of an agent is one task: named, ended, with its calls counted once."""
        store = await make_store()
        recorded = await store.record(a_run("refactor"))
        [task] = await store.tasks(TaskQuery())
        assert (task.name, task.status, task.llm_calls, task.tool_calls) == ("refactor", "complete", 1, 1)
        assert (task.input_tokens, task.output_tokens) == (100, 20)
        assert recorded.events == len(a_run("refactor"))
        assert sum(recorded.parts.values()) == recorded.events
        assert recorded.started == recorded.ended == [task.uid]

    async def test_open_tasks_are_counted_by_status(self, make_store: MakeStore) -> None:
        """Tasks that have not ended are counted under their status, those that have are not."""
        store = await make_store()
        nothing = await store.fleet()
        assert nothing is not None
        assert nothing.by_status == {}
        root_span: dict[str, Any] = {"agent.task.name": "live", "gen_ai.operation.name": "invoke_agent"}
        await store.record([*a_run("over"), started(trace=3, span=1, name="agent", attributes=root_span)])
        fleet = await store.fleet()
        assert fleet is not None
        assert fleet.by_status == {"starting": 1}
        assert 0 <= fleet.tasks[0].stall < 60

    async def test_replaced_states_are_counted(self, make_store: MakeStore) -> None:
        """A waiting state that a newer one replaces saves an edit, and is counted under its sink;
        checkpoints are not replaced.
        """
        store = await make_store()
        root_span: dict[str, Any] = {
            "agent.task.id": "gives-way",
            "agent.task.name": "live",
            "gen_ai.operation.name": "invoke_agent",
        }
        first = await store.record([started(trace=3, span=1, name="agent", attributes=root_span)])
        second = await store.record([ended(trace=3, span=1, name="agent", attributes=root_span)])
        assert first.coalesced == {}
        assert set(second.coalesced.values()) == {1}

    async def test_a_duplicate_batch_changes_nothing(self, make_store: MakeStore) -> None:
        """A batch that comes again changes nothing, makes no checkpoint and is counted as duplicates."""
        store = await make_store()
        batch = a_run("idempotency_key")
        await store.record(batch)
        before = (await store.tasks(TaskQuery()), await store.reader.checkpoints(), await store.counts())
        await drain(store)
        again = await store.record(batch)
        assert (again.events, again.duplicates, again.checkpoints, again.started) == (0, len(batch), [], [])
        after = (await store.tasks(TaskQuery()), await store.reader.checkpoints(), await store.counts())
        assert after[:2] == before[:2]
        assert after[2]["agent_events"] == before[2]["agent_events"]
        assert await store.outbox.claim([SINK], 10) == []

    async def test_a_duplicate_within_one_batch_is_one(self, make_store: MakeStore) -> None:
        """A batch that holds an observation twice records it once."""
        store = await make_store()
        batch = a_run("twice")
        recorded = await store.record([*batch, *batch])
        assert (recorded.events, recorded.duplicates) == (len(batch), len(batch))

    async def test_one_at_a_time_is_as_good_as_all_at_once(self, make_store: MakeStore) -> None:
        """The same observations in one batch and one by one, children first, give the same task and the same
        checkpoints.
        """
        whole, single = await make_store(), await make_store()
        batch = a_run("either way")
        await whole.record(batch)
        for observation in reversed(batch):
            await single.record([observation])

        async def seen(store: Store) -> Any:
            return await store.tasks(TaskQuery()), {c.id for c in await store.reader.checkpoints()}

        [first], first_checkpoints = await seen(whole)
        [second], second_checkpoints = await seen(single)
        figures = ("task_id", "name", "status", "llm_calls", "tool_calls", "input_tokens", "artifacts", "agent_name")
        assert [getattr(first, f) for f in figures] == [getattr(second, f) for f in figures]
        assert first_checkpoints == second_checkpoints

    async def test_spans_of_no_agent_are_ignored(self, make_store: MakeStore) -> None:
        """Spans that are not an agent's are counted, not recorded."""
        store = await make_store()
        recorded = await store.record([ended(trace=9, span=1, name="GET /", attributes={"http.request.method": "GET"})])
        assert (recorded.events, recorded.ignored) == (0, 1)
        assert await store.tasks(TaskQuery()) == []

    async def test_an_empty_batch_is_nothing(self, make_store: MakeStore) -> None:
        """Recording an empty batch returns that nothing was new."""
        store = await make_store()
        assert (await store.record([])).events == 0

    async def test_a_task_is_seen_while_it_runs(self, make_store: MakeStore) -> None:
        """A live start makes the task, events update it, the end ends it: one task, one start, one end."""
        store = await make_store()
        root_span: dict[str, Any] = {"agent.task.name": "live", "gen_ai.operation.name": "invoke_agent"}
        first = await store.record([started(trace=3, span=1, name="agent", attributes=root_span)])
        [task] = await store.tasks(TaskQuery())
        assert (task.status in ("starting", "working"), first.started) == (True, [task.uid])
        await store.record(
            [an_event(trace=3, span=1, name="agent.checkpoint", attributes={"agent.progress": 40.0}, index=0)]
        )
        [task] = await store.tasks(TaskQuery())
        assert task.progress == 40.0
        last = await store.record([ended(trace=3, span=1, name="agent", attributes=root_span)])
        assert last.ended == [task.uid]
        kinds = [c.kind for c in await store.reader.checkpoints(task_uid=task.uid)]
        assert kinds.count(Kind.START) == kinds.count(Kind.END) == 1

    async def test_tasks_are_found_by_what_people_know(self, make_store: MakeStore) -> None:
        """Tasks are listed newest first and found by status, agent, tenant and any id they were known by."""
        store = await make_store()
        bad = a_run("bad", trace=3, at=-30.0, is_failed=True)
        await store.record([*a_run("old", trace=1, at=-60.0), *a_run("new", trace=2), *bad])
        names = [t.name for t in await store.tasks(TaskQuery())]
        assert names == ["new", "bad", "old"]
        assert [t.name for t in await store.tasks(TaskQuery(limit=1))] == ["new"]
        assert [t.name for t in await store.tasks(TaskQuery(status="error"))] == ["bad"]
        assert await store.tasks(TaskQuery(tenant="stranger")) == []
        assert len(await store.tasks(TaskQuery(agent_name="coder"))) == 3
        [old] = [t for t in await store.tasks(TaskQuery()) if t.name == "old"]
        for alias in (old.task_id, *old.aliases):
            assert [t.name for t in await store.tasks(TaskQuery(task_id=alias))] == ["old"]

    async def test_checkpoints_come_in_order_of_time(self, make_store: MakeStore) -> None:
        """Checkpoints are listed by their time, of all tasks or of one, and are read back unchanged."""
        store = await make_store()
        recorded = await store.record([*a_run("b", trace=2), *a_run("a", trace=1, at=-60.0)])
        listed = await store.reader.checkpoints()
        assert [c.at for c in listed] == sorted(c.at for c in listed)
        assert {c.id: c for c in listed} == {c.id: c for c in recorded.checkpoints}
        said = {(c.message.key, *c.message.values.values()) for c in listed if c.message is not None}
        assert {("checkpoint.started", "a"), ("checkpoint.started", "b")} <= said
        uid = listed[0].task_uid
        assert {c.task_uid for c in await store.reader.checkpoints(task_uid=uid)} == {uid}
        assert len(await store.reader.checkpoints(limit=1)) == 1

    async def test_one_bad_observation_does_not_spoil_its_batch(self, make_store: MakeStore) -> None:
        """An observation that no store can record is dropped alone and counted; the rest is recorded, and
        the same batch again is a duplicate.
        """
        store = await make_store()
        broken = msgspec.structs.replace(a_run("x")[0], trace_id=None)
        batch = [*a_run("a"), broken, *a_run("b", trace=2)]
        recorded = await store.record(batch)
        assert (recorded.events, recorded.dropped) == (len(batch) - 1, {"unfoldable": 1})
        assert len(await store.tasks(TaskQuery())) == 2
        again = await store.record(batch)
        assert (again.events, again.duplicates) == (0, len(batch) - 1)

    async def test_hostile_text_loses_nothing(self, make_store: MakeStore) -> None:
        """NUL, NaN and huge numbers in one observation neither raise nor drop the others."""
        store = await make_store()
        worst: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "a\0b",
            "x": float("nan"),
            "y": 2**64 - 1,
            "z": "\0",
            "\0key": ["\0", {"deep": "\0"}],
        }
        batch = [*a_run("siblings"), ended(trace=1, span=77, parent=1, name="bad\0", attributes=worst)]
        recorded = await store.record(batch)
        assert recorded.events == len(batch)
        [task] = await store.tasks(TaskQuery())
        assert task.tool_calls == 2
        more = await store.record(
            [ended(trace=1, span=78, parent=1, name="after", attributes={"gen_ai.operation.name": "chat"})]
        )
        assert more.events == 1

    # --- deliveries --------------------------------------------------------------------------------------------------

    async def test_the_message_goes_first_then_checkpoints_in_order(self, make_store: MakeStore) -> None:
        """The state of an ordering key is delivered before any checkpoint, then the checkpoints in order,
        each with the state's receipt.
        """
        store = await make_store()
        await store.record([*steps(3)])
        out = await drain(store)
        assert out[0].mode is Mode.STATE
        assert out[0].message_receipt is None
        delivery = [d for d in out if d.mode is Mode.CHECKPOINT]
        assert [
            d.checkpoint.text for d in delivery if d.checkpoint is not None and d.checkpoint.kind is Kind.CHECKPOINT
        ] == [
            "step 0",
            "step 1",
            "step 2",
        ]
        assert all(d.message_receipt == POSTED for d in delivery)
        assert len({d.key for d in out}) == len(out)

    async def test_one_delivery_of_an_ordering_key_is_under_way(self, make_store: MakeStore) -> None:
        """While a delivery is claimed no other one of its ordering key is; those of other ordering keys are."""
        store = await make_store()
        await store.record(steps(2))
        [first] = await store.outbox.claim([SINK], 10)
        assert await store.outbox.claim([SINK], 10) == []
        await store.record(steps(1, trace=2))
        [other] = await store.outbox.claim([SINK], 10)
        assert other.ordering_key != first.ordering_key
        await store.outbox.finish(first, POSTED)
        [second] = await store.outbox.claim([SINK], 10)
        assert (second.ordering_key, second.mode) == (first.ordering_key, Mode.CHECKPOINT)

    async def test_a_newer_state_replaces_a_waiting_one(self, make_store: MakeStore) -> None:
        """Ten changes of a task before any delivery are one delivery, with the newest state."""
        store = await make_store()
        for i in range(10):
            await store.record(moved(i * 10.0, index=i))
        out = await drain(store)
        states = [d for d in out if d.mode is Mode.STATE]
        assert [d.task.progress for d in states] == [90.0]

    async def test_a_change_during_a_delivery_is_sent_after_it(self, make_store: MakeStore) -> None:
        """A state that changed while the former one was under way is delivered once more, with the receipt to edit."""
        store = await make_store()
        await store.record(moved(10.0, index=0))
        [first] = await store.outbox.claim([SINK], 10)
        await store.record(moved(50.0, index=1))
        await store.outbox.finish(first, POSTED)
        states = [d for d in await drain(store) if d.mode is Mode.STATE]
        assert [(d.task.progress, d.receipt) for d in states] == [(50.0, POSTED)]

    async def test_a_delivered_state_rests_until_something_changes(self, make_store: MakeStore) -> None:
        """After everything was delivered nothing is due; the next change makes the message due again."""
        store = await make_store()
        await store.record(moved(10.0, index=0))
        await drain(store)
        assert await store.outbox.claim([SINK], 10) == []
        await store.record(moved(20.0, index=1))
        assert [d.task.progress for d in await drain(store) if d.mode is Mode.STATE] == [20.0]

    async def test_the_most_urgent_ordering_key_goes_first(self, make_store: MakeStore) -> None:
        """Of two waiting ordering keys the one with a question to a person goes first, though it came last."""
        store = await make_store()
        await store.record(steps(1, trace=1))
        asked = {"agent.approval.id": "a1", "agent.approval.question": "deploy?"}
        question = an_event(trace=2, span=1, name="agent.approval.requested", attributes=asked, index=50)
        await store.record([*steps(1, trace=2), question])
        [first] = await store.outbox.claim([SINK], 1)
        assert first.task.name == "steps 2"

    async def test_a_retried_checkpoint_keeps_its_place(self, make_store: MakeStore) -> None:
        """A delivery that failed for now is due again at its time, counts its attempts, and no other of its
        ordering key overtakes it.
        """
        store = await make_store()
        await store.record(steps(2))
        [state] = await store.outbox.claim([SINK], 10)
        await store.outbox.finish(state, POSTED)
        [delivery] = await store.outbox.claim([SINK], 10)
        await store.outbox.finish(delivery, RetryAt(at=in_seconds(3600), reason="unavailable", error="down"))
        assert await store.outbox.claim([SINK], 10) == []
        [row] = [r for r in await store.outbox.deliveries() if r.id == delivery.id]
        assert (row.state, row.error, row.attempt) == ("waiting", "down", 1)
        due = await store.outbox.due_in()
        assert due is not None
        assert 3500 < due <= 3600

    async def test_a_retry_that_is_due_comes_again(self, make_store: MakeStore) -> None:
        """A delivery whose time has come is claimed again.

        A doubtful one says so, and its reconciliation is no attempt.
        """
        store = await make_store()
        await store.record(steps(1))
        [first] = await store.outbox.claim([SINK], 10)
        await store.outbox.finish(first, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
        [again] = await store.outbox.claim([SINK], 10)
        assert (again.id, again.key, again.attempt, again.is_unknown) == (first.id, first.key, first.attempt, True)
        await store.outbox.finish(again, POSTED)
        later = await drain(store)
        assert not any(d.is_unknown for d in later)

    async def test_reconciliations_do_not_count_as_attempts(self, make_store: MakeStore) -> None:
        """However often a doubtful delivery was reconciled, sending it again is its second attempt: waits
        grow by failures alone.
        """
        store = await make_store()
        await store.record(steps(0))
        [first] = await store.outbox.claim([SINK], 10)
        await store.outbox.finish(first, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
        for _ in range(3):
            [look] = await store.outbox.claim([SINK], 10)
            assert (look.id, look.is_unknown, look.attempt) == (first.id, True, 1)
            await store.outbox.finish(look, RetryAt(at=in_seconds(-1), reason="unreconciled", has_looked=True))
        [look] = await store.outbox.claim([SINK], 10)
        assert look.lookups == 3
        await store.outbox.finish(look, NotArrived())
        [again] = await store.outbox.claim([SINK], 10)
        assert (again.id, again.is_unknown, again.attempt) == (first.id, False, 2)
        await store.outbox.finish(again, POSTED)

    async def test_a_lease_that_ran_out_is_taken_over(self, make_store: MakeStore) -> None:
        """When a worker stops answering its delivery is claimed again, marked doubtful.

        The first worker's late outcome changes nothing.
        """
        store = await make_store(lease=_AT_ONCE)
        await store.record(steps(1))
        [lost] = await store.outbox.claim([SINK], 10)
        [found] = await store.outbox.claim([SINK], 10)
        assert (found.id, found.is_unknown, found.attempt) == (lost.id, True, lost.attempt)
        await store.outbox.finish(lost, GiveUp(reason="late"))
        assert [r.state for r in await store.outbox.deliveries() if r.id == lost.id] == ["sending"]
        await store.outbox.finish(found, POSTED)
        assert [r.state for r in await store.outbox.deliveries() if r.id == lost.id] == ["delivered"]

    async def test_dead_letters_are_kept_listed_and_revived(self, make_store: MakeStore) -> None:
        """A delivery that is given up is listed with its error, blocks no other, and waits again when it is retried."""
        store = await make_store()
        await store.record(steps(2))
        [state] = await store.outbox.claim([SINK], 10)
        await store.outbox.finish(state, POSTED)
        [delivery] = await store.outbox.claim([SINK], 10)
        await store.outbox.finish(delivery, GiveUp(reason="rejected", error="archived channel"))
        rest = await drain(store)
        assert delivery.id not in {d.id for d in rest}
        [dead] = await store.outbox.deliveries(state="dead")
        assert (dead.id, dead.error, dead.sink, dead.mode) == (delivery.id, "archived channel", SINK, "checkpoint")
        assert await store.outbox.retry([dead.id + 1000]) == 0
        assert await store.outbox.retry([dead.id]) == 1
        assert [d.id for d in await drain(store)] == [dead.id]
        assert await store.outbox.deliveries(state="dead") == []

    async def test_an_unverifiable_delivery_is_sent_at_a_persons_request(self, make_store: MakeStore) -> None:
        """Retried by hand, a doubtful delivery is reconciled again, but an unverifiable one is sent."""
        store = await make_store()
        await store.record(steps(1))
        for reason, is_looked_up in (("expired", True), ("unverifiable", False)):
            [delivery] = await store.outbox.claim([SINK], 10)
            await store.outbox.finish(
                delivery, RetryAt(at=delivery.claimed_at or delivery.born_at, reason="reset", reconcile=True)
            )
            [doubtful] = await store.outbox.claim([SINK], 10)
            assert doubtful.is_unknown
            await store.outbox.finish(doubtful, GiveUp(reason=reason))
            assert await store.outbox.retry([doubtful.id]) == 1
            [again] = await store.outbox.claim([SINK], 10)
            assert again.is_unknown is is_looked_up
            if is_looked_up:
                await store.outbox.finish(again, NotArrived())

    async def test_waiting_deliveries_can_be_discarded(self, make_store: MakeStore) -> None:
        """Discarding takes waiting deliveries out of their ordering key.

        All dead letters of a sink can be retried at once.
        """
        store = await make_store()
        await store.record(steps(2))
        waiting = [r.id for r in await store.outbox.deliveries(state="waiting", sink=SINK)]
        assert await store.outbox.discard(waiting) == len(waiting)
        assert await store.outbox.claim([SINK], 10) == []
        assert await store.outbox.retry(sink="another") == 0
        assert await store.outbox.retry(sink=SINK) == len(waiting)
        assert len(await drain(store)) == len(waiting)

    async def test_only_the_sinks_asked_for_are_served(self, make_store: MakeStore) -> None:
        """A claim for other sinks finds nothing."""
        store = await make_store()
        await store.record(steps(1))
        assert await store.outbox.claim(["another"], 10) == []
        assert len(await store.outbox.claim(["another", SINK], 10)) == 1

    async def test_a_skipped_state_does_not_hold_checkpoints_back(self, make_store: MakeStore) -> None:
        """When a sink skips the state on purpose the checkpoints do not wait for a message."""
        store = await make_store()
        await store.record(steps(2))
        out = await drain(store, lambda d: Receipt(skipped="muted") if d.mode is Mode.STATE else POSTED)
        assert out[0].mode is Mode.STATE
        assert sum(d.mode is Mode.CHECKPOINT for d in out) >= 2
        assert all(d.message_receipt is None for d in out)

    async def test_children_travel_with_their_root(self, make_store: MakeStore) -> None:
        """The state of a task carries its child tasks, and a child's checkpoint has its root's ordering key."""
        store = await make_store()
        await store.record(_family())
        out = await drain(store)
        assert len({d.ordering_key for d in out}) == 1
        [state] = [d for d in out if d.mode is Mode.STATE]
        assert [c.name for c in state.children] == ["child"]

    async def test_when_something_is_due(self, make_store: MakeStore) -> None:
        """Nothing waits: None. Something can be delivered: 0. Everything was delivered: None again."""
        store = await make_store()
        assert await store.outbox.due_in() is None
        await store.record(steps(1))
        assert await store.outbox.due_in() == 0
        await drain(store)
        assert await store.outbox.due_in() is None

    async def test_an_orphan_is_announced_after_it_settled(self, make_store: MakeStore) -> None:
        """A span below an unknown root span is not announced at once, but after its settling time."""
        store = await make_store(rules=msgspec.structs.replace(ROUTED_RULES, settle=_AT_ONCE))
        call: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 1,
        }
        tool: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
        await store.record(
            [
                ended(trace=5, span=2, parent=1, name="chat", attributes=call),
                ended(trace=5, span=3, parent=1, name="tool", attributes=tool),
            ]
        )
        assert await store.outbox.claim([SINK], 10) == []
        assert await store.outbox.due_in() == 0
        recorded = await store.elapse()
        assert [t.is_announced for t in recorded.tasks] == [True]
        [state] = [d for d in await drain(store) if d.mode is Mode.STATE]
        assert state.task.llm_calls == 1
        assert (await store.elapse()).tasks == []

    async def test_counts_of_tables_and_states(self, make_store: MakeStore) -> None:
        """Counts name the rows of each table and the deliveries of each state."""
        store = await make_store()
        await store.record(a_run("counted"))
        before = await store.counts()
        assert (before["agent_events"], before["agent_tasks"]) == (len(a_run("counted")), 1)
        assert before["deliveries"]["waiting"] > 0
        out = await drain(store)
        assert (await store.counts())["deliveries"] == {"delivered": len(out)}


def in_seconds(seconds: float) -> datetime:
    """Return a moment so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def steps(count: int, trace: int = 1) -> list[Observation]:
    """Return a task that started and reported so many checkpoints."""
    root_span: dict[str, Any] = {"agent.task.name": f"steps {trace}"}
    said = [{"agent.checkpoint.message": f"step {i}"} for i in range(count)]
    events = [
        an_event(trace=trace, span=1, name="agent.checkpoint", attributes=a, index=i, at=1.0 + i)
        for i, a in enumerate(said)
    ]
    return [started(trace=trace, span=1, name="agent", attributes=root_span), *events]


def moved(percent: float, index: int, trace: int = 1) -> list[Observation]:
    """Return a task that reported its progress."""
    root_span: dict[str, Any] = {"agent.task.name": "moving"}
    listed = an_event(
        trace=trace, span=1, name="moved", attributes={"agent.progress": percent}, index=index, at=1.0 + index
    )
    return [started(trace=trace, span=1, name="agent", attributes=root_span), listed]


def _family() -> list[Observation]:
    tool: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "delegate"}
    return [
        started(trace=1, span=1, name="parent", attributes={"agent.task.name": "parent", "agent.name": "boss"}),
        started(trace=1, span=2, parent=1, name="tool", attributes=tool),
        started(
            trace=1, span=3, parent=2, name="child", attributes={"agent.task.name": "child", "agent.name": "worker"}
        ),
    ]


__all__ = ["POSTED", "ROUTED_RULES", "SINK", "ExerciseStore", "MakeStore", "drain", "in_seconds", "moved", "steps"]
