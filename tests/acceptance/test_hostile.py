"""A gateway with faults around it: its database crashes, its disk is full, its clients send half requests."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.gateway_process import Gateway, query
from tests.acceptance.test_gateway import Stream, body
from tests.conftest import find, made_server
from tests.tasks.hostile_traces import SHAPES, body_of

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """DSN of a server of this module's own, which may crash and recover."""
    with made_server(Path(find("postgres"))) as dsn:
        yield dsn


@pytest.fixture
def gateway(dsn: str, tmp_path: Path) -> Iterator[Gateway]:
    """Start a gateway on a fresh database."""
    gateway = Gateway(dsn, tmp_path)
    try:
        yield gateway.ready()
    finally:
        gateway.kill()


@pytest.mark.proves("answered", "database-killed")
def test_acknowledged_spans_survive_a_crash_of_the_database(gateway: Gateway) -> None:
    """When the server restarts after the crash of one backend, no acknowledged span is lost."""
    stream = Stream(bodies=120, size=10)
    stream.begin(gateway.http)
    while len(stream.acknowledged) < 20:
        stream.is_over.wait(0.01)
    [(victim,), *_] = query(gateway.dsn, "SELECT pid FROM pg_stat_activity WHERE application_name = 'spanpost'")
    os.kill(victim, signal.SIGKILL)
    assert stream.is_over.wait(200)
    assert stream.statuses <= {200, 503}
    assert gateway.recorded == list(range(1200))
    assert "Traceback" not in "\n".join(gateway.lines)


FULL = """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"""


@pytest.mark.proves("never-500")
@pytest.mark.parametrize(
    "trigger",
    [
        "CREATE TRIGGER full_disk BEFORE INSERT ON audit_rows FOR EACH STATEMENT EXECUTE FUNCTION full_disk()",
        "CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT ON agent_tasks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION full_disk()",
    ],
    ids=["at the insert", "at the commit"],
)
def test_while_the_disk_is_full_senders_keep_what_they_have(gateway: Gateway, trigger: str) -> None:
    """A transaction that fails, even at its commit, is answered 503; with free space the same body is recorded."""
    query(gateway.dsn, FULL, trigger)
    assert gateway.post(body(0, 10)) == 503
    assert gateway.recorded == []
    table = trigger.partition(" ON ")[2].split()[0]
    query(gateway.dsn, f"DROP TRIGGER full_disk ON {table}")
    assert gateway.post(body(0, 10)) == 200
    assert gateway.recorded == list(range(10))


@pytest.mark.proves("one-stops-no-other", "slow-senders")
def test_half_requests_do_not_block_others(gateway: Gateway) -> None:
    """Beside hundreds of connections with half or invalid requests, a correct request is answered."""
    said = {
        "http": [
            b"",
            b"POST /v1/tra",
            b"\x16\x03\x01\x02\x00\x01",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 60000000\r\n\r\n{",
        ],
        "grpc": [b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(100))],
    }
    addresses = {"http": gateway.http, "grpc": gateway.grpc}
    with ExitStack() as stack:
        for n in range(150):
            for endpoint, words in said.items():
                host, _, port = addresses[endpoint].removeprefix("http://").partition(":")
                connection = stack.enter_context(socket.create_connection((host, int(port))))
                connection.sendall(words[n % len(words)])
        assert [gateway.post(body(n * 10, 10)) for n in range(5)] == [200] * 5
    assert gateway.recorded == list(range(50))
    assert gateway.end() == 0


def test_a_poison_is_answered_and_does_not_come_back(dsn: str, tmp_path: Path) -> None:
    """A trace beyond the time bound is rejected with 200, others are recorded, and neither is sent again."""
    budgets = "[database]\nbatch_budget = 0.05\ntrace_budget = 0.1\n"
    gateway = Gateway(dsn, tmp_path, budgets).ready()
    try:
        assert gateway.post(body_of(SHAPES["circle, as many agents"](2000))) == 200
        assert gateway.post(body(0, 10)) == 200
        assert gateway.recorded == list(range(10))
        gateway.hear("over_budget|kept in quarantine")
        gateway.kill()
        gateway = Gateway(dsn, tmp_path, budgets).ready()
        assert gateway.post(body(10, 10)) == 200
        assert gateway.recorded == list(range(20))
        assert query(dsn, "SELECT reason, count(*), max(attempts) FROM quarantine GROUP BY 1") == [
            ("over_budget", 2000, 1)
        ]
    finally:
        gateway.kill()
