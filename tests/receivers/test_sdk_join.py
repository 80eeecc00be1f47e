"""Joining providers: once, beside other processors, of any kind. Other tests try the global ones in real
processes.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanpost.model.errors import ConfigError
from spanpost.model.observations import Part
from spanpost.receivers.attachment import join
from spanpost.receivers.sdk import SdkSpanProcessor
from spanpost.testing.receivers import SeenRequest


@pytest.fixture
def providers() -> tuple[TracerProvider, LoggerProvider]:
    return TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)


def test_both_providers_are_joined(providers: tuple[TracerProvider, LoggerProvider]) -> None:
    """Spans and log events of the joined providers arrive, with the given tenant, and earlier processors
    still work.
    """
    tracers, logs = providers
    there = InMemorySpanExporter()
    tracers.add_span_processor(SimpleSpanProcessor(there))
    seen = SeenRequest()
    attachment = join(seen, tenant="acme", tracer_provider=tracers, logger_provider=logs)
    tracers.get_tracer("t").start_span("task").end()
    logs.get_logger("l").emit(LogRecord(attributes={"event.name": "agent.checkpoint"}))
    assert attachment.flush()
    assert [o.tenant for o in seen.of(Part.ENDED) + seen.of(Part.LOG)] == ["acme", "acme"]
    assert [s.name for s in there.get_finished_spans()] == ["task"]
    assert attachment.dropped == {}
    attachment.shutdown()


def test_joining_twice_is_joining_once(providers: tuple[TracerProvider, LoggerProvider]) -> None:
    """A second attachment to the same provider is the first one, and nothing is recorded twice."""
    tracers, logs = providers
    seen, other = SeenRequest(), SeenRequest()
    first = join(seen, tracer_provider=tracers, logger_provider=logs)
    assert join(other, tracer_provider=tracers, logger_provider=logs) is first
    tracers.get_tracer("t").start_span("task").end()
    assert first.flush()
    assert ([o.name for o in seen.of(Part.ENDED)], other.observations) == (["task"], [])
    first.shutdown()


def test_a_processor_added_by_hand_is_found(providers: tuple[TracerProvider, LoggerProvider]) -> None:
    """A provider that was assembled by hand is not joined a second time."""
    tracers, logs = providers
    by_hand, other = SeenRequest(), SeenRequest()
    processor = SdkSpanProcessor(by_hand)
    tracers.add_span_processor(processor)
    attachment = join(other, tracer_provider=tracers, logger_provider=logs)
    assert attachment.feed is processor.feed
    tracers.get_tracer("t").start_span("task").end()
    assert attachment.flush()
    assert ([o.name for o in by_hand.of(Part.ENDED)], other.observations) == (["task"], [])
    attachment.shutdown()


class Wrapping:
    """A provider around the SDK's, as Logfire makes them."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider

    def add_span_processor(self, processor: Any) -> None:
        self.provider.add_span_processor(processor)

    def get_tracer(self, name: str) -> trace.Tracer:
        return self.provider.get_tracer(name)


def test_a_wrapped_provider_is_joined_once(providers: tuple[TracerProvider, LoggerProvider]) -> None:
    """A wrapper and the provider behind it are one provider."""
    tracers, logs = providers
    seen = SeenRequest()
    first = join(seen, tracer_provider=Wrapping(tracers), logger_provider=logs)
    assert join(SeenRequest(), tracer_provider=tracers, logger_provider=logs) is first
    assert join(SeenRequest(), tracer_provider=Wrapping(tracers), logger_provider=logs) is first
    Wrapping(tracers).get_tracer("t").start_span("task").end()
    assert first.flush()
    assert [o.name for o in seen.of(Part.ENDED)] == ["task"]
    first.shutdown()


def test_after_a_shutdown_one_can_join_anew(providers: tuple[TracerProvider, LoggerProvider]) -> None:
    """A shutdown leaves the provider as it was, and a new attachment can join."""
    tracers, logs = providers
    first = join(SeenRequest(), tracer_provider=tracers, logger_provider=logs)
    assert first.detach()
    assert first.detach()
    assert not first.is_active
    assert tracers._active_span_processor._span_processors == ()
    seen = SeenRequest()
    second = join(seen, tracer_provider=tracers, logger_provider=logs)
    assert second is not first
    tracers.get_tracer("t").start_span("task").end()
    assert second.flush()
    assert [o.name for o in seen.of(Part.ENDED)] == ["task"]
    second.shutdown()


def test_a_disabled_sdk_is_left_alone(
    providers: tuple[TracerProvider, LoggerProvider], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With OTEL_SDK_DISABLED nothing is joined, one line says so, and the handle still works."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", " True ")
    tracers, logs = providers
    with caplog.at_level(logging.INFO):
        attachment = join(SeenRequest(), tracer_provider=tracers, logger_provider=logs)
    assert [r.getMessage() for r in caplog.records] == ["OTEL_SDK_DISABLED is true: spanpost follows nothing"]
    assert (attachment.is_active, attachment.flush(), attachment.shutdown(), attachment.dropped) == (
        False,
        True,
        True,
        {},
    )
    assert tracers._active_span_processor._span_processors == ()


def test_a_no_op_provider_is_left_alone() -> None:
    """A no-op provider that was set on purpose is not replaced."""
    assert not join(SeenRequest(), tracer_provider=trace.NoOpTracerProvider()).is_active


def test_a_provider_that_takes_no_processors_is_refused() -> None:
    """A provider that cannot be joined gives an error with the next step."""

    class Strange(trace.TracerProvider):
        def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
            return trace.NoOpTracer()

    with pytest.raises(ConfigError, match="Strange takes no span processors; pass one that has add_span_processor"):
        join(SeenRequest(), tracer_provider=Strange())


def test_a_logger_provider_without_processors_is_done_without(providers: tuple[TracerProvider, LoggerProvider]) -> None:
    """Spans are followed even if log events cannot be."""
    tracers, _ = providers
    seen = SeenRequest()
    attachment = join(seen, tracer_provider=tracers, logger_provider=object())
    tracers.get_tracer("t").start_span("task").end()
    assert attachment.flush()
    assert [o.name for o in seen.of(Part.ENDED)] == ["task"]
    attachment.shutdown()
