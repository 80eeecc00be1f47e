"""`spanpost run` as a process with a real PostgreSQL, and the stock OpenTelemetry exporters as its clients."""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from spanpost.http.tokens import hash_of, new_token
from tests.acceptance.gateway_process import Start, query, request, said, spans
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]


def body(first: int, count: int) -> bytes:
    return bytes(encode_spans(spans(first, count)).SerializeToString())


# --- the stock exporters ----------------------------------------------------------------------------------------------


def test_the_stock_exporters_are_understood(start: Start, tmp_path: Path) -> None:
    """The same spans by HTTP (plain, gzip, deflate), gRPC (plain, gzip) and a Unix socket are each recorded
    once.
    """
    socket = tmp_path / "otlp.sock"
    gateway = start(f'[gateway]\ngrpc_socket = "{socket}"\n').ready()
    traces = f"{gateway.http}/v1/traces"
    exporters: list[Any] = [
        HttpExporter(traces, compression=each)
        for each in (Compression.NoCompression, Compression.Gzip, Compression.Deflate)
    ]
    import grpc

    exporters += [GrpcExporter(gateway.grpc, insecure=True, compression=each) for each in (None, grpc.Compression.Gzip)]
    exporters += [GrpcExporter(f"unix://{socket}", insecure=True)]
    for exporter in exporters:
        assert exporter.export(spans(0, 500)) is SpanExportResult.SUCCESS
        exporter.shutdown()
    assert gateway.recorded == list(range(500))
    assert gateway.rows("SELECT count(*), count(DISTINCT trace_id) FROM agent_tasks") == [(50, 50)]
    metrics = gateway.get("/metrics")[1].decode()
    assert 'spanpost_requests_total{endpoint="http",signal="traces",status="200"} 3.0' in metrics
    assert 'spanpost_requests_total{endpoint="grpc",signal="traces",status="ok"} 3.0' in metrics
    assert "spanpost_duplicate_observations_total 2500.0" in metrics
    assert gateway.end() == 0


def test_the_other_signals_are_taken(start: Start) -> None:
    """Log events become rows, data points are counted, by HTTP and by gRPC with the stock exporters."""
    from opentelemetry._logs import LogRecord
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    gateway = start().ready()
    assert gateway.post(body(0, 10)) == 200
    for exporter in (HttpLogs(f"{gateway.http}/v1/logs"), GrpcLogs(gateway.grpc, insecure=True)):
        provider = LoggerProvider()
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        provider.get_logger("t").emit(
            LogRecord(
                timestamp=10**18,
                event_name="agent.checkpoint",
                trace_id=1,
                span_id=10,
                attributes={"agent.action": "digging"},
            )
        )
        provider.shutdown()
    for points in (HttpMetrics(f"{gateway.http}/v1/metrics"), GrpcMetrics(gateway.grpc, insecure=True)):
        meter = MeterProvider([PeriodicExportingMetricReader(points, export_interval_millis=10**9)])
        meter.get_meter("t").create_counter("c").add(1)
        meter.shutdown()
    assert gateway.rows("SELECT count(*) FROM agent_events WHERE part = 4") == [(1,)]
    assert "spanpost_metric_points_total 2.0" in gateway.get("/metrics")[1].decode()


def test_grpc_answers_as_the_specification_has_it(start: Start, dsn: str) -> None:
    """gRPC has the specified codes for too large, garbage and unknown requests, and serves the health
    service.

    Too large is RESOURCE_EXHAUSTED without a repeat, also when a message grows only by inflating; garbage is
    INVALID_ARGUMENT; an unknown method is UNIMPLEMENTED.
    """
    import grpc

    gateway = start("[gateway]\nmax_body = 100000\n").ready()
    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    with grpc.insecure_channel(gateway.grpc.removeprefix("http://")) as channel:

        def call(name: str, sent: bytes, compression: Any = None) -> Any:
            try:
                return channel.unary_unary(name)(sent, compression=compression, timeout=60)
            except grpc.RpcError as error:
                return error.code().name

        assert call(method, body(0, 10)) == b""
        assert call(method, b"x" * 100_001) == "RESOURCE_EXHAUSTED"
        assert call(method, b"\0" * 10_000_000, grpc.Compression.Gzip) == "RESOURCE_EXHAUSTED"
        assert call(method, b"\xff\xfe nonsense") == "INVALID_ARGUMENT"
        assert call("/opentelemetry.proto.collector.trace.v1.TraceService/Import", b"") == "UNIMPLEMENTED"
        assert call("/grpc.health.v1.Health/Check", b"") == b"\x08\x01"
    assert query(dsn, "SELECT source, bytes FROM quarantine") == [("otlp traces", b"\xff\xfe nonsense")]
    assert gateway.recorded == list(range(10))


