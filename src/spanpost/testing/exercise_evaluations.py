"""Tests of evaluations in every store: people's ratings, and results that telemetry reports."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Mode
from spanpost.model.evaluations import Evaluation, newest, scores
from spanpost.model.interventions import Result, Verb
from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.protocols import Store
from spanpost.testing.exercise_people import ALICE, BOB, an_act, at_work
from spanpost.testing.exercise_store import ROUTED_RULES, MakeStore, drain
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event, ended


def an_end(trace: int = 1, status: str = "complete") -> Observation:
    """Return the end of the task that `at_work` starts."""
    attributes = {"agent.task.name": "deploy", "agent.status": status}
    return ended(trace=trace, span=1, name="agent", attributes=attributes)


def a_result(
    score: float | None = 0.25,
    name: str = "relevance",
    *,
    label: str | None = None,
    trace: int = 1,
    span: int = 1,
    at: float = 3.0,
    **more: Any,
) -> Observation:
    """Return an evaluation that telemetry reports; further keywords are `gen_ai.evaluation.*`."""
    said = {"name": name, "score.value": score, "score.label": label, **more}
    attributes = {f"gen_ai.evaluation.{key}": value for key, value in said.items() if value is not None}
    return an_event(trace=trace, span=span, name="gen_ai.evaluation.result", attributes=attributes, index=7, at=at)


def as_record(event: Observation) -> Observation:
    """Return a span event in its other form: a log record with its name."""
    return msgspec.structs.replace(event, part=Part.LOG, index=99, end_ns=0)


async def the_task(store: Store) -> Task:
    """Return the only task."""
    [task] = await store.tasks(TaskQuery())
    return task


def shown(found: tuple[Evaluation, ...]) -> list[tuple[str, float | None, str, bool]]:
    """Return what identifies evaluations, in a fixed order."""
    return sorted((one.name, one.score, one.label, one.is_person) for one in found)


class ExerciseEvaluations(Exercised):
    """Tests of evaluations in every store."""

    async def test_a_persons_newest_rating_stands(self, make_store: MakeStore) -> None:
        """Each rating is recorded once; of each person the newest stands, and only one with a comment is posted."""
        store = await make_store()
        await store.record([at_work(), an_end()])
        task = await the_task(store)
        first = an_act(Verb.RATE, task.uid, option="up", idempotency_key="1")
        verdicts = [await store.interventions.intervene(act) for act in (first, first)]
        assert [(v.result, v.is_repeat, v.decision) for v in verdicts] == [
            (Result.DONE, False, "up"),
            (Result.DONE, True, "up"),
        ]
        again = await store.interventions.intervene(an_act(Verb.RATE, task.uid, option="down", text="the wrong file"))
        other = await store.interventions.intervene(an_act(Verb.RATE, task.uid, option="up", actor=BOB))
        recorded = [v.recorded for v in (verdicts[0], again, other) if v.recorded is not None]
        assert [[e.evaluation.label for e in one.evaluated] for one in recorded] == [["up"], ["down"], ["up"]]
        assert [[c.text for c in one.checkpoints] for one in recorded] == [
            [],
            ["alice rated this 👎: the wrong file"],
            [],
        ]
        task = await the_task(store)
        assert (task.status, len(task.evaluations)) == ("complete", 3)
        standing = [(one.by_id, one.label, one.explanation) for one in newest(task.evaluations)]
        assert standing == [("slack:T1:U2", "up", ""), ("slack:T1:U1", "down", "the wrong file")]
        assert scores(task.evaluations) == {"person_rating": 0.5}
        timeline = (await store.reader.timeline(task.uid, None, 50, content=False)).items
        assert [(one.kind, one.status, one.by) for one in timeline if one.kind == "rate"] == [
            ("rate", "up", "alice"),
            ("rate", "down", "alice"),
            ("rate", "up", "bob"),
        ]

    async def test_a_rating_is_shown(self, make_store: MakeStore) -> None:
        """A rating edits the message of a finished task, and one with a comment is posted in its thread."""
        store = await make_store()
        await store.record([at_work(), an_end()])
        await drain(store)
        task = await the_task(store)
        await store.interventions.intervene(an_act(Verb.RATE, task.uid, option="up"))
        [state] = await drain(store)
        assert (state.mode, [one.label for one in state.task.evaluations]) == (Mode.STATE, ["up"])
        await store.interventions.intervene(an_act(Verb.RATE, task.uid, option="down", text="the wrong file"))
        sent = await drain(store)
        assert sorted(one.mode for one in sent) == [Mode.CHECKPOINT, Mode.STATE]
        assert [one.checkpoint.text for one in sent if one.checkpoint is not None and one.mode is Mode.CHECKPOINT] == [
            "alice rated this 👎: the wrong file"
        ]

    async def test_telemetry_is_no_persons_rating(self, make_store: MakeStore) -> None:
        """A result with a rating's name counts as telemetry, and an agent's report of a person's rating not at all."""
        store = await make_store()
        posing = {
            "agent.intervention.verb": "rate",
            "agent.intervention.rating": "up",
            "agent.intervention.by": "alice",
            "agent.intervention.by_id": "slack:T1:U1",
        }
        event = an_event(trace=1, span=1, name="agent.intervention", attributes=posing, index=3, at=2.0)
        await store.record([at_work(), event, a_result(1.0, "person_rating", label="up"), an_end()])
        task = await the_task(store)
        assert shown(task.evaluations) == [("person_rating", 1.0, "up", False)]
        await store.interventions.intervene(an_act(Verb.RATE, task.uid, option="down", actor=ALICE))
        task = await the_task(store)
        assert scores([one for one in task.evaluations if one.is_person]) == {"person_rating": 0.0}
        assert len(newest(task.evaluations)) == 2

    async def test_the_order_and_form_of_results_do_not_matter(self, make_store: MakeStore) -> None:
        """In any order, as an event or a record, and repeated, each result is recorded once, and the newest stands."""
        store, found = await make_store(), set()
        for trace, order in enumerate(list(permutations(range(5)))[::17], 1):
            again = as_record(a_result(0.25, trace=trace))
            results = [a_result(0.25, trace=trace), a_result(0.75, trace=trace, at=4.0), again]
            batch = [at_work(trace=trace), *results, an_end(trace)]
            new = 0
            for n in (*order, *order):
                new += len((await store.record([batch[n]])).evaluated)
            task = next(t for t in await store.tasks(TaskQuery()) if t.trace_id[-1] == trace)
            found.add((new, tuple(shown(task.evaluations)), scores(task.evaluations)["relevance"], task.status))
        expected = (("relevance", 0.25, "", False), ("relevance", 0.75, "", False))
        assert found == {(2, expected, 0.75, "complete")}

    async def test_a_result_finds_its_model_call(self, make_store: MakeStore) -> None:
        """A record without a span joins the task of the call with its response id, whichever comes first."""
        store, found = await make_store(), set()
        for trace, order in enumerate(list(permutations(range(4)))[::5], 1):
            call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.id": f"resp-{trace}"}
            result = msgspec.structs.replace(
                as_record(a_result(0.5, trace=trace)), trace_id=b"", span_id=b"", index=trace
            )
            result.attributes["gen_ai.response.id"] = f"resp-{trace}"
            span = ended(trace=trace, span=2, parent=1, name="chat m", attributes=call)
            batch = [at_work(trace=trace), span, result, an_end(trace)]
            new = 0
            for n in (*order, *order):
                new += len((await store.record([batch[n]])).evaluated)
            task = next(t for t in await store.tasks(TaskQuery()) if t.trace_id[-1] == trace)
            found.add((new, tuple(shown(task.evaluations)), task.evaluations[0].subject == f"resp-{trace}"))
        assert found == {(1, (("relevance", 0.5, "", False),), True)}
        assert len(await store.tasks(TaskQuery())) == 5

    async def test_an_explanation_is_content(self, make_store: MakeStore) -> None:
        """An evaluator's words are kept only with the content switch; a person's comment always is."""
        store = await make_store()
        await store.record([at_work(), a_result(explanation="the prompt says so"), an_end()])
        task = await the_task(store)
        await store.interventions.intervene(an_act(Verb.RATE, task.uid, option="up", text="well done"))
        task = await the_task(store)
        assert {one.is_person: one.explanation for one in task.evaluations} == {True: "well done", False: ""}
        store = await make_store(msgspec.structs.replace(ROUTED_RULES, keeps_content=True))
        await store.record([at_work(), a_result(explanation="the prompt says so"), an_end()])
        assert [one.explanation for one in (await the_task(store)).evaluations] == ["the prompt says so"]

    async def test_people_are_not_displaced_by_telemetry(self, make_store: MakeStore) -> None:
        """However many results telemetry reports, people's ratings are kept, and the number is bounded."""
        store = await make_store()
        await store.record([at_work(), an_end()])
        task = await the_task(store)
        await store.interventions.intervene(an_act(Verb.RATE, task.uid, option="down"))
        await store.record([a_result(0.5, f"test {n}", at=10.0 + n) for n in range(80)])
        task = await the_task(store)
        assert (len(task.evaluations), sum(one.is_person for one in task.evaluations)) == (50, 1)

    async def test_a_result_reopens_nothing(self, make_store: MakeStore) -> None:
        """Results that arrive after the end change neither the status nor the times of a task."""
        store = await make_store()
        await store.record([at_work(), an_end()])
        before = await the_task(store)
        recorded = await store.record([a_result(at=90.0)])
        after = await the_task(store)
        assert msgspec.structs.replace(after, evaluations=()) == before
        assert [one.kind for one in recorded.checkpoints if one.kind is not Kind.END] == []
