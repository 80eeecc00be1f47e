"""uvicorn with additional limits: for headers, slow senders and connections."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Collection
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from spanpost.http.connections import ANSWERING, IDLE, NEW, SLOW, Connections
from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.tenancy import CERTIFICATE, names_of

_limited_log = RateLimitedLog(logging.getLogger("spanpost.runtime.gateway"))

#: Bytes of a request line and its headers together.
_MOST_HEADERS: Final = 64 * 1024
#: Seconds for the TLS handshake, and again for a request's headers; and for its body, plus one second per
#: `_SLOWEST` bytes that arrived.
HEADER_TIMEOUT: Final = 10.0
BODY_TIMEOUT: Final = 30.0
_SLOWEST: Final = 128 * 1024
#: Bytes and seconds for which a body is still read after its response, so that the sender gets the response.
_REST: Final = 256 * 1024
_REST_TIMEOUT: Final = 1.0
#: Seconds after which a client that does not read its response is disconnected.
_STUCK: Final = 60.0
_BACKLOG: Final = 2048  # connections that wait to be accepted
#: Seconds between two attempts to accept, if the system refuses.
_REFUSED: Final = 0.1
#: Seconds. Longer than the five between two batches of the SDKs: a batch on a closing connection is lost.
_KEEP_ALIVE: Final = 75
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _GuardedApp(HttpToolsProtocol):
    """The protocol of one connection, with its limits; created at accept, before TLS."""

    header_timeout = HEADER_TIMEOUT
    body_timeout = BODY_TIMEOUT
    #: All connections of the server, and the pages that spare connections may get.
    shared: Connections
    always: Collection[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_spare = False
        #: The task that sets the connection up.
        self.setup: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._body_bytes = 0
        self._body_began = 0.0
        self._rest_bytes = 0
        self._is_in_headers = True
        self._is_in_body = False
        self._is_replaying = False
        self._rank = NEW

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_timer(self.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.shared.remove(self)
        self._cancel_timer()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def end(self) -> None:
        """Close the connection in favour of another one."""
        if self.setup is not None and not self.setup.done():
            self.setup.cancel()
        elif self._is_in_body and not self.transport.is_closing():
            self._close(_FULL)
            self.loop.call_later(_REST_TIMEOUT, self.transport.abort)
        else:
            self.transport.abort()

    def _note(self) -> None:
        """Update this connection's rank."""
        is_waiting = self.cycle is not None and not self.cycle.response_complete
        if self._is_in_body or self.flow.write_paused:
            rank = SLOW
        elif is_waiting or self.pipeline:
            rank = ANSWERING
        else:
            rank = IDLE if self.cycle is not None else NEW
        if rank != self._rank:
            self._rank = rank
            self.shared.move(self, rank)

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
        """Continue in HTTP/1.1 when a client offers another protocol (Java's client offers HTTP/2 with each
        request).

        The parser expects the other protocol after the headers, and would not read the body: a new parser,
        which gets the body's length, reads it.
        """
        headers = dict(self.headers)
        if self.scope["method"] == "CONNECT":
            self.cycle.keep_alive = False
            return
        chunked = headers.get(b"transfer-encoding")
        framing = (
            b"transfer-encoding: " + chunked if chunked else b"content-length: " + headers.get(b"content-length", b"0")
        )
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
        if self.is_spare and self.url.partition(b"?")[0].decode("latin-1") not in self.always:
            self._close(_FULL)
            return
        self.scope[CERTIFICATE] = names_of(self.transport.get_extra_info("peercert"))  # type: ignore[typeddict-unknown-key]
        self.scope["spanpost.target"] = self.url.decode("latin-1")  # type: ignore[typeddict-unknown-key]
        self._is_in_body = True
        self._body_bytes = self._rest_bytes = 0
        self._body_began = self.loop.time()
        super().on_headers_complete()
        self._set_timer(self.body_timeout)
        self._note()

    def on_body(self, body: bytes) -> None:
        if self.transport.is_closing():
            return
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._rest_bytes += len(body)
            if self._rest_bytes > _REST:
                self._close()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        if self.parser.should_upgrade() and self.scope["method"] != "CONNECT":
            return  # the new parser continues
        self._cancel_timer()
        self._is_in_body = False
        super().on_message_complete()
        if self.cycle.response_complete:  # the response came before the whole body
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        self._note()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.is_spare:
            self._close()
        elif self._is_in_body and self.cycle.response_complete:
            self._set_timer(_REST_TIMEOUT)
        self._note()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self._stuck or self.loop.call_later(_STUCK, self.transport.abort)
        self._note()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        self._note()

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
        if not self._is_in_headers and not is_answered:
            left = self._body_began + self.body_timeout + self._body_bytes / _SLOWEST - self.loop.time()
            if left > 0:
                self._set_timer(left)
                return
        self._close(_TOO_SLOW if self._is_in_headers or not is_answered else b"")

    def _close(self, response: bytes = b"") -> None:
        self._cancel_timer()
        if not self.transport.is_closing():
            if response and (self.cycle is None or not self.cycle.response_started or self.cycle.response_complete):
                self.transport.write(response)
            self.transport.close()