# --- acknowledged is durable ------------------------------------------------------------------------------------------


class Stream:
    """Sends numbered bodies, each until it is acknowledged, and keeps the acknowledged ones, as an exporter
    with retries.
    """

    def __init__(self, bodies: int, size: int) -> None:
        self.bodies, self.size = bodies, size
        self.acknowledged: set[int] = set()
        self.statuses: set[int] = set()
        self.url = ""
        self.is_over = threading.Event()
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def begin(self, url: str) -> None:
        self.url = url
        self._thread.start()

    def end(self) -> None:
        """Send no more bodies after the present one, and wait until it is acknowledged."""
        self._is_ending.set()
        assert self.is_over.wait(120)

    def _send(self) -> None:
        for number in range(self.bodies):
            if self._is_ending.is_set():
                break
            sent = body(number * self.size, self.size)
            while number not in self.acknowledged:
                try:
                    status = request(f"{self.url}/v1/traces", sent, content_type="application/x-protobuf")[0]
                except (OSError, http.client.HTTPException):
                    time.sleep(0.02)  # the server is down: its client can only try again
                    continue
                self.statuses.add(status)
                if status == 200:
                    self.acknowledged.add(number)
                else:
                    time.sleep(0.02)
        self.is_over.set()

    @property
    def numbers(self) -> list[int]:
        return [n for number in sorted(self.acknowledged) for n in range(number * self.size, (number + 1) * self.size)]


@pytest.mark.proves("answered", "gateway-killed")
def test_acknowledged_spans_survive_kill_9(start: Start) -> None:
    """After kills at random moments of a stream, every acknowledged span is in the table, once."""
    chance = random.Random(7)
    stream = Stream(bodies=150, size=40)
    gateway = start().ready()
    ports = ("--http-port", gateway.http.rpartition(":")[2], "--grpc-port", "-1")
    stream.begin(gateway.http)
    for _ in range(5):
        seen = len(stream.acknowledged)
        while len(stream.acknowledged) < seen + 5 and not stream.is_over.is_set():
            stream.is_over.wait(chance.uniform(0.0, 0.1))
        gateway.kill()
        kept, acknowledged = set(gateway.recorded), stream.numbers
        assert set(acknowledged) <= kept
        gateway = start("", *ports).ready()
    assert stream.is_over.wait(120)
    assert stream.statuses <= {200, 503}
    assert gateway.recorded == list(range(150 * 40))
    assert gateway.end() == 0


