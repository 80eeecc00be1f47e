"""A router whose cells fail: down, late, broken off, or another program in their place."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path

import pytest
import trustme

from spanpost.runtime.router_check import examined
from spanpost.settings import load
from tests.errors import reason_of
from tests.eventually import eventually, free_port
from tests.receivers.cells.raw_cell import OK, TOKEN, RawCell, Received, Start, answered, broken_off, export

grpc = pytest.importorskip("grpc")


def test_a_cell_that_is_down_is_503_for_its_tenants_alone(start: Start, blue: RawCell) -> None:
    """Nobody listens in cell a: its tenant keeps its telemetry, the other one is served, and the router is ready."""
    routed = start([f"http://127.0.0.1:{free_port()}"])
    status, headers, body = routed.ask()
    assert (status, reason_of(json.loads(body)), headers["retry-after"].isdigit()) == (503, "cell_unavailable", True)
    assert routed.ask(token="blue")[0] == 200
    assert routed.ask("/health/ready", None, "")[0] == 200


@pytest.mark.slow
def test_without_any_cell_the_router_is_not_ready(start: Start, red: RawCell, blue: RawCell) -> None:
    """No cell is ready: the router is not; one of two is: it is."""
    red.is_ready = blue.is_ready = False
    routed = start()
    eventually(lambda: routed.ask("/health/ready", None, "")[0], (503).__eq__)
    blue.is_ready = True
    eventually(lambda: routed.ask("/health/ready", None, "")[0], (200).__eq__)


def test_telemetry_is_sent_again_and_an_act_is_not(start: Start, red: RawCell) -> None:
    """After a connection that breaks, telemetry and reads go to the other replica; an act is 503, tried once."""
    other = RawCell()
    red.answer = broken_off
    try:
        routed = start([red.url, other.url])
        for _ in range(4):  # whichever replica is first
            assert routed.ask()[0] == 200
            assert routed.ask("/api/tasks", None, "api")[0] == 200
        assert len(other.received) == 8
        other.answer = broken_off
        red.received.clear()
        other.received.clear()
        status, _, body = routed.ask("/api/tasks/x/cancel", b"{}", "api")
        assert (status, len(red.received) + len(other.received)) == (503, 1), body
    finally:
        other.close()


def test_a_replica_that_refuses_connections_is_passed_over(start: Start, red: RawCell) -> None:
    """Nothing was sent to it, so that even an act goes to the other replica."""
    routed = start([f"http://127.0.0.1:{free_port()}", red.url])
    for _ in range(3):
        assert routed.ask("/api/tasks/x/cancel", b"{}", "api")[0] == 200
    assert len(red.received) == 3


def test_a_cell_that_hangs_holds_its_own_places_alone(start: Start, red: RawCell, blue: RawCell) -> None:
    """While every place of cell a waits for an answer, one more is 503 at once, and cell b answers."""
    waiting, goes_on = threading.Semaphore(0), threading.Event()

    def hang(request: Received, connection: socket.socket) -> bool:
        waiting.release()
        goes_on.wait(60)
        connection.sendall(OK)
        return True

    red.answer = hang
    routed = start(gateway={"max_connections": 4, "max_waiters": 20})
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(routed.ask()[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert waiting.acquire(timeout=60)
    assert routed.ask()[0] == 503
    assert routed.ask(token="blue")[0] == 200
    goes_on.set()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 4


def test_a_cell_that_does_not_answer_in_time(start: Start, red: RawCell) -> None:
    """After `cells.timeout` the sender is asked to come back."""
    goes_on = threading.Event()
    red.answer = lambda request, connection: goes_on.wait(60) and False
    status, headers, body = start(timeout=0.3).ask()
    goes_on.set()
    assert (status, headers["retry-after"].isdigit()) == (503, True)
    assert "did not answer within 0.3 s" in json.loads(body)["message"]


def test_a_router_that_stops_answers_waiting_agents(start: Start, red: RawCell) -> None:
    """An agent that waits is asked to come back at once, and the stop takes no part of its wait."""
    asked, goes_on = threading.Event(), threading.Event()

    def wait(request: Received, connection: socket.socket) -> bool:
        asked.set()
        goes_on.wait(60)
        return False

    red.answer = wait
    routed = start()
    answers: list[int] = []
    path = "/control/v1/tasks/x?wait=50"
    thread = threading.Thread(target=lambda: answers.append(routed.ask(path, None)[0]))
    thread.start()
    assert asked.wait(60)
    assert routed.router.stop()
    thread.join(60)
    goes_on.set()
    assert answers == [503]


def test_a_held_tenant_keeps_its_telemetry(start: Start, red: RawCell, blue: RawCell) -> None:
    """A tenant that is being moved is 503 and reaches no cell; others are served."""
    routed = start(held=["red"])
    assert (routed.ask()[0], routed.ask("/control/v1/tasks/x", None)[0], routed.ask(token="blue")[0]) == (503, 503, 200)
    assert (red.received, len(blue.received)) == ([], 1)


def test_the_check_finds_what_is_wrong_with_a_cell(start: Start, red: RawCell, blue: RawCell) -> None:
    """`spanpost check` of a router: a cell that trusts it, one that does not, another program, one that is down."""
    known = b'{"version": "0.1.0", "tenant": "spanpost-check"}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(known)
    red.answer = answered(head + known)
    blue.answer = answered(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
    down, other = f"http://127.0.0.1:{free_port()}", RawCell()
    try:
        found = list(examined(start([red.url, other.url, down]).router.settings))
    finally:
        other.close()
    assert [(one.ok, one.found.partition(down)[0]) for one in found] == [
        (True, "cell a has 1 named tenants"), (True, f"cell a at {red.url} is ready and knows this router"),
        (False, f"cell a at {other.url} answers 200, and not as a gateway of spanpost's"),
        (False, "cell a at "), (True, "cell b has 1 named tenants"),
        (False, f"cell b at {blue.url} refuses this router's token"),
    ]  # fmt: skip
    assert all(one.cure for one in found if not one.ok)


def test_the_check_takes_the_routers_token_nowhere_else(start: Start, red: RawCell, blue: RawCell) -> None:
    """A redirect of a cell is a finding, and is not followed."""
    to = f"location: {blue.url}/x".encode()
    red.answer = answered(b"HTTP/1.1 302 Found\r\n" + to + b"\r\ncontent-length: 0\r\n\r\n")
    found = list(examined(start().router.settings))
    assert next(one.found for one in found if not one.ok).startswith(f"cell a at {red.url} answers 302")
    assert [got.line for got in blue.received if " /x " in got.line] == []


def test_settings_without_cells_are_refused_while_it_runs(start: Start, red: RawCell) -> None:
    """SIGHUP after the section `cells` was taken out: the router keeps its settings, and goes on."""
    routed = start(reread=lambda: load(gateway={}))
    assert not routed.router.reload()
    assert routed.ask()[0] == 200


def test_a_cell_over_tls_must_have_the_certificate(start: Start, tmp_path: Path, blue: RawCell) -> None:
    """The router reaches a cell whose certificate its `ca` signed, and none of another authority."""
    authority, stranger = trustme.CA(), trustme.CA()
    for name, ca in (("ca", authority), ("stranger", stranger)):
        ca.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    cell = RawCell(authority.issue_cert("127.0.0.1"))
    try:
        for name, status in (("ca", 200), ("stranger", 503)):
            named = {"a": {"urls": [cell.url], "token": TOKEN, "ca": str(tmp_path / f"{name}.pem")},
                     "b": {"urls": [blue.url], "token": TOKEN}}  # fmt: skip
            assert start(named=named).ask()[0] == status
        assert len(cell.received) == 1
    finally:
        cell.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-type: text/html\r\n\r\n<ok>",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}",
    ],
)
def test_another_programs_answer_is_no_success(start: Start, red: RawCell, response: bytes) -> None:
    """A page, a redirect or a status that no gateway gives telemetry is 503: the sender keeps what it sent."""
    red.answer = answered(response)
    routed = start()
    status, headers, body = routed.ask()
    assert (status, reason_of(json.loads(body)), headers["retry-after"].isdigit()) == (503, "cell_unavailable", True)
    assert export(routed, b"\x0a\x00").code() is grpc.StatusCode.UNAVAILABLE


def test_another_programs_page_answers_no_alert_and_no_agent(start: Start, red: RawCell) -> None:
    """A page with 200 in place of a cell: Alertmanager is asked to come back, and so is an agent that waits."""
    red.answer = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-type: text/html\r\n\r\n<ok>")
    routed = start()
    assert routed.ask("/alerts/alertmanager")[0] == 503
    assert routed.ask("/control/v1/tasks/x", None)[0] == 503


@pytest.mark.slow
def test_a_cell_that_redirects_its_check_is_not_ready(start: Start, red: RawCell, blue: RawCell) -> None:
    """A login page behind a redirect is 200 and no gateway: it is not asked."""
    red.ready_status = b"302 Found"
    red.ready_header = f"location: {blue.url}/health/ready\r\n".encode()
    routed = start()
    blue.is_ready = False
    eventually(lambda: routed.ask("/health/ready", None, "")[0], (503).__eq__)
    blue.is_ready = True
    eventually(lambda: routed.ask("/health/ready", None, "")[0], (200).__eq__)
    [cell, _] = routed.router._cells  # type: ignore[misc, union-attr]
    assert not cell.is_up


def test_an_endless_answer_is_not_kept_in_memory(start: Start, red: RawCell) -> None:
    """A cell's answer to a message of gRPC, which is read whole, ends at its limit."""
    parts = 0

    def flood(request: Received, connection: socket.socket) -> bool:
        nonlocal parts
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\nconnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            while parts < 1000:
                connection.sendall(b"x" * 65_536)
                parts += 1
        return False

    red.answer = flood
    assert export(start(), b"\x0a\x00").code() is grpc.StatusCode.UNAVAILABLE
    assert parts < 500
