"""`spanpost run --workers`: several processes behind one port, and their ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from tests.acceptance.gateway_process import Gateway, Start, request, said, spans
from tests.eventually import eventually

OPTIONS = ("--workers", "2", "--http-port", "0", "--grpc-port", "0")
PROTOBUF = {"content-type": "application/x-protobuf"}

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]


def workers_of(gateway: Gateway) -> list[int]:
    """Return the supervisor's processes, oldest first."""
    return [
        int(pid) for pid in Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
    ]


def has_command(pid: int) -> bool:
    """Return whether a process is running, and no zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    return False


def until_ready(gateway: Gateway, expected: int = 200) -> None:
    eventually(lambda: said(gateway.get("/health/ready")), lambda answer: answer[0] == expected)


def samples(gateway: Gateway, name: str) -> float:
    """Return the sum of a metric's series on the one metrics port."""
    page = request(gateway.hear(r"metrics: (http\S+/metrics),")[1], None)[1].decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


def post(gateway: Gateway, body: bytes) -> None:
    """Send a body, each time by a new connection, until it is acknowledged."""

    def answer() -> int | OSError | http.client.HTTPException:
        try:
            return request(f"{gateway.http}/v1/traces", body, **PROTOBUF)[0]
        except (OSError, http.client.HTTPException) as error:
            return error

    eventually(answer, lambda answer: answer == 200)


@pytest.mark.proves("answered", "gateway-killed")
def test_a_killed_worker_loses_nothing(start: Start) -> None:
    """After kill -9 of a worker under load each acknowledged span is one row, and the worker restarts."""
    gateway = start("", *OPTIONS).ready()
    gateway.hear("2 workers share")
    until_ready(gateway)
    victim = workers_of(gateway)[1]
    # Each trace comes in two bodies, by two connections: its parts may reach two workers.
    bodies = [encode_spans(spans(first, 5)).SerializeToString() for first in range(0, 600, 5)]
    acknowledged = threading.Semaphore(0)

    def send(mine: list[bytes]) -> None:
        for body in mine:
            post(gateway, body)
            acknowledged.release()

    senders = [threading.Thread(target=send, args=(bodies[place::4],), daemon=True) for place in range(4)]
    for sender in senders:
        sender.start()
    for _ in range(20):
        assert acknowledged.acquire(timeout=60)
    os.kill(victim, signal.SIGKILL)
    for sender in senders:
        sender.join(120)
    assert gateway.recorded == list(range(600))
    assert gateway.rows("SELECT count(*), sum(llm_calls) FROM agent_tasks WHERE parent_uid IS NULL") == [(60, 540)]
    gateway.hear(r"worker 1 \(process \d+\) ended")
    until_ready(gateway)
    assert victim not in workers_of(gateway)
    assert len(workers_of(gateway)) == 2
    assert samples(gateway, "spanpost_worker_restarts_total") == 1
    assert gateway.end() == 0


def test_one_metrics_port_shows_the_sum(start: Start) -> None:
    """Forty connections reach both workers, and the metrics port and the gateway's page count all spans."""
    gateway = start("", *OPTIONS).ready()
    gateway.hear("2 workers share")
    for number in range(39):
        post(gateway, encode_spans(spans(number * 10, 10)).SerializeToString())
    exporter = OTLPSpanExporter(endpoint=gateway.grpc, insecure=True, timeout=30)
    assert exporter.export(spans(390, 10)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    # Rows are counted after the answer.
    assert eventually(lambda: samples(gateway, "spanpost_events_total"), lambda count: count >= 400) == 400
    page = gateway.get("/metrics")[1].decode()
    assert sum(float(value) for value in re.findall(r"^spanpost_events_total{.*} (\S+)$", page, re.MULTILINE)) == 400
    pids = workers_of(gateway)
    assert gateway.end(signal.SIGINT) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_settings_are_refused_once(start: Start) -> None:
    """An error that only a worker finds ends the supervisor with 2 and one message; a port in use, too."""
    gateway = start("[gateway]\ngrpc_socket = '/nowhere/at/all.sock'\n", *OPTIONS)
    assert gateway.process.wait(60) == 2
    assert len([line for line in gateway.lines if "grpc_socket" in line]) == 1
    first = start("", *OPTIONS).ready()
    port = first.http.rpartition(":")[2]
    second = start("", "--workers", "2", "--http-port", port, "--grpc-port", "0")
    assert second.process.wait(60) == 2
    assert len([line for line in second.lines if "SPANPOST_GATEWAY__HTTP_PORT" in line]) == 1


def test_a_signal_to_reload_ends_no_worker_that_starts(start: Start) -> None:
    """SIGHUP at any moment of a worker's start makes it read the settings again, and nothing else."""
    gateway = start("", *OPTIONS)
    eventually(lambda: workers_of(gateway), bool)
    while not any("2 workers share" in line for line in gateway.lines):
        gateway.process.send_signal(signal.SIGHUP)
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended with {gateway.process.wait(0.02)}: {gateway.lines}")
    until_ready(gateway)
    assert samples(gateway, "spanpost_worker_restarts_total") == 0
    assert gateway.end() == 0


def test_workers_stop_when_their_supervisor_is_killed(start: Start) -> None:
    """kill -9 of the supervisor leaves no worker behind: each stops in order."""
    gateway = start("", *OPTIONS).ready()
    gateway.hear("2 workers share")
    pids = workers_of(gateway)
    assert len(pids) == 2
    gateway.kill()
    eventually(lambda: [pid for pid in pids if has_command(pid)], lambda running: not running)
