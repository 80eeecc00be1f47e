"""The gateway as an agent reaches it: through proxies, and with any kind of answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from spanpost.agent.gateway import ControlUnavailable, GatewayClient, Unreachable
from spanpost.testing.http import HttpAnswer, HttpReceiver

KNOWN = b'{"state": "decided", "decision": "approve"}'


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def serving(hear: Callable[..., object], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=tls)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_proxy_is_used_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distant gateway is reached through the proxy with its credentials; NO_PROXY and loopback are direct."""
    async with HttpReceiver([HttpAnswer(body=KNOWN)]) as proxy, HttpReceiver([HttpAnswer(body=KNOWN)]) as here:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//me:pass%40word@"))
        expected = await GatewayClient("http://gateway.test:4318/base", headers={"authorization": "Bearer t"}).approval(
            "a b", "", 1, 0.0
        )
        assert expected == {"state": "decided", "decision": "approve"}
        [asked] = proxy.posted
        assert asked.path.startswith("http://gateway.test:4318/base/control/v1/approvals/a%20b?")
        assert (asked.headers["host"], asked.headers["authorization"]) == ("gateway.test:4318", "Bearer t")
        assert asked.headers["proxy-authorization"] == "Basic bWU6cGFzc0B3b3Jk"
        assert await GatewayClient(here.url).approval("a", "", 1, 0.0) == expected
        assert "proxy-authorization" not in here.posted[0].headers
        monkeypatch.setenv("NO_PROXY", "gateway.test")
        with pytest.raises(Unreachable):
            await GatewayClient("http://gateway.test:1").approval("a", "", 1, 0.0)
        assert len(proxy.posted) == 1


async def test_a_proxy_sees_nothing_of_what_is_encrypted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HTTPS_PROXY opens a tunnel in which the certificate is checked; only the tunnel carries the token."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("gateway.test").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    received: list[bytes] = []

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(KNOWN) + KNOWN)
        await writer.drain()
        writer.close()

    async with serving(gateway, tls) as port:

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 tunnel\r\n\r\n")
            there, back = await asyncio.open_connection("127.0.0.1", port)

            async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
                with suppress(ConnectionError):
                    while part := await source.read(4096):
                        received.append(part)
                        target.write(part)
                target.close()

            await asyncio.gather(copy(reader, back), copy(there, writer))

        async with serving(tunnel) as proxy:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy}")
            known = GatewayClient(
                "https://gateway.test", headers={"authorization": "Bearer spt_x"}, certificate=str(tmp_path / "ca.pem")
            )
            assert (await known.approval("a", "", 1, 0.0) or {})["decision"] == "approve"
            assert received[0].startswith(b"CONNECT gateway.test:443 HTTP/1.1\r\n")
            assert [b"spt_x" in part for part in received].count(True) == 1
            assert any(part.startswith(b"GET /control/v1/approvals/a") and b"spt_x" in part for part in received)
            with pytest.raises(ControlUnavailable, match="not trusted"):
                await GatewayClient("https://gateway.test").approval("a", "", 1, 0.0)


@pytest.mark.parametrize(
    ("proxy", "status", "kind", "said"),
    [
        ("socks5://me:secret@127.0.0.1:1", 200, ControlUnavailable, "HTTP_PROXY is not an http:// one"),
        ("http://me:secret@127.0.0.1:99999", 200, ControlUnavailable, "HTTP_PROXY is not an http:// one"),
        ("", 407, ControlUnavailable, r"the proxy refuses \(407\)"),
        ("", 502, Unreachable, "502"),
    ],
)
async def test_a_proxy_that_lets_nothing_through(
    monkeypatch: pytest.MonkeyPatch, proxy: str, status: int, kind: type[Exception], said: str
) -> None:
    """A proxy's refusal names the setting, a passing error is retried, and the proxy's password is not shown."""
    async with HttpReceiver([HttpAnswer(status=status)]) as receiver:
        monkeypatch.setenv("HTTP_PROXY", proxy or receiver.url.replace("//", "//me:secret@"))
        with pytest.raises(kind, match=said) as raised:
            await GatewayClient("http://gateway.test").approval("a", "", 1, 0.0)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
        b"x" * 200_000,
    ],
    ids=range(12),
)
async def test_whatever_answers_is_asked_again(answer: bytes) -> None:
    """A malformed or oversized HTTP answer counts as a gateway that cannot be reached now."""

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with serving(gateway) as port:
        with pytest.raises(Unreachable):
            await GatewayClient(f"http://127.0.0.1:{port}").task("t", 0, 0.0)


async def test_an_answer_that_ends_with_its_connection_is_read_whole() -> None:
    """An answer without a length is read to the end of the connection, however it is cut."""

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in (b"HTTP/1.0 200 OK\r\n\r\n", b'{"state": ', b'"open"', b"}"):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async with serving(gateway) as port:
        assert await GatewayClient(f"http://127.0.0.1:{port}").approval("a", "", 1, 0.0) == {"state": "open"}


async def test_a_missing_or_bad_certificate_is_reported(tmp_path: Path) -> None:
    """A missing file, or one without a certificate, is named with a next step, and not tried again."""
    (tmp_path / "none.pem").write_text("nothing")
    for name in ("none.pem", "missing.pem"):
        with pytest.raises(ControlUnavailable, match=f"{name}: .*name a PEM file"):
            await GatewayClient("https://gateway.test", certificate=str(tmp_path / name)).approval("a", "", 1, 0.0)
