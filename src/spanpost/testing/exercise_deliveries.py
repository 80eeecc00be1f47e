"""How every store hands deliveries out and takes outcomes back: a class of tests beside `ExerciseStore`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.observations import Observation
from spanpost.model.outcomes import GiveUp, NotArrived, RetryAt
from spanpost.store.protocols import Store
from spanpost.testing.exercise_store import POSTED, ROUTED_RULES, SINK, MakeStore, drain, in_seconds, moved, steps
from spanpost.testing.observed import an_event, ended, started

_AT_ONCE = timedelta(0)


def _compacted() -> Observation:
    """Return an agent's own record of a compaction: the one that was inferred is retracted."""
    figures = {"agent.context.before_tokens": 800, "agent.context.used_tokens": 100}
    return an_event(trace=1, span=1, name="agent.context.compacted", index=0, at=0.9, attributes=figures)


async def _inferred(store: Store) -> Delivery:
    """Claim the delivery of a compaction that the drop of a context says; deliver what goes before it."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
    await store.record([started(trace=1, span=1, name="agent", attributes=agent)])
    for number, used in enumerate((800, 100, 110)):
        said = {"gen_ai.operation.name": "chat", "gen_ai.response.model": "gpt-4o", "gen_ai.response.id": number}
        said |= {"gen_ai.usage.input_tokens": used, "gen_ai.usage.output_tokens": 1}
        call = ended(trace=1, span=10 + number, parent=1, name="chat", at=number, seconds=0.5, attributes=said)
        await store.record([call])
    while True:
        [delivery] = await store.outbox.claim([SINK], 10)
        if delivery.checkpoint is not None and delivery.checkpoint.kind is Kind.COMPACTION:
            return delivery
        await store.outbox.finish(delivery, POSTED)


class ExerciseDeliveries:
    """How deliveries leave every store: in order, one at a time, until they are delivered or given up."""

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

    async def test_the_end_is_shown_before_the_lines_that_wait(self, make_store: MakeStore) -> None:
        """The edit that shows an end goes before the checkpoints of its own task, which keep their order: in a full
        channel they wait for minutes. Progress of a task at work is edited after them.
        """
        for is_over in (True, False):
            store = await make_store()
            await store.record(steps(1))
            [message] = await store.outbox.claim([SINK], 10)
            await store.outbox.finish(message, POSTED)
            name = {"agent.task.name": "steps 1"}
            await store.record(
                [ended(trace=1, span=1, name="agent", attributes=name, seconds=9)] if is_over else moved(40.0, index=9)
            )
            out = await drain(store)
            modes, texts = [d.mode for d in out], [d.checkpoint.text for d in out if d.checkpoint is not None]
            assert modes.index(Mode.STATE) == (0 if is_over else len(out) - 1)
            assert modes.count(Mode.STATE) == 1
            assert texts.index("step 0") < len(texts) - is_over

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

    async def test_a_checkpoint_that_is_retracted_on_its_way_leaves_nothing(self, make_store: MakeStore) -> None:
        """It is claimed, taken back, and handed back unsent: it is no dead letter, and the others are delivered."""
        store = await make_store()
        held = await _inferred(store)
        await store.record([_compacted()])
        await store.outbox.finish(held, RetryAt(at=in_seconds(-1), reason="held too long", is_unsent=True))
        delivered = [*await drain(store), *await drain(store)]  # a claim that only withdraws hands out nothing
        assert held.id not in [each.id for each in delivered]
        [compaction] = [each.checkpoint for each in delivered if each.checkpoint is not None]
        assert (compaction.kind, "inferred" in compaction.text) == (Kind.COMPACTION, False)
        assert {row.state for row in await store.outbox.deliveries()} == {"delivered"}

    async def test_a_retracted_checkpoint_that_may_have_arrived_is_kept(self, make_store: MakeStore) -> None:
        """Its post may stand in the thread: the delivery stays, so that a person can see what became of it."""
        store = await make_store()
        held = await _inferred(store)
        await store.outbox.finish(held, RetryAt(at=in_seconds(3600), reason="timeout", reconcile=True))
        await store.record([_compacted()])
        assert held.id in [row.id for row in await store.outbox.deliveries()]

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

    async def test_an_orphan_is_announced_after_its_delay(self, make_store: MakeStore) -> None:
        """A span below an unknown root span is not announced at once, but after its settling time."""
        store = await make_store(rules=msgspec.structs.replace(ROUTED_RULES, announce_delay=_AT_ONCE))
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


def _family() -> list[Observation]:
    tool: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "delegate"}
    return [
        started(trace=1, span=1, name="parent", attributes={"agent.task.name": "parent", "agent.name": "boss"}),
        started(trace=1, span=2, parent=1, name="tool", attributes=tool),
        started(
            trace=1, span=3, parent=2, name="child", attributes={"agent.task.name": "child", "agent.name": "worker"}
        ),
    ]