@pytest.mark.proves("never-500", "connections-cut")
def test_while_the_database_is_down_senders_are_asked_to_come_back(start: Start, dsn: str, server: str) -> None:
    """Without its database the gateway stays alive, is not ready and answers 503; afterwards all is recorded."""
    gateway = start().ready()
    assert said(gateway.get("/health/ready")) == (200, {"status": "ready"})
    stream = Stream(bodies=60, size=10)
    stream.begin(gateway.http)
    name = dsn.partition("@/")[2].partition("?")[0]
    for _ in range(3):
        query(
            server,
            f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        eventually(lambda: gateway.get("/health/ready")[0], lambda status: status != 200)
        assert gateway.get("/health/live")[0] == 200
        assert gateway.post(body(10_000, 1)) == 503
        query(server, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        eventually(lambda: gateway.get("/health/ready")[0], lambda status: status == 200)
    assert stream.is_over.wait(120)
    assert stream.statuses <= {200, 503}
    assert gateway.recorded == list(range(600))
    assert "Traceback" not in "\n".join(gateway.lines)


# --- life -------------------------------------------------------------------------------------------------------------


@pytest.mark.proves("stop", "rolling-restart")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_cuts_nobody_off(start: Start, number: int) -> None:
    """At a stop complete requests are recorded, an incomplete body is answered 503, and the exit code is 0."""
    gateway = start().ready()
    stream = Stream(bodies=10_000, size=10)
    stream.begin(gateway.http)
    eventually(lambda: len(stream.acknowledged), lambda count: count >= 5)
    address = gateway.http.removeprefix("http://")
    slow = http.client.HTTPConnection(address, timeout=60)
    last = body(0, 10)
    slow.putrequest("POST", "/v1/traces")
    slow.putheader("content-type", "application/x-protobuf")
    slow.putheader("content-length", str(len(last)))
    slow.endheaders(last[:-1])
    assert gateway.get("/health/live")[0] == 200  # its headers were read before these
    gateway.process.send_signal(number)
    answer = slow.getresponse()
    assert (answer.status, answer.getheader("retry-after")) == (503, "1")
    assert gateway.process.wait(60) == 0
    assert stream.statuses <= {200, 503}
    assert set(stream.numbers) <= set(gateway.recorded)
    assert "Traceback" not in "\n".join(gateway.lines)


def test_tokens_and_routes_are_read_again(start: Start, dsn: str) -> None:
    """SIGHUP adds and removes tokens without cutting connections; wrong settings change nothing."""
    old, new = new_token(), new_token()

    def toml(*hashes: str, more: str = "") -> str:
        listed = ", ".join(f'"{one}"' for one in hashes)
        return f'[console]\nform = "plain"\n{more}\n[[gateway.tokens]]\ntenant = "team-a"\nsha256 = [{listed}]\n'

    gateway = start(toml(hash_of(old))).ready()

    def statuses() -> list[int]:
        return [gateway.post(body(0, 1), authorization=f"Bearer {token}") for token in (old, new)]

    def reread(text: str, says: str) -> None:
        gateway.lines.clear()
        (gateway.home / "spanpost.toml").write_text(text)
        gateway.process.send_signal(signal.SIGHUP)
        gateway.hear(says)

    url = gateway.http
    assert statuses() == [200, 401]
    gateway.lines.append(f"OTLP/HTTP on {url}")
    for text, says, expected in (
        (toml(hash_of(old), hash_of(new)), "read again", [200, 200]),
        (toml("no hash"), "SHA-256", [200, 200]),
        (toml(hash_of(new), more='[[routes]]\nsink = "nowhere"\n'), "nowhere", [200, 200]),
        (toml(hash_of(new)) + "[slack]\n", "sinks", [200, 200]),
        ("[gateway", "TOML", [200, 200]),
        (toml(hash_of(new)), "read again", [401, 200]),
    ):
        reread(text, says)
        gateway.lines.append(f"OTLP/HTTP on {url}")
        assert statuses() == expected, says
    assert query(dsn, "SELECT DISTINCT tenant FROM agent_events") == [("team-a",)]
    assert gateway.end() == 0
    assert not any(token in line for token in (old, new) for line in gateway.lines)


def test_logs_are_json_lines_with_the_trace(start: Start) -> None:
    """Each line on stderr is one JSON object; lines about a request name its trace."""
    gateway = start(
        "[log]\njson_lines = true\n[[gateway.tokens]]\ntenant = 'a'\nsha256 = ['" + "0" * 64 + "']\n"
    ).ready()
    url = json.loads(gateway.hear("OTLP/HTTP")[0] and next(line for line in gateway.lines if "OTLP/HTTP" in line))[
        "message"
    ].split()[3]
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"content-type": "application/json", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    assert request(f"{url}/v1/traces", b"{}", **headers)[0] == 401
    gateway.hear("without a valid token")
    assert gateway.end() == 0
    lines = [json.loads(line) for line in gateway.lines]
    assert [line["trace_id"] for line in lines if "trace_id" in line] == [trace]


@pytest.mark.proves("settings", "settings-values")
@pytest.mark.parametrize(
    ("toml", "options", "says"),
    [
        ("", ("--host", "0.0.0.0"), "allow_insecure"),
        ('[gateway]\nhost = "::"\n', (), "spanpost token new"),
        ('[gateway]\nhost = "gateway.example.com"\n', (), "allow_insecure"),
        ("[gateway]\ntls_certificate = 'a.pem'\n", (), "tls_key"),
        ("[gateway]\ntls_certificate = 'a.pem'\ntls_key = 'b.pem'\n", (), "PEM"),
        ("[gateway]\nclient_ca = 'a.pem'\n", (), "tls_certificate"),
        ("[[gateway.tokens]]\ntenant = 'a'\nsha256 = ['spt_secret']\n", (), "SHA-256"),
        ("[gateway]\ngrpc_socket = '/nowhere/at/all.sock'\n", (), "directory"),
        ("[gateway]\ngrpc_socket = 'spanpost.toml'\n", (), "a file that is not a socket"),
        ("[gateway]\nport = 4318\n", (), "http_port"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(start: Start, toml: str, options: tuple[str, ...], says: str) -> None:
    """An impossible setting is exit 2 with one line that says what to do; a token in place of its hash is
    not repeated.
    """
    gateway = start(toml, *(options or ("--http-port", "0")), "--grpc-port", "0")
    assert gateway.process.wait(60) == 2
    gateway.hear(says)
    assert "spt_secret" not in "\n".join(gateway.lines)
    assert "Traceback" not in "\n".join(gateway.lines)
    assert (gateway.home / "spanpost.toml").read_text() == toml


@pytest.mark.proves("settings", "settings-values")
def test_a_port_that_is_taken_is_refused_at_the_start(start: Start) -> None:
    """A second gateway on the same ports names the port and says how to use another."""
    first = start().ready()
    http_port, grpc_port = (url.rpartition(":")[2] for url in (first.http, first.grpc))
    for options, says in (
        (("--http-port", http_port, "--grpc-port", "0"), "SPANPOST_GATEWAY__HTTP_PORT"),
        (("--http-port", "0", "--grpc-port", grpc_port), "SPANPOST_GATEWAY__GRPC_PORT"),
    ):
        second = start("", *options)
        assert second.process.wait(60) == 2
        second.hear(says)


def test_gateways_that_share_their_ports_stand_in_for_one_another(start: Start) -> None:
    """Two gateways with the setting listen on the same ports, and when one stops the other goes on."""
    shared = "[gateway]\nshare_ports = true\n[metrics]\nport = 0\n"
    first = start(shared).ready()
    ports = [url.rpartition(":")[2] for url in (first.http, first.grpc)]
    second = start(shared, "--http-port", ports[0], "--grpc-port", ports[1]).ready()
    for number in range(40):  # each a connection of its own
        assert request(f"{first.http}/v1/traces", body(number, 1), content_type="application/x-protobuf")[0] == 200
        if number == 20:
            first.process.terminate()
            assert first.process.wait(60) == 0
    assert len(second.rows()) == 40


def test_insecure_is_possible_when_it_is_said(start: Start) -> None:
    """`allow_insecure` listens on all addresses, with a warning at the start."""
    gateway = start('[gateway]\nhost = "0.0.0.0"\nallow_insecure = true\n').ready()
    gateway.hear("ANYBODY")
    port = gateway.http.rpartition(":")[2]
    assert request(f"http://127.0.0.1:{port}/v1/traces", body(0, 1), content_type="application/x-protobuf")[0] == 200


def test_mutual_tls(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `client_ca` both protocols accept a client with a signed certificate, and no other."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests prefers them to the exporter's own setting
        monkeypatch.delenv(name, raising=False)
    import grpc
    import trustme

    ours, theirs = trustme.CA(), trustme.CA()
    for name, made in (
        ("server", ours.issue_cert("127.0.0.1")),
        ("client", ours.issue_cert("client")),
        ("other", theirs.issue_cert("x")),
    ):
        made.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        (tmp_path / f"{name}.pem").write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    gateway = start("[gateway]\ntls_certificate = 'server.pem'\ntls_key = 'server.key'\nclient_ca = 'ca.pem'\n").ready()
    https, target = gateway.http, gateway.grpc.removeprefix("https://")
    assert https.startswith("https://")

    def seconds(name: str) -> int:
        return 60 if name == "client" else 3  # the others are tried again until then

    def by_http(name: str) -> Any:
        files = (
            {"client_certificate_file": str(tmp_path / f"{name}.pem"), "client_key_file": str(tmp_path / f"{name}.key")}
            if name
            else {}
        )
        exporter = HttpExporter(
            f"{https}/v1/traces", certificate_file=str(tmp_path / "ca.pem"), timeout=seconds(name), **files
        )
        try:
            return exporter.export(spans(0, 10))
        finally:
            exporter.shutdown()

    def by_grpc(name: str) -> Any:
        pair = [(tmp_path / f"{name}.{end}").read_bytes() for end in ("key", "pem")] if name else [None, None]
        credentials = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes(), *pair)
        exporter = GrpcExporter(target, credentials=credentials, timeout=seconds(name))
        try:
            return exporter.export(spans(10, 10))
        finally:
            exporter.shutdown()

    for send in (by_http, by_grpc):
        assert [send(name) for name in ("other", "", "client")] == [
            SpanExportResult.FAILURE,
            SpanExportResult.FAILURE,
            SpanExportResult.SUCCESS,
        ]
    assert gateway.recorded == list(range(20))
