"""Messages whose task became part of another's: a class of tests beside `ExerciseLedger`, same fixture."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.observations import Observation
from spanpost.model.outcomes import NotArrived, RetryAt
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import MERGED
from spanpost.routing.routes import Route, Routes, Verbosity
from spanpost.store.protocols import Store
from spanpost.testing.exercise_store import POSTED, SINK, TELLING, MakeStore, drain
from spanpost.testing.observed import an_event, ended, started

_AT_ONCE = msgspec.structs.replace(TELLING, settle=timedelta(0))
_EDITING = msgspec.structs.replace(_AT_ONCE, routes=Routes(sinks=(SINK,), editing=frozenset({SINK})))
_JOB: dict[str, Any] = {"agent.task.id": "job", "agent.task.name": "the job", "gen_ai.operation.name": "invoke_agent"}
_ASKED: dict[str, Any] = {"agent.approval.id": "q", "agent.approval.question": "sure?"}


def _orphans(trace: int = 5) -> list[Observation]:
    call: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 1,
    }
    tool: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
    return [
        ended(trace=trace, span=2, parent=1, name="chat", attributes=call),
        ended(trace=trace, span=3, parent=1, name="tool", attributes=tool),
    ]


def _root_span(trace: int = 5, parent: int = 0) -> Observation:
    """Return the box of `_orphans`, of a task that is known from another trace (`_two_messages`)."""
    return started(trace=trace, span=1, parent=parent, name="agent", attributes=_JOB)


def _said(text: str, index: int) -> Observation:
    said = {"agent.checkpoint.message": text}
    return an_event(trace=5, span=2, name="agent.checkpoint", attributes=said, index=index, at=1.0 + index)


async def _two_messages(store: Store) -> None:
    """Have a job announced, and a trace of which nobody knows yet that it is part of it."""
    await store.record([started(trace=1, span=1, name="agent", attributes=_JOB)])
    await store.record(_orphans())
    await store.elapse()


def _lead_and_worker() -> list[Observation]:
    """Return a job; and a lead of which nobody knows that it is part of it, below which a worker hangs by a link."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "worker"}
    job = started(trace=1, span=1, name="agent", attributes=_JOB)
    lead = started(trace=7, span=2, name="lead", attributes={"gen_ai.operation.name": "invoke_agent"})
    worker = ended(trace=8, span=3, parent=9, name="worker", attributes=agent, at=1.0)
    return [job, lead, msgspec.structs.replace(worker, links=((lead.trace_id, lead.span_id),))]


async def _torn_loose(store: Store) -> None:
    """Have the lead turn out to be part of the job, which has a message of its own: the worker is a root that has none."""
    await store.record(_lead_and_worker())
    [task] = await store.tasks(TaskQuery(agent_name="worker"))
    assert task.is_announced
    await store.record([ended(trace=7, span=2, name="lead", attributes=_JOB)])
    [task] = await store.tasks(TaskQuery(agent_name="worker"))
    assert not task.is_announced


def _of_worker(deliveries: list[Delivery]) -> list[tuple[str, Kind | None]]:
    """Return the lanes of what tells of the worker, and what it tells, in order."""
    return [
        (d.ordering_key, d.checkpoint.kind if d.checkpoint is not None else None)
        for d in deliveries
        if d.task.agent_name == "worker"
    ]


def _moved(deliveries: list[Delivery]) -> list[Delivery]:
    return [d for d in deliveries if d.has_moved]


def _by_id(deliveries: list[Delivery]) -> tuple[Delivery, Delivery]:
    """Return the states of the job's message and of the other."""
    job = next(d for d in deliveries if d.mode is Mode.STATE and d.task.task_id == "job")
    other = next(d for d in deliveries if d.mode is Mode.STATE and d.task.task_id != "job")
    return job, other