class _Server(uvicorn.Server):
    """Accepts connections itself, so that each one counts from the start; `has_started` is set once it
    listens.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, protocol: type[_GuardedApp]) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self._listener = listener
        self._protocol = protocol
        self._accepting: asyncio.Task[None] | None = None
        self._setups: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self._listener.listen(_BACKLOG)
        self._accepting = asyncio.create_task(self._accept(), name="spanpost-accept")
        self.has_started.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in (self._accepting, *self._setups):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        self._listener.close()
        await super().shutdown([])

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(self._listener)
                self._add_connection(accepted, address[0])
            except OSError:  # the client is gone, or no descriptor is free
                await asyncio.sleep(_REFUSED)
            except Exception as error:  # an internal error must not stop accepting
                _limited_log.error(
                    "accept", "a connection could not be accepted: %s", type(error).__name__, fault=error
                )
                await asyncio.sleep(_REFUSED)

    def _add_connection(self, accepted: socket.socket, host: str) -> None:
        connection = self._protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        connection.is_spare = not connection.shared.add(connection, host)
        connection.setup = setup = asyncio.create_task(self._set_up(accepted, connection))
        self._setups.add(setup)
        setup.add_done_callback(self._setups.discard)

    async def _set_up(self, accepted: socket.socket, connection: _GuardedApp) -> None:
        tls: dict[str, Any] = (
            {"ssl": self.config.ssl, "ssl_handshake_timeout": HEADER_TIMEOUT} if self.config.ssl else {}
        )
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted, **tls)
        except (OSError, asyncio.CancelledError):  # the TLS handshake failed, or the place was given up
            connection.shared.remove(connection)


class HttpServer:
    """Serves one application on one socket, in the running loop.

    Pages in `always` are served beyond the limit.
    """

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        *,
        context: ssl.SSLContext | None = None,
        connections: int = 1000,
        always: Collection[str] = (),
        grace: float = 5.0,
    ) -> None:
        bounds = {"shared": Connections(connections), "always": frozenset(always)}
        protocol = type("Guarded", (_GuardedApp,), bounds)
        # uvicorn's own log is off: clients cause most of it.
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            app,
            http=protocol,
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
        self._server = _Server(config, listener, protocol)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start; returns once connections are accepted."""
        self._task = asyncio.create_task(self._server.serve([]), name="spanpost-http")
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait((started, self._task), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Accept nothing new, close idle connections, and wait for responses in progress, up to the grace
        period.
        """
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._server.server_state.connections)


def listen(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a listening socket; raises OSError.

    With `is_shared`, other processes that also set it may bind the port; the kernel gives them all connections
    until the server starts, so the socket listens only then.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        listener.bind(address)
        if not is_shared:
            listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
