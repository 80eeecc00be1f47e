"""The same figures over a process's own OpenTelemetry meter, with the setting for it."""

from __future__ import annotations

import pytest

from tests.conftest import Database
from tests.processes.conftest import Start

pytestmark = [pytest.mark.slow, pytest.mark.acceptance]

REPORTS = """
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    spanpost.attach()
    with trace.use_span(agent("coder"), end_on_exit=True):
        for model, tokens in (("large", 100), ("small", 20), ("large", 7)):
            said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model, "gen_ai.usage.input_tokens": tokens}
            trace.get_tracer("test").start_span("chat", attributes=said).end()
    spanpost.flush(20)
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name in ("gen_ai.client.inference.usage.input_tokens", "gen_ai.invoke_agent.inference_calls"):
                    for point in metric.data.data_points:
                        model = point.attributes["gen_ai.request.model"]
                        say("reported", metric.name.rpartition(".")[2], model, point.value)
    say("done")
"""


def test_a_process_exports_by_its_own_meter(start: Start, database: Database) -> None:
    """With `metrics.otlp` tokens and calls use the conventions' names, each call once under its model."""
    environment = {"SPANPOST_METRICS__OTLP": "true", "SPANPOST_METRICS__PORT": "0"}
    child = start(REPORTS, DATABASE_URL=database.dsn, **environment)
    assert child.process.stdout is not None
    reported = [line.split()[1:] for line in child.process.stdout if line.startswith("reported")]
    assert child.end() == ""
    expected = [["input_tokens", "large", "107"], ["input_tokens", "small", "20"]]
    assert sorted(reported) == [["inference_calls", "large", "2"], ["inference_calls", "small", "1"], *expected]