class ExerciseLeft:
    """How every store ends a message that goes on in another."""

    async def test_a_message_that_goes_on_in_another_ends_once(self, make_store: MakeStore) -> None:
        """Its last delivery, on its receipt, is a final state that names the task it went on in and where; no other follows."""
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        there = Receipt(ref={"ts": "9.9"})
        job, other = _by_id(await drain(store, lambda d: there if d.task.task_id == "job" else POSTED))
        await store.record([_root_span()])
        told = await drain(store)
        [end] = _moved(told)
        assert (end.id, end.ordering_key, end.message_receipt, end.moved_to) == (
            other.id,
            other.ordering_key,
            POSTED,
            there,
        )
        assert (end.task.status, end.task.end_reason, end.task.name, end.task.task_id) == (
            "complete",
            MERGED,
            "the job",
            "job",
        )
        assert (end.task.root_uid, end.task.llm_calls, end.children) == (job.task.uid, 0, ())
        assert {d.ordering_key for d in told} == {job.ordering_key, other.ordering_key}
        await store.record([_root_span(), *_orphans()])
        assert await drain(store) == []
        await store.record([ended(trace=5, span=1, name="agent", attributes=_JOB)])
        assert {d.ordering_key for d in await drain(store)} == {job.ordering_key}

    async def test_a_box_below_what_never_comes_takes_the_message_with_it(self, make_store: MakeStore) -> None:
        """The late box has a parent that nobody hears of, so that of the trace something is left: its message ends all the same."""
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        _, other = _by_id(await drain(store))
        await store.record([_root_span(parent=9)])
        [end] = _moved(await drain(store))
        assert (end.ordering_key, end.task.task_id) == (other.ordering_key, "job")

    async def test_a_message_under_way_ends_after_it_stands(self, make_store: MakeStore) -> None:
        """While the message is being posted its task becomes part of another: once it stands, it is edited."""
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        job, other = _by_id(await store.outbox.claim([SINK], 10))
        await store.record([_root_span()])
        for delivery in (job, other):
            await store.outbox.settle(delivery, POSTED)
        [end] = _moved(await drain(store))
        assert (end.ordering_key, end.message_receipt) == (other.ordering_key, POSTED)

    async def test_what_was_never_posted_is_not_posted_and_its_news_goes_to_the_other(
        self, make_store: MakeStore
    ) -> None:
        """A message that still waits needs no end; what was to be told below it is told in the other, in order and once."""
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        await store.record([_said("one", 0), _said("two", 1)])
        await store.record([_root_span()])
        told = await drain(store)
        [ordering_key] = {d.ordering_key for d in told}
        assert [
            d.checkpoint.text for d in told if d.checkpoint is not None and d.checkpoint.kind is Kind.CHECKPOINT
        ] == [
            "one",
            "two",
        ]
        assert ordering_key.endswith(str(told[0].task.uid))
        assert not [row for row in await store.outbox.deliveries(limit=100) if row.state != "delivered"]

    async def test_news_of_what_is_torn_loose_before_it_was_told_waits_for_its_message(
        self, make_store: MakeStore
    ) -> None:
        """It is not told below the message of a former root that was never posted: once its own task has one it is told there, once."""
        store = await make_store(_AT_ONCE)
        await _torn_loose(store)
        told = await drain(store)
        assert _of_worker(told) == []
        assert {d.task.task_id for d in told} == {"job"}
        await store.elapse()
        told = await drain(store)
        [ordering_key] = {d.ordering_key for d in told}
        assert ordering_key.endswith(str(told[0].task.uid))
        assert _of_worker(told) == [(ordering_key, None), (ordering_key, Kind.START), (ordering_key, Kind.END)]
        assert not [row for row in await store.outbox.deliveries(limit=100) if row.state != "delivered"]
        await store.elapse()
        assert await drain(store) == []

    async def test_news_of_what_is_torn_loose_and_has_its_message_by_then_goes_there(
        self, make_store: MakeStore
    ) -> None:
        """Nothing went while its task was without a message: of what waited where nothing is shown, nothing is lost or told twice."""
        store = await make_store(_AT_ONCE)
        await _torn_loose(store)
        await store.elapse()
        told = await drain(store)
        [ordering_key] = {d.ordering_key for d in told if d.task.agent_name == "worker"}
        assert _of_worker(told) == [(ordering_key, None), (ordering_key, Kind.START), (ordering_key, Kind.END)]
        assert {d.ordering_key for d in told if d.mode is Mode.CHECKPOINT} == {
            d.ordering_key for d in told if d.mode is Mode.STATE
        }
        assert not [row for row in await store.outbox.deliveries(limit=100) if row.state != "delivered"]

    async def test_news_that_was_told_stays_where_it_was_told(self, make_store: MakeStore) -> None:
        """Of what was told below the former root's message nothing is told again in the message that its own task gets."""
        store = await make_store(_AT_ONCE)
        await store.record(_lead_and_worker())
        first = await drain(store)
        await store.record([ended(trace=7, span=2, name="lead", attributes=_JOB)])
        [end] = _moved(await drain(store))
        assert {end.ordering_key} == {ordering_key for ordering_key, kind in _of_worker(first) if kind is not None}
        await store.elapse()
        assert [kind for _, kind in _of_worker(await drain(store))] == [None]

    async def test_news_that_goes_elsewhere_begins_the_message_there(self, make_store: MakeStore) -> None:
        """Where a message appears only with news that counts, the first such news may come from a message that was never posted."""
        final = Routes(sinks=(SINK,), routes=(Route(sink=SINK, verbosity=Verbosity.FINAL),))
        store = await make_store(msgspec.structs.replace(_AT_ONCE, routes=final))
        job, lead, _ = _lead_and_worker()
        await store.record([job, lead])
        assert await drain(store) == []
        part = {"gen_ai.operation.name": "invoke_agent", "agent.task.id": "part"}
        await store.record([ended(trace=7, span=3, parent=2, name="part", attributes=part)])
        await store.record([started(trace=7, span=2, name="lead", attributes=_JOB, at=0.5)])
        told = await drain(store)
        [ordering_key] = {d.ordering_key for d in told}
        kinds = [(d.task.task_id, d.checkpoint.kind if d.checkpoint is not None else None) for d in told]
        assert kinds[:2] == [("job", None), ("part", Kind.END)]
        assert set(kinds[2:]) <= {("job", None)}
        assert ordering_key.endswith(str(told[0].task.uid))

    async def test_a_post_in_doubt_is_looked_up_and_not_sent_again(self, make_store: MakeStore) -> None:
        """A message that may stand there is looked for; where it is not, nothing is posted for its end."""
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        job, other = _by_id(await store.outbox.claim([SINK], 10))
        await store.outbox.settle(job, POSTED)
        await store.outbox.settle(other, RetryAt(at=other.born_at, reason="reset", reconcile=True))
        await store.record([_root_span()])
        told = await drain(store, lambda d: NotArrived() if d.is_unknown else POSTED)
        assert [d.ordering_key for d in told if d.is_unknown] == [other.ordering_key]
        assert {d.ordering_key for d in told if not d.is_unknown} == {job.ordering_key}

    async def test_a_question_is_decided_where_it_was_asked(self, make_store: MakeStore) -> None:
        """What was told in the thread of a message that ended is changed there, and not told again in the other."""
        store = await make_store(_EDITING)
        await _two_messages(store)
        await store.record(
            [an_event(trace=5, span=2, name="agent.approval.requested", attributes=_ASKED, index=0, at=1.0)]
        )
        [asked] = [
            d for d in await drain(store) if d.checkpoint is not None and d.checkpoint.kind is Kind.APPROVAL_REQUESTED
        ]
        await store.record([_root_span()])
        assert [d.ordering_key for d in _moved(await drain(store))] == [asked.ordering_key]
        said = {"agent.approval.id": "q", "agent.approval.decision": "approve"}
        await store.record(
            [an_event(trace=5, span=2, name="agent.approval.resolved", attributes=said, index=1, at=2.0)]
        )
        again = [d for d in await drain(store) if d.mode is Mode.CHECKPOINT]
        assert [(d.id, d.ordering_key, d.receipt) for d in again] == [(asked.id, asked.ordering_key, POSTED)]

    async def test_a_message_of_what_turns_out_to_hang_below_another_ends(self, make_store: MakeStore) -> None:
        """An agent that hangs below one which has a message goes on in that; should it be torn loose, its message is its own again."""
        store = await make_store(_AT_ONCE)
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "worker", "agent.task.id": "part"}
        await store.record([started(trace=7, span=3, parent=2, name="worker", attributes=agent)])
        await store.record([started(trace=1, span=1, name="agent", attributes=_JOB)])
        [part] = [d for d in await drain(store) if d.task.task_id == "part" and d.mode is Mode.STATE]
        await store.record([started(trace=7, span=2, name="agent", attributes=_JOB)])
        told = await drain(store)
        [end] = _moved(told)
        assert (end.ordering_key, end.task.task_id, end.message_receipt) == (part.ordering_key, "job", POSTED)
        [whole] = [d for d in told if d.mode is Mode.STATE and not d.has_moved]
        assert [c.task_id for c in whole.children] == ["part"]

    async def test_a_message_that_is_sent_elsewhere_ends_where_it_stands(self, make_store: MakeStore) -> None:
        """When the name by which a route chooses is heard late, the message in the wrong place ends and leads to the right one."""
        routes = Routes(sinks=(SINK,), routes=(Route(sink=SINK, address="team", agent="worker"),))
        store = await make_store(msgspec.structs.replace(_AT_ONCE, routes=routes))
        await store.record(_orphans())
        await store.elapse()
        [first] = [d for d in await drain(store) if d.mode is Mode.STATE]
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "worker", "agent.task.name": "work"}
        await store.record([started(trace=5, span=1, name="agent", attributes=agent)])
        told = await drain(store)
        [end] = _moved(told)
        assert (end.ordering_key, end.address, end.task.name) == (first.ordering_key, "", "work")
        assert {d.address for d in told if not d.has_moved} == {"team"}


__all__ = ["ExerciseLeft"]
