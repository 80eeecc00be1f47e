"""The configurations in collector-config/, run by a real OpenTelemetry Collector in front of a real gateway."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider

import spanpost
from tests.acceptance.gateways import Gateway, run_gateway
from tests.conftest import ROOT, Database, find
from tests.eventually import eventually, free_port, until_listening

CONFIGS = sorted(path for path in (ROOT / "collector-config").glob("*.yaml") if path.stem != "builder")

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


class Collector:
    """A Collector as a process that can be killed and started again on the same queue."""

    def __init__(
        self, config: str, directory: Path, *, ports: Callable[[], int] = free_port, **environment: str
    ) -> None:
        self._command = [find("otelcol"), "--config", str(ROOT / "collector-config" / f"{config}.yaml")]
        self._log = directory / "collector.log"
        self.http, self.grpc, self.control = ports(), ports(), ports()
        queue = directory / "queue"
        self._environment = {
            **os.environ,
            "OTLP_HTTP": f"127.0.0.1:{self.http}",
            "OTLP_GRPC": f"127.0.0.1:{self.grpc}",
            "CONTROL": f"127.0.0.1:{self.control}",
            "QUEUE_DIR": str(queue),
            **environment,
        }
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        until_listening(self.process, self.http, self._log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def send(endpoint: str, spans: Sequence[object]) -> bool:
    """Send spans with OpenTelemetry's own exporter; return whether they were acknowledged."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=60)
    try:
        return exporter.export(spans) is SpanExportResult.SUCCESS  # type: ignore[arg-type]
    finally:
        exporter.shutdown()


class ParentCommand(Exception):
    """LangGraph's exception, by which an agent hands over to one of the parent graph."""


