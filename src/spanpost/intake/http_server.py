"""uvicorn with bounds that it does not have: for headers, for slow senders, for connections."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of a request line and its headers together.
_MOST_HEADERS: Final = 64 * 1024
#: Seconds for a request's headers; and for its body, as long as it comes slower than `_SLOW` bytes a second.
HEADER_TIMEOUT: Final = 10.0
BODY_TIMEOUT: Final = 30.0
_SLOW: Final = 16 * 1024
#: Longer than the five seconds between two batches of the SDKs: a connection closed just then loses a batch.
_KEEP_ALIVE: Final = 75
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Guarded(HttpToolsProtocol):
    """The protocol of one connection, with its bounds. `most` connections are had at once."""

    most = 1000
    header_timeout = HEADER_TIMEOUT
    body_timeout = BODY_TIMEOUT

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._body_bytes = 0
        self._is_in_headers = True
        self._is_replaying = False
        if len(self.connections) > self.most:
            transport.write(_FULL)
            transport.close()
            return
        self._set_timer(self.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        was_in_headers = self._is_in_headers
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request.")
            return
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        if self._is_in_headers and was_in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > _MOST_HEADERS:
                self._close(_TOO_LONG)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 where a client offered another protocol beside its request (Java's offers HTTP/2 with each).

        The parser believes that the other protocol begins after the headers, and would take the body for it: another parser
        is told how long the body is, and reads it.
        """
        headers = dict(self.headers)
        if self.scope["method"] == "CONNECT":
            self.cycle.keep_alive = False
            return
        chunked = headers.get(b"transfer-encoding")
        framing = b"transfer-encoding: " + chunked if chunked else b"content-length: " + headers.get(b"content-length", b"0")
        self.parser = httptools.HttpRequestParser(self)
        self._is_replaying = True
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request.")
            return
        finally:
            self._is_replaying = False
        if rest:
            self.data_received(rest)

    def on_url(self, url: bytes) -> None:
        if not self._is_replaying:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_replaying:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        if self._is_replaying:
            return
        super().on_message_begin()
        self._is_in_headers = True
        self._header_bytes = 0
        self._set_timer(self.header_timeout)

    def on_headers_complete(self) -> None:
        if self._is_replaying:
            return
        self._is_in_headers = False
        self._body_bytes = 0
        super().on_headers_complete()
        self._set_timer(self.body_timeout)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self.scope["method"] != "CONNECT":
            return  # it goes on, in another parser
        self._cancel_timer()
        super().on_message_complete()

    def _set_timer(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(seconds, self._late)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        is_answered = self.cycle is not None and self.cycle.response_complete
        if not self._is_in_headers and not is_answered and self._body_bytes > _SLOW * self.body_timeout:
            self._body_bytes = 0
            self._set_timer(self.body_timeout)
            return
        self._close(_TOO_SLOW if self._is_in_headers or not is_answered else b"")

    def _close(self, said: bytes) -> None:
        self._cancel_timer()
        if not self.transport.is_closing():
            if said and (self.cycle is None or not self.cycle.response_started or self.cycle.response_complete):
                self.transport.write(said)
            self.transport.close()


class _Server(uvicorn.Server):
    """Says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


class HttpServer:
    """Serves one application on one socket, in the running loop."""

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        *,
        context: ssl.SSLContext | None = None,
        connections: int = 1000,
        grace: float = 5.0,
    ) -> None:
        # What it says of its own goes to nobody: clients cause most of it.
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            app,
            http=type("Guarded", (_Guarded,), {"most": connections}),
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(grace)),
        )
        config.load()
        config.ssl = context
        self._listener = listener
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; returns when connections are accepted."""
        self._task = asyncio.create_task(self._server.serve([self._listener]), name="spanpost-http")
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait((started, self._task), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Accept nothing new, close idle connections, and wait for the answers under way, for as long as the grace is."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._server.server_state.connections)


def listen(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a socket that is bound; raises OSError. Another process may bind the same port beside it only if both share it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
