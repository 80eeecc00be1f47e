"""Spans that an application's sampler drops: an agent's are followed all the same, and exported by nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace import sampling as sdk
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from spanpost.model.observations import Observation, Part
from spanpost.receivers.attachment import Attachment, join
from spanpost.receivers.sampling import UnsampledSpans

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}


class Custom(sdk.Sampler):
    """Drops everything, by itself."""

    def should_sample(self, *args: Any, **kwargs: Any) -> sdk.SamplingResult:
        return sdk.SamplingResult(sdk.Decision.DROP)

    def get_description(self) -> str:
        return "custom"


class Slotted(Custom):
    """Takes no attribute of an instance."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Joined:
    """A provider with two exporters of the application, and spanpost."""

    def __init__(self, sampler: sdk.Sampler | None, which: UnsampledSpans = UnsampledSpans.AGENTS) -> None:
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.exported = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exported))
        self.provider.add_span_processor(BatchSpanProcessor(self.exported))
        self.early = self.provider.get_tracer("made before spanpost was attached")
        self.seen: list[Observation] = []
        self.attachment: Attachment = join(
            self.seen.extend, tracer_provider=self.provider, logger_provider=object(), unsampled_spans=which
        )

    def names(self) -> list[str]:
        assert self.attachment.flush()
        return [o.name for o in self.seen if o.part is Part.ENDED]

    def exports(self) -> list[str]:
        self.provider.force_flush()
        return list(dict.fromkeys(span.name for span in self.exported.get_finished_spans()))

    def close(self) -> None:
        self.attachment.shutdown()
        self.provider.shutdown()


@pytest.fixture
def join_to() -> Iterator[Callable[..., Joined]]:
    with ExitStack() as stack:

        def made(*args: Any) -> Joined:
            joined = Joined(*args)
            stack.callback(joined.close)
            return joined

        yield made


def remote(is_sampled: bool) -> Any:
    """Return the context of a caller in another process."""
    flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(7, 7, is_remote=True, trace_flags=flags)))


DROPPERS: list[Callable[[], sdk.Sampler]] = [
    lambda: sdk.TraceIdRatioBased(0),
    lambda: sdk.ParentBased(sdk.TraceIdRatioBased(0)),
    lambda: sdk.ParentBasedTraceIdRatio(0),
    lambda: sdk.ALWAYS_OFF,
    lambda: sdk.DEFAULT_OFF,
    Custom,
    Slotted,
]


@pytest.mark.parametrize("make", DROPPERS, ids=["ratio", "parent", "by ratio", "off", "default off", "custom", "slots"])
def test_an_agents_spans_are_followed_and_never_exported(
    make: Callable[[], sdk.Sampler], join_to: Callable[..., Joined]
) -> None:
    """Under each sampler a task arrives whole, its events too; no exporter gets a span, no flag is set."""
    joined = join_to(make())
    # A sampler that takes no change is replaced: tracers that exist keep it.
    tracer = joined.provider.get_tracer("an.agent") if make is Slotted else joined.early
    with tracer.start_as_current_span("root", attributes=AGENT) as root:
        root.add_event("agent.checkpoint")
        with tracer.start_as_current_span("query", kind=SpanKind.CLIENT, attributes={"db.system": "sqlite"}) as child:
            assert not child.get_span_context().trace_flags.sampled
        tracer.start_span("named later").end()
    assert sorted(joined.names()) == ["named later", "query", "root"]
    assert [o.name for o in joined.seen if o.part is Part.EVENT] == ["agent.checkpoint"]
    [seen] = [o for o in joined.seen if o.part is Part.ENDED and o.name == "root"]
    assert AGENT.items() <= seen.attributes.items()
    assert joined.exports() == []
    assert joined.attachment.dropped == {}


def test_a_caller_that_did_not_sample_hides_no_task(join_to: Callable[..., Joined]) -> None:
    """With the default sampler, a task below an unsampled request of another process is followed, not exported."""
    joined = join_to(None)
    joined.early.start_span("hidden", remote(False), attributes=AGENT).end()
    joined.early.start_span("shown", remote(True), attributes=AGENT).end()
    joined.early.start_span("own", attributes=AGENT).end()
    assert joined.names() == ["hidden", "shown", "own"]
    assert joined.exports() == ["shown", "own"]


def test_requests_queries_and_messages_stay_dropped(join_to: Callable[..., Joined]) -> None:
    """What instrumentations of a web service mark at the start is not recorded, and the agent below it is."""
    joined = join_to(sdk.ALWAYS_OFF)
    tracer = joined.early
    with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER) as request:
        assert not request.is_recording()
        tracer.start_span("SELECT", kind=SpanKind.CLIENT, attributes={"db.system.name": "postgresql"}).end()
        tracer.start_span("send", kind=SpanKind.PRODUCER).end()
        tracer.start_span("GET", kind=SpanKind.CLIENT, attributes={"http.request.method": "GET"}).end()
        tracer.start_span("invoke_agent ann").end()
        tracer.start_span("tools/call", kind=SpanKind.SERVER, attributes={"mcp.method.name": "tools/call"}).end()
    assert joined.names() == ["invoke_agent ann", "tools/call"]


