"""The forwarder against a real receiver: what it sends, keeps back, and does without an answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

import spanpost
from spanpost import app
from spanpost.model.errors import ConfigError
from spanpost.model.observations import Part
from spanpost.receivers.forward_target import Target, protocol_of
from spanpost.receivers.forwarder import ForwardedSpans, Forwarder
from spanpost.receivers.other_exporters import endpoints_of, is_same_place
from spanpost.receivers.worker import MAX_FLUSH
from spanpost.testing.gateway import GrpcGateway, RunningGateway
from tests.eventually import free_port

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with RunningGateway() as gateway:
        yield gateway


class Process:
    """Attaches to providers of its own, as often as a test needs."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def attach(
        self, endpoint: str, sampler: Any = None, exporters: tuple[Any, ...] = (), **section: Any
    ) -> tuple[Any, Any]:
        """Return the pipeline and the tracer provider that it joined."""
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        for exporter in exporters:
            provider.add_span_processor(BatchSpanProcessor(exporter))
        section["endpoint"] = endpoint
        pipeline = spanpost.attach(
            forward=section, tracer_provider=provider, logger_provider=LoggerProvider(shutdown_on_exit=False)
        )
        self._stack.callback(provider.shutdown)
        self._stack.callback(pipeline.shutdown)
        return pipeline, provider


@pytest.fixture
def process(clean_environment: Path) -> Iterator[Process]:
    with ExitStack() as stack:
        yield Process(stack)
    assert app._living() is None


def span(provider: Any, name: str = "work", **attributes: Any) -> Any:
    return provider.get_tracer("an.agent", "1").start_span(name, attributes=AGENT | attributes)


def test_what_happens_arrives_while_it_happens(gateway: RunningGateway, process: Process) -> None:
    """Start and event arrive before the span ends, and the finished span at its end."""
    pipeline, provider = process.attach(gateway.url)
    one = span(provider)
    one.add_event("agent.checkpoint", {"agent.progress": 40}, timestamp=123)
    assert gateway.wait_for(lambda seen: {"work", "agent.checkpoint"} <= {o.name for o in seen})
    [event] = gateway.of(Part.LOG, "agent.checkpoint")
    assert (event.at_ns, event.attributes, event.producer) == (123, {"agent.progress": 40}, pipeline.feed.producer)
    assert not gateway.of(Part.ENDED)
    one.end()
    assert pipeline.force_flush()
    [ended] = gateway.of(Part.ENDED)
    assert (ended.name, ended.attributes, ended.origin.scope) == ("work", AGENT, "an.agent")
    assert ended.origin.resource["telemetry.sdk.language"] == "python"


def test_a_heartbeat_names_the_open_roots(gateway: RunningGateway, process: Process) -> None:
    """While spans are open, one record for the whole process names those without a parent here."""
    _, provider = process.attach(gateway.url)
    roots = [span(provider), span(provider)]
    provider.get_tracer("t").start_span("child", trace.set_span_in_context(roots[0])).add_event("e")
    assert gateway.wait_for(lambda seen: any(o.name == "agent.heartbeat" for o in seen))
    [beat] = gateway.of(Part.LOG, "agent.heartbeat")
    contexts = [one.get_span_context() for one in roots]
    assert beat.attributes["agent.open_roots"] == [f"{c.trace_id:032x}-{c.span_id:016x}" for c in contexts]
    assert beat.attributes["agent.heartbeat.interval"] == 10.0
    for one in roots:
        one.end()


