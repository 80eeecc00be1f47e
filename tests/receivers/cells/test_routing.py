"""A router between clients and cells: what passes, what does not, and what happens when a cell fails."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from typing import Any
from urllib.parse import quote

import pytest

from spanpost.http.tenancy import FORWARDED_TENANT
from tests.errors import reason_of
from tests.receivers.cells.raw_cell import TOKEN, RawCell, Received, Start, answered, broken_off, export

grpc = pytest.importorskip("grpc")
HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer red\r\ncontent-type: application/json\r\n"


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
        goes_on.wait(60)
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
    assert asked.wait(60)
    connection.close()
    assert ended.wait(60)


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


@pytest.mark.slow
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


# --- gRPC -----------------------------------------------------------------------------------------------------------


def test_a_message_of_grpc_is_a_body_of_http(start: Start, red: RawCell) -> None:
    """The cell gets the same bytes, compressed or not, and its answer is the message that comes back."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 4\r\n\r\n"
    red.answer = answered(head + b"\x0a\x02\x08\x01")
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
            f"HTTP/1.1 {code} No\r\ncontent-length: {len(body)}\r\nretry-after: {more.get('retry_after', '')}\r\n"
            "content-type: application/x-protobuf\r\n\r\n"
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
