"""Log records in process: which are recorded, and how."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider

from spanpost.model.observations import Part, log_index
from spanpost.receivers.sdk import SdkLogProcessor, SdkSpanProcessor
from spanpost.receivers.worker import Feed
from spanpost.testing.receivers import SeenRequest

#: Older SDKs (1.33) have no field for an event's name; there it is an attribute.
HAS_EVENT_NAME = "event_name" in inspect.signature(LogRecord.__init__).parameters


def a_record(**fields: Any) -> LogRecord:
    if not HAS_EVENT_NAME and (name := fields.pop("event_name", None)):
        fields["attributes"] = {**fields.get("attributes", {}), "event.name": name}
    return LogRecord(**fields)


class App:
    """A tracer and a logger provider on one feed."""

    def __init__(self) -> None:
        self.seen = SeenRequest()
        self.feed = Feed(self.seen)
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SdkSpanProcessor(self.feed))
        self.logs = LoggerProvider(shutdown_on_exit=False)
        self.logs.add_log_record_processor(SdkLogProcessor(self.feed))

    def emit(self, logger: str = "an.agent", **fields: object) -> None:
        context = trace.get_current_span().get_span_context()
        ids = {"trace_id": context.trace_id, "span_id": context.span_id, "trace_flags": context.trace_flags}
        self.logs.get_logger(logger).emit(a_record(**{**ids, **fields}))

    def names(self) -> list[str]:
        assert self.feed.flush()
        return [o.name or str(o.body) for o in self.seen.of(Part.LOG)]


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.tracers.shutdown()
    app.logs.shutdown()


def test_an_event_record_is_recorded_with_its_ids(app: App) -> None:
    """A record with an event name is recorded with its time, body, severity, attributes and the span's ids."""
    with app.tracers.get_tracer("t").start_as_current_span("task") as span:
        app.emit(
            timestamp=77,
            observed_timestamp=99,
            event_name="agent.checkpoint",
            body={"a": 1},
            severity_number=SeverityNumber.WARN,
            attributes={"agent.progress": 5},
        )
    assert app.names() == ["agent.checkpoint"]
    [record] = app.seen.of(Part.LOG)
    context = span.get_span_context()
    assert (record.trace_id, record.span_id) == (
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
    )
    assert (record.at_ns, record.body, record.severity, record.attributes["agent.progress"]) == (77, {"a": 1}, 13, 5)
    assert record.index == log_index(record)
    assert record.origin.scope == "an.agent"


def test_a_record_without_a_time_has_its_observed_time(app: App) -> None:
    """Without a time the observed time is used; the ids are empty outside any span."""
    app.emit(observed_timestamp=99, event_name="agent.heartbeat")
    assert app.names() == ["agent.heartbeat"]
    [record] = app.seen.of(Part.LOG)
    assert (record.at_ns, record.trace_id, record.span_id) == (99, b"", b"")


def test_the_older_spelling_of_an_event_name_is_read(app: App) -> None:
    """A record whose event name is an attribute is an event all the same."""
    app.emit(attributes={"event.name": "gen_ai.choice"})
    assert app.names() == ["gen_ai.choice"]


def test_plain_lines_are_recorded_inside_followed_spans_alone(app: App) -> None:
    """A plain log line inside a live span is recorded; one outside any span, or in a span that has ended, is
    not.
    """
    app.emit(body="outside")
    with app.tracers.get_tracer("t").start_as_current_span("task") as span:
        app.emit(body="inside")
        context = trace.set_span_in_context(span)
    with trace.use_span(trace.get_current_span(context)):
        app.emit(body="after")
    assert app.names() == ["inside"]


@pytest.mark.parametrize("logger", ["opentelemetry.sdk.trace", "opentelemetry", "spanpost.store", "spanpost"])
def test_loggers_that_would_feed_back_are_ignored(app: App, logger: str) -> None:
    """Records of the SDK's and spanpost's own loggers are not recorded, with or without an event name."""
    with app.tracers.get_tracer("t").start_as_current_span("task"):
        app.emit(logger, body="line")
        app.emit(logger, event_name="agent.checkpoint")
        app.emit("opentelemetryish", event_name="a.stranger")
    assert app.names() == ["a.stranger"]


def test_a_receiver_that_logs_does_not_feed_itself(app: App) -> None:
    """Log records that a receiver emits in the worker's thread are not recorded."""
    logger = app.logs.get_logger("some.driver")
    seen = SeenRequest()

    def receive(batch: list[object]) -> None:
        logger.emit(a_record(event_name="driver.query"))
        seen(batch)  # type: ignore[arg-type]

    feed = Feed(receive)
    app.logs.add_log_record_processor(SdkLogProcessor(feed))
    app.emit(event_name="agent.checkpoint")
    assert feed.flush()
    assert feed.flush()
    assert [o.name for o in seen.observations] == ["agent.checkpoint"]
    feed.close()