class Unsampled(Sampler):
    """Records everything and exports nothing, as an AlwaysRecordSampler around a small ratio does."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "unsampled"


@pytest.mark.slow
@pytest.mark.parametrize("spans", ["auto", "always", "never"])
@pytest.mark.parametrize("exporter", ["none", "same place", "elsewhere", "unsampled"])
def test_which_finished_spans_are_sent(gateway: RunningGateway, process: Process, spans: str, exporter: str) -> None:
    """*auto* sends what the application's exporter does not send to the same place; the other values are
    literal.
    """
    with RunningGateway() as other:
        url = {"none": None, "elsewhere": other.url}.get(exporter, gateway.url)
        own = (OTLPSpanExporter(endpoint=f"{url}/v1/traces"),) if url else ()
        pipeline, provider = process.attach(
            gateway.url, Unsampled() if exporter == "unsampled" else None, own, spans=spans
        )
        span(provider).end()
        assert pipeline.force_flush()
        sent = bool(gateway.of(Part.ENDED))
        assert sent == (spans == "always" or (spans == "auto" and exporter != "same place"))
        provider.force_flush()


def test_an_exporter_that_is_added_later_counts_too(
    gateway: RunningGateway, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that the application adds after us is found, and its spans are not sent twice."""
    monkeypatch.setattr("spanpost.receivers.forwarder._SEARCH_EVERY", 0.0)
    pipeline, provider = process.attach(gateway.url)
    span(provider, "before").end()
    assert pipeline.force_flush()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{gateway.url}/v1/traces")))
    span(provider, "after").end()
    assert pipeline.force_flush()
    assert gateway.names(Part.ENDED) == ["before", "after"]


def test_what_the_application_sends_its_backend_is_not_sent_here(
    gateway: RunningGateway, process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OTEL_EXPORTER_OTLP_HEADERS are not sent to the gateway; our headers arrive and are not logged."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-honeycomb-team=theirs,authorization=Basic theirs")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-other=theirs")
    gateway.answers.append(503)
    pipeline, provider = process.attach(gateway.url, token="ours-5e1f", headers={"X-Tenant": "acme-77b3"})
    span(provider).end()
    assert gateway.wait_for(lambda seen: any(o.part is Part.ENDED for o in seen))
    for _, headers, _ in gateway.requests:
        assert "theirs" not in str(headers)
        assert (headers["authorization"], headers["x-tenant"]) == ("Bearer ours-5e1f", "acme-77b3")
    section = pipeline.settings.forward
    for written in (caplog.text, repr(section), str(section), repr(pipeline.settings)):
        assert "ours-5e1f" not in written
        assert "acme-77b3" not in written


