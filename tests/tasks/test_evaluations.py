"""Evaluations: the same result in any order and however often repeated; and their routes, metrics and events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from prometheus_client.parser import text_string_to_metric_families

from spanpost.metrics.recorder import Metrics
from spanpost.model.evaluations import Evaluation, newest, scores
from spanpost.model.observations import Observation, Origin
from spanpost.model.queries import TaskQuery
from spanpost.model.recorded import Evaluated, Recorded
from spanpost.readers import read
from spanpost.routing.routes import Route, Routes, chosen
from spanpost.runtime.rating_events import RatingEvents
from spanpost.semconv import SCOPE_FEEDBACK
from spanpost.settings import load
from spanpost.store.memory import MemoryStore
from spanpost.testing.exercise_evaluations import a_result, an_end, as_record
from spanpost.testing.exercise_people import at_work
from spanpost.testing.nouns import a_task
from spanpost.testing.observed import ended
from tests.thorough import thorough

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rated(label: str, by_id: str = "slack:T1:U1", *, minutes: int = 0, text: str = "") -> Evaluation:
    """Return a person's rating."""
    return Evaluation(
        name="person_rating",
        score=float(label == "up"),
        label=label,
        explanation=text,
        is_person=True,
        by=by_id,
        by_id=by_id,
        subject=f"{1:032x}-{1:016x}",
        at=NOON + timedelta(minutes=minutes),
    )


results = st.builds(
    lambda score, name, at, is_record, has_span: (
        as_record(a_result(score, name, at=at)) if is_record else a_result(score, name, at=at, span=1 + has_span)
    ),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from(["relevance", "tone", "person_rating"]),
    st.sampled_from([2.0, 3.0, 4.0]),
    st.booleans(),
    st.booleans(),
)
CALL = ended(trace=1, span=2, parent=1, name="chat m", attributes={"gen_ai.operation.name": "chat"})


@thorough(30)
@given(st.lists(results, max_size=6), st.randoms(use_true_random=False))
def test_any_order_and_repetition_give_the_same_evaluations(found: list[Observation], random: object) -> None:
    """Any order, split and repetition of a history gives a task the same evaluations, each counted once."""

    def folded(batch: list[Observation], *, is_split: bool) -> tuple[object, int]:
        store = MemoryStore()
        recorded = [store.record_now([one]) for one in batch] if is_split else [store.record_now(batch)]
        [task] = store.tasks_now(TaskQuery())
        return task.evaluations, sum(len(one.evaluated) for one in recorded)

    history = [at_work(), CALL, *found, an_end()]
    shuffled = [*history, *found]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = folded(history, is_split=False)
    assert folded(shuffled, is_split=True) == whole
    assert folded(shuffled, is_split=False) == whole


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"gen_ai.evaluation.name": "x"}, None),
        ({"gen_ai.evaluation.name": " ", "gen_ai.evaluation.score.value": 1.0}, None),
        ({"gen_ai.evaluation.name": "x", "gen_ai.evaluation.score.value": float("nan")}, None),
        ({"gen_ai.evaluation.name": "x", "gen_ai.evaluation.score.value": True}, None),
        ({"gen_ai.evaluation.name": "x", "gen_ai.evaluation.score.value": 3}, (3.0, "")),
        ({"gen_ai.evaluation.name": "x", "gen_ai.evaluation.score.label": "pass"}, (None, "pass")),
    ],
)
def test_a_result_needs_a_name_and_a_score_or_label(attributes: dict[str, object], expected: object) -> None:
    """An event without a name, or with neither a finite score nor a label, is no evaluation."""
    event = replace(a_result(), attributes=attributes)
    found = read(event).evaluation
    assert (None if found is None else (found.score, found.label)) == expected


def test_what_spanpost_emits_is_not_read_again() -> None:
    """An event of spanpost's own scope is no evaluation of telemetry: a rating would count twice."""
    event = replace(a_result(), origin=Origin(scope=SCOPE_FEEDBACK))
    assert read(event).evaluation is None