def make_spans(count: int, thrown: Exception | None = None, **attributes: str) -> list[object]:
    """Return finished model calls of an agent, made by the SDK; the agent ends with what is thrown."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("tests")
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "coder"}
    with suppress(ParentCommand), tracer.start_as_current_span("invoke_agent coder", attributes=agent):
        for _ in range(count - 1):
            call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", **attributes}
            tracer.start_span("chat gpt-4o", attributes=call).end()
        if thrown:
            raise thrown
    return list(memory.get_finished_spans())


def span_ids(spans: Sequence[object]) -> set[str]:
    return {f"{span.context.span_id:016x}" for span in spans}  # type: ignore[attr-defined]


def stored(database: Database) -> list[str]:
    return [row[0] for row in database.fetch("SELECT encode(span_id, 'hex') FROM agent_events")]


def until_stored(database: Database, wanted: set[str]) -> list[str]:
    """Wait until all wanted rows are there; return the rows."""
    return eventually(lambda: stored(database), lambda rows: wanted <= set(rows), 180)  # a Collector waits ever longer


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_collector_takes_the_configuration(config: Path, needs: Callable[[str], str], tmp_path: Path) -> None:
    """The Collector knows every component of the configuration and finds no fault in it."""
    said = subprocess.run(
        [needs("otelcol"), "validate", "--config", str(config)],
        env={**os.environ, "QUEUE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, config: str, directory: Path, **environment: str) -> Collector:
    collector = Collector(config, directory, **environment)
    stack.callback(collector.stop)
    return collector


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_what_is_sent_arrives_once(
    config: Path, database: Database, stack: ExitStack, open_dir: Callable[[], Path]
) -> None:
    """Spans and log events through the Collector of each configuration are rows, each once; metrics arrive too."""
    directory = open_dir()
    socket = directory / "otlp.sock"
    gateway = stack.enter_context(run_gateway(database.dsn, directory, SPANPOST_GATEWAY__GRPC_SOCKET=str(socket)))
    address = f"127.0.0.1:{gateway.grpc}"
    collector = start(
        stack,
        config.stem,
        directory,
        SPANPOST_ENDPOINT=address,
        SPANPOST_ENDPOINT_2=address,
        SPANPOST_SOCKET=str(socket),
        SPANPOST_URL=gateway.url,
    )
    spans = make_spans(300)
    assert send(f"http://127.0.0.1:{collector.http}", spans)
    assert sorted(until_stored(database, span_ids(spans))) == sorted(span_ids(spans))
    body = ExportMetricsServiceRequest()
    metric = body.resource_metrics.add().scope_metrics.add().metrics.add(name="tests.points")
    metric.gauge.data_points.add(as_int=1)
    record = ExportLogsServiceRequest()
    record.resource_logs.add().scope_logs.add().log_records.add(event_name="tests.record", time_unix_nano=1)
    for kind, message in (("metrics", body), ("logs", record)):
        asked = urllib.request.Request(
            f"http://127.0.0.1:{collector.http}/v1/{kind}",
            message.SerializeToString(),
            {"content-type": "application/x-protobuf"},
        )
        with urllib.request.urlopen(asked) as answer:
            assert (kind, answer.status) == (kind, 200)

    def points() -> float:
        with urllib.request.urlopen(f"{gateway.url}/metrics") as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("spanpost_metric_points_total"))

    eventually(points, bool, 120)


def test_a_live_forwarder_loses_nothing_at_a_collectors_limit(
    database: Database, stack: ExitStack, open_dir: Callable[[], Path], clean_environment: Path
) -> None:
    """An agent with 300 model calls of 60 kB each, forwarded to a Collector with gRPC's 4 MiB, is 301 ended rows."""
    directory = open_dir()
    gateway = stack.enter_context(run_gateway(database.dsn, directory))
    collector = start(stack, "minimal", directory, SPANPOST_ENDPOINT=f"127.0.0.1:{gateway.grpc}")
    provider = TracerProvider(shutdown_on_exit=False)
    pipeline = spanpost.attach(
        forward={"endpoint": f"http://127.0.0.1:{collector.grpc}", "protocol": "grpc"},
        tracer_provider=provider,
        logger_provider=LoggerProvider(shutdown_on_exit=False),
    )
    stack.callback(pipeline.shutdown)
    tracer = provider.get_tracer("tests")
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "coder"}
    with tracer.start_as_current_span("invoke_agent coder", attributes=agent) as root:
        ids = {f"{root.get_span_context().span_id:016x}"}
        for _ in range(300):
            call = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "x" * 60_000}
            with tracer.start_as_current_span("chat gpt-4o", attributes=call) as span:
                ids.add(f"{span.get_span_context().span_id:016x}")
    eventually(pipeline.force_flush, bool, 60)
    query = "SELECT encode(span_id, 'hex') FROM agent_events WHERE part = 0"
    rows = eventually(lambda: [row[0] for row in database.fetch(query)], lambda rows: len(rows) >= 301, 60)
    assert (len(rows), set(rows)) == (301, ids)
    assert pipeline.dropped == {}


@pytest.mark.proves("content")
def test_content_and_secrets_stay_out(database: Database, stack: ExitStack, open_dir: Callable[[], Path]) -> None:
    """Behind the redacting Collector no prompt, handed-over state or token reaches spanpost; tasks are followed."""
    directory = open_dir()
    gateway = stack.enter_context(run_gateway(database.dsn, directory, SPANPOST_INTAKE__CAPTURE_CONTENT="true"))
    collector = start(stack, "redacting", directory, SPANPOST_ENDPOINT=f"127.0.0.1:{gateway.grpc}")
    said = {
        "gen_ai.input.messages": "my-own-words",
        "input.value": "my-own-words",
        "note": "xoxb-1234567890-abcdefghij",
    }
    spans = make_spans(2, ParentCommand("Command(update={'messages': ['my-own-words']})"), **said)
    assert send(f"http://127.0.0.1:{collector.http}", spans)
    until_stored(database, span_ids(spans))
    [(attributes,)] = database.fetch("SELECT attributes::text FROM agent_events WHERE name LIKE 'chat%'")
    [(rows,)] = database.fetch("SELECT string_agg(row_to_json(e)::text, '') FROM agent_events e")
    assert "ParentCommand" in rows
    assert "my-own-words" not in rows
    assert "xoxb" not in attributes
    assert "gpt-4o" in attributes


