"""Checkpoints that are edited in place, and milestones that wait: a class of tests beside `ExerciseStore`,
with the same fixture.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.interventions import Verb
from spanpost.model.observations import Observation
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, RetryAt
from spanpost.model.queries import TaskQuery
from spanpost.routing.routes import Route, Routes, Verbosity
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_pacing import first_claimed, limits, paced
from spanpost.testing.exercise_people import an_act, asking, at_work, the_question
from spanpost.testing.exercise_store import POSTED, SINK, MakeStore, drain, in_seconds, moved, steps
from spanpost.testing.observed import an_event, ended, started

EDITING = FoldRules(routes=Routes(sinks=(SINK,), editing=frozenset({SINK})))


FAILURE = {"exception.type": "Timeout", "exception.message": "timed out"}


def failed(index: int, text: str = "timed out after {} s", trace: int = 1) -> Observation:
    """Return an error of a part of a task."""
    said = {"exception.type": "Timeout", "exception.message": text.format(index)}
    return an_event(trace=trace, span=1, name="agent.error", attributes=said, index=index, at=1.0 + index)


def _checkpoints(deliveries: list[Delivery], kind: Kind = Kind.ERROR) -> list[Delivery]:
    return [d for d in deliveries if d.checkpoint is not None and d.checkpoint.kind is kind]


async def _first_error(store: Store) -> Delivery:
    await store.record([*steps(0), failed(1)])
    [first] = _checkpoints(await drain(store))
    return first


async def _finish_until_checkpoint(store: Store, outcome: RetryAt) -> None:
    """Deliver everything before the next checkpoint, and finish that one with an outcome."""
    while True:
        for delivery in await store.outbox.claim([SINK], 10):
            await store.outbox.finish(delivery, outcome if _checkpoints([delivery]) else POSTED)
            if _checkpoints([delivery]):
                return


class ExerciseAgain:
    """How every store edits checkpoints in place, and lets the newest milestone wait."""

    async def test_equal_errors_are_one_delivery(self, make_store: MakeStore) -> None:
        """A repeated error is the same delivery, with its receipt, the newest checkpoint and a count.

        Another error is another delivery.
        """
        store = await make_store(EDITING)
        first = await _first_error(store)
        assert (first.count, first.receipt) == (1, None)
        await store.record([failed(2), failed(3), failed(4, "disk full")])
        again, other = sorted(_checkpoints(await drain(store)), key=lambda d: d.count, reverse=True)
        assert (again.id, again.key, again.count, again.receipt) == (first.id, first.key, 3, POSTED)
        assert again.checkpoint is not None
        assert again.checkpoint.text.endswith("after 3 s")
        assert (other.count, other.receipt) == (1, None)
        assert (first.urgency, again.urgency) == ("warning", "normal")  # the first reported the worst of it

    async def test_an_error_that_comes_late_is_counted(self, make_store: MakeStore) -> None:
        """A repetition with an earlier time is counted once; the newest stays shown."""
        store = await make_store(EDITING)
        await store.record([*steps(0), failed(5)])
        assert [d.count for d in _checkpoints(await drain(store))] == [1]
        for late in (2, 3, 2):
            await store.record([failed(late)])
        [again] = _checkpoints(await drain(store))
        assert again.checkpoint is not None
        assert (again.count, again.checkpoint.text.rpartition(" after ")[2]) == (3, "5 s")

    async def test_a_call_that_ends_elsewhere_takes_its_checkpoints_along(self, make_store: MakeStore) -> None:
        """What was reported on a call is in the task in which the call ends, and in that task's count."""
        store = await make_store(EDITING)
        agent, tool = "gen_ai.agent.name", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
        await store.record(
            [
                ended(trace=1, span=span, name=name, attributes={"gen_ai.operation.name": "invoke_agent", agent: name})
                for span, name in ((1, "ann"), (2, "bob"))
            ]
        )
        await store.record([started(trace=1, span=3, parent=1, name="grep", attributes=tool)])
        await store.record([an_event(trace=1, span=3, name="agent.error", attributes=FAILURE, index=1)])
        await store.record([ended(trace=1, span=3, parent=2, name="grep", attributes=tool)])
        tasks = {task.name: task for task in await store.tasks(TaskQuery())}
        assert {name: task.error_count for name, task in tasks.items()} == {"ann": 0, "bob": 1}
        [reported] = [c for c in await store.reader.checkpoints() if c.kind is Kind.ERROR]
        assert reported.task_uid == tasks["bob"].uid

    async def test_what_moves_is_one_tenants(self, make_store: MakeStore) -> None:
        """A root span that arrives late takes the checkpoints of its own tenant along, not another's with equal ids."""
        store = await make_store(EDITING)
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
        for tenant in ("red", "blue"):
            await store.record([ended(trace=1, span=3, parent=2, name="grep", attributes=tool, tenant=tenant)])
            error = an_event(trace=1, span=3, name="agent.error", attributes=FAILURE, index=1, tenant=tenant)
            await store.record([error])
        agent = {"gen_ai.operation.name": "invoke_agent"}
        await store.record([ended(trace=1, span=2, name="agent", attributes=agent, tenant="red")])
        tasks = {task.uid: task.tenant for task in await store.tasks(TaskQuery())}
        errors = [c for c in await store.reader.checkpoints() if c.kind is Kind.ERROR]
        assert sorted((c.tenant, tasks[c.task_uid]) for c in errors) == [("blue", "blue"), ("red", "red")]

    async def test_a_duplicate_is_not_counted(self, make_store: MakeStore) -> None:
        """The same occurrences, recorded again, change nothing."""
        store = await make_store(EDITING)
        await store.record([*steps(0), failed(1), failed(2)])
        assert [d.count for d in _checkpoints(await drain(store))] == [2]
        await store.record([failed(1), failed(2)])
        assert _checkpoints(await drain(store)) == []

    async def test_a_repetition_during_a_delivery_is_an_edit(self, make_store: MakeStore) -> None:
        """A repetition that arrives while the first delivery is under way follows it as an edit."""
        store = await make_store(EDITING)
        await store.record([*steps(0), failed(1)])
        [state] = await store.outbox.claim([SINK], 10)
        await store.outbox.finish(state, POSTED)
        claimed = await store.outbox.claim([SINK], 10)
        while not _checkpoints(claimed):
            for delivery in claimed:
                await store.outbox.finish(delivery, POSTED)
            claimed = await store.outbox.claim([SINK], 10)
        [sending] = claimed
        await store.record([failed(2)])
        await store.outbox.finish(sending, POSTED)
        [again] = _checkpoints(await drain(store))
        assert (again.id, again.count, again.receipt) == (sending.id, 2, POSTED)

    async def test_a_repetition_during_a_reconciliation_has_its_own_age(self, make_store: MakeStore) -> None:
        """A repetition that arrives while the first delivery is reconciled is sent after that, with the age
        of its own arrival.
        """
        store = await make_store(EDITING)
        await store.record([*steps(0), failed(1)])
        await _finish_until_checkpoint(store, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
        [reconciliation] = _checkpoints(await store.outbox.claim([SINK], 10))
        await store.record([failed(2)])
        await store.outbox.finish(reconciliation, Arrived(receipt=POSTED))
        [again] = _checkpoints(await drain(store))
        assert (reconciliation.is_unknown, again.id, again.count, again.receipt, again.attempt) == (
            True,
            reconciliation.id,
            2,
            POSTED,
            1,
        )
        assert again.born_at > reconciliation.born_at

    async def test_a_repetition_during_the_reconciliation_of_an_edit_is_sent(self, make_store: MakeStore) -> None:
        """A checkpoint that was shown is edited after a repetition, even if the reconciliation found nothing."""
        store = await make_store(EDITING)
        await _first_error(store)
        await store.record([failed(2)])
        await _finish_until_checkpoint(store, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
        [reconciliation] = _checkpoints(await store.outbox.claim([SINK], 10))
        await store.record([failed(3)])
        await store.outbox.finish(reconciliation, NotArrived())
        [again] = _checkpoints(await drain(store))
        assert (again.count, again.receipt, again.is_unknown) == (3, POSTED, False)

    async def test_a_newer_state_is_sent_after_a_dead_one(self, make_store: MakeStore) -> None:
        """A newer state that arrived while an older one was sent is delivered, though the older one was given up."""
        store = await make_store(EDITING)
        await store.record(moved(10.0, index=0))
        [state] = await store.outbox.claim([SINK], 10)
        await store.record(moved(20.0, index=1))
        await store.outbox.finish(state, GiveUp(reason="expired", error="too old"))
        [newer] = await store.outbox.claim([SINK], 10)
        assert (newer.id, newer.task.progress, newer.attempt) == (state.id, 20.0, 1)
        assert newer.born_at > state.born_at

    async def test_a_state_that_waits_again_has_no_old_error(self, make_store: MakeStore) -> None:
        """A state that was given up and is put again waits without the reason and the error of the older one."""
        store = await make_store(EDITING)
        await store.record(moved(10.0, index=0))
        [state] = await store.outbox.claim([SINK], 10)
        await store.outbox.finish(state, GiveUp(reason="r" * 5000, error="e" * 5000))
        [row] = [row for row in await store.outbox.deliveries() if row.id == state.id]
        assert (row.state, len(row.reason) <= 4000, len(row.error) <= 4000) == ("dead", True, True)
        await store.record(moved(20.0, index=1))
        [row] = [row for row in await store.outbox.deliveries() if row.id == state.id]
        assert (row.state, row.reason, row.error) == ("waiting", "", "")

    async def test_an_edited_checkpoint_uses_the_rate_limit_of_edits(self, make_store: MakeStore) -> None:
        """A checkpoint that is shown already is edited: the call is an edit, and one in doubt is reconciled
        and sent again.
        """
        store = await make_store(EDITING)
        first = await _first_error(store)
        await store.record([failed(2)])
        rate_limits = limits(
            edit=[paced("edit", burst=9)], post=[paced("post", burst=9)], look=[paced("look", burst=9)]
        )
        seen: list[Delivery] = []
        while claimed := await store.outbox.claim([SINK], 10, rate_limits):
            for delivery in claimed:
                if delivery.id == first.id and not delivery.is_unknown and not seen:
                    seen.append(delivery)
                    await store.outbox.finish(delivery, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
                elif delivery.is_unknown:
                    seen.append(delivery)
                    await store.outbox.finish(delivery, Arrived(receipt=POSTED))
                else:
                    seen += [delivery] if delivery.id == first.id else []
                    await store.outbox.finish(delivery, Receipt(ref=POSTED.ref))
        assert [d.drawn for d in seen] == [("edit",), ("look",), ("edit",)]
        assert {d.count for d in seen} == {2}

    async def test_what_changed_before_it_was_found_is_edited(self, make_store: MakeStore) -> None:
        """A question whose post is in doubt while a person answers it shows the answer once its message was found."""
        store = await make_store(EDITING)
        await store.record([at_work()])
        await drain(store)
        await store.record([asking()])
        while (asked := await first_claimed(store)).checkpoint is None:
            await store.outbox.finish(asked, POSTED)
        await store.outbox.finish(asked, RetryAt(at=in_seconds(-1), reason="timeout", reconcile=True))
        await store.interventions.intervene(an_act(Verb.APPROVE, (await the_question(store)).key))
        later = await drain(store, lambda d: Arrived(receipt=POSTED) if d.is_unknown else POSTED)
        assert [(d.is_unknown, d.receipt) for d in later if d.id == asked.id] == [(True, None), (False, POSTED)]

    async def test_the_newest_milestone_waits_for_its_interval(self, make_store: MakeStore) -> None:
        """The first milestone goes at once.

        Milestones that come too early wait, and a newer one replaces an older one. Urgent checkpoints do not
        wait, and take a milestone that waits with them: a thread is in the order of time.
        """
        apart = timedelta(seconds=1.0)
        route = Route(sink=SINK, verbosity=Verbosity.MILESTONES, interval=apart)
        store = await make_store(FoldRules(routes=Routes(sinks=(SINK,), routes=(route,))))
        await store.record(moved(0.0, index=0))
        await store.record(moved(20.0, index=1))
        [delivered] = _checkpoints(await drain(store), Kind.MILESTONE)
        for i, percent in enumerate((40.0, 45.0, 60.0, 62.0), 2):
            await store.record(moved(percent, index=i))
        assert [one for one in await drain(store) if one.mode is Mode.CHECKPOINT] == []
        late: list[Delivery] = []
        async with asyncio.timeout(60):
            while not (late := _checkpoints(await drain(store), Kind.MILESTONE)):
                due = await store.outbox.due_in()
                assert due is not None
                await asyncio.sleep(min(due, 0.05))
                await store.elapse()
        [last] = late
        assert delivered.checkpoint is not None
        assert last.checkpoint is not None
        assert (delivered.checkpoint.progress, last.checkpoint.progress) == (20.0, 60.0)
        assert last.mode is Mode.CHECKPOINT
        await store.record(moved(80.0, index=6))
        await store.record([failed(9)])
        together = [one.checkpoint.kind for one in await drain(store) if one.checkpoint is not None]
        assert together == [Kind.MILESTONE, Kind.ERROR]

    async def test_an_edited_question_counts_once(self, make_store: MakeStore) -> None:
        """A question that is shown again with its decision counts as one checkpoint."""
        store = await make_store(EDITING)
        root_span = started(trace=1, span=1, name="agent", attributes={"agent.task.name": "release"})
        asked = an_event(
            trace=1, span=1, name="agent.approval.requested", index=0,
            attributes={"agent.approval.id": "a1", "agent.approval.question": "Deploy?"},
        )  # fmt: skip
        decided = an_event(
            trace=1, span=1, name="agent.approval.resolved", index=1, at=2.0,
            attributes={"agent.approval.id": "a1", "agent.approval.decision": "approve"},
        )  # fmt: skip
        delivered = []
        for batch in ([root_span, asked], [decided]):
            await store.record(batch)
            delivered += [
                d for d in await drain(store) if d.checkpoint and d.checkpoint.kind is Kind.APPROVAL_REQUESTED
            ]
        assert [(d.count, d.receipt is not None) for d in delivered] == [(1, False), (1, True)]