def test_each_person_counts_once_and_telemetry_not_as_a_person() -> None:
    """The mean is over the newest rating of each person; results of telemetry have means of their own."""
    given = (
        rated("down", minutes=3),
        rated("up", minutes=2),
        rated("up", "slack:T1:U2"),
        Evaluation(name="person_rating", score=1.0, subject="r1"),
        Evaluation(name="tone", score=0.2, subject="r1"),
        Evaluation(name="tone", score=0.4, subject="r2"),
        Evaluation(name="tone", score=0.9, subject="r1"),
    )
    assert scores(given) == {"person_rating": 0.5, "tone": pytest.approx(0.3)}
    assert len(newest(given)) == 5


def test_a_route_takes_tasks_by_score() -> None:
    """A route with `score_below` also receives tasks of which a named evaluation has a lower mean score."""
    low = Route(sink="slack", address="#quality", score_below=0.5, evaluation="person_rating")
    routes = Routes(sinks=("slack",), routes=(low, Route(sink="slack", address="#agents")))

    def places(*evaluations: Evaluation) -> list[str]:
        return [route.address for route in chosen(a_task(evaluations=evaluations), routes)]

    assert places() == places(rated("up")) == ["#agents"]
    assert places(rated("down")) == ["#quality", "#agents"]
    assert places(rated("down"), rated("up", "slack:T1:U2")) == ["#agents"]
    assert places(Evaluation(name="tone", score=0.0), Evaluation(name="person_rating", score=0.0)) == ["#agents"]
    any_name = Route(sink="slack", score_below=0.5)
    assert any_name.takes(a_task(evaluations=(Evaluation(name="tone", score=0.0),)))


def test_the_settings_of_a_route_by_score() -> None:
    """The setting is read, and refused with a digest, and without a score."""
    from spanpost.model.errors import ConfigError

    route = {"sink": "console", "score_below": 0.5, "evaluation": "person_rating"}
    assert load(routes=[route]).routes[0].score_below == 0.5
    for wrong in ({**route, "digest": "daily"}, {"sink": "console", "evaluation": "tone"}):
        with pytest.raises(ConfigError):
            load(routes=[wrong])


def test_evaluations_are_counted_by_name_and_source() -> None:
    """Each new evaluation is counted once, people's apart from telemetry's, and scores are in a histogram."""
    metrics, task = Metrics(), a_task(agent_name="coder")
    found = (rated("down"), Evaluation(name="tone", label="rude", subject="r1"))
    new = [Evaluated(task_uid=task.uid, tenant="default", evaluation=one) for one in found]
    for _ in metrics.counting(Recorded(tasks=[task], evaluated=new)):
        pass
    common = {"agent": "coder", "environment": "unknown", "tenant": "default"}
    person = {"source": "person", "evaluation": "person_rating", **common}
    telemetry = {"source": "telemetry", "evaluation": "tone", **common}
    counted = {
        (sample.name, sample.labels["source"], sample.labels["evaluation"]): sample.value
        for family in text_string_to_metric_families(metrics.page("text/plain")[1].decode())
        for sample in family.samples
        if sample.name in ("spanpost_evaluations_total", "spanpost_evaluation_score_count")
        and sample.labels in (person, telemetry, person | {"environment": ""}, telemetry | {"environment": ""})
    }
    assert counted == {
        ("spanpost_evaluations_total", "person", "person_rating"): 1.0,
        ("spanpost_evaluations_total", "telemetry", "tone"): 1.0,
        ("spanpost_evaluation_score_count", "person", "person_rating"): 1.0,
    }


def test_a_rating_is_emitted_on_its_task() -> None:
    """With a logger provider each rating is one event on the task's root span; telemetry's results are not sent on."""
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    task = a_task()
    found = (rated("down", text="the wrong file"), Evaluation(name="tone", score=0.1, subject="r1"))
    new = [Evaluated(task_uid=task.uid, tenant="default", evaluation=one) for one in found]
    RatingEvents(provider).emit(Recorded(evaluated=new))
    [emitted] = exporter.get_finished_logs()
    record = emitted.log_record
    assert (record.event_name, record.trace_id, record.span_id) == ("gen_ai.evaluation.result", 1, 1)
    assert dict(record.attributes or {}) == {
        "gen_ai.evaluation.name": "person_rating",
        "gen_ai.evaluation.score.value": 0.0,
        "gen_ai.evaluation.score.label": "down",
        "gen_ai.evaluation.explanation": "the wrong file",
    }
    assert emitted.instrumentation_scope.name == SCOPE_FEEDBACK
