"""Observations of the live span processor, and when it makes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Event, Span, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from spanpost.model.observations import Part, Status
from spanpost.receivers import span_hook
from spanpost.receivers.export import SdkSpanExporter
from spanpost.receivers.sdk import SdkSpanProcessor
from spanpost.receivers.worker import Feed
from spanpost.semconv import SPAN_CANCELLED
from spanpost.testing.receivers import SeenRequest, Stuck


@pytest.fixture
def seen() -> SeenRequest:
    return SeenRequest()


@pytest.fixture
def provider(seen: SeenRequest) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_events=128))
    provider.add_span_processor(SdkSpanProcessor(Feed(seen, tenant="acme", scan_interval=0.02)))
    yield provider
    provider.shutdown()


@pytest.fixture
def tracer(provider: TracerProvider) -> trace.Tracer:
    return provider.get_tracer("an.agent", "1.2")


def test_a_span_is_recorded_when_it_starts(seen: SeenRequest, tracer: trace.Tracer) -> None:
    """An open span is recorded as started, with its parent, kind, attributes, scope and tenant."""
    parent = tracer.start_span("task")
    child = tracer.start_span(
        "chat",
        trace.set_span_in_context(parent),
        kind=trace.SpanKind.CLIENT,
        attributes={"gen_ai.operation.name": "chat"},
    )
    assert seen.wait_for(lambda o: len(o) == 2)
    started = seen.of(Part.STARTED, "chat")[0]
    context = child.get_span_context()
    assert (started.trace_id, started.span_id) == (
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
    )
    assert started.parent_id == parent.get_span_context().span_id.to_bytes(8, "big")
    assert (started.kind, started.at_ns, started.end_ns, started.tenant) == (3, child.start_time, 0, "acme")
    assert started.attributes == {"gen_ai.operation.name": "chat"}
    assert (started.origin.scope, started.origin.scope_version) == ("an.agent", "1.2")
    assert started.origin.resource["telemetry.sdk.language"] == "python"
    assert started.producer
    assert started.seq > seen.of(Part.STARTED, "task")[0].seq


def test_an_event_is_recorded_while_its_span_is_open(seen: SeenRequest, tracer: trace.Tracer) -> None:
    """An event is recorded when it is added, with its own timestamp verbatim."""
    span = tracer.start_span("task")
    span.add_event("agent.checkpoint", {"agent.progress": 40}, timestamp=123_456_789)
    assert seen.wait_for(lambda o: any(x.part is Part.EVENT for x in o))
    [event] = seen.of(Part.EVENT)
    assert (event.name, event.index, event.at_ns, event.attributes) == (
        "agent.checkpoint",
        0,
        123_456_789,
        {"agent.progress": 40},
    )
    assert not seen.of(Part.ENDED)


def test_each_event_is_recorded_once_with_its_final_index(
    seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer
) -> None:
    """Of more events than the span keeps, each is recorded once, with its position as index, dropped ones
    included.
    """
    span = tracer.start_span("task")
    for number in range(300):
        span.add_event(f"e{number}")
        if number % 60 == 0:
            assert provider.force_flush()
    span.end()
    assert provider.force_flush()
    assert [(e.name, e.index) for e in seen.of(Part.EVENT)] == [(f"e{n}", n) for n in range(300)]


def test_an_exception_is_counted_on_its_span(seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer) -> None:
    """A failing span is recorded with its status, and with the number of its exception events."""
    with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("tool"):
        raise ValueError("no")
    assert provider.force_flush()
    [ended] = seen.of(Part.ENDED)
    [event] = seen.of(Part.EVENT)
    assert (ended.status, ended.status_message, ended.exceptions) == (Status.ERROR, "ValueError: no", 1)
    assert event.attributes["exception.type"] == "ValueError"


def test_attributes_set_late_are_recorded_before_the_end(seen: SeenRequest, tracer: trace.Tracer) -> None:
    """Attributes and a name that change while the span is open are recorded by a further scan."""
    span = tracer.start_span("RunnableSequence")
    assert seen.wait_for(lambda o: len(o) == 1)
    span.set_attribute("openinference.span.kind", "AGENT")
    span.update_name("planner")
    assert seen.wait_for(lambda o: o[-1].name == "planner" and o[-1].attributes == {"openinference.span.kind": "AGENT"})
    span.set_attribute("openinference.span.kind", "CHAIN")
    assert seen.wait_for(lambda o: o[-1].attributes == {"openinference.span.kind": "CHAIN"})
    assert {o.part for o in seen.observations} == {Part.STARTED}


def test_an_unchanged_span_is_not_recorded_again(
    seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer
) -> None:
    """Scans of an unchanged span record nothing."""
    quiet = tracer.start_span("quiet")
    busy = tracer.start_span("busy")
    for number in range(3):  # each change seen proves that a scan has passed
        busy.set_attribute("n", number)
        assert seen.wait_for(lambda o, n=number: o[-1].attributes == {"n": n})
    assert len(seen.of(Part.STARTED, "quiet")) == 1
    assert quiet.is_recording()


def test_events_are_found_where_the_sdk_has_no_hook(seen: SeenRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `_add_event` to hook, a scan finds the events of open spans, once, and the end repeats none of
    them.
    """

    def add_event(self: Span, name: str, attributes: object = None, timestamp: int | None = None) -> None:
        with self._lock:
            self._events.append(Event(name, None, timestamp))

    monkeypatch.delattr(Span, "_add_event")
    monkeypatch.setattr(Span, "add_event", add_event)
    monkeypatch.setattr(span_hook, "KNOWN_ADD", None)
    monkeypatch.setattr("spanpost.receivers.sdk.KNOWN_ADD", None)
    provider = TracerProvider(shutdown_on_exit=False)
    processor = SdkSpanProcessor(Feed(seen, scan_interval=0.02))
    provider.add_span_processor(processor)
    span = provider.get_tracer("t").start_span("task")
    span.add_event("one", timestamp=1)
    assert seen.wait_for(lambda o: [x.name for x in o if x.part is Part.EVENT] == ["one"])
    span.add_event("two", timestamp=2)
    span.end()
    assert provider.force_flush()
    assert [(e.name, e.index) for e in seen.of(Part.EVENT)] == [("one", 0), ("two", 1)]
    assert processor.feed.losses.totals() == {}
    provider.shutdown()


