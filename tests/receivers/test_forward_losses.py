"""What the forwarder does when an endpoint refuses: nothing that could arrive is lost, and the rest is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider

import spanpost
from spanpost.model.observations import Part
from spanpost.receivers import emit, forward_queue
from spanpost.receivers.forward_target import Target
from spanpost.testing.gateway import GrpcGateway, RunningGateway
from tests.eventually import eventually

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
FOUR_MIB = 4 * 1024 * 1024

Attach = Callable[..., tuple[Any, Any]]


@pytest.fixture
def attach(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attach]:
    """Attach a forwarder to a provider of its own; return both."""
    monkeypatch.setattr(forward_queue, "_PAUSES", (0.02, 0.1))
    with ExitStack() as stack:

        def attach(endpoint: str, **section: Any) -> tuple[Any, Any]:
            provider = TracerProvider(shutdown_on_exit=False)
            pipeline = spanpost.attach(
                forward={"endpoint": endpoint, "spans": "always", **section},
                tracer_provider=provider,
                logger_provider=LoggerProvider(shutdown_on_exit=False),
            )
            stack.callback(provider.shutdown)
            stack.callback(pipeline.shutdown)
            return pipeline, provider

        yield attach


def run(provider: Any, calls: int, size: int) -> None:
    """An agent's span over model calls with `size` bytes of content each."""
    tracer = provider.get_tracer("an.agent")
    with tracer.start_as_current_span("invoke_agent ann", attributes=AGENT):
        for number in range(calls):
            attributes = {**CALL, "gen_ai.input.messages": f"{number} " + "x" * size}
            tracer.start_span(f"chat {number}", attributes=attributes).end()


def flushed(pipeline: Any) -> bool:
    """Flush until everything is resolved: one flush waits for two seconds at most."""
    return eventually(pipeline.force_flush, bool, 60)


def expected(calls: int) -> Counter[str]:
    return Counter([f"chat {number}" for number in range(calls)] + ["invoke_agent ann"])


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "size"), [(300, 60_000), (1500, 8_000)])
def test_large_spans_arrive_over_grpc_with_its_default_limit(attach: Attach, calls: int, size: int) -> None:
    """Spans that a batch would make larger than the 4 MiB of gRPC arrive, each once, and none is counted as lost."""
    with GrpcGateway() as gateway:
        pipeline, provider = attach(gateway.url, protocol="grpc")
        run(provider, calls, size)
        assert flushed(pipeline)
        assert Counter(name for name, _ in gateway.spans) == expected(calls)
        assert pipeline.dropped == {}
        assert sum(gateway.sizes) > calls * size
        assert max(gateway.sizes) <= 3 * 1024 * 1024


