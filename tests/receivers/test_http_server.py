"""The HTTP server's bounds on real sockets: slow senders, endless headers, ambiguity, many connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme

from spanpost.http import server as http_server
from spanpost.http.server import HttpServer, listen
from tests.receivers.endpoints import Endpoint, opened, traces

LIVE = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"


class Served:
    """An endpoint on a socket."""

    def __init__(self, endpoint: Endpoint, server: HttpServer, port: int) -> None:
        self.endpoint, self.server, self.port = endpoint, server, port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, *pieces: bytes) -> bytes:
        """Send bytes and return all that comes back until the server closes the connection."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[Served]:
    async with opened() as endpoint:
        listener = listen("127.0.0.1", 0)
        server = HttpServer(endpoint.app, listener, **options)
        await server.start()
        try:
            yield Served(endpoint, server, listener.getsockname()[1])
        finally:
            await server.stop()


@pytest.fixture
async def hurried(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """Run a server that waits a tenth of a second for headers and for bodies."""
    monkeypatch.setattr(http_server._GuardedApp, "header_timeout", 0.1)
    monkeypatch.setattr(http_server._GuardedApp, "body_timeout", 0.1)
    async with served() as lent:
        yield lent


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    """Run a server."""
    async with served() as lent:
        yield lent


async def answered(reader: asyncio.StreamReader) -> int:
    """Read one answer; return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None
    await reader.readexactly(int(found[1]))
    return int(head[9:12])


def length(body: bytes) -> bytes:
    return b"content-length: %d\r\n\r\n" % len(body)


async def test_a_request_on_a_socket(server: Served) -> None:
    """A request is answered and the connection stays open for the next one; two in one piece are answered in
    turn.
    """
    body = traces(1)
    request = POST + length(body) + body
    said = await server.say(request + request + request.replace(b"host: x", b"connection: close"))
    assert said.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert server.endpoint.interaction_store.spans == [1, 1, 1]


@pytest.mark.proves("one-stops-no-other", "slow-senders", "slowloris")
@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"POST /v1/tra", id="half a line"),
        pytest.param(POST, id="half of the headers"),
        pytest.param(POST + b"content-length: 100\r\n\r\n", id="no body"),
        pytest.param(POST + b"content-length: 100\r\n\r\nabc", id="half a body"),
        pytest.param(POST + b"transfer-encoding: chunked\r\n\r\n5\r\nab", id="half a chunk"),
    ],
)
async def test_slow_senders_are_let_go(hurried: Served, begun: bytes) -> None:
    """Item 13: a sender that stops within headers or body gets an answer, and its connection and memory are
    released.
    """
    said = await hurried.say(begun)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert hurried.endpoint.receiver.in_flight == 0
    body = traces(1)
    assert b" 200 OK" in await hurried.say(POST + b"connection: close\r\n" + length(body) + body)


async def test_a_second_request_is_held_to_the_same_bounds(hurried: Served) -> None:
    """Item 13: a later request of a connection has the same limits."""
    body = traces(1)
    said = await hurried.say(POST + length(body) + body + b"POST /v1/tra")
    assert b" 200 OK" in said
    assert b" 408 " in said


@pytest.mark.proves("one-stops-no-other", "smuggling")
@pytest.mark.parametrize("endless", [b"x: " + b"y" * 200_000, b"x: y\r\n" * 40_000], ids=["one", "many"])
async def test_endless_headers_are_refused(server: Served, endless: bytes) -> None:
    """Item 14: an endless header, and too many headers, end the connection."""
    said = b""
    with contextlib.suppress(ConnectionError):  # unread bytes reset it
        said = await server.say(POST + endless)
    assert said == b"" or said.startswith(b"HTTP/1.1 431 ")
    assert server.endpoint.interaction_store.batches == []


@pytest.mark.slow
@pytest.mark.proves("one-bad-span", "smuggling")
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(
            POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="length and chunks"
        ),
        pytest.param(POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd", id="two lengths"),
        pytest.param(POST + b"content-length: -1\r\n\r\n", id="negative length"),
        pytest.param(POST + b"content-length: 0x3\r\n\r\nabc", id="hex length"),
        pytest.param(POST + b"transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", id="chunk size"),
        pytest.param(POST + b"a\x00b: c\r\n\r\n", id="NUL in a header"),
        pytest.param(POST + b"a: b\r\n folded\r\ncontent-length : 3\r\n\r\nabc", id="space before the colon"),
        pytest.param(b"GET /\xff HTTP/1.1\r\n\r\n", id="path"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
    ],
)
async def test_requests_that_could_be_read_in_two_ways_are_refused(server: Served, request_: bytes) -> None:
    """Item 14: an answer of 400 and the end of the connection; no part of it counts as a request."""
    said = await server.say(request_)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1
    assert b"Traceback" not in said
    assert server.endpoint.interaction_store.batches == []


@pytest.mark.slow
@pytest.mark.parametrize("cut", [None, 10, 200, 300])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_an_upgrade_is_not_followed(server: Served, cut: int | None, is_chunked: bool) -> None:
    """A client that offers HTTP/2 (as Java's does) is answered in HTTP/1.1, and its bodies are read."""
    sent = b""
    for number in (1, 2):
        body = traces(number)
        offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAA\r\n"
        chunks = b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        sent += POST + offer + (chunks if is_chunked else length(body) + body)
    sent += b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    said = await server.say(sent) if cut is None else await server.say(sent[:cut], sent[cut:])
    assert said.count(b"HTTP/1.1 200 OK") == 3
    assert server.endpoint.interaction_store.spans == [1, 2]


async def test_a_tunnel_is_not_opened(server: Served) -> None:
    """CONNECT is answered like any unknown path, and ends the connection."""
    said = await server.say(b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert said.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert said.count(b"HTTP/1.1") == 1


async def test_a_length_beyond_the_limit_is_answered_before_it_is_sent(server: Served) -> None:
    """Item 1: the sender of a giant gets the refusal at once, and none of its body is kept in memory."""
    reader, writer = await server.connect()
    writer.write(POST + b"content-length: 10000000000\r\n\r\n" + b"x" * 1_000_000)
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    assert server.endpoint.receiver.in_flight == 0


async def test_expect_continue_is_answered(server: Served) -> None:
    """A client that asks before it sends (curl does) gets 100 Continue, or the refusal."""
    reader, writer = await server.connect()
    body = traces(1)
    writer.write(POST + b"expect: 100-continue\r\n" + length(body))
    assert (await reader.readline()).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    await reader.readline()
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.proves("one-stops-no-other", "slow-senders", "slowloris")
async def test_a_new_connection_takes_the_place_of_an_idle_one() -> None:
    """M4: without a free place, a connection that has sent nothing is closed first, then the longest idle
    one.
    """
    async with served(connections=4) as server:
        used = [await server.connect() for _ in range(2)]
        for reader, writer in used:
            writer.write(LIVE)
            assert await answered(reader) == 200
        silent = await server.connect()
        server.endpoint.interaction_store.gate.clear()
        busy = await server.connect()
        busy[1].write(POST + length(traces(1)) + traces(1))
        await server.endpoint.interaction_store.entered.wait()
        fresh = []
        for closed in (silent, *used):
            fresh.append(await server.connect())
            fresh[-1][1].write(LIVE)
            assert await answered(fresh[-1][0]) == 200
            assert await closed[0].read() == b""
        server.endpoint.interaction_store.gate.set()
        assert await answered(busy[0]) == 200


async def test_health_is_answered_beyond_the_limit() -> None:
    """M4: while every connection waits for its answer, a further one gets the health pages and 503 for
    anything else.
    """
    async with served(connections=2, always=("/health/live",)) as server:
        server.endpoint.interaction_store.gate.clear()
        busy = [await server.connect() for _ in range(2)]
        for number, (_, writer) in enumerate(busy):
            writer.write(POST + length(traces(number + 1)) + traces(number + 1))
        while server.endpoint.receiver.in_flight < 2 * len(traces(1)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        silent = [await server.connect() for _ in range(100)]
        for _ in range(3):
            assert (await server.say(LIVE)).startswith(b"HTTP/1.1 200 ")
            assert (await server.say(POST + length(b"x") + b"x")).startswith(b"HTTP/1.1 503 ")
        server.endpoint.interaction_store.gate.set()
        for reader, _ in busy:
            assert await answered(reader) == 200
        assert b" 200 OK" in await server.say(POST + b"connection: close\r\n" + length(traces(3)) + traces(3))
        for _, writer in silent:
            writer.close()


@pytest.mark.proves("one-stops-no-other", "slow-senders", "slowloris")
async def test_an_address_with_many_connections_loses_them_to_another() -> None:
    """M4: whatever one address does (nothing, half a header, an endless body), another is accepted and
    stays.
    """
    async with served(connections=12) as server:
        quiet = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        quiet[1].write(LIVE)
        assert await answered(quiet[0]) == 200
        hostile = [await server.connect() for _ in range(11)]
        for (_, writer), begun in zip(
            hostile, 5 * [b"", b"POST /v1/tra", POST + b"content-length: 9\r\n\r\n"], strict=False
        ):
            writer.write(begun)
        for number in range(1, 30):
            body = traces(number)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.3", 0))
            writer.write(POST + length(body) + body)
            assert await answered(reader) == 200
            hostile.append(await server.connect())
        quiet[1].write(LIVE)
        assert await answered(quiet[0]) == 200
        for _, writer in hostile:
            writer.close()


async def test_an_address_whose_requests_all_wait_keeps_no_other_out() -> None:
    """M4: if all connections are one address's and wait for answers, another address is accepted and
    answered.
    """
    async with served(connections=3) as server:
        server.endpoint.interaction_store.gate.clear()
        busy = [await server.connect() for _ in range(3)]
        for number, (_, writer) in enumerate(busy):
            writer.write(POST + length(traces(number + 1)) + traces(number + 1))
        while server.endpoint.receiver.in_flight < 3 * len(traces(1)):  # noqa: ASYNC110
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        writer.write(LIVE)
        assert await answered(reader) == 200
        server.endpoint.interaction_store.gate.set()
        writer.write(POST + length(traces(4)) + traces(4))
        assert await answered(reader) == 200
        assert server.endpoint.interaction_store.spans == [
            1,
            2,
            3,
            4,
        ]  # a sender that lost its connection returns, and its span is a duplicate


async def test_a_client_that_reads_no_answer_blocks_no_other() -> None:
    """A client that reads no answer loses its connection to another, although its answer is under way."""
    async with served(connections=1) as server:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.setblocking(False)
        loop, state = asyncio.get_running_loop(), server.server._server.server_state
        await loop.sock_connect(stuck, ("127.0.0.1", server.port))
        asked = b"GET /health/live HTTP/1.1\r\nhost: x\r\naccept: " + b"x" * 60_000 + b"\r\n\r\n"
        while not any(each.flow.write_paused for each in state.connections):
            before = state.total_requests
            await loop.sock_sendall(stuck, asked)
            while state.total_requests == before:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert b" 200 OK" in await server.say(LIVE.replace(b"host: x", b"host: x\r\nconnection: close"))
        stuck.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, pytest.importorskip("uvloop").new_event_loop], ids=["asyncio", "uvloop"]
)
def test_connections_without_tls_are_counted(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """M4: connections that never begin TLS are among those closed for a new one, and leave no descriptor
    behind.
    """
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)

    async def ask() -> None:
        async with served(connections=3, context=context) as server:
            silent = [await server.connect() for _ in range(3)]
            for round in range(3):
                silent += [await server.connect() for _ in range(10)]
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
                writer.write(LIVE)
                assert await answered(reader) == 200
                writer.close()
                for reader, _ in silent[: 10 * round]:
                    assert await reader.read() == b""
            for _, writer in silent:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())
        before = len(os.listdir("/proc/self/fd"))
        runner.run(ask())
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.proves("one-stops-no-other", "slow-senders", "slowloris")
async def test_a_body_that_drips_has_an_end(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """M2: a body that arrives steadily but too slowly is answered 408 when its time is over."""
    monkeypatch.setattr(http_server._GuardedApp, "body_timeout", 0.2)
    monkeypatch.setattr(http_server, "_SLOWEST", 100 * 1024 * 1024)
    reader, writer = await server.connect()
    writer.write(POST + b"content-length: 67108864\r\n\r\n")
    answer = asyncio.create_task(reader.readline())
    while not answer.done():
        writer.write(b"x" * 1000)
        await asyncio.wait((answer,), timeout=0.01)
    assert await answer == b"HTTP/1.1 408 Request Timeout\r\n"
    assert server.endpoint.receiver.in_flight == 0
    writer.close()


@pytest.mark.parametrize(
    "framing", [b"content-length: 10000000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\nfffffff\r\n"]
)
async def test_what_is_sent_after_a_refusal_is_not_read_on(server: Served, framing: bytes) -> None:
    """L8: after an answer to an unread body (401 here), little of the rest is read and the connection is
    closed.
    """
    server.endpoint.sender_tokens.replace("default", [("blue", "0" * 64)])
    reader, writer = await server.connect()
    writer.write(POST + framing)
    answer = asyncio.create_task(reader.readline())
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 100_000_000:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
    assert sent < 20_000_000  # most of it is in the system's buffers
    with contextlib.suppress(ConnectionError):
        assert (await answer).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_connection_goes_on_after_a_refusal_whose_body_is_small(server: Served) -> None:
    """After a refused body that ends soon the connection stays open for the next request."""
    server.endpoint.sender_tokens.replace("default", [("blue", "0" * 64)])
    reader, writer = await server.connect()
    writer.write(POST + b"content-length: 100000\r\n\r\n")
    assert await answered(reader) == 401
    writer.write(b"x" * 100_000 + LIVE)
    assert await answered(reader) == 200
    writer.close()


async def test_a_port_that_is_taken_is_not_shared(server: Served) -> None:
    """Two gateways on one port would each get half of the requests: the second one gets an error."""
    with pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", server.port)


def test_who_shares_a_port_takes_no_connection_before_it_serves() -> None:
    """A worker that starts has bound the port, so that it stays its own, and connections go to those that answer."""
    serving = listen("127.0.0.1", 0, is_shared=True)
    address = serving.getsockname()
    serving.listen()
    starting = listen(*address, is_shared=True)
    clients = [socket.create_connection(address) for _ in range(32)]
    with pytest.raises(OSError, match="Invalid argument"):
        starting.accept()
    serving.setblocking(True)
    for each in (*(serving.accept()[0] for _ in clients), *clients, serving, starting):
        each.close()


@pytest.mark.parametrize(
    "send", [pytest.param(lambda w: None, id="idle"), pytest.param(lambda w: w.write(POST), id="in headers")]
)
async def test_stopping_closes_what_is_idle(send: Callable[[asyncio.StreamWriter], None]) -> None:
    """At the stop connections without a request are closed without waiting."""
    async with served() as server:
        reader, writer = await server.connect()
        send(writer)
        await writer.drain()
        while server.server.connections < 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await server.server.stop()
        assert await reader.read() == b""
        writer.close()


@pytest.mark.proves("stop")
async def test_stopping_waits_for_answers(server: Served) -> None:
    """A request under way when the stop begins is answered after its commit."""
    server.endpoint.interaction_store.gate.clear()
    body = traces(1)
    reader, writer = await server.connect()
    writer.write(POST + length(body) + body)
    await server.endpoint.interaction_store.entered.wait()
    stopping = asyncio.create_task(server.server.stop())
    await asyncio.sleep(0)
    server.endpoint.interaction_store.gate.set()
    said = await reader.read()
    assert said.startswith(b"HTTP/1.1 200 ")
    await stopping
    writer.close()


@pytest.mark.slow
@pytest.mark.proves("stop", "overload")
async def test_what_is_not_answered_in_time_is_sent_again() -> None:
    """A request that is still under way when the time of a stop is over is answered 503: after a 500 exporters drop
    spans.
    """
    async with served(grace=1.0) as server:
        server.endpoint.interaction_store.gate.clear()
        body = traces(1)
        reader, writer = await server.connect()
        writer.write(POST + length(body) + body)
        await server.endpoint.interaction_store.entered.wait()
        await server.server.stop()
        said = await reader.read()
        server.endpoint.interaction_store.gate.set()
        assert said.startswith(b"HTTP/1.1 503 "), said
        assert b"retry-after: 2" in said.lower()
        writer.close()
