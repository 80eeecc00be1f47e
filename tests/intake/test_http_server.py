"""The HTTP server's own bounds, on real sockets: slow senders, endless headers, ambiguous requests, many connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from spanpost.intake import http_server
from spanpost.intake.http_server import HttpServer, listen
from tests.intake.doors import Door, opened, traces

POST = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"


class Served:
    """A door on a socket."""

    def __init__(self, door: Door, server: HttpServer, port: int) -> None:
        self.door, self.server, self.port = door, server, port

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
    async with opened() as door:
        listener = listen("127.0.0.1", 0)
        server = HttpServer(door.app, listener, **options)
        await server.start()
        try:
            yield Served(door, server, listener.getsockname()[1])
        finally:
            await server.stop()


@pytest.fixture
async def hurried(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """Lend a server that waits a tenth of a second for headers and for bodies."""
    monkeypatch.setattr(http_server._Guarded, "header_timeout", 0.1)
    monkeypatch.setattr(http_server._Guarded, "body_timeout", 0.1)
    async with served() as lent:
        yield lent


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    """Lend a server."""
    async with served() as lent:
        yield lent


def length(body: bytes) -> bytes:
    return b"content-length: %d\r\n\r\n" % len(body)


async def test_a_request_on_a_socket(server: Served) -> None:
    """A request is answered and the connection stays open for the next one; one after the other in one piece too."""
    body = traces(1)
    request = POST + length(body) + body
    said = await server.say(request + request + request.replace(b"host: x", b"connection: close"))
    assert said.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert server.door.hall.spans == [1, 1, 1]


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
    """Item 13: who does not go on with headers or body is told so, and its connection and memory are taken back."""
    said = await hurried.say(begun)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert hurried.door.receiver.in_flight == 0
    body = traces(1)
    assert b" 200 OK" in await hurried.say(POST + b"connection: close\r\n" + length(body) + body)


async def test_a_second_request_is_held_to_the_same_bounds(hurried: Served) -> None:
    """Item 13: a connection that has been good once is not trusted for it."""
    body = traces(1)
    said = await hurried.say(POST + length(body) + body + b"POST /v1/tra")
    assert b" 200 OK" in said
    assert b" 408 " in said


@pytest.mark.parametrize("endless", [b"x: " + b"y" * 200_000, b"x: y\r\n" * 40_000], ids=["one", "many"])
async def test_endless_headers_are_refused(server: Served, endless: bytes) -> None:
    """Item 14: headers have a bound, whether one is endless or there are many: the connection ends."""
    said = b""
    with contextlib.suppress(ConnectionError):  # what was not read any more resets it
        said = await server.say(POST + endless)
    assert said == b"" or said.startswith(b"HTTP/1.1 431 ")
    assert server.door.hall.batches == []


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="length and chunks"),
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
    """Item 14: an answer of 400 and the end of the connection; nothing of it is taken for a request."""
    said = await server.say(request_)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1
    assert b"Traceback" not in said
    assert server.door.hall.batches == []


@pytest.mark.parametrize("cut", [None, 10, 200, 300])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_an_upgrade_is_not_followed(server: Served, cut: int | None, is_chunked: bool) -> None:
    """A client that offers HTTP/2 beside its requests (Java's does) is answered in HTTP/1.1, and its bodies are read."""
    sent = b""
    for number in (1, 2):
        body = traces(number)
        offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAA\r\n"
        chunks = b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        sent += POST + offer + (chunks if is_chunked else length(body) + body)
    sent += b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    said = await server.say(sent) if cut is None else await server.say(sent[:cut], sent[cut:])
    assert said.count(b"HTTP/1.1 200 OK") == 3
    assert server.door.hall.spans == [1, 2]


async def test_a_tunnel_is_not_opened(server: Served) -> None:
    """CONNECT is answered like any other path that is not there, and ends the connection."""
    said = await server.say(b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert said.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert said.count(b"HTTP/1.1") == 1


async def test_a_length_beyond_the_limit_is_answered_before_it_is_sent(server: Served) -> None:
    """Item 1: the sender of a giant is told at once, and the connection goes on reading none of it into memory."""
    reader, writer = await server.connect()
    writer.write(POST + b"content-length: 10000000000\r\n\r\n" + b"x" * 1_000_000)
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    assert server.door.receiver.in_flight == 0


async def test_expect_continue_is_answered(server: Served) -> None:
    """A client that asks before it sends (curl does) is told to go on, or why not."""
    reader, writer = await server.connect()
    body = traces(1)
    writer.write(POST + b"expect: 100-continue\r\n" + length(body))
    assert (await reader.readline()).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    await reader.readline()
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_connections_are_bounded() -> None:
    """Item 13: beyond the bound a connection is answered 503 with Retry-After, and the ones before go on."""
    async with served(connections=5) as server:
        idle = [await server.connect() for _ in range(5)]
        idle[0][1].write(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await idle[0][0].readline()).startswith(b"HTTP/1.1 200 ")
        said = await server.say()
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in said
        for _, writer in idle:
            writer.close()


async def test_a_port_that_is_taken_is_not_shared(server: Served) -> None:
    """Two gateways on one port would each get half of the requests: the second one is told."""
    with pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", server.port)


@pytest.mark.parametrize("send", [pytest.param(lambda w: None, id="idle"), pytest.param(lambda w: w.write(POST), id="in headers")])
async def test_stopping_closes_what_is_idle(send: Callable[[asyncio.StreamWriter], None]) -> None:
    """At the stop connections without a request are closed, and it waits for nobody else."""
    async with served() as server:
        reader, writer = await server.connect()
        send(writer)
        await writer.drain()
        while server.server.connections < 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await server.server.stop()
        assert await reader.read() == b""
        writer.close()


async def test_stopping_waits_for_answers(server: Served) -> None:
    """A request under way when the stop begins is answered after its commit."""
    server.door.hall.gate.clear()
    body = traces(1)
    reader, writer = await server.connect()
    writer.write(POST + length(body) + body)
    await server.door.hall.entered.wait()
    stopping = asyncio.create_task(server.server.stop())
    await asyncio.sleep(0)
    server.door.hall.gate.set()
    said = await reader.read()
    assert said.startswith(b"HTTP/1.1 200 ")
    await stopping
    writer.close()
