"""Bounded series: hostile values, silent agents, exemplars, and the counts of a real store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from spanpost.metrics.bridge import Bridge
from spanpost.metrics.labels import SeriesLimits
from spanpost.metrics.recorder import Metrics
from spanpost.model.checkpoints import Kind
from spanpost.model.fleet import Fleet, OpenApprovals, Sealing, SinkQueue
from spanpost.model.observations import Status
from spanpost.model.recorded import FinalizedUsage, Recorded
from spanpost.model.usage import Usage
from spanpost.settings import MetricsSettings
from spanpost.store.memory import MemoryStore
from spanpost.testing.nouns import a_checkpoint, a_task
from spanpost.testing.observed import a_run, an_event, ended, started
from tests.metrics.test_metrics import an_open, value

ROOT_SPAN = {"agent.task.name": "deploy", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "deployer"}


def used(agent: str | None, model: str | None, **more: str) -> FinalizedUsage:
    return FinalizedUsage(agent_name=agent, model=model, calls=1, usage=Usage(input=10), **more)


@pytest.mark.slow
@pytest.mark.proves("one-stops-no-other", "label-explosion")
@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20), st.text(max_size=5)), max_size=60))
def test_no_label_value_makes_more_series_than_are_allowed(given_names):
    """Any agent names give few values and few combinations, and every token is counted."""
    metrics = Metrics(SeriesLimits(max_values=5, max_series=8))
    for agent, model, tenant in given_names:
        metrics.recorded(Recorded(finalized=[used(agent, model, tenant=tenant)]))
    calls = [s for m in metrics.registry.collect() for s in m.samples if s.name == "spanpost_model_calls_total"]
    assert sum(s.value for s in calls) == len(given_names)
    assert len(calls) <= 8 + 1
    assert all(len({s.labels[label] for s in calls}) <= 5 + 2 for label in ("agent", "model", "tenant"))


def test_a_value_is_other_in_all_metrics_or_in_none():
    """An agent that one metric distinguishes is distinguished by the others too."""
    metrics = Metrics(SeriesLimits(max_values=1))
    for name in ("first", "second"):
        task = a_task(name, agent_name=name)
        metrics.recorded(Recorded(tasks=[task], started=[task.uid], ended=[task.uid], finalized=[used(name, "m")]))
    for metric in ("spanpost_tasks_started_total", "spanpost_tasks_ended_total", "spanpost_model_calls_total"):
        assert value(metrics, metric, agent="first") == 1
        assert value(metrics, metric, agent="second") is None
        assert value(metrics, metric, agent="other") == 1


def test_what_nobody_counted_under_for_long_goes():
    """An agent without activity loses its series and makes room; an active one keeps its own."""
    now = 0.0
    metrics = Metrics(SeriesLimits(max_values=2, expire_after=timedelta(hours=1)), clock=lambda: now)
    metrics.recorded(Recorded(finalized=[used("old", "m"), used("busy", "m")]))
    now = 3000.0
    metrics.recorded(Recorded(finalized=[used("busy", "m"), used("late", "m")]))
    assert value(metrics, "spanpost_model_calls_total", agent="late") is None
    assert value(metrics, "spanpost_model_calls_total", agent="other") == 1
    now = 3700.0
    assert value(metrics, "spanpost_model_calls_total", agent="old") is None
    assert value(metrics, "spanpost_model_calls_total", agent="busy") == 2
    metrics.recorded(Recorded(finalized=[used("late", "m")]))
    assert value(metrics, "spanpost_model_calls_total", agent="late") == 1


def test_what_may_come_of_a_task_is_zero_beforehand():
    """A known task has its endings, warnings and tokens at 0, so that the first one is an increase."""
    metrics = Metrics()
    metrics.recorded(Recorded(tasks=[a_task(agent_name="a", model="m")]))
    assert value(metrics, "spanpost_tasks_ended_total", agent="a", status="error") == 0
    assert value(metrics, "spanpost_warnings_total", agent="a", kind="context_warning") == 0
    assert value(metrics, "spanpost_tokens_total", agent="a", model="m", kind="output") == 0


async def test_steps_calls_and_answers_are_timed_once():
    """A call's time is counted once however often it is sent; so are a question's wait and errors by type."""
    store, metrics = MemoryStore(), Metrics()
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep", "error.type": "TimeoutError"}
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 3}
    asked = {"agent.approval.id": "q1", "agent.approval.question": "Deploy?"}
    answered = {"agent.approval.id": "q1", "agent.approval.decision": "approved"}
    batch = [
        started(trace=1, span=1, name="agent", attributes=ROOT_SPAN),
        ended(trace=1, span=2, parent=1, name="tool", attributes=tool, seconds=2.0, status=Status.ERROR),
        ended(trace=1, span=3, parent=1, name="chat", attributes=chat, seconds=4.0),
        an_event(trace=1, span=1, name="agent.approval.requested", index=0, attributes=asked, at=2.0),
    ]
    metrics.recorded(await store.record(batch))
    metrics.recorded(await store.record(batch))
    other_copy = [
        msgspec.structs.replace(o, attributes={**o.attributes, "enriched": "by a collector"}) for o in batch[1:3]
    ]
    metrics.recorded(await store.record(other_copy))
    fleet = await store.fleet()
    assert fleet is not None
    assert (fleet.approvals[0].agent_name, fleet.approvals[0].count) == ("deployer", 1)
    resolved = an_event(trace=1, span=1, name="agent.approval.resolved", index=1, attributes=answered, at=62.0)
    metrics.recorded(await store.record([resolved]))
    agent = {"agent": "deployer"}
    assert value(metrics, "spanpost_tool_call_duration_seconds_sum", outcome="error", **agent) == pytest.approx(2.0)
    assert value(metrics, "spanpost_tool_call_duration_seconds_count", **agent) == 1
    assert value(metrics, "spanpost_model_call_duration_seconds_sum", model="gpt-4o", **agent) == pytest.approx(4.0)
    assert value(metrics, "spanpost_model_call_duration_seconds_count", **agent) == 1
    assert value(metrics, "spanpost_approval_wait_seconds_sum", **agent) == pytest.approx(60.0)
    assert value(metrics, "spanpost_errors_total", error_type="TimeoutError", scope="part", **agent) == 1
    fleet = await store.fleet()
    assert fleet is not None
    assert fleet.approvals == []


def test_exemplars_lead_to_the_trace():
    """An OpenMetrics scrape gets the newest trace and checkpoint as exemplar, within 128 characters."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    metrics = Metrics()
    task = a_task(status="complete", ended_at=a_task().started_at + timedelta(seconds=9), trace_id=bytes(range(16)))
    end, error = (a_checkpoint(task, key=kind, kind=kind, trace_id=task.trace_id) for kind in (Kind.END, Kind.ERROR))
    metrics.recorded(Recorded(tasks=[task], started=[task.uid], ended=[task.uid], checkpoints=[error, end]))
    content_type, page = metrics.page("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    found = {
        sample.name: sample.exemplar.labels
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.exemplar is not None
    }
    trace = {"trace_id": bytes(range(16)).hex()}
    of_end, of_error = ({**trace, "checkpoint_id": str(checkpoint.id)} for checkpoint in (end, error))
    assert found == {
        "spanpost_tasks_started_total": trace,
        "spanpost_tasks_ended_total": of_end,
        "spanpost_task_duration_seconds_bucket": of_end,
        "spanpost_errors_total": of_error,
    }
    assert all(sum(len(name) + len(value) for name, value in labels.items()) <= 128 for labels in found.values())