def test_all_means_all(join_to: Callable[..., Joined]) -> None:
    """With `all`, requests and queries are recorded too, and none is exported."""
    joined = join_to(sdk.ALWAYS_OFF, UnsampledSpans.ALL)
    joined.early.start_span("GET /", kind=SpanKind.SERVER).end()
    assert joined.names() == ["GET /"]
    assert joined.exports() == []


@pytest.mark.parametrize("make", DROPPERS[:-1])
def test_none_leaves_the_sampler_alone_and_says_so(
    make: Callable[[], sdk.Sampler], join_to: Callable[..., Joined], caplog: pytest.LogCaptureFixture
) -> None:
    """With `none` nothing is recorded; one warning names the sampler and the setting; the spans are counted."""
    sampler = make()
    joined = join_to(sampler, UnsampledSpans.NONE)
    joined.early.start_span("root", attributes=AGENT).end()
    joined.early.start_span("GET /", kind=SpanKind.SERVER).end()
    assert joined.names() == []
    assert joined.attachment.dropped == {"unsampled": 1}
    [said] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sampler.get_description() in said
    assert "attach.unsampled_spans" in said


def test_the_default_sampler_is_nothing_to_warn_of(
    join_to: Callable[..., Joined], caplog: pytest.LogCaptureFixture
) -> None:
    """Samplers that keep each task which starts here are not reported."""
    caplog.set_level(logging.INFO)
    for sampler in (None, sdk.ALWAYS_ON, sdk.ParentBased(sdk.TraceIdRatioBased(1.0))):
        join_to(sampler, UnsampledSpans.NONE)
    assert [r.getMessage() for r in caplog.records if "sampler" in r.getMessage()] == []


def test_the_samplers_are_as_before_when_spanpost_has_left() -> None:
    """A shutdown undoes what was changed, also of the SDK's shared samplers; a later attachment works again."""
    for make in DROPPERS:
        sampler = make()
        for _ in range(2):
            joined = Joined(sampler)
            joined.early.start_span("a")
            joined.close()
            assert joined.provider.sampler is sampler
            assert not joined.provider.get_tracer("later").start_span("b", attributes=AGENT).is_recording()
            assert sampler.should_sample(None, 1, "c", attributes=AGENT).decision is sdk.Decision.DROP


def test_what_a_sampler_raises_is_raised(join_to: Callable[..., Joined]) -> None:
    """An exception of the application's sampler reaches the application, as without spanpost."""

    class Broken(Custom):
        def should_sample(self, *args: Any, **kwargs: Any) -> sdk.SamplingResult:
            raise LookupError("the remote rules are away")

        def get_description(self) -> str:
            raise LookupError

    joined = join_to(Broken())
    with pytest.raises(LookupError, match="the remote rules"):
        joined.early.start_span("root")


def test_a_sampler_sees_what_it_decides_on(join_to: Callable[..., Joined]) -> None:
    """A sampler that looks at attributes and links decides as before, and its own attributes arrive."""
    asked: list[Any] = []

    class ByTier(Custom):
        def should_sample(  # type: ignore[override]
            self, parent_context: Any, trace_id: int, name: str, kind: Any, attributes: Any, links: Any
        ) -> sdk.SamplingResult:
            asked.append((name, dict(attributes or {}), len(links)))
            is_gold = (attributes or {}).get("tier") == "gold"
            decision = sdk.Decision.RECORD_AND_SAMPLE if is_gold else sdk.Decision.DROP
            return sdk.SamplingResult(decision, {**(attributes or {}), "rule": "tier"})

    joined = join_to(ByTier())
    link = trace.Link(SpanContext(1, 1, is_remote=False))
    joined.early.start_span("gold", attributes={**AGENT, "tier": "gold"}, links=[link]).end()
    joined.early.start_span("tin", attributes={**AGENT, "tier": "tin"}).end()
    assert [(name, links) for name, _, links in asked] == [("gold", 1), ("tin", 0)]
    assert joined.names() == ["gold", "tin"]
    assert joined.exports() == ["gold"]
    assert all(o.attributes["rule"] == "tier" for o in joined.seen if o.part is Part.ENDED)


def test_a_provider_that_is_joined_later_keeps_its_agents_spans_too(join_to: Callable[..., Joined]) -> None:
    """A second provider with a dropping sampler, joined to the same feed, is treated as the first."""
    joined = join_to(None)
    later = TracerProvider(sampler=sdk.ALWAYS_OFF, shutdown_on_exit=False)
    more = join(joined.attachment.feed, tracer_provider=later, logger_provider=object())  # type: ignore[arg-type]
    later.get_tracer("later").start_span("root", attributes=AGENT).end()
    assert joined.names() == ["root"]
    more.shutdown()
