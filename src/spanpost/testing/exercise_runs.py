"""Tests of requests to a task that runs again, and of late decisions, in every store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import InterventionState, Result, Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.semconv import question_mark
from spanpost.testing.exercise_people import an_act, asking, at_work, fold_timers, the_question
from spanpost.testing.exercise_store import ROUTED_RULES, SINK, MakeStore, drain
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import ended, started

JOB = {"agent.task.id": "job"}
_RECEIVED = (Verb.MESSAGE, Verb.CANCEL)


def _over(trace: int) -> Observation:
    said = {"agent.task.name": "deploy", "agent.status": "complete", **JOB}
    return ended(trace=trace, span=1, name="agent", attributes=said)


class ExerciseRuns(Exercised):
    """Tests of requests to a task that runs again, and of late decisions, in every store."""

    async def test_a_question_before_its_task_waits_for_the_task(self, make_store: MakeStore) -> None:
        """A question names a task without a known run: its checkpoint waits until the run has a name."""
        store = await make_store()
        question = asking()
        await store.record([msgspec.structs.replace(question, attributes={**question.attributes, **JOB})])
        assert [t.is_announced for t in await store.tasks(TaskQuery())] == [False]
        assert await store.outbox.claim([SINK], 10) == []
        await store.record([at_work("deploy", attributes=JOB)])
        deliveries = await drain(store)
        assert {(d.task.name, d.ordering_key) for d in deliveries} == {("deploy", deliveries[0].ordering_key)}
        assert any(d.checkpoint is not None and d.checkpoint.kind is Kind.APPROVAL_REQUESTED for d in deliveries)

    async def test_a_question_without_a_task_is_shown_in_the_end(self, make_store: MakeStore) -> None:
        """If the run stays unknown, its question is shown after the settling time."""
        store = await make_store(rules=msgspec.structs.replace(ROUTED_RULES, announce_delay=timedelta(0)))
        question = asking()
        await store.record([msgspec.structs.replace(question, attributes={**question.attributes, **JOB})])
        assert await store.outbox.claim([SINK], 10) == []
        await fold_timers(store)
        assert {d.task.task_id for d in await drain(store)} == {"job"}

    async def test_an_act_is_of_the_run_that_was_seen(self, make_store: MakeStore) -> None:
        """Whether a cancelled run is the current one follows from what was known at the click, not from
        differing clocks.
        """
        for number, off in enumerate((-600.0, 0.0, 600.0)):
            store = await make_store()
            name, trace = {"agent.task.id": f"job-{number}", "agent.task.name": "deploy"}, 10 * number
            run = [started(trace=trace + n, span=1, name="agent", attributes=name, at=off + 10 * n) for n in (1, 2)]
            await store.record([run[0]])
            [task] = await store.tasks(TaskQuery(task_id=f"job-{number}"))
            assert (await store.interventions.intervene(an_act(Verb.CANCEL, task.uid))).result is Result.DONE
            [asked] = await store.tasks(TaskQuery(task_id=f"job-{number}"))
            over = {**name, "agent.status": "cancelled"}
            await store.record([ended(trace=trace + 1, span=1, name="agent", attributes=over, at=off + 10), run[1]])
            [again] = await store.tasks(TaskQuery(task_id=f"job-{number}"))
            assert (asked.cancel_by, again.runs, again.cancel_by) == ("alice", 2, "")
            assert (await store.interventions.intervene(an_act(Verb.CANCEL, task.uid))).result is Result.DONE
            [asked] = await store.tasks(TaskQuery(task_id=f"job-{number}"))
            assert asked.cancel_by == "alice"

    async def test_requests_to_an_ended_run_can_be_left_out(self, make_store: MakeStore) -> None:
        """The end of a run is in the store's time, whatever the agent's clock says.

        Later requests are found, however many came before.
        """
        store = await make_store()
        await store.record([at_work(attributes=JOB)])
        [task] = await store.tasks(TaskQuery())
        assert await store.interventions.last_end(task.uid) is None
        for n in range(3):
            await store.interventions.intervene(an_act(Verb.MESSAGE, task.uid, text=f"first {n}"))
        await store.record([_over(1)])  # of an agent whose clock is far away
        over = await store.interventions.last_end(task.uid)
        assert over is not None
        assert abs(over - datetime.now(UTC)) < timedelta(minutes=5)
        assert [d.text for d in await store.interventions.deeds(task.uid, _RECEIVED, limit=2)] == ["first 0", "first 1"]
        assert await store.interventions.deeds(task.uid, _RECEIVED, limit=2, since=over) == []
        again = {"agent.task.name": "deploy", **JOB}
        await store.record([started(trace=2, span=1, name="agent", attributes=again, at=60.0)])
        assert (await store.interventions.intervene(an_act(Verb.CANCEL, task.uid))).result is Result.DONE
        assert [
            d.verb
            for d in await store.interventions.deeds(
                task.uid, _RECEIVED, limit=2, since=await store.interventions.last_end(task.uid)
            )
        ] == ["cancel"]

    async def test_a_wording_is_found_by_its_mark_among_many(self, make_store: MakeStore) -> None:
        """However often a question was asked in other words since, the wording that an agent waits for is
        found by its mark.
        """
        store = await make_store()
        await store.record([at_work()])
        await store.record([asking(question=f"v{n}?", index=n, at=1.0 + n) for n in range(30)])
        query = ApprovalQuery(tenant="default", approval_id="a1", mark=question_mark("v0?", "", (), ""), limit=1)
        assert [(row.question, row.state) for row in await store.interventions.approvals(query)] == [
            ("v0?", InterventionState.VOID)
        ]

    async def test_a_decision_after_the_deadline_does_not_stand(self, make_store: MakeStore) -> None:
        """The process that watches deadlines was down: a late click is refused as late, and the question is expired."""
        for then, result in (
            ("expire", Result.EXPIRED),
            ("deny", Result.EXPIRED),
            ("wait", Result.DONE),
            ("escalate", Result.DONE),
        ):
            store = await make_store()
            until = (datetime.now(UTC) + timedelta(seconds=90)).isoformat()
            await store.record([at_work(), asking(expires_at=until, at_expiry=then)])
            await self.pass_time(store, 120)
            row = await the_question(store)
            assert (then, (await store.interventions.intervene(an_act(Verb.APPROVE, row.key))).result) == (then, result)
            await fold_timers(store)
            assert (await the_question(store)).state is (
                InterventionState.EXPIRED if result is Result.EXPIRED else InterventionState.DECIDED
            )

    async def test_a_change_behind_the_cut_is_another_question(self, make_store: MakeStore) -> None:
        """Of a question longer than is stored, other words behind the cut, or another of too many options,
        void the old buttons.
        """
        changes: list[tuple[str, Any, Any]] = [
            ("detail", "x" * 20_000 + "staging", "x" * 20_000 + "production"),
            ("question", "x" * 20_000 + "?", "x" * 20_000 + "!"),
            ("options", [f"o{n}" for n in range(30)], [f"o{n}" for n in range(31)]),
            ("options", ["y" * 900 + "1", "n"], ["y" * 900 + "2", "n"]),
        ]
        for field, one, other in changes:
            store = await make_store()
            said, changed = {field: one}, {field: other}
            await store.record([at_work(), asking(**said)])
            old = await the_question(store)
            await store.record([asking(**changed, index=1, at=2.0)])
            new = await the_question(store)
            assert old.key != new.key, field
            assert (await store.interventions.intervene(an_act(Verb.APPROVE, old.key))).result is Result.VOID

    async def test_an_option_may_be_called_expired(self, make_store: MakeStore) -> None:
        """A person who chooses it has decided; no deadline passed."""
        store = await make_store()
        await store.record([at_work(), asking(options=["expired", "valid"])])
        await store.interventions.intervene(an_act(Verb.CHOOSE, (await the_question(store)).key, option="expired"))
        [task] = await store.tasks(TaskQuery())
        assert [(a.decision, a.by, a.is_expired) for a in task.approvals] == [("expired", "alice", False)]
        assert (await the_question(store)).state is InterventionState.DECIDED

    async def test_yes_is_no_answer_to_options(self, make_store: MakeStore) -> None:
        """A question with options of its own is answered by one of them, and by nothing else."""
        store = await make_store()
        await store.record([at_work(), asking(options=["staging", "production"])])
        row = await the_question(store)
        assert (await store.interventions.intervene(an_act(Verb.APPROVE, row.key))).result is Result.UNKNOWN
        assert (await the_question(store)).state is InterventionState.OPEN


__all__ = ["ExerciseRuns"]