def test_the_hook_for_an_unknown_sdk_records_the_same(seen: SeenRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown `_add_event` of the SDK is called unchanged, and the event is recorded live."""
    monkeypatch.setattr("spanpost.receivers.sdk.KNOWN_ADD", None)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SdkSpanProcessor(Feed(seen)))
    span = provider.get_tracer("t").start_span("task")
    span.add_event("one")
    assert seen.wait_for(lambda o: any(x.part is Part.EVENT for x in o))
    span.end()
    assert [e.name for e in span.events] == ["one"]  # type: ignore[attr-defined]
    assert provider.force_flush()
    assert len(seen.of(Part.EVENT)) == 1
    provider.shutdown()


def test_two_processors_hear_the_same_span(seen: SeenRequest, provider: TracerProvider) -> None:
    """Two processors on one provider both record each event, once."""
    other = SeenRequest()
    provider.add_span_processor(SdkSpanProcessor(Feed(other)))
    span = provider.get_tracer("t").start_span("task")
    span.add_event("one")
    assert seen.wait_for(lambda o: any(x.part is Part.EVENT for x in o))
    assert other.wait_for(lambda o: any(x.part is Part.EVENT for x in o))
    span.end()
    assert provider.force_flush()
    assert [len(s.of(Part.EVENT)) for s in (seen, other)] == [1, 1]


def test_an_event_on_an_ended_span_is_refused_as_ever(
    seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    """The hook keeps the SDK's reaction to an event on an ended span: a warning, and nothing is added or
    recorded.
    """
    span = tracer.start_span("task")
    hooked = span._add_event  # type: ignore[attr-defined]
    span.end()
    span.add_event("late")
    hooked(Event("later"))
    assert provider.force_flush()
    assert seen.of(Part.EVENT) == []
    assert [r.getMessage() for r in caplog.records].count("Tried calling _add_event on an ended span.") == 2


def test_cancellation_is_marked(seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer) -> None:
    """A span ended by cancellation is marked, but not one begun during it, or with a status."""

    async def run() -> None:
        try:
            with tracer.start_as_current_span("stopped"), tracer.start_as_current_span("said") as span:
                span.set_attribute("agent.status", "error")
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            with tracer.start_as_current_span("cleaning up"):
                pass
            raise

    async def main() -> None:
        task = asyncio.ensure_future(run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert provider.force_flush()
    marks = {o.name: o.attributes.get(SPAN_CANCELLED) for o in seen.of(Part.ENDED)}
    assert marks == {"stopped": True, "said": None, "cleaning up": None}


@pytest.mark.parametrize(
    ("error", "is_marked"), [(KeyboardInterrupt(), True), (SystemExit(0), False), (OSError(), False)]
)
def test_what_counts_as_cancellation(
    seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer, error: BaseException, is_marked: bool
) -> None:
    """An interrupt is a cancellation; a program that exits and an error are not."""
    with pytest.raises(type(error)), tracer.start_as_current_span("task"):
        raise error
    assert provider.force_flush()
    assert (SPAN_CANCELLED in seen.of(Part.ENDED)[0].attributes) is is_marked


def test_links_are_recorded(seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer) -> None:
    """A span is recorded with the ids of its links."""
    other = tracer.start_span("other")
    context = other.get_span_context()
    tracer.start_span("linked", links=[trace.Link(context)]).end()
    assert provider.force_flush()
    [end] = seen.of(Part.ENDED)
    assert end.links == ((context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")),)


@pytest.mark.proves("left-alone", "loops-of-ours")
def test_own_spans_are_never_followed(seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer) -> None:
    """Spans of spanpost's own scopes are not recorded; those of its helpers, which are the agent's, are."""
    provider.get_tracer("spanpost.store").start_span("insert").end()
    provider.get_tracer("spanpost.agent").start_span("task").end()
    provider.get_tracer("spanposter").start_span("stranger").end()
    assert provider.force_flush()
    assert [o.name for o in seen.of(Part.ENDED)] == ["task", "stranger"]


@pytest.mark.proves("left-alone", "loops-of-ours")
def test_a_receiver_that_traces_does_not_feed_itself() -> None:
    """A receiver's own spans in the worker's thread are not followed, and instrumentations are suppressed."""
    from opentelemetry import context as otel_context
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

    provider = TracerProvider(shutdown_on_exit=False)
    suppressed = []

    class Tracing(SeenRequest):
        def __call__(self, batch: list[object], /) -> None:  # type: ignore[override]
            suppressed.append(otel_context.get_value(_SUPPRESS_INSTRUMENTATION_KEY))
            with provider.get_tracer("asyncpg").start_as_current_span("INSERT") as span:
                span.add_event("row")
            super().__call__(batch)  # type: ignore[arg-type]

    seen = Tracing()
    provider.add_span_processor(SdkSpanProcessor(seen))
    provider.get_tracer("t").start_span("task").end()
    assert provider.force_flush()
    assert provider.force_flush()
    assert {o.name for o in seen.observations} == {"task"}
    assert set(suppressed) == {True}
    provider.shutdown()


def test_spans_that_are_not_recorded_pass_by(seen: SeenRequest) -> None:
    """A sampler that drops everything leaves nothing to record and nothing lost."""
    provider = TracerProvider(shutdown_on_exit=False, sampler=ALWAYS_OFF)
    processor = SdkSpanProcessor(seen)
    provider.add_span_processor(processor)
    with provider.get_tracer("t").start_as_current_span("task") as span:
        span.add_event("one")
    assert provider.force_flush()
    assert seen.observations == []
    assert processor.feed.losses.totals() == {}


def test_a_span_from_before_the_processor_is_recorded_at_its_end(seen: SeenRequest) -> None:
    """A span that started before the processor was added is recorded when it ends, with its events."""
    provider = TracerProvider(shutdown_on_exit=False)
    span = provider.get_tracer("t").start_span("early")
    span.add_event("one")
    provider.add_span_processor(SdkSpanProcessor(seen))
    span.end()
    assert provider.force_flush()
    assert [(o.part, o.name, o.index) for o in seen.observations] == [(Part.EVENT, "one", 0), (Part.ENDED, "early", 0)]
    provider.shutdown()


def test_open_spans_are_interrupted_at_shutdown(
    seen: SeenRequest, provider: TracerProvider, tracer: trace.Tracer
) -> None:
    """Shutdown reports each open span as interrupted, after its last events; ended spans are left alone."""
    span = tracer.start_span("open")
    tracer.start_span("done").end()
    span.add_event("last words")
    provider.shutdown()
    [record] = seen.of(Part.LOG)
    assert (record.name, record.span_id) == (
        "agent.span.interrupted",
        span.get_span_context().span_id.to_bytes(8, "big"),
    )
    assert record.attributes == {"span.name": "open"}
    assert record.index.bit_length() <= 128
    assert [e.name for e in seen.of(Part.EVENT)] == ["last words"]
    span.end()  # too late, and harmless


@pytest.mark.proves("no-wait", "after-shutdown")
def test_the_exporter_records_ended_spans(seen: SeenRequest) -> None:
    """The exporter turns ended spans and their events into observations, and refuses after its shutdown."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

    exporter = SdkSpanExporter(seen)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("t").start_as_current_span("task") as span:
        span.add_event("one")
    assert exporter.force_flush()
    assert [(o.part, o.name) for o in seen.observations] == [(Part.EVENT, "one"), (Part.ENDED, "task")]
    provider.shutdown()
    assert exporter.export([span._readable_span()]) is SpanExportResult.FAILURE  # type: ignore[attr-defined]
    assert exporter.feed.losses.totals() == {"closed": 1}


@pytest.mark.proves("one-row", "after-shutdown")
def test_events_of_many_threads_are_recorded_once_each(seen: SeenRequest) -> None:
    """Events that threads add to the same spans, faster than the SDK keeps them, are each reported once."""
    provider = TracerProvider(shutdown_on_exit=False)
    processor = SdkSpanProcessor(Feed(seen, capacity=100_000, scan_interval=0.002))
    provider.add_span_processor(processor)
    spans = [provider.get_tracer("t").start_span(f"s{n}") for n in range(2)]

    def work(worker: int) -> None:
        for number in range(1_000):
            spans[number % 2].add_event(f"{worker}-{number}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for span in spans:
        span.end()
    assert provider.force_flush()
    assert processor.feed.losses.totals() == {}
    events = seen.of(Part.EVENT)
    assert len({e.name for e in events}) == len(events) == 4_000
    for span in spans:
        span_id = span.get_span_context().span_id.to_bytes(8, "big")
        assert sorted(e.index for e in events if e.span_id == span_id) == list(range(2_000))
    provider.shutdown()


def test_an_end_is_recorded_once_while_the_receiver_is_slow() -> None:
    """Scans during queued ends and events repeat none of them and lose none."""
    stuck = Stuck()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SdkSpanProcessor(Feed(stuck, scan_interval=0.0)))
    tracer = provider.get_tracer("t")
    spans = [tracer.start_span(f"s{n}") for n in range(50)]
    assert stuck.is_entered.wait(60)
    for span in spans:
        span.add_event(f"in {span.name}")  # type: ignore[attr-defined]
        span.end()
    stuck.released.set()
    assert provider.force_flush()
    assert sorted(e.name for e in stuck.of(Part.EVENT)) == sorted(f"in s{n}" for n in range(50))
    assert sorted(e.name for e in stuck.of(Part.ENDED)) == sorted(f"s{n}" for n in range(50))
    provider.shutdown()


def test_what_an_event_says_it_says_first() -> None:
    """A queued event is recorded before its span's attributes, which were set with it."""
    stuck = Stuck()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SdkSpanProcessor(Feed(stuck, scan_interval=0.0)))
    span = provider.get_tracer("t").start_span("task")
    assert stuck.is_entered.wait(60)
    span.add_event("agent.checkpoint", {"agent.progress": 45})
    span.set_attribute("agent.progress", 45)
    stuck.released.set()
    assert stuck.wait_for(lambda observations: any(o.part is Part.STARTED and o.attributes for o in observations))
    assert [(o.part, o.attributes.get("agent.progress")) for o in stuck.observations] == [
        (Part.STARTED, None), (Part.EVENT, 45), (Part.STARTED, 45),
    ]  # fmt: skip
    provider.shutdown()