@pytest.mark.slow
def test_a_gateway_that_comes_back_gets_what_waited(
    gateway: RunningGateway, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Batches that are refused for a while are tried again, in order, and nothing is lost; it is logged once a
    signal.
    """
    gateway.answers.extend([500] * 3)
    pipeline, provider = process.attach(gateway.url)
    for number in range(3):
        span(provider, f"s{number}").end()
    assert gateway.wait_for(lambda seen: [o.name for o in seen if o.part is Part.ENDED] == ["s0", "s1", "s2"])
    assert pipeline.force_flush()
    assert pipeline.dropped == {}
    said = [r.getMessage() for r in caplog.records if r.name == "spanpost.receivers"]
    assert len([one for one in said if "fails" in one]) <= 2


def test_a_gateway_that_hangs_costs_the_agent_nothing(gateway: RunningGateway, process: Process) -> None:
    """Without answers, spans start, report and end; a flush returns False in time; an overflow is dropped
    and counted.
    """
    gateway.held = threading.Event()
    pipeline, provider = process.attach(gateway.url, timeout=60)
    pipeline.feed.queue.capacity = 100
    span(provider).end()
    began = time.monotonic()
    assert pipeline.force_flush(0.1) is False
    for number in range(200):
        span(provider, f"s{number}").end()
    assert time.monotonic() - began < MAX_FLUSH + 30  # as against the minute that one request may take
    assert pipeline.dropped["queue_full"] > 0
    gateway.held.set()


def test_a_batch_that_cannot_be_sent_is_dropped_by_count(process: Process) -> None:
    """A batch that failed until the deadline of its retries is given up, and each observation of it counted."""
    pipeline, provider = process.attach(f"http://127.0.0.1:{free_port()}", timeout=0.2, retry_timeout=0.3)
    span(provider).end()
    assert pipeline.force_flush() is False
    # No start of an ended span is reported: one or two observations, and on a slow machine a heartbeat.
    assert pipeline.dropped["unsent"] in (1, 2, 3)


def test_the_end_is_in_time_whatever_hangs(gateway: RunningGateway, process: Process) -> None:
    """Without answers, a shutdown ends within its limits and reports that not everything was sent."""
    gateway.held = threading.Event()
    pipeline, provider = process.attach(gateway.url, timeout=60)
    span(provider)
    began = time.monotonic()
    assert pipeline.shutdown(0.3) is False
    assert time.monotonic() - began < 40  # as against the minute that one request may take


def test_open_spans_are_interrupted_at_the_end(gateway: RunningGateway, process: Process) -> None:
    """A span that is open when the process ends regularly is reported as gone."""
    pipeline, provider = process.attach(gateway.url)
    span(provider)
    assert pipeline.shutdown() is True
    assert gateway.of(Part.LOG, "agent.span.interrupted")


def test_nothing_that_an_agent_says_spoils_a_batch(gateway: RunningGateway, process: Process) -> None:
    """Names, times and values that OTLP cannot hold are repaired, and their neighbours arrive."""
    pipeline, provider = process.attach(gateway.url)
    tracer = provider.get_tracer("an.agent")
    odd = tracer.start_span(
        "\ud800 odd", attributes={**AGENT, "big": 2**80, "text": "\ud800", "none": float("nan")}, start_time=1.5
    )  # type: ignore[arg-type]
    odd.add_event("\udfff", {"x": 2**70}, timestamp=-5)
    odd.set_status(trace.StatusCode.ERROR, "\ud800")
    odd.end(2**70)
    span(provider, "even").end()
    assert pipeline.force_flush()
    assert len(gateway.of(Part.ENDED)) == 2
    assert pipeline.dropped == {}


def test_grpc(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over gRPC the same arrives, with the token as metadata and without the application's headers."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=theirs")
    with GrpcGateway() as gateway:
        pipeline, provider = process.attach(gateway.url, protocol="grpc", token="ours")
        one = span(provider)
        assert pipeline.force_flush()
        one.end()
        assert pipeline.force_flush()
        assert [name for name, _ in gateway.spans] == ["work"]
        assert "agent.span.started" in [name for name, _ in gateway.logs]
    for _, metadata in [*gateway.logs, *gateway.spans]:
        assert metadata["authorization"] == "Bearer ours"
        assert "theirs" not in metadata.values()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_signal_that_is_never_taken_does_not_hold_up_the_other(
    process: Process, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver without logs gets traces at once; live records are dropped, counted, and explained."""
    with ExitStack() as stack:
        there: Any = stack.enter_context(RunningGateway() if protocol == "http" else GrpcGateway(takes=("traces",)))
        if protocol == "http":
            there.paths = {"/v1/traces"}
        pipeline, provider = process.attach(there.url, protocol=protocol)
        for number in range(20):
            one = span(provider, f"s{number}")
            one.add_event("agent.checkpoint")
            one.end()
        assert pipeline.force_flush() is False  # correct: some of it was dropped
        ended = there.names(Part.ENDED) if protocol == "http" else [name for name, _ in there.spans]
        assert ended == [f"s{number}" for number in range(20)]
        assert pipeline.dropped["refused"] >= 20
        [said] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert "they are lost, and counted" in said
        assert ("pipeline for logs" if protocol == "http" else "UNIMPLEMENTED") in said


def test_a_second_provider_is_forwarded_too(gateway: RunningGateway, process: Process) -> None:
    """Another provider feeds the same pipeline, and if nothing exports its spans *auto* sends them all."""
    pipeline, first = process.attach(gateway.url, None, (OTLPSpanExporter(endpoint=f"{gateway.url}/v1/traces"),))
    second = TracerProvider(shutdown_on_exit=False)
    assert spanpost.attach(tracer_provider=second, logger_provider=LoggerProvider(shutdown_on_exit=False)) is pipeline
    span(second, "two").end()
    assert pipeline.force_flush()
    assert gateway.names(Part.ENDED) == ["two"]
    assert first is not second


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces", True),
        ("http://collector:4318", "collector:4317", True),
        ("http://localhost:4318", "http://127.0.0.1:4318/v1/traces", True),
        ("http://[::1]:4318", "localhost:4317", True),
        ("http://collector:4318", "http://backend:4318", False),
        ("http://collector:4318", "http://collector:9999/v1/traces", False),
        ("https://gw.example", "https://gw.example:443/otlp/v1/traces", True),
        ("unix:///run/otlp.sock", "unix:/run/otlp.sock", True),
        ("unix:///run/otlp.sock", "localhost:4317", False),
        ("http://collector:4318", "http://collector:many/", False),
    ],
)
def test_the_same_place(one: str, other: str, same: bool) -> None:
    """Two addresses are one place if host and port agree, or both ports are OTLP's, in either order."""
    assert is_same_place(one, other) is same
    assert is_same_place(other, one) is same