def test_only_the_backend_is_sampled(database: Database, stack: ExitStack, open_dir: Callable[[], Path]) -> None:
    """With tail sampling beside a backend every span is a row of spanpost's, and the backend gets fewer."""
    counted: list[int] = []

    class Backend(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            request = ExportTraceServiceRequest.FromString(body)
            counted.append(sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    backend = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    stack.callback(backend.shutdown)
    directory = open_dir()
    gateway = stack.enter_context(run_gateway(database.dsn, directory))
    collector = start(
        stack,
        "beside-a-backend",
        directory,
        SPANPOST_ENDPOINT=f"127.0.0.1:{gateway.grpc}",
        BACKEND_ENDPOINT=f"http://127.0.0.1:{backend.server_port}",
    )
    batches = [make_spans(3) for _ in range(60)]
    for spans in batches:
        assert send(f"http://127.0.0.1:{collector.http}", spans)
    sent = set().union(*map(span_ids, batches))
    assert sorted(until_stored(database, sent)) == sorted(sent)
    collector.stop()  # releases what it holds for the backend
    assert sum(counted) < len(sent)


@pytest.mark.proves("outage", "gateway-killed")
def test_either_of_two_replicas_is_enough(database: Database, stack: ExitStack, open_dir: Callable[[], Path]) -> None:
    """Spans that the load balancer gave to a killed replica reach the database through the other one."""
    directories = open_dir(), open_dir()
    first, second = (stack.enter_context(run_gateway(database.dsn, directory)) for directory in directories)
    collector = start(
        stack,
        "scaled",
        directories[0],
        SPANPOST_ENDPOINT=f"127.0.0.1:{first.grpc}",
        SPANPOST_ENDPOINT_2=f"127.0.0.1:{second.grpc}",
    )
    batches = [make_spans(5) for _ in range(60)]
    for number, spans in enumerate(batches):
        if number == 20:
            second.kill()
        assert send(f"http://127.0.0.1:{collector.http}", spans)
    second.start()
    sent = set().union(*map(span_ids, batches))
    assert sorted(until_stored(database, sent)) == sorted(sent)


#: Spans that are sent while the two are killed.
SPANS = int(os.environ.get("SPANPOST_TEST_SPANS", "5000"))


@pytest.mark.proves("outage", "collector-killed")
def test_what_was_acknowledged_survives_every_kill(
    database: Database, stack: ExitStack, open_dir: Callable[[], Path], record_property: Callable[[str, object], None]
) -> None:
    """While Collector and gateway are killed at random, each span that the Collector acknowledged is one row."""
    directory = open_dir()
    gateway = stack.enter_context(run_gateway(database.dsn, directory))
    collector = start(stack, "durable", directory, SPANPOST_ENDPOINT=f"127.0.0.1:{gateway.grpc}")
    acknowledged: set[str] = set()
    everything: set[str] = set()
    is_over = threading.Event()

    def sending() -> None:
        for _ in range(SPANS // 50):
            spans = make_spans(50)
            everything.update(span_ids(spans))
            if send(f"http://127.0.0.1:{collector.http}", spans):
                acknowledged.update(span_ids(spans))
        is_over.set()

    sender = threading.Thread(target=sending)
    sender.start()
    chance = random.Random(7)
    kills = 0
    while not is_over.wait(chance.uniform(0.2, 1.0)):
        victim: Collector | Gateway = collector if chance.random() < 0.5 else gateway
        victim.kill()
        victim.start()
        kills += 1
    sender.join()
    rows = until_stored(database, acknowledged)
    assert kills >= 2
    assert acknowledged
    assert acknowledged - set(rows) == set()
    assert len(rows) == len(set(rows))
    assert set(rows) <= everything
    record_property("size", f"{len(acknowledged)} of {len(everything)} acknowledged, {kills} kills, {len(rows)} rows")
