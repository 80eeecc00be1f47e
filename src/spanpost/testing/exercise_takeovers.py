"""Messages whose task was merged into another: a class of tests beside `ExerciseStore`, with the same fixture."""

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
from spanpost.testing.exercise_store import POSTED, ROUTED_RULES, SINK, MakeStore, drain
from spanpost.testing.observed import an_event, ended, started

_AT_ONCE = msgspec.structs.replace(ROUTED_RULES, announce_delay=timedelta(0))
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
    """Return the root span of `_orphans`, of a task that is known from another trace (`_two_messages`)."""
    return started(trace=trace, span=1, parent=parent, name="agent", attributes=_JOB)


def _said(text: str, index: int) -> Observation:
    said = {"agent.checkpoint.message": text}
    return an_event(trace=5, span=2, name="agent.checkpoint", attributes=said, index=index, at=1.0 + index)


async def _two_messages(store: Store) -> None:
    """Announce a job, and a trace that is not yet known to be part of it."""
    await store.record([started(trace=1, span=1, name="agent", attributes=_JOB)])
    await store.record(_orphans())
    await store.elapse()


def _lead_and_worker() -> list[Observation]:
    """Return a job, and a lead that is not yet known to be part of it. A worker is linked to the lead."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "worker"}
    job = started(trace=1, span=1, name="agent", attributes=_JOB)
    lead = started(trace=7, span=2, name="lead", attributes={"gen_ai.operation.name": "invoke_agent"})
    worker = ended(trace=8, span=3, parent=9, name="worker", attributes=agent, at=1.0)
    return [job, lead, msgspec.structs.replace(worker, links=((lead.trace_id, lead.span_id),))]


async def _separated(store: Store) -> None:
    """Let the lead turn out to be part of the job, which has a message of its own: the worker becomes a root
    without one.
    """
    await store.record(_lead_and_worker())
    [task] = await store.tasks(TaskQuery(agent_name="worker"))
    assert task.is_announced
    await store.record([ended(trace=7, span=2, name="lead", attributes=_JOB)])
    [task] = await store.tasks(TaskQuery(agent_name="worker"))
    assert not task.is_announced


def _of_worker(deliveries: list[Delivery]) -> list[tuple[str, Kind | None]]:
    """Return the ordering keys of the worker's deliveries, and its checkpoints, in order."""
    return [
        (d.ordering_key, d.checkpoint.kind if d.checkpoint is not None else None)
        for d in deliveries
        if d.task.agent_name == "worker"
    ]


def _moved(deliveries: list[Delivery]) -> list[Delivery]:
    return [d for d in deliveries if d.has_moved]


def _by_id(deliveries: list[Delivery]) -> tuple[Delivery, Delivery]:
    """Return the states of the job's message and of the other one."""
    job = next(d for d in deliveries if d.mode is Mode.STATE and d.task.task_id == "job")
    other = next(d for d in deliveries if d.mode is Mode.STATE and d.task.task_id != "job")
    return job, other


