"""Tests of questions to people in every store: they are stored, the first decision stands, deadlines pass."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import InterventionState, Result, Verb
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.store.protocols import Store
from spanpost.tasks.approval_rules import ApprovalRules
from spanpost.testing.exercise_people import ALICE, BOB, an_act, asking, at_work, fold_timers, the_question
from spanpost.testing.exercise_store import ROUTED_RULES, MakeStore, drain
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event


class ExerciseQuestions(Exercised):
    """Tests of questions, decisions and deadlines in every store."""

    # --- questions ---------------------------------------------------------------------------------------------------

    async def test_a_question_is_stored(self, make_store: MakeStore) -> None:
        """A question is found by its key, with its words, its options and the task that asks; its task waits."""
        store = await make_store()
        await store.record([at_work(), asking(options=["now", "later"], risk="high", detail="v2 to production")])
        [task] = await store.tasks(TaskQuery())
        [listed] = task.approvals
        assert listed.key is not None
        row = await store.interventions.approval(listed.key)
        assert row is not None
        assert (row.question, row.detail, row.options, row.risk) == (
            "Deploy?",
            "v2 to production",
            ("now", "later"),
            "high",
        )
        assert (row.state, row.task_uid, row.tenant, row.approval_id) == (
            InterventionState.OPEN,
            task.uid,
            "default",
            "a1",
        )
        assert task.status == "waiting"
        assert await store.interventions.approvals(ApprovalQuery(state="open")) == [row]
        assert await store.interventions.approval(uuid4()) is None

    async def test_a_question_without_an_id_cannot_be_answered(self, make_store: MakeStore) -> None:
        """A question without an id is shown and has no key."""
        store = await make_store()
        said = {"agent.approval.question": "Sure?"}
        await store.record(
            [at_work(), an_event(trace=1, span=1, name="agent.approval.requested", attributes=said, index=0, at=1.0)]
        )
        [task] = await store.tasks(TaskQuery())
        assert [(a.question, a.key) for a in task.open_approvals] == [("Sure?", None)]
        assert await store.interventions.approvals(ApprovalQuery()) == []

    async def test_a_decision_stands_and_is_shown(self, make_store: MakeStore) -> None:
        """A granted decision closes the question, makes one checkpoint with the person who decided, and the
        task continues.
        """
        store = await make_store()
        await store.record([at_work(), asking()])
        row = await the_question(store)
        verdict = await store.interventions.intervene(an_act(Verb.APPROVE, row.key, text="ship it"))
        assert (verdict.result, verdict.decision, verdict.by, verdict.is_repeat) == (
            Result.DONE,
            "approve",
            "alice",
            False,
        )
        [task] = await store.tasks(TaskQuery())
        [listed] = task.approvals
        assert (listed.decision, listed.by, listed.comment, listed.source) == ("approve", "alice", "ship it", "slack")
        assert (task.status, task.open_approvals) == ("working", ())
        kept = await the_question(store)
        assert (kept.state, kept.decision, kept.by_id, kept.decided_at) == (
            InterventionState.DECIDED,
            "approve",
            "slack:T1:U1",
            verdict.decided_at,
        )
        [resolved] = [c for c in await store.reader.checkpoints() if c.kind is Kind.APPROVAL_RESOLVED]
        assert resolved.text == "approve by alice: ship it"

    async def test_the_agents_report_of_a_decision_is_a_duplicate(self, make_store: MakeStore) -> None:
        """The agent's own resolution of a decided question, even one that its clock dates earlier, makes no
        checkpoint.
        """
        store = await make_store()
        await store.record([at_work(), asking()])
        row = await the_question(store)
        await store.interventions.intervene(an_act(Verb.APPROVE, row.key))
        before = await store.reader.checkpoints()
        said = {"agent.approval.id": "a1", "agent.approval.decision": "deny", "agent.approval.by": "somebody else"}
        recorded = await store.record(
            [an_event(trace=1, span=1, name="agent.approval.resolved", attributes=said, index=1, at=1.5)]
        )
        assert recorded.checkpoints == []
        assert await store.reader.checkpoints() == before
        [task] = await store.tasks(TaskQuery())
        assert [(a.decision, a.by) for a in task.approvals] == [("approve", "alice")]

    async def test_the_first_decision_wins(self, make_store: MakeStore) -> None:
        """Of many simultaneous decisions, through two connections, one stands.

        Every other one learns which, and by whom.
        """
        store = await make_store()
        other = await self.another(store) or store
        await store.record([at_work(), asking()])
        row = await the_question(store)
        acts = [an_act(Verb.APPROVE if i % 2 else Verb.DENY, row.key, actor=ALICE if i % 2 else BOB) for i in range(10)]
        verdicts = await asyncio.gather(
            *((store if i % 3 else other).interventions.intervene(act) for i, act in enumerate(acts))
        )
        [won] = [v for v in verdicts if v.result is Result.DONE]
        lost = [v for v in verdicts if v is not won]
        assert {(v.result, v.decision, v.by, v.decided_at) for v in lost} == {
            (Result.DECIDED, won.decision, won.by, won.decided_at)
        }
        [task] = await store.tasks(TaskQuery())
        assert [(a.decision, a.by) for a in task.approvals] == [(won.decision, won.by)]
        assert len([c for c in await store.reader.checkpoints() if c.kind is Kind.APPROVAL_RESOLVED]) == 1

    async def test_a_repeat_is_answered_as_the_first_was(self, make_store: MakeStore) -> None:
        """The same act again, at once and later, by any process, changes nothing and gets the first one's verdict."""
        store = await make_store()
        other = await self.another(store) or store
        await store.record([at_work(), asking()])
        row = await the_question(store)
        act = an_act(Verb.APPROVE, row.key, idempotency_key="click")
        verdicts = await asyncio.gather(*((store if i % 2 else other).interventions.intervene(act) for i in range(6)))
        assert [v.is_repeat for v in verdicts].count(False) == 1
        assert {(v.result, v.decision, v.by, v.decided_at) for v in verdicts} == {
            (Result.DONE, "approve", "alice", verdicts[0].decided_at)
        }
        again = await other.interventions.intervene(msgspec.structs.replace(act, verb=Verb.DENY))
        assert (again.result, again.decision, again.is_repeat) == (Result.DONE, "approve", True)

    async def test_a_question_asked_in_other_words_voids_the_old(self, make_store: MakeStore) -> None:
        """Asked again in other words a question has another key and a new checkpoint.

        A decision by the old key changes nothing.
        """
        store = await make_store()
        await store.record([at_work(), asking(question="Deploy v1?")])
        old = await the_question(store)
        await store.record([asking(question="Deploy v2?", index=1, at=2.0)])
        new = await the_question(store)
        assert new.key != old.key
        assert (await store.interventions.intervene(an_act(Verb.APPROVE, old.key))).result is Result.VOID
        [task] = await store.tasks(TaskQuery())
        assert [(a.question, a.is_void, a.is_open) for a in task.approvals] == [
            ("Deploy v1?", True, False),
            ("Deploy v2?", False, True),
        ]
        listed = [c.text for c in await store.reader.checkpoints() if c.kind is Kind.APPROVAL_REQUESTED]
        assert listed == ["Deploy v1?", "Deploy v2?"]
        assert (await store.interventions.intervene(an_act(Verb.DENY, new.key))).result is Result.DONE

    async def test_a_decision_is_of_the_words_that_were_read(self, make_store: MakeStore) -> None:
        """A question that was approved and is then asked in other words is open again."""
        store = await make_store()
        await store.record([at_work(), asking(question="Deploy v1?")])
        await store.interventions.intervene(an_act(Verb.APPROVE, (await the_question(store)).key))
        await store.record([asking(question="Deploy v2?", index=1, at=2.0)])
        [task] = await store.tasks(TaskQuery())
        assert (task.status, [a.question for a in task.open_approvals]) == ("waiting", ["Deploy v2?"])
        assert (await the_question(store)).state is InterventionState.OPEN

    async def test_a_second_run_gets_the_first_decision(self, make_store: MakeStore) -> None:
        """The same question under the same id, asked by a second run, is answered by the decision for the first."""
        store = await make_store()
        await store.record([at_work(), asking()])
        first = await the_question(store)
        verdict = await store.interventions.intervene(an_act(Verb.APPROVE, first.key))
        await store.record([at_work("again", trace=2), asking(trace=2, at=5.0)])
        [again] = [t for t in await store.tasks(TaskQuery()) if t.name == "again"]
        assert [(a.decision, a.by, a.source) for a in again.approvals] == [("approve", "alice", "slack")]
        assert again.status != "waiting"
        row = await the_question(store)
        assert (row.task_uid, row.state, row.by_id, row.decided_at) == (
            again.uid,
            InterventionState.DECIDED,
            "slack:T1:U1",
            verdict.decided_at,
        )

    async def test_an_answer_may_come_before_its_question(self, make_store: MakeStore) -> None:
        """A question and its decision, folded in any order, give the same task."""
        listed = asking()
        said = {"agent.approval.id": "a1", "agent.approval.decision": "deny", "agent.approval.by": "carol"}
        answer = an_event(trace=1, span=1, name="agent.approval.resolved", attributes=said, index=1, at=2.0)
        seen = []
        for order in ([at_work(), listed, answer], [answer, listed, at_work()]):
            store = await make_store()
            for observation in order:
                await store.record([observation])
            [task] = await store.tasks(TaskQuery())
            row = await the_question(store)
            seen.append(([(a.question, a.decision) for a in task.approvals], row.state, row.decision, row.key))
        assert seen[0] == seen[1] == ([("Deploy?", "deny")], InterventionState.DECIDED, "deny", seen[0][3])

    # --- deadlines ---------------------------------------------------------------------------------------------------

    async def _overdue(self, make_store: MakeStore, **said: Any) -> Store:
        rules = msgspec.structs.replace(ROUTED_RULES, approvals=ApprovalRules(expire_after=timedelta(seconds=60)))
        store = await make_store(rules=rules)
        now = datetime.now(UTC)
        await store.record([at_work(), asking(expires_at=(now + timedelta(seconds=90)).isoformat(), **said)])
        await fold_timers(store)
        assert (await the_question(store)).state is InterventionState.OPEN
        await self.pass_time(store, 120)
        await fold_timers(store)
        return store

    async def test_a_passed_deadline_is_no_refusal(self, make_store: MakeStore) -> None:
        """A question without an answer in time is expired, not denied; a later click learns so."""
        store = await self._overdue(make_store)
        row = await the_question(store)
        assert (row.state, row.decision, row.source, row.by) == (InterventionState.EXPIRED, "expired", "spanpost", "")
        verdict = await store.interventions.intervene(an_act(Verb.APPROVE, row.key))
        assert (verdict.result, verdict.decision) == (Result.EXPIRED, "expired")
        [task] = await store.tasks(TaskQuery())
        assert [(a.decision, a.is_expired, a.is_open) for a in task.approvals] == [("expired", True, False)]
        assert [c.text for c in await store.reader.checkpoints() if c.kind is Kind.APPROVAL_RESOLVED] == [
            "Not decided in time"
        ]

    async def test_a_deadline_may_deny(self, make_store: MakeStore) -> None:
        """If the agent asks for it, a passed deadline denies, and is marked as a deadline."""
        store = await self._overdue(make_store, at_expiry="deny")
        row = await the_question(store)
        assert (row.state, row.decision, row.source) == (InterventionState.EXPIRED, "deny", "spanpost")
        [task] = await store.tasks(TaskQuery())
        assert [(a.decision, a.is_expired) for a in task.approvals] == [("deny", True)]

    async def test_a_deadline_may_wait(self, make_store: MakeStore) -> None:
        """If the agent asks for it, a question stays open after its deadline, and can be answered."""
        store = await self._overdue(make_store, at_expiry="wait")
        row = await the_question(store)
        assert row.state is InterventionState.OPEN
        assert (await store.interventions.intervene(an_act(Verb.APPROVE, row.key))).result is Result.DONE

    async def test_an_escalation_is_a_checkpoint(self, make_store: MakeStore) -> None:
        """An escalation is a checkpoint of its own, most urgent.

        The question is open for as long again, and then expires.
        """
        store = await self._overdue(make_store, at_expiry="escalate")
        row = await the_question(store)
        assert (row.state, row.escalated_at is not None) == (InterventionState.OPEN, True)
        [task] = await store.tasks(TaskQuery())
        [asked] = task.approvals
        listed = [c for c in await store.reader.checkpoints() if c.kind is Kind.APPROVAL_REQUESTED]
        assert [(c.id, c.text) for c in listed] == [
            (asked.reported_by, "Deploy?"),
            (asked.escalated_by, "Not answered yet: Deploy?"),
        ]
        assert [task.approval_of(c.id) for c in listed] == [asked, asked]
        assert [
            d.checkpoint.id
            for d in await drain(store)
            if d.checkpoint is not None and d.checkpoint.kind is listed[0].kind
        ] == [c.id for c in listed]
        await self.pass_time(store, 10**8)
        await fold_timers(store)
        assert (await the_question(store)).state is InterventionState.EXPIRED

    async def test_a_question_without_a_deadline_has_that_of_the_settings(self, make_store: MakeStore) -> None:
        """A question without a deadline of its own is open for as long as the settings say."""
        rules = msgspec.structs.replace(
            ROUTED_RULES, approvals=ApprovalRules(expire_after=timedelta(seconds=60), at_expiry="deny")
        )
        store = await make_store(rules=rules)
        await store.record([at_work(), asking()])
        row = await the_question(store)
        assert (row.expires_at, row.at_expiry) == (row.requested_at + timedelta(seconds=60), "deny")
