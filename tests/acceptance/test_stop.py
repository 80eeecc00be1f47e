"""`spanpost run` is stopped while something that it waits for hangs: it ends within ten seconds."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from spanpost.testing.fake_slack import TOKEN
from tests.acceptance.gateway_process import Gateway, Start, query, request
from tests.acceptance.test_gateway import body
from tests.conftest import find, made_server
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]
#: The promised duration of a stop, seconds; and the machine's time to start and end a process on a busy day.
PROMISED, MACHINE = 10.0, 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """DSN of a server of this module's own, which may be stopped for a while."""
    with made_server(Path(find("postgres"))) as dsn:
        yield dsn


@contextmanager
def hanging(dsn: str) -> Iterator[None]:
    """Let the whole server answer nothing during the block, neither old connections nor new ones."""
    [(directory,)] = query(dsn, "SHOW data_directory")
    first = int((Path(directory) / "postmaster.pid").read_text().split()[0])
    backends = [row[0] for row in query(dsn, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'")]
    stopped = [first, *backends]
    for pid in stopped:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            continue  # the one of this query
    try:
        yield
    finally:
        for pid in stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue


def ended_within(gateway: Gateway) -> float:
    """Stop it; return how long it took."""
    began = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(60)
    return time.monotonic() - began


@pytest.mark.proves("stop", "database-hangs")
def test_while_the_database_hangs_in_a_commit(start: Start, dsn: str) -> None:
    """Requests whose commits hang are answered 503, and the process ends in time, without a traceback."""
    gateway = start().ready()
    assert gateway.post(body(0, 10)) == 200
    url = gateway.http
    answers: list[Any] = []

    def ask(n: int) -> None:
        try:
            answers.append(request(f"{url}/v1/traces", body(n, 10), content_type="application/x-protobuf")[0])
        except OSError as error:
            answers.append(error)

    with hanging(dsn):
        senders = [threading.Thread(target=ask, args=(n * 10,)) for n in range(1, 4)]
        for sender in senders:
            sender.start()
        eventually(lambda: gateway.get("/metrics")[1], lambda page: b"spanpost_in_flight_bytes 0.0" not in page)
        took = ended_within(gateway)
        for sender in senders:
            sender.join()
    print(took, *gateway.lines, sep="\n")
    assert took < PROMISED + MACHINE
    assert answers == [503] * 3
    assert "Traceback" not in "\n".join(gateway.lines)


@pytest.mark.proves("stop")
def test_while_slack_hangs(start: Start) -> None:
    """An unanswered call of a sink does not delay the end; the next process reconciles its delivery."""
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        gateway = start(SPANPOST_SLACK__TOKEN=TOKEN, SPANPOST_SLACK__BASE_URL=address).ready()
        now = time.time_ns()
        payload = (
            '{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "'
            + "a" * 32
            + '", "spanId": "'
            + "b" * 16
            + '",'
            f'"name": "invoke_agent a", "startTimeUnixNano": "{now - 10**9}", "endTimeUnixNano": "{now}",'
            '"attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}}]}]}]}]}'
        )
        assert gateway.post(payload.encode(), content_type="application/json") == 200
        called, _ = silent.accept()
        with called:
            assert called.recv(10)
            assert ended_within(gateway) < PROMISED + MACHINE
    finally:
        silent.close()
    assert set(gateway.rows("SELECT state FROM deliveries")) <= {("sending",), ("waiting",)}


@pytest.mark.proves("stop", "rolling-restart")
def test_while_clients_are_in_the_middle(start: Start) -> None:
    """Connections that are idle, or stopped within headers or a body, by HTTP and by gRPC, do not delay the
    end.
    """
    import grpc

    gateway = start().ready()
    host, port = gateway.http.removeprefix("http://").split(":")
    said = [
        b"",
        b"POST /v1/traces HTTP/1.1\r\nhost: a\r\n",
        b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 100\r\n\r\nab",
        b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n"
        b"transfer-encoding: chunked\r\n\r\n5\r\nab",
        b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n",
    ]
    target = gateway.grpc.removeprefix("http://")
    begun = threading.Event()
    with ExitStack() as stack:
        for each in said:
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(each)
        # HTTP/2: the preface and empty settings, then nothing.
        half = stack.enter_context(socket.create_connection((target.split(":")[0], int(target.split(":")[1]))))
        half.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        channel = stack.enter_context(grpc.insecure_channel(target))
        method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        assert channel.unary_unary(method)(body(0, 10), timeout=60) == b""

        def nothing() -> Iterator[bytes]:
            begun.set()
            threading.Event().wait(60)
            yield b""

        stream = channel.stream_unary(method).future(nothing())
        stack.callback(stream.cancel)
        assert begun.wait(60)
        assert gateway.get("/health/live")[0] == 200
        assert ended_within(gateway) < PROMISED + MACHINE
        assert gateway.process.returncode == 0
    assert "Traceback" not in "\n".join(gateway.lines)