def test_the_fleet_is_shown_whole_and_taken_back():
    """For equal labels counts add up and ages take the maximum; without rows the series disappear."""
    metrics = Metrics(SeriesLimits(max_values=1))
    fleet = Fleet(
        tasks=[
            an_open("working", 2, "a", stall=5.0, share=0.5),
            an_open("working", 3, "b", stall=9.0, share=0.9),
            an_open("working", 4, "c", stall=7.0),
        ],
        approvals=[OpenApprovals(agent_name="a", environment=None, tenant="t", count=1, oldest=77.0)],
        deliveries=[SinkQueue(sink="slack", waiting=4, oldest=12.0, dead=1)],
        closed_rate_limits={"throttled": 2},
        quarantined={"undecodable": 3},
        schema_version="1.4",
    )
    metrics.fleet(fleet)
    assert value(metrics, "spanpost_tasks_open", status="working", agent="other") == 7
    assert value(metrics, "spanpost_task_quiet_seconds", agent="other") == 9
    assert value(metrics, "spanpost_context_used_ratio", agent="a") == 0.5
    assert value(metrics, "spanpost_approval_oldest_seconds") == 77
    assert value(metrics, "spanpost_deliveries_waiting", sink="slack") == 4
    assert value(metrics, "spanpost_circuit_breakers_open", reason="throttled") == 2
    assert value(metrics, "spanpost_quarantined_observations", reason="undecodable") == 3
    assert value(metrics, "spanpost_schema_info", version="1.4") == 1
    metrics.fleet(None)
    for name in ("tasks_open", "task_silence_seconds", "deliveries_waiting", "budgets_closed", "schema_info"):
        assert value(metrics, f"spanpost_{name}") is None


