"""Tests of people's interventions on tasks in every store; `exercise_questions` has the questions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Mode, Receipt
from spanpost.model.interventions import Actor, ApprovalRow, Intervention, InterventionState, Result, Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.semconv import question_mark
from spanpost.store.protocols import Store
from spanpost.tasks.approvals import APPROVAL, TASK, topic_of
from spanpost.testing.exercise_store import SINK, MakeStore, drain
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event, ended, started

ALICE = Actor(provider="slack", team="T1", id="U1", name="alice", email="alice@example.com")
BOB = Actor(provider="slack", team="T1", id="U2", name="bob")


def asking(
    id: str = "a1",
    question: str = "Deploy?",
    *,
    trace: int = 1,
    index: int = 0,
    at: float = 1.0,
    is_marked: bool = False,
    **more: Any,
) -> Observation:
    """Return a question, marked if spanpost itself is asked; further keywords are ``agent.approval.*``."""
    words = question, more.get("detail", ""), more.get("options", ()), more.get("risk", "")
    more |= {"digest": question_mark(*words)} if is_marked else {}
    said = {"agent.approval.id": id, "agent.approval.question": question} | {
        f"agent.approval.{k}": v for k, v in more.items()
    }
    return an_event(trace=trace, span=1, name="agent.approval.requested", attributes=said, index=index, at=at)


def a_reported_decision(
    decision: str = "approve", id: str = "a1", *, trace: int = 1, index: int = 9, at: float = 2.0, **more: Any
) -> Observation:
    """Return a decision that telemetry reports; further keywords are ``agent.approval.*``."""
    said = {"id": id, "decision": decision, "by": "the CEO"} | more
    attributes = {f"agent.approval.{name}": value for name, value in said.items()}
    return an_event(trace=trace, span=1, name="agent.approval.resolved", attributes=attributes, index=index, at=at)


def at_work(name: str = "deploy", *, trace: int = 1, attributes: dict[str, Any] | None = None) -> Observation:
    """Return the live start of a task."""
    return started(trace=trace, span=1, name="agent", attributes={"agent.task.name": name, **(attributes or {})})


def an_act(
    verb: Verb, key: UUID, *, actor: Actor = ALICE, idempotency_key: str | None = None, **fields: Any
) -> Intervention:
    """Return an act of a person; without `once` a unique one."""
    given: dict[str, Any] = {
        "tenant": "default",
        "source": "slack",
        "at": datetime.now(UTC),
        "idempotency_key": idempotency_key or uuid4().hex,
    }
    return Intervention(verb=verb, key=key, actor=actor, **(given | fields))


async def the_question(store: Store, id: str = "a1") -> ApprovalRow:
    """Return the newest question of an id."""
    return (await store.interventions.approvals(ApprovalQuery(approval_id=id)))[0]


async def fold_timers(store: Store) -> None:
    """Fold all timers that are due."""
    for _ in range(5):
        await store.elapse()


class ExercisePeople(Exercised):
    """Tests of people's interventions in every store."""

    # --- what does not stand -----------------------------------------------------------------------------------------

    async def test_another_tenant_learns_nothing(self, make_store: MakeStore) -> None:
        """An act in another tenant's name finds nothing, whatever the key, and the question stays open."""
        store = await make_store()
        await store.record([at_work(), asking()])
        row = await the_question(store)
        for verb, key in (
            (Verb.APPROVE, row.key),
            (Verb.CANCEL, row.task_uid),
            (Verb.APPROVE, uuid4()),
            (Verb.CANCEL, uuid4()),
        ):
            verdict = await store.interventions.intervene(an_act(verb, key, tenant="acme"))
            assert (verdict.result, verdict.task_uid, verdict.decision) == (Result.UNKNOWN, None, "")
        assert (await the_question(store)).state is InterventionState.OPEN

    async def test_what_the_rules_refuse_changes_nothing(self, make_store: MakeStore) -> None:
        """A refused act is answered as refused, also when repeated, and leaves question and task unchanged."""
        store = await make_store()
        await store.record([at_work(), asking()])
        row, tasks = await the_question(store), await store.tasks(TaskQuery())
        act = an_act(Verb.APPROVE, row.key, refusal="only the release group may", idempotency_key="refused")
        assert (await store.interventions.intervene(act)).result is Result.REFUSED
        granted_later = await store.interventions.intervene(msgspec.structs.replace(act, refusal=""))
        assert (granted_later.result, granted_later.is_repeat) == (Result.REFUSED, True)
        assert (await the_question(store), await store.tasks(TaskQuery())) == (row, tasks)

    async def test_it_may_be_too_late(self, make_store: MakeStore) -> None:
        """A request to an ended task is too late; a retry is too late only if nothing failed."""
        store = await make_store()
        over = {"agent.task.name": "deploy", "agent.status": "complete"}
        await store.record([at_work(), asking(), ended(trace=1, span=1, name="agent", attributes=over)])
        row = await the_question(store)
        for verb in (Verb.CANCEL, Verb.PAUSE, Verb.RESUME, Verb.MESSAGE, Verb.RETRY):
            assert (await store.interventions.intervene(an_act(verb, row.task_uid))).result is Result.TOO_LATE
        assert (await store.interventions.intervene(an_act(Verb.APPROVE, row.key))).result is Result.TOO_LATE
        assert (await store.interventions.intervene(an_act(Verb.MUTE, row.task_uid))).result is Result.DONE
        failed = {"agent.task.name": "failed", "agent.status": "error"}
        await store.record([ended(trace=2, span=1, name="agent", attributes=failed)])
        [task] = await store.tasks(TaskQuery(status="error"))
        assert (await store.interventions.intervene(an_act(Verb.RETRY, task.uid))).result is Result.DONE

    async def test_an_option_must_be_one_of_those_given(self, make_store: MakeStore) -> None:
        """One of the agent's options is chosen in its own words; an unknown option is refused."""
        store = await make_store()
        await store.record([at_work(), asking(options=["blue", "green"])])
        row = await the_question(store)
        assert (
            await store.interventions.intervene(an_act(Verb.CHOOSE, row.key, option="red"))
        ).result is Result.UNKNOWN
        assert (await store.interventions.intervene(an_act(Verb.CHOOSE, row.key, option="green"))).decision == "green"

    # --- what is asked of tasks --------------------------------------------------------------------------------------

    async def test_requests_to_a_task_are_shown_and_reach_the_agent(self, make_store: MakeStore) -> None:
        """Cancel, pause, resume and mute are shown on the task.

        The agent gets each once, in order, with the person's words.
        """
        store = await make_store()
        await store.record([at_work()])
        [task] = await store.tasks(TaskQuery())
        for verb, text in ((Verb.MESSAGE, "look at the logs"), (Verb.PAUSE, ""), (Verb.MUTE, "")):
            assert (await store.interventions.intervene(an_act(verb, task.uid, text=text))).result is Result.DONE
        [paused] = await store.tasks(TaskQuery())
        assert (paused.status, paused.paused_by, paused.is_muted) == ("paused", "alice", True)
        for verb in (Verb.RESUME, Verb.UNMUTE, Verb.CANCEL):
            await store.interventions.intervene(an_act(verb, task.uid, actor=BOB))
        [after] = await store.tasks(TaskQuery())
        assert (after.status, after.paused_by, after.is_muted, after.cancel_by) == ("starting", "", False, "bob")
        verbs = [Verb.MESSAGE, Verb.PAUSE, Verb.RESUME, Verb.CANCEL]
        deeds = await store.interventions.deeds(task.uid, verbs)
        assert [(d.verb, d.by, d.text) for d in deeds] == [
            ("message", "alice", "look at the logs"),
            ("pause", "alice", ""),
            ("resume", "bob", ""),
            ("cancel", "bob", ""),
        ]
        assert await store.interventions.deeds(task.uid, verbs, after=deeds[1].number) == deeds[2:]
        listed = [c.text for c in await store.reader.checkpoints() if c.kind is Kind.CHECKPOINT]
        assert listed == ["alice asked to pause it", "bob asked to go on", "bob asked to stop it"]

    async def test_an_act_is_no_activity_of_the_agent(self, make_store: MakeStore) -> None:
        """A person's act changes neither the time of the agent's last telemetry nor that of the task's last work."""
        store = await make_store()
        await store.record([at_work()])
        [before] = await store.tasks(TaskQuery())
        await store.interventions.intervene(an_act(Verb.MESSAGE, before.uid, text="hello?"))
        [after] = await store.tasks(TaskQuery())
        assert (after.last_event_at, after.status) == (before.last_event_at, "starting")

    async def test_a_tasks_key_outlives_its_merging(self, make_store: MakeStore) -> None:
        """A task is found by the key that it had before its root span arrived, and by its ids and its trace."""
        store = await make_store()
        call = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 1}
        await store.record([ended(trace=1, span=2, parent=1, name="chat", attributes=call), asking()])
        [before] = await store.tasks(TaskQuery())
        row = await the_question(store)
        await store.record([at_work("known", attributes={"agent.task.id": "job-7"})])
        found = await store.reader.find(before.uid)
        assert found is not None
        assert (found.task_id, found.name) == ("job-7", "known")
        by_id, by_trace = (
            await store.reader.refer("default", "job-7"),
            await store.reader.refer("default", found.trace_id.hex()),
        )
        assert by_id == by_trace == found
        assert await store.reader.refer("acme", "job-7") is None
        assert await store.reader.refer("default", "f" * 32) is None
        assert (await store.interventions.intervene(an_act(Verb.CANCEL, before.uid))).task_uid == found.uid
        assert (await store.interventions.intervene(an_act(Verb.APPROVE, row.key))).task_uid == found.uid
        [task] = await store.tasks(TaskQuery())
        assert (task.cancel_by, [a.decision for a in task.approvals]) == ("alice", ["approve"])

    async def test_a_message_leads_to_its_task(self, make_store: MakeStore) -> None:
        """The receipt's channel and ts lead to the task of a message: of the root message and of a
        checkpoint in its thread.
        """
        store = await make_store()
        await store.record([at_work(), asking()])
        deliveries = await drain(store, lambda d: Receipt(ref={"channel": "C1", "ts": f"{d.id}.0", "mark": "x"}))
        [task] = await store.tasks(TaskQuery())
        assert {d.mode for d in deliveries} == {Mode.STATE, Mode.CHECKPOINT}
        for delivery in deliveries:
            assert await store.reader.shown_in(SINK, {"channel": "C1", "ts": f"{delivery.id}.0"}) == task
        assert await store.reader.shown_in("another", {"channel": "C1", "ts": f"{deliveries[0].id}.0"}) is None
        assert await store.reader.shown_in(SINK, {"channel": "C2", "ts": f"{deliveries[0].id}.0"}) is None

    async def test_a_task_leads_to_its_message(self, make_store: MakeStore) -> None:
        """A task's uid leads to the message of its state; for another sink, and for no task, nothing is found."""
        store = await make_store()
        await store.record([at_work(), asking(), at_work("another", trace=2)])
        deliveries = await drain(store, lambda d: Receipt(ref={"channel": "C1", "ts": f"{d.id}.0", "mark": "x"}))
        tasks = await store.tasks(TaskQuery())
        states = {d.task.uid: f"{d.id}.0" for d in deliveries if d.mode is Mode.STATE and d.task is not None}
        found = await store.reader.shown_at(SINK, [task.uid for task in tasks])
        assert {uid: ref["ts"] for uid, ref in found.items()} == states
        assert len(states) == 2
        assert await store.reader.shown_at("another", states) == {}
        assert await store.reader.shown_at(SINK, [UUID(int=1)]) == {}

    async def test_a_request_is_accepted_once_an_hour(self, make_store: MakeStore) -> None:
        """An accepted request of a person's client is remembered, by every process."""
        store = await make_store()
        other = await self.another(store) or store
        assert [
            await store.interventions.is_first("r1"),
            await other.interventions.is_first("r1"),
            await other.interventions.is_first("r2"),
        ] == [
            True,
            False,
            True,
        ]

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def test_a_listener_receives_decisions_of_any_process(self, make_store: MakeStore) -> None:
        """A listener receives each decision at once, from any process, until it stops listening."""
        store = await make_store()
        other = await self.another(store) or store
        await store.record([at_work(), asking()])
        row = await the_question(store)
        received: asyncio.Queue[bytes] = asyncio.Queue()
        await store.interventions.listen(received.put_nowait)
        await other.interventions.intervene(an_act(Verb.APPROVE, row.key))
        await self._receives(received, topic_of("default", APPROVAL, "a1"))
        [task] = await store.tasks(TaskQuery())
        await other.interventions.intervene(an_act(Verb.CANCEL, row.task_uid))
        await self._receives(received, topic_of("default", TASK, task.task_id))
        store.interventions.listen_no_more(received.put_nowait)

    @staticmethod
    async def _receives(received: asyncio.Queue[bytes], topic: bytes) -> None:
        """Return once it has received this; others may be received as well."""
        listed = await asyncio.wait_for(received.get(), 60)
        while listed != topic:
            listed = await asyncio.wait_for(received.get(), 60)


__all__ = [
    "ALICE",
    "BOB",
    "ExercisePeople",
    "a_reported_decision",
    "an_act",
    "asking",
    "at_work",
    "fold_timers",
    "the_question",
]
