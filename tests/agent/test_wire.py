"""One exchange over a socket, with servers and proxies that answer anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from spanpost.agent.wire import NoProxy, Proxy, WireOrigin, exchange, proxy_for

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answer one connection with these bytes, one for each request head, and close it; yield port and heads."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


async def got(answer: bytes) -> tuple[int, bytes]:
    async with answering(answer) as (port, _):
        return await exchange(WireOrigin("127.0.0.1", port, False), None, "GET", "/x", {}, b"")


LONG = 4 * 1024 * 1024

ANSWERS = {
    "with a length": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", (200, b"hi")),
    "with a length of nothing": (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", (204, b"")),
    "to the end of the connection": (b"HTTP/1.0 200 OK\r\n\r\nhi", (200, b"hi")),
    "in chunks": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
                  (200, b"hi!")),
    "in chunks, written large": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
                                 (200, b"0123456789")),
    "after interim answers": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
                              b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", (200, b"")),
    "without a reason": (b"HTTP/1.1 404\r\ncontent-length: 0\r\n\r\n", (404, b"")),
    "with headers of no form": (b"HTTP/1.1 500 no\r\nnothing\r\n: x\r\ncontent-length: 1\r\n\r\nx", (500, b"x")),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_answers_that_are_read(answer: bytes, expected: tuple[int, bytes]) -> None:
    """Status and body are read however the server ends its answer."""
    assert await got(answer) == expected


BROKEN = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status in other digits": "HTTP/1.1 ٢٠٠ OK\r\n\r\n".encode(),
    "interim answers for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 30,
    "a length that is none": b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nhi",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nhi",
    "a length beyond the limit": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (LONG + 1),
    "a chunk beyond the limit": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % (LONG + 1),
    "a chunk of a negative length": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nx\r\n",
    "a chunk without a length": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "a body beyond the limit": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LONG + 1),
    "a head beyond the limit": b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000 + b"\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-",
    "half a body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi",
    "half a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nA\r\nhi",
    "no last chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_answers_that_are_none(answer: bytes) -> None:
    """An incomplete or too long answer raises one of the expected errors, and never returns half a body."""
    with pytest.raises((ValueError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)):
        await got(answer)


async def test_a_request_is_whole() -> None:
    """A request names its host, asks for the connection to be closed, and carries its headers and body as they are."""
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as (port, heads):
        origin = WireOrigin("127.0.0.1", port, False)
        await exchange(origin, None, "POST", "/control/v1/x?y=1", {"content-length": "2", "x-a": "ü"}, b"hi")
    lines = heads[0].decode("latin-1").split("\r\n")
    assert lines[0] == "POST /control/v1/x?y=1 HTTP/1.1"
    assert {"host: " + origin.authority, "connection: close", "content-length: 2", "x-a: ü"} <= set(lines)


@pytest.mark.parametrize(
    ("environment", "address", "expected"),
    [
        ({}, ("https", "gw.example", 443), None),
        ({"https_proxy": "http://p.example:3128"}, ("https", "gw.example", 443), ("p.example", 3128, False)),
        ({"http_proxy": "http://p.example"}, ("https", "gw.example", 443), None),
        ({"all_proxy": "https://p.example"}, ("http", "gw.example", 80), ("p.example", 443, True)),
        ({"http_proxy": "p.example:3128"}, ("http", "gw.example", 80), ("p.example", 3128, False)),
        ({"http_proxy": "http://p", "no_proxy": "gw.example"}, ("http", "gw.example", 80), None),
        ({"http_proxy": "http://p", "no_proxy": ".example"}, ("http", "gw.example", 80), None),
        ({"http_proxy": "http://p", "no_proxy": "*"}, ("http", "gw.example", 80), None),
        ({"http_proxy": "http://p", "no_proxy": "other"}, ("http", "gw.example", 80), ("p", 80, False)),
        *(({"http_proxy": "http://p"}, ("http", here, 80), None)
          for here in ("localhost", "a.localhost", "127.0.0.9", "::1")),
    ],
)  # fmt: skip
def test_the_proxy_of_an_address(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    address: tuple[str, str, int],
    expected: tuple[str, int, bool] | None,
) -> None:
    """The environment's proxy is used as other programs use it, and never for this machine."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(*address)
    assert (found and (found.host, found.port, found.is_tls)) == expected


@pytest.mark.parametrize("said", ["socks5://p:1080", "http://:80", "http://p:port", "ftp://p", "http://[::1"])
def test_a_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """An unusable proxy is refused with its variable's name and without its address, which may hold a password."""
    monkeypatch.setenv("https_proxy", said)
    with pytest.raises(NoProxy, match="HTTPS_PROXY") as caught:
        proxy_for("https", "gw.example", 443)
    assert said not in str(caught.value)


async def test_a_plain_request_goes_through_a_proxy_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy gets the whole address, with its own password, which is shown nowhere."""
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi") as (port, heads):
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{port}")
        assert await exchange(WireOrigin("gw.example", 4318, False), None, "GET", "/x", {}, b"") == (200, b"hi")
        found = proxy_for("http", "gw.example", 4318)
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET http://gw.example:4318/x HTTP/1.1"
    assert "proxy-authorization: Basic bWU6cEBzcw==" in lines  # me:p@ss
    assert isinstance(found, Proxy)
    assert "bWU6" not in repr(found)


async def test_through_a_tunnel_the_proxy_sees_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """For HTTPS the proxy sees only a tunnel request; its refusal is reported with a hint, and the token was
    not sent.
    """
    refusals: list[tuple[bytes, Callable[[BaseException], bool]]] = [
        (b"HTTP/1.1 407 Who?\r\n\r\n", lambda error: isinstance(error, NoProxy) and "407" in str(error)),
        (b"HTTP/1.1 403 No\r\n\r\n", lambda error: isinstance(error, NoProxy)),
        (b"HTTP/1.1 502 Away\r\n\r\n", lambda error: isinstance(error, ConnectionError)),
    ]
    for answer, is_so in refusals:
        async with answering(answer) as (port, heads):
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
            with pytest.raises(Exception) as caught:  # noqa: PT011
                await exchange(
                    WireOrigin("gw.example", 443, True), None, "POST", "/x", {"authorization": "Bearer spt_x"}, b"{}"
                )
        assert is_so(caught.value)
        assert heads[0].startswith(b"CONNECT gw.example:443 HTTP/1.1\r\n")
        assert b"spt_x" not in b"".join(heads)
