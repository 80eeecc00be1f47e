"""A router between clients and cells: what passes, what does not, and what happens when a cell fails."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme

from spanpost.http.tokens import FORWARDED_TENANT
from spanpost.runtime.router_check import examined
from tests.errors import reason_of
from tests.eventually import eventually, free_port
from tests.receivers.cells.raw_cell import TOKEN, RawCell, Received, Routed, answered, broken_off

grpc = pytest.importorskip("grpc")
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Start = Callable[..., Routed]
HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer red\r\ncontent-type: application/json\r\n"


@pytest.fixture
def red() -> Iterator[RawCell]:
    cell = RawCell()
    yield cell
    cell.close()


@pytest.fixture
def blue() -> Iterator[RawCell]:
    cell = RawCell()
    yield cell
    cell.close()


@pytest.fixture
def start(clean_environment: Any, red: RawCell, blue: RawCell) -> Iterator[Start]:
    """Start a router in front of the two cells."""
    running: list[Routed] = []

    def go(urls: list[str] | None = None, **settings: Any) -> Routed:
        running.append(Routed(urls or [red.url], [blue.url], **settings))
        return running[-1]

    yield go
    for one in running:
        one.router.stop()  # safe to repeat


# --- what passes ----------------------------------------------------------------------------------------------------


def test_a_tenants_request_carries_little(start: Start, red: RawCell, blue: RawCell) -> None:
    """The cell gets the body as it was sent, the tenant with the router's token, and none of the client's claims."""
    body = gzip.compress(b'{"resourceSpans": []}')
    forged = {
        "x_forwarded_for": "10.9.9.9", "forwarded": "for=10.9.9.9", "x_forwarded_user": "root", "cookie": "a=b",
        "x_real_ip": "10.9.9.9", "connection": "keep-alive, x-private", "x_private": "1", "te": "trailers",
        "proxy_authorization": "Basic eA==", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    }  # fmt: skip
    assert start().ask("/v1/logs?x=%2F&y", body, content_encoding="gzip", **forged)[0] == 200
    [got] = red.received
    assert (got.line, got.body, blue.received) == ("POST /v1/logs?x=%2F&y HTTP/1.1", body, [])
    host = red.url.removeprefix("http://")
    own = {name.lower(): value for name, value in got.headers}
    port = own.pop("x-forwarded-host").rpartition(":")[2]
    assert port.isdigit()
    assert own == {
        "host": host, "authorization": f"Bearer {TOKEN}", FORWARDED_TENANT: "red", "content-encoding": "gzip",
        "content-type": "application/json", "content-length": str(len(body)), "traceparent": forged["traceparent"],
        "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
    }  # fmt: skip


def test_other_requests_keep_their_headers(start: Start, red: RawCell) -> None:
    """A webhook's headers, which its signature may cover, arrive; those of a connection and of proxies do not."""
    sent = {"x_hub_signature_256": "sha256=0", "cookie": "a=b", "connection": "x-private", "x_private": "1",
            "x_forwarded_for": "10.9.9.9", FORWARDED_TENANT: "blue", "upgrade": "h2c"}  # fmt: skip
    assert start(hooks={"github": "a"}).ask("/hooks/github", b"[1]", "", **sent)[0] == 200
    [got] = red.received
    assert (got.get("x-hub-signature-256"), got.get("cookie"), got.body) == (["sha256=0"], ["a=b"], b"[1]")
    absent = ("x-private", "upgrade", FORWARDED_TENANT, "authorization")
    assert [got.get(name) for name in absent] == [[]] * len(absent)
    assert got.get("x-forwarded-for") == ["127.0.0.1"]


def test_a_path_arrives_as_it_was_sent(start: Start, red: RawCell) -> None:
    """Escapes, dots and doubled slashes are the cell's business: none is changed on the way."""
    routed = start()
    for path in ("/control/v1/tasks/a%2Fb%00?wait=0", "/control/v1/../v1/tasks/x", "/control//v1/tasks/%C3%A9"):
        assert routed.ask(path, None)[0] == 200
        assert red.received[-1].line == f"GET {path} HTTP/1.1"


def test_a_response_comes_back_whole(start: Start, red: RawCell) -> None:
    """Status, headers (equal names too) and compressed body are the cell's; its connection headers are not."""
    red.answer = answered(
        b"HTTP/1.1 418 Short\r\ncontent-length: 3\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nretry-after: 7\r\n"
        b"content-encoding: gzip\r\nconnection: x-own\r\nx-own: 1\r\nkeep-alive: timeout=1\r\n\r\n\x1f\x8b\x00"
    )
    connection = start().connection()
    connection.request("GET", "/board/x", headers={"host": "a.agents.test"})
    answer = connection.getresponse()
    assert (answer.status, answer.read(), answer.headers.get_all("set-cookie")) == (418, b"\x1f\x8b\0", ["a=1", "b=2"])
    names = ("retry-after", "content-encoding", "x-own", "keep-alive")
    assert [answer.headers.get(name) for name in names] == ["7", "gzip", None, None]
    connection.close()