def test_exporters_are_found_behind_wrappers() -> None:
    """An application's exporter is found in batch and simple processors, behind wrappers and in foreign
    providers.
    """

    class Wrapped:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.itself = self

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    provider = TracerProvider(shutdown_on_exit=False)
    assert endpoints_of(provider) == []
    provider.add_span_processor(BatchSpanProcessor(Wrapped(OTLPSpanExporter(endpoint="http://a:4318/v1/traces"))))
    provider.add_span_processor(SimpleSpanProcessor(GrpcSpanExporter(endpoint="http://b:4317", insecure=True)))
    assert sorted(endpoints_of(provider)) == ["b:4317", "http://a:4318/v1/traces"]

    class Proxy:
        def __init__(self, inner: Any) -> None:
            self.provider = inner

    assert len(endpoints_of(Proxy(provider))) == 2
    assert endpoints_of(trace.NoOpTracerProvider()) == []


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [("http://c:4318", "http"), ("http://c:4317", "grpc"), ("https://c", "http"), ("unix:///run/s.sock", "grpc")],
)
def test_the_protocol_is_known_by_the_address(endpoint: str, protocol: str) -> None:
    """The standard ports give the protocol; any other port is HTTP."""
    assert protocol_of(endpoint) == protocol
    assert Target(f"{endpoint}/v1/logs" if protocol == "http" else endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"endpoint": "collector:4318"}, "http://host:port"),
        ({"endpoint": "http://"}, "http://host:port"),
        ({"endpoint": "http://user:pw@collector:4318"}, "must not hold a user or password"),
        ({"endpoint": "http://c:99999"}, "is not a URL"),
        ({"endpoint": "unix:///s", "protocol": "http"}, "speaks gRPC"),
        ({"endpoint": "http://c:4318", "token": "two words"}, "plain ASCII"),
        ({"endpoint": "http://c:4318", "headers": {"bad name": "x"}}, "no name of a header"),
        ({"endpoint": "http://c:4318", "headers": {"x": "a\nb"}}, "on one line"),
        ({"endpoint": "http://c:4318", "client_key": "k.pem"}, "belong together"),
        ({"endpoint": "http://c:4318", "max_waiting_bytes": 100_000}, "at least twice max_request_bytes"),
        ({"endpoint": "http://c:4318", "certificate": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
        ({"endpoint": "https://c:4317", "certificate": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
        ({}, "forward.endpoint"),
    ],
)
def test_wrong_settings_are_refused_at_the_start(section: dict[str, Any], says: str, clean_environment: Path) -> None:
    """A wrong address, header or certificate is reported at once, with what to do, and without any secret."""
    with pytest.raises(ConfigError) as refused:
        spanpost.attach(forward=section)
    assert says in str(refused.value)
    assert "pw" not in str(refused.value)
    assert app._living() is None


def test_without_the_exporter_it_is_said_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the OTLP exporter installed, the error names the extra that brings it."""
    for protocol, extra in (("http", "spanpost[forward]"), ("grpc", "spanpost[forward-grpc]")):
        monkeypatch.setitem(__import__("sys").modules, "requests" if protocol == "http" else "grpc", None)
        with pytest.raises(ConfigError, match="missing") as refused:
            Forwarder(Target("http://c", protocol=protocol), spans=ForwardedSpans.AUTO)
        assert extra in str(refused.value)