def test_large_spans_arrive_where_requests_are_refused_with_413(attach: Attach) -> None:
    """An endpoint with a smaller limit than ours gets the same spans in smaller requests, at once."""
    with RunningGateway() as gateway:
        gateway.judge = lambda body: 413 if len(body) > 300_000 else 200
        pipeline, provider = attach(gateway.url)
        run(provider, 100, 20_000)
        assert flushed(pipeline)
        assert Counter(gateway.names(Part.ENDED)) == expected(100)
        assert pipeline.dropped == {}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_span_that_is_too_large_arrives_with_its_content_cut(
    attach: Attach, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One span larger than a request arrives with its longest texts cut, its neighbours unharmed."""
    with RunningGateway() if protocol == "http" else GrpcGateway() as gateway:
        pipeline, provider = attach(gateway.url, protocol=protocol, max_request_bytes=100_000)
        tracer = provider.get_tracer("an.agent")
        with tracer.start_as_current_span("invoke_agent ann", attributes=AGENT) as root:
            root.set_attributes({f"large.{number}": "x" * 60_000 for number in range(10)})
            tracer.start_span("chat", attributes=CALL).end()
        assert flushed(pipeline)
        assert pipeline.dropped == {}
    if isinstance(gateway, RunningGateway):
        [root] = [o for o in gateway.of(Part.ENDED) if o.name == "invoke_agent ann"]
        assert AGENT.items() <= root.attributes.items()
        assert all("bytes, sha256" in root.attributes[f"large.{number}"] for number in range(10))
    else:
        assert sorted(name for name, _ in gateway.spans) == ["chat", "invoke_agent ann"]
        assert max(gateway.sizes) <= 100_000
    assert len([r for r in caplog.records if "was cut" in r.getMessage()]) == 1


def test_an_endpoint_that_takes_nothing_large_costs_what_is_large(attach: Attach) -> None:
    """A span that is refused as too large however small it is cut is dropped by that reason; the others arrive."""
    with RunningGateway() as gateway:
        gateway.judge = lambda body: 413 if b"invoke_agent ann" in body else 200
        pipeline, provider = attach(gateway.url)
        run(provider, 20, 5_000)
        pipeline.force_flush()
        eventually(lambda: gateway.names(Part.ENDED), lambda names: len(names) == 20)
        assert set(pipeline.dropped) == {"too_large"}
        assert 1 <= pipeline.dropped["too_large"] <= 3  # the span, its start, and a heartbeat on a slow machine


def test_a_refused_request_does_not_hold_the_others(attach: Attach) -> None:
    """What an endpoint refuses for good is dropped and counted once; what was sent before and after it arrives."""
    with RunningGateway() as gateway:
        gateway.judge = lambda body: 400 if b"poison" in body else 200
        pipeline, provider = attach(gateway.url)
        tracer = provider.get_tracer("an.agent")
        for name in ("before", "poison", "after"):
            tracer.start_span(name, attributes=AGENT).end()
            pipeline.force_flush()
        assert gateway.names(Part.ENDED) == ["before", "after"]
        assert set(pipeline.dropped) == {"refused"}


def test_a_request_that_keeps_failing_does_not_hold_the_others(attach: Attach) -> None:
    """A request for which an endpoint answers 503 each time is overtaken, and arrives when it is taken."""
    with RunningGateway() as gateway:
        is_bad = True
        gateway.judge = lambda body: 503 if b"poison" in body and is_bad else 200
        pipeline, provider = attach(gateway.url)
        tracer = provider.get_tracer("an.agent")
        tracer.start_span("poison", attributes=AGENT).end()
        eventually(lambda: gateway.refused, lambda refused: refused > 0)  # from now on nothing joins it
        tracer.start_span("after", attributes=AGENT).end()
        eventually(lambda: gateway.names(Part.ENDED), lambda names: names == ["after"])
        is_bad = False
        eventually(lambda: gateway.names(Part.ENDED), lambda names: names == ["after", "poison"])
        assert pipeline.dropped == {}


def aborted(code: grpc.StatusCode, delay: float | None = None) -> Callable[[Any], None]:
    """Return an answer that aborts, with a `RetryInfo` if a delay is given."""

    def abort(context: Any) -> None:
        if delay is not None:
            info = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=int(delay * 1e9)))
            status = status_pb2.Status(code=code.value[0], message="busy")
            status.details.add().Pack(info)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, "busy")

    return abort


def test_a_busy_endpoint_is_tried_again_after_its_time(attach: Attach) -> None:
    """RESOURCE_EXHAUSTED with a RetryInfo, UNAVAILABLE, and 429 with Retry-After are waited out; nothing is lost."""
    with GrpcGateway() as gateway:
        busy = grpc.StatusCode.RESOURCE_EXHAUSTED
        gateway.answers += [aborted(busy, 0.05), aborted(busy, 0.05), aborted(grpc.StatusCode.UNAVAILABLE)]
        pipeline, provider = attach(gateway.url, protocol="grpc")
        run(provider, 5, 100)
        assert flushed(pipeline)
        assert Counter(name for name, _ in gateway.spans) == expected(5)
        assert pipeline.dropped == {}
        pipeline.shutdown()
    with RunningGateway() as other:
        other.answers += [(429, {"retry-after": "0.05"}), (503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})]
        pipeline, provider = attach(other.url)
        run(provider, 5, 100)
        assert flushed(pipeline)
        assert Counter(other.names(Part.ENDED)) == expected(5)
        assert pipeline.dropped == {}


def test_an_endpoint_that_does_not_say_why_it_is_exhausted_gets_it_all(attach: Attach) -> None:
    """RESOURCE_EXHAUSTED without a RetryInfo costs nothing: small requests are tried again, large ones in halves."""
    with GrpcGateway() as gateway:
        gateway.answers += [aborted(grpc.StatusCode.RESOURCE_EXHAUSTED)] * 4
        pipeline, provider = attach(gateway.url, protocol="grpc")
        run(provider, 5, 30_000)
        assert flushed(pipeline)
        assert Counter(name for name, _ in gateway.spans) == expected(5)
        assert pipeline.dropped == {}


def test_what_an_endpoint_leaves_out_is_counted(attach: Attach) -> None:
    """A partial success is no failure: the rejected spans are counted as refused, the others have arrived."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    from spanpost.receivers.forward_transports import HttpTransport, OtlpOutcome

    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 2
    response.partial_success.error_message = "no"
    with RunningGateway() as gateway:
        gateway.accepted = response.SerializeToString()
        transport = HttpTransport("traces", f"{gateway.url}/v1/traces", {}, 5.0, None, None)
        answer = transport.send(b"")
        transport.close()
        assert (answer.outcome, answer.rejected, answer.why) == (OtlpOutcome.ACCEPTED, 2, "no")
        pipeline, provider = attach(gateway.url)
        run(provider, 5, 100)
        pipeline.force_flush()
        eventually(lambda: pipeline.dropped, lambda dropped: dropped.get("refused", 0) >= 2)
        assert Counter(gateway.names(Part.ENDED)) == expected(5)


def test_a_page_and_an_endless_answer_are_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login page with 200, and an answer without end: what was sent is kept for another try."""
    from spanpost.receivers.forward_transports import HttpTransport, OtlpOutcome

    monkeypatch.setattr(emit, "_PAUSE", 0.01)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            is_page = self.path.startswith("/page")
            with suppress(OSError):
                self.send_response(200)
                self.send_header("content-type", "text/html" if is_page else "application/x-protobuf")
                self.end_headers()
                while not is_page:
                    self.wfile.write(b"x" * 65_536)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        for path in ("page", "flood"):
            url = f"http://127.0.0.1:{server.server_port}/{path}"
            transport = HttpTransport("traces", url, {}, 0.5, None, None)
            answer = transport.send(b"x")
            transport.close()
            assert (answer.outcome, "OTLP receiver" in answer.why) == (OtlpOutcome.LATER, True), path
        with pytest.raises(emit.NotAccepted, match="with a page"):
            emit.post(Target(f"http://127.0.0.1:{server.server_port}/page", protocol="http"), "logs", {})
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_memory_is_bounded_while_an_endpoint_is_away(attach: Attach) -> None:
    """What exceeds the memory bound is dropped by its reason; what waited arrives when the endpoint is back."""
    with RunningGateway() as gateway:
        is_down = True
        gateway.judge = lambda body: 503 if is_down else 200
        pipeline, provider = attach(gateway.url, max_request_bytes=65_536, max_waiting_bytes=1_000_000)
        run(provider, 200, 20_000)
        eventually(lambda: pipeline.dropped.get("queue_full", 0), lambda count: count > 100)
        assert pipeline._forwarder._sender._queue.size <= 1_000_000
        is_down = False
        eventually(lambda: pipeline._forwarder._sender._queue.size, lambda size: size == 0)
        ended = gateway.names(Part.ENDED)
        assert len(ended) == len(set(ended)) >= 40
        assert set(pipeline.dropped) == {"queue_full"}