def test_a_stream_arrives_as_it_is_sent(start: Start, red: RawCell) -> None:
    """An event is at the client before the next one exists; a stream that breaks off does not end as if whole."""
    goes_on = threading.Event()

    def stream(request: Received, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\none\n\n\r\n")
        goes_on.wait(30)
        connection.sendall(b"5\r\ntwo\n\n\r\n")
        return False  # no last chunk

    red.answer = stream
    connection = start().connection()
    connection.request("GET", "/api/events", headers={"authorization": "Bearer api"})
    answer = connection.getresponse()
    assert answer.readline() == b"one\n"
    goes_on.set()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()


def test_a_client_that_hangs_up_frees_the_cell(start: Start, red: RawCell) -> None:
    """When a waiting agent goes away, the router closes its connection to the cell."""
    asked, ended = threading.Event(), threading.Event()

    def wait(request: Received, connection: socket.socket) -> bool:
        asked.set()
        connection.settimeout(30)
        if connection.recv(1) == b"":
            ended.set()
        return False

    red.answer = wait
    connection = start().connection()
    connection.request("GET", "/control/v1/tasks/x?wait=50", headers={"authorization": "Bearer red"})
    assert asked.wait(30)
    connection.close()
    assert ended.wait(30)


def test_slack_is_routed_by_its_workspace(start: Start, red: RawCell, blue: RawCell) -> None:
    """A button's form and an event's JSON go to the cell of their workspace; a workspace of no cell is unknown."""
    routed = start(slack_teams={"T0RED": "a", "T0BLUE": "b"})
    button = b"payload=" + quote(json.dumps({"type": "block_actions", "team": {"id": "T0BLUE"}})).encode()
    form = {"content_type": "application/x-www-form-urlencoded", "x_slack_signature": "v0=" + "0" * 64}
    assert routed.ask("/slack/events", button, "", **form)[0] == 200
    assert blue.received[-1].body == button
    assert blue.received[-1].get("x-slack-signature") == ["v0=" + "0" * 64]
    assert (
        routed.ask("/slack/events", json.dumps({"team_id": "T0RED", "type": "event_callback"}).encode(), "")[0] == 200
    )
    assert routed.ask("/slack/events", b'{"type": "url_verification", "challenge": "x"}', "")[0] == 200
    assert len(red.received) == 2
    assert routed.ask("/slack/events", b'{"team_id": "T0OTHER"}', "")[0] == 404
    assert routed.ask("/slack/events", b'{"team_id": "T0OTHER"}', "", host="a.agents.test")[0] == 200
    assert len(red.received) == 3


# --- what does not pass ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"content-length: 4\r\ncontent-length: 40\r\n",
        b"content-length: +4\r\n",
        b"content-length : 4\r\n",
    ],
)
def test_ambiguous_framing_reaches_no_cell(start: Start, red: RawCell, framing: bytes) -> None:
    """A request that two parsers could read differently is refused, and no byte of it becomes a second request."""
    hidden = b"0\r\n\r\nPOST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    said = start().raw(HEAD + framing + b"\r\n" + hidden, is_last=True)
    assert said.split(b"\r\n")[0].split(b" ")[1] in (b"400", b"408", b"503"), said
    assert red.received == []