def test_who_collects_while_a_gauge_is_shown_sees_the_whole_of_it():
    """A scrape during a change gets the gauge's new value, never nothing and never an invented 0."""
    gauges = Metrics().registry.gauges("share", "Of a task.", ["agent"])
    gauges.show([(("coder",), 0.9)], max)
    with ThreadPoolExecutor(1) as pool:

        def rows():
            yield ("coder",), 0.95
            scrapes.append(pool.submit(lambda: [s.value for m in gauges.metric.collect() for s in m.samples]))
            wait(scrapes, timeout=0.2)  # the limit for a request that does not wait its turn

        scrapes = []
        gauges.show(rows(), max)
        assert scrapes[0].result(60) == [0.95]


async def test_a_meter_gets_the_same_figures():
    """OpenTelemetry's meter gets the counters' figures under the conventions' names."""
    reader = InMemoryMetricReader()
    metrics = Metrics(bridge=Bridge(MeterProvider([reader])))
    store = MemoryStore()
    metrics.recorded(await store.record(a_run("review", trace=3)))
    metrics.recorded(await store.record(a_run("review", trace=3)))
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        m.name: list(m.data.data_points) for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics
    }
    (tokens,) = found["gen_ai.client.inference.usage.input_tokens"]
    assert tokens.value == value(metrics, "spanpost_tokens_total", kind="input") == 100
    assert dict(tokens.attributes) == {"gen_ai.agent.name": "coder", "gen_ai.request.model": "gpt-4o"}
    assert [point.count for point in found["gen_ai.invoke_agent.duration"]] == [1]
    assert [point.sum for point in found["gen_ai.client.inference.duration"]] == [pytest.approx(2.0)]
    assert found.keys() >= {"gen_ai.execute_tool.duration", "spanpost.tasks.started", "spanpost.checkpoints"}


def test_a_task_that_nobody_knows_is_counted():
    """An end without a row is counted too."""
    metrics = Metrics()
    metrics.recorded(Recorded(started=[uuid4()], ended=[uuid4()]))
    assert value(metrics, "spanpost_tasks_ended_total", status="other", agent="unknown") == 1


def test_a_figure_without_labels_is_shown_and_taken_back() -> None:
    """The lag of the sealed log is one number without labels; it is no number once another process shows it, and 0
    without a sealed log.
    """
    metrics = Metrics(MetricsSettings())
    values = []
    for fleet in (Fleet(sealing=Sealing(lag=3.0, ways={})), None, Fleet(sealing=Sealing(lag=4.0, ways={})), Fleet()):
        metrics.fleet(fleet)
        values.append(metrics.registry.get_sample_value("spanpost_seal_lag_seconds"))
    assert [str(value) for value in values] == ["3.0", "nan", "4.0", "0.0"]