class ExerciseTakeovers:
    """How every store ends a message that continues in another."""

    async def test_a_message_that_goes_on_in_another_ends_once(self, make_store: MakeStore) -> None:
        """Its last delivery, on its receipt, is a final state with a link to the task and message that
        continue it; no other follows.
        """
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        there = Receipt(ref={"ts": "9.9"})
        job, other = _by_id(await drain(store, lambda d: there if d.task.task_id == "job" else POSTED))
        await store.record([_root_span()])
        delivered = await drain(store)
        [end] = _moved(delivered)
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
        assert {d.ordering_key for d in delivered} == {job.ordering_key, other.ordering_key}
        await store.record([_root_span(), *_orphans()])
        assert await drain(store) == []
        await store.record([ended(trace=5, span=1, name="agent", attributes=_JOB)])
        assert {d.ordering_key for d in await drain(store)} == {job.ordering_key}

    async def test_a_late_root_span_with_a_missing_parent_takes_the_message(self, make_store: MakeStore) -> None:
        """The late root span has a parent that never arrives, so a part of the trace is left: the trace's
        message ends all the same.
        """
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        _, other = _by_id(await drain(store))
        await store.record([_root_span(parent=9)])
        [end] = _moved(await drain(store))
        assert (end.ordering_key, end.task.task_id) == (other.ordering_key, "job")

    async def test_a_message_under_way_ends_after_it_was_posted(self, make_store: MakeStore) -> None:
        """While the message is being posted its task is merged into another: once posted, it is edited."""
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        job, other = _by_id(await store.outbox.claim([SINK], 10))
        await store.record([_root_span()])
        for delivery in (job, other):
            await store.outbox.finish(delivery, POSTED)
        [end] = _moved(await drain(store))
        assert (end.ordering_key, end.message_receipt) == (other.ordering_key, POSTED)

    async def test_a_waiting_message_is_not_posted_and_its_checkpoints_move(self, make_store: MakeStore) -> None:
        """A message that still waits needs no end.

        Its checkpoints are shown in the other message, in order and once.
        """
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        await store.record([_said("one", 0), _said("two", 1)])
        await store.record([_root_span()])
        delivered = await drain(store)
        [ordering_key] = {d.ordering_key for d in delivered}
        assert [
            d.checkpoint.text for d in delivered if d.checkpoint is not None and d.checkpoint.kind is Kind.CHECKPOINT
        ] == [
            "one",
            "two",
        ]
        assert ordering_key.endswith(str(delivered[0].task.uid))
        assert not [row for row in await store.outbox.deliveries(limit=100) if row.state != "delivered"]

    async def test_checkpoints_of_a_separated_task_wait_for_its_message(self, make_store: MakeStore) -> None:
        """They are not shown below the never posted message of a former root.

        Once its own task has a message they are shown there, once.
        """
        store = await make_store(_AT_ONCE)
        await _separated(store)
        delivered = await drain(store)
        assert _of_worker(delivered) == []
        assert {d.task.task_id for d in delivered} == {"job"}
        await store.elapse()
        delivered = await drain(store)
        [ordering_key] = {d.ordering_key for d in delivered}
        assert ordering_key.endswith(str(delivered[0].task.uid))
        assert _of_worker(delivered) == [(ordering_key, None), (ordering_key, Kind.START), (ordering_key, Kind.END)]
        assert not [row for row in await store.outbox.deliveries(limit=100) if row.state != "delivered"]
        await store.elapse()
        assert await drain(store) == []

    async def test_checkpoints_of_a_separated_task_go_to_its_message(self, make_store: MakeStore) -> None:
        """Without a message nothing was sent. No checkpoint that waited is lost or shown twice."""
        store = await make_store(_AT_ONCE)
        await _separated(store)
        await store.elapse()
        delivered = await drain(store)
        [ordering_key] = {d.ordering_key for d in delivered if d.task.agent_name == "worker"}
        assert _of_worker(delivered) == [(ordering_key, None), (ordering_key, Kind.START), (ordering_key, Kind.END)]
        assert {d.ordering_key for d in delivered if d.mode is Mode.CHECKPOINT} == {
            d.ordering_key for d in delivered if d.mode is Mode.STATE
        }
        assert not [row for row in await store.outbox.deliveries(limit=100) if row.state != "delivered"]

    async def test_a_delivered_checkpoint_stays_in_its_thread(self, make_store: MakeStore) -> None:
        """Checkpoints in the thread of the former root are not repeated in the message that its own task gets."""
        store = await make_store(_AT_ONCE)
        await store.record(_lead_and_worker())
        first = await drain(store)
        await store.record([ended(trace=7, span=2, name="lead", attributes=_JOB)])
        [end] = _moved(await drain(store))
        assert {end.ordering_key} == {ordering_key for ordering_key, kind in _of_worker(first) if kind is not None}
        await store.elapse()
        assert [kind for _, kind in _of_worker(await drain(store))] == [None]

    async def test_a_moved_checkpoint_begins_the_message(self, make_store: MakeStore) -> None:
        """If a message appears only with a checkpoint that counts, the first one may come from a message
        that was never posted.
        """
        final = Routes(sinks=(SINK,), routes=(Route(sink=SINK, verbosity=Verbosity.FINAL),))
        store = await make_store(msgspec.structs.replace(_AT_ONCE, routes=final))
        job, lead, _ = _lead_and_worker()
        await store.record([job, lead])
        assert await drain(store) == []
        part = {"gen_ai.operation.name": "invoke_agent", "agent.task.id": "part"}
        await store.record([ended(trace=7, span=3, parent=2, name="part", attributes=part)])
        await store.record([started(trace=7, span=2, name="lead", attributes=_JOB, at=0.5)])
        delivered = await drain(store)
        [ordering_key] = {d.ordering_key for d in delivered}
        kinds = [(d.task.task_id, d.checkpoint.kind if d.checkpoint is not None else None) for d in delivered]
        assert kinds[:2] == [("job", None), ("part", Kind.END)]
        assert set(kinds[2:]) <= {("job", None)}
        assert ordering_key.endswith(str(delivered[0].task.uid))

    async def test_a_doubtful_post_is_reconciled_and_not_sent_again(self, make_store: MakeStore) -> None:
        """A message that may have been posted is reconciled. If it was not, nothing is posted for its end."""
        store = await make_store(_AT_ONCE)
        await _two_messages(store)
        job, other = _by_id(await store.outbox.claim([SINK], 10))
        await store.outbox.finish(job, POSTED)
        await store.outbox.finish(other, RetryAt(at=other.born_at, reason="reset", reconcile=True))
        await store.record([_root_span()])
        delivered = await drain(store, lambda d: NotArrived() if d.is_unknown else POSTED)
        assert [d.ordering_key for d in delivered if d.is_unknown] == [other.ordering_key]
        assert {d.ordering_key for d in delivered if not d.is_unknown} == {job.ordering_key}

    async def test_a_decision_is_shown_in_the_thread_of_its_question(self, make_store: MakeStore) -> None:
        """A checkpoint in the thread of an ended message is edited there, and not shown again in the other."""
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

    async def test_the_message_of_a_task_that_becomes_a_child_ends(self, make_store: MakeStore) -> None:
        """An agent below one that has a message continues in that message.

        If it is separated, its message is its own again.
        """
        store = await make_store(_AT_ONCE)
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "worker", "agent.task.id": "part"}
        await store.record([started(trace=7, span=3, parent=2, name="worker", attributes=agent)])
        await store.record([started(trace=1, span=1, name="agent", attributes=_JOB)])
        [part] = [d for d in await drain(store) if d.task.task_id == "part" and d.mode is Mode.STATE]
        await store.record([started(trace=7, span=2, name="agent", attributes=_JOB)])
        delivered = await drain(store)
        [end] = _moved(delivered)
        assert (end.ordering_key, end.task.task_id, end.message_receipt) == (part.ordering_key, "job", POSTED)
        [whole] = [d for d in delivered if d.mode is Mode.STATE and not d.has_moved]
        assert [c.task_id for c in whole.children] == ["part"]

    async def test_a_message_whose_route_changes_ends(self, make_store: MakeStore) -> None:
        """When the attribute of a route arrives late, the message in the wrong channel ends and links to the
        right one.
        """
        routes = Routes(sinks=(SINK,), routes=(Route(sink=SINK, address="team", agent="worker"),))
        store = await make_store(msgspec.structs.replace(_AT_ONCE, routes=routes))
        await store.record(_orphans())
        await store.elapse()
        [first] = [d for d in await drain(store) if d.mode is Mode.STATE]
        agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "worker", "agent.task.name": "work"}
        await store.record([started(trace=5, span=1, name="agent", attributes=agent)])
        delivered = await drain(store)
        [end] = _moved(delivered)
        assert (end.ordering_key, end.address, end.task.name) == (first.ordering_key, "", "work")
        assert {d.address for d in delivered if not d.has_moved} == {"team"}


__all__ = ["ExerciseTakeovers"]