def test_a_chunked_body_has_one_length_behind(start: Start, red: RawCell) -> None:
    """A chunked body is read whole, and has a Content-Length on its way to the cell."""
    start().raw(HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\n{}\r\n1\r\n \r\n0\r\n\r\n")
    [got] = red.received
    assert (got.body, got.get("content-length"), got.get("transfer-encoding")) == (b"{} ", ["3"], [])


def test_the_cells_distrust_is_not_the_clients(start: Start, red: RawCell) -> None:
    """A cell that refuses the router's token is 503 for the client: at 401 an exporter would drop its spans."""
    red.answer = answered(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
    status, headers, body = start().ask()
    assert (status, reason_of(json.loads(body)), headers["retry-after"].isdigit()) == (503, "cell_unavailable", True)


def test_bodies_beyond_the_limit_reach_no_cell(start: Start, red: RawCell) -> None:
    """A body larger than `gateway.max_body` is 413, announced or not, and the cell hears nothing of it."""
    routed = start(gateway={"max_body": 2048})
    assert routed.ask(body=b" " * 4096)[0] == 413
    assert routed.ask(body=b"{}" + b" " * 2000)[0] == 200
    assert len(red.received) == 1


# --- cells that fail ------------------------------------------------------------------------------------------------


def test_a_cell_that_is_down_is_503_for_its_tenants_alone(start: Start, blue: RawCell) -> None:
    """Nobody listens in cell a: its tenant keeps its telemetry, the other one is served, and the router is ready."""
    routed = start([f"http://127.0.0.1:{free_port()}"])
    status, headers, body = routed.ask()
    assert (status, reason_of(json.loads(body)), headers["retry-after"].isdigit()) == (503, "cell_unavailable", True)
    assert routed.ask(token="blue")[0] == 200
    assert routed.ask("/health/ready", None, "")[0] == 200


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
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        return True

    red.answer = hang
    routed = start(gateway={"max_connections": 4, "max_waiters": 20})
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(routed.ask()[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert waiting.acquire(timeout=30)
    assert routed.ask()[0] == 503
    assert routed.ask(token="blue")[0] == 200
    goes_on.set()
    for thread in threads:
        thread.join(30)
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
    assert asked.wait(30)
    assert routed.router.stop()
    thread.join(30)
    goes_on.set()
    assert answers == [503]


def test_a_held_tenant_keeps_its_telemetry(start: Start, red: RawCell, blue: RawCell) -> None:
    """A tenant that is being moved is 503 and reaches no cell; others are served."""
    routed = start(held=["red"])
    assert (routed.ask()[0], routed.ask("/control/v1/tasks/x", None)[0], routed.ask(token="blue")[0]) == (503, 503, 200)
    assert (red.received, len(blue.received)) == ([], 1)


def test_the_check_finds_what_is_wrong_with_a_cell(start: Start, red: RawCell, blue: RawCell) -> None:
    """`spanpost check` of a router: a cell that trusts it, one that does not, and one that is down."""
    red.answer = answered(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    blue.answer = answered(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
    down = f"http://127.0.0.1:{free_port()}"
    found = list(examined(start([red.url, down]).router.settings))
    assert [(one.ok, one.found.partition(down)[0]) for one in found] == [
        (True, "cell a has 1 named tenants"), (True, f"cell a at {red.url} is ready and knows this router"),
        (False, "cell a at "), (True, "cell b has 1 named tenants"),
        (False, f"cell b at {blue.url} refuses this router's token"),
    ]  # fmt: skip
    assert all(one.cure for one in found if not one.ok)


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


# --- gRPC -----------------------------------------------------------------------------------------------------------


def export(routed: Routed, body: bytes, token: str = "red", **options: Any) -> Any:
    """Send a message; return the answer, or the error."""
    channel = grpc.insecure_channel(routed.router.grpc_url.removeprefix("http://"))
    try:
        return channel.unary_unary(METHOD)(
            body, metadata=(("authorization", f"Bearer {token}"),), timeout=30, **options
        )
    except grpc.RpcError as error:
        return error
    finally:
        channel.close()


def test_a_message_of_grpc_is_a_body_of_http(start: Start, red: RawCell) -> None:
    """The cell gets the same bytes, compressed or not, and its answer is the message that comes back."""
    red.answer = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x01")
    routed = start()
    assert export(routed, b"\x0a\x00") == b"\x0a\x02\x08\x01"
    assert export(routed, b"\x0a\x00" * 500, compression=grpc.Compression.Gzip) == b"\x0a\x02\x08\x01"
    plain, packed = red.received
    assert (plain.line, plain.body, plain.get("content-type")) == (
        "POST /v1/traces HTTP/1.1", b"\x0a\x00", ["application/x-protobuf"],
    )  # fmt: skip
    assert (plain.get(FORWARDED_TENANT), plain.get("content-encoding")) == (["red"], [])
    assert (packed.get("content-encoding"), gzip.decompress(packed.body)) == (["gzip"], b"\x0a\x00" * 500)
    assert export(routed, b"", token="nobody").code() is grpc.StatusCode.UNAUTHENTICATED


def test_refusals_of_a_cell_have_their_code(start: Start, red: RawCell) -> None:
    """413 is RESOURCE_EXHAUSTED with the cell's sentence; 503, and a cell that is down, UNAVAILABLE with a time."""
    from spanpost.http import status

    def refuse(code: int, **more: Any) -> None:
        body = status.as_protobuf(status.code_of(code), "because", **more)
        head = (
            f"HTTP/1.1 {code} No\r\ncontent-length: {len(body)}\r\nretry-after: {more.get('retry_after', '')}\r\n\r\n"
        )
        red.answer = answered(head.encode() + body)

    routed = start()
    refuse(413)
    refused = export(routed, b"\x0a\x00")
    assert (refused.code(), refused.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "because")
    refuse(503, retry_after=4)
    refused = export(routed, b"\x0a\x00")
    assert (refused.code(), refused.details()) == (grpc.StatusCode.UNAVAILABLE, "because")
    details = dict(refused.trailing_metadata())["grpc-status-details-bin"]
    assert b"RetryInfo" in details
    red.answer = broken_off
    refused = export(routed, b"\x0a\x00")
    assert (refused.code(), b"RetryInfo" in dict(refused.trailing_metadata())["grpc-status-details-bin"]) == (
        grpc.StatusCode.UNAVAILABLE, True,
    )  # fmt: skip
