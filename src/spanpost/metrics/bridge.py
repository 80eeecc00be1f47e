"""The same figures over an OpenTelemetry meter, for metrics that are collected by OTLP.

Names are those of the ``gen_ai.*`` conventions where they have one (semantic-conventions-genai, 2026-09),
with their advised buckets; the rest is ``spanpost.*``. Label values are limited by the meter provider (its
views and cardinality limit).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from opentelemetry.metrics import Histogram, MeterProvider, get_meter

from spanpost.metrics.labels import version
from spanpost.model.checkpoints import Kind
from spanpost.model.readings import Role
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.text.sanitise import line

_CALLS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TASKS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 3600, 4 * 3600, 24 * 3600)
_TOKENS = (
    ("input", "input"),
    ("output", "output"),
    ("cache_read", "cache_read.input"),
    ("cache_write", "cache_write.input"),
)


class Bridge:
    """Reports recorded batches to a meter."""

    def __init__(self, provider: MeterProvider | None = None) -> None:
        meter = get_meter("spanpost", version(), provider)

        def seconds(name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(
                name, unit="s", description=help_text, explicit_bucket_boundaries_advisory=buckets
            )

        self._model = seconds("gen_ai.client.inference.duration", "Time that model calls took.", _CALLS)
        self._tool = seconds("gen_ai.execute_tool.duration", "Duration of tool calls.", _CALLS)
        self._task = seconds("gen_ai.invoke_agent.duration", "Time from a task's start to its end.", _TASKS)
        self._tokens = {
            field: meter.create_counter(f"gen_ai.client.inference.usage.{name}_tokens", unit="{token}")
            for field, name in (*_TOKENS, ("reasoning", "reasoning.output"))
        }
        self._calls = meter.create_counter("gen_ai.invoke_agent.inference_calls", unit="{call}")
        self._cost = meter.create_counter("spanpost.cost", unit="USD", description="Cost of model calls.")
        self._started = meter.create_counter("spanpost.tasks.started", unit="{task}")
        self._errors = meter.create_counter("spanpost.errors", unit="{error}")
        self._checkpoints = meter.create_counter("spanpost.checkpoints", unit="{checkpoint}")

    def recorded(self, recorded: Recorded, tasks: Mapping[UUID, Task]) -> None:
        """Report the figures of a batch."""
        for uid in recorded.started:
            self._started.add(1, _agent(tasks.get(uid)))
        for uid in recorded.ended:
            if (task := tasks.get(uid)) is not None and task.started_at is not None and task.ended_at is not None:
                failure = {"error.type": line(task.error.type, 100) or "_OTHER"} if task.error is not None else {}
                took = max((task.ended_at - task.started_at).total_seconds(), 0.0)
                self._task.record(took, {**_agent(task), "agent.status": task.status, **failure})
        for span in recorded.timed:
            labels = _agent(tasks.get(span.task_uid)) | ({"error.type": "_OTHER"} if span.has_failed else {})
            if span.role is Role.LLM:
                self._model.record(span.seconds, {"gen_ai.operation.name": "chat", **labels, **_model(span.model)})
            elif span.role is Role.TOOL:
                self._tool.record(span.seconds, {"gen_ai.operation.name": "execute_tool", **labels})
        for call in recorded.finalized:
            labels = {**_named(call.agent_name), **_model(call.model)}
            self._calls.add(call.calls, labels)
            for field, counter in self._tokens.items():
                if (n := getattr(call.usage, field)) is not None and n > 0:
                    counter.add(n, labels)
            if (cost := call.usage.cost_usd) is not None and cost.is_finite() and cost > 0:
                self._cost.add(float(cost), labels)
        for checkpoint in recorded.checkpoints:
            of = _agent(tasks.get(checkpoint.task_uid))
            self._checkpoints.add(1, {**of, "spanpost.kind": str(checkpoint.kind)})
            if checkpoint.kind is Kind.ERROR:
                self._errors.add(1, {**of, "error.type": line(checkpoint.ref, 100) or "_OTHER"})


def _agent(task: Task | None) -> dict[str, Any]:
    if task is None:
        return {}
    return _named(task.agent_name) | (
        {"deployment.environment.name": line(task.environment, 100)} if task.environment else {}
    )


def _named(agent: str | None) -> dict[str, Any]:
    return {"gen_ai.agent.name": line(agent, 100)} if agent else {}


def _model(model: str | None) -> dict[str, Any]:
    return {"gen_ai.request.model": line(model, 100)} if model else {}
