"""Claude Code's recorded telemetry through `spanpost run` with PostgreSQL: each signal, protocol and encoding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.acceptance.gateway_process import Gateway, request
from tests.tasks.recorded_runs import COMMITTED

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]


@pytest.fixture
def gateway(dsn: str, tmp_path: Path) -> Iterator[Gateway]:
    """Start a gateway on a fresh database."""
    with ExitStack() as stack:
        gateway = Gateway(dsn, tmp_path)
        stack.callback(gateway.kill)
        yield gateway.ready()


def bodies(run: str, signal: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((COMMITTED / "claude-code" / run).glob(f"*-{signal}.pb"))]


def as_json(body: bytes, signal: str) -> bytes:
    kind = ExportLogsServiceRequest if signal == "logs" else ExportMetricsServiceRequest
    return json.dumps(MessageToDict(kind.FromString(body))).encode()


def test_each_signal_by_each_endpoint(gateway: Gateway) -> None:
    """A session by HTTP, gRPC or JSON is one row with the tokens served; sending all again changes nothing."""
    import grpc

    sent: list[tuple[str, bytes, str]] = []
    for signal in ("traces", "logs", "metrics"):
        sent += [(f"/v1/{signal}", body, "application/x-protobuf") for body in bodies("conv", signal)]
    sent += [("/v1/logs", as_json(body, "logs"), "application/json") for body in bodies("logsonly", "logs")]
    sent += [("/v1/metrics", as_json(body, "metrics"), "application/json") for body in bodies("approve", "metrics")]
    expected = [
        ("complete", 31947, 49, Decimal("0.0539136")),
        ("complete", 44756, 66, Decimal("0.0556164")),
        ("complete", 44809, 66, Decimal("0.0557754")),
        ("complete", 167131, 198, Decimal("0.110571")),
    ]
    random = Random(1)
    for _ in range(2):
        random.shuffle(sent)
        for path, body, content_type in sent:
            assert request(f"{gateway.http}{path}", body, **{"Content-Type": content_type})[0] == 200
        with grpc.insecure_channel(gateway.grpc.removeprefix("http://")) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
            for body in bodies("toolfail", "metrics"):
                assert export(body, timeout=60) == b""
        rows = gateway.rows(
            "SELECT status, input_tokens, output_tokens, cost_usd FROM agent_tasks ORDER BY input_tokens"
        )
        assert [tuple(row) for row in rows] == expected
    # No known point counts as ignored: all of these are known.
    assert "spanpost_metric_points_total 0.0" in gateway.get("/metrics")[1].decode()
    assert gateway.end() == 0
