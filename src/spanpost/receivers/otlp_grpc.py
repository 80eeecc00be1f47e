"""OTLP/gRPC: the three export services, on TCP and on a Unix socket, and gRPC's health service.

Bodies arrive as bytes, and the code for HTTP inflates and reads them: gRPC itself would let every body grow
to the limit before admission. Nothing is read from a sender without a valid token. UNAVAILABLE with
RetryInfo asks the sender to retry. RESOURCE_EXHAUSTED without RetryInfo answers a body above the limit; gRPC
itself refuses those that are not compressed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import unquote

import grpc

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.shares import Full, Holder, Sender, network_of
from spanpost.http.status import as_protobuf
from spanpost.http.stored_tokens import TokenRefused
from spanpost.http.tenancy import FORWARDED_TENANT, RequestClaims, TenantGrant
from spanpost.http.tokens import SenderTokens
from spanpost.receivers import otlp_responses
from spanpost.receivers.admission import Busy
from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.receiver import Receiver
from spanpost.receivers.tenant_parts import take_named
from spanpost.receivers.turns import Turns

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

_METHODS: Final = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_HEALTH: Final = "/grpc.health.v1.Health/Check"
#: HealthCheckResponse: field 1, SERVING or NOT_SERVING.
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"
#: Messages read at once, each at most `max_body` bytes on the wire. gRPC uses memory for the part that has
#: arrived.
READERS: Final = 16
#: Seconds from the start of a request until its message was read.
READING: Final = 15.0
#: Requests whose message is not read yet; and concurrent requests of one connection.
_UNREAD, _STREAMS = 1000, 100
#: Seconds until an idle connection is closed, as for HTTP; and until a connection without a handshake is.
_IDLE, _HANDSHAKE = 75, 10
#: First bytes of compressed messages (gRPC's gzip and deflate, which is zlib). A protobuf request starts
#: with the tag of field 1.
_ENCODED: Final = {
    b"\x1f\x8b": "gzip",
    b"\x78\x01": "deflate",
    b"\x78\x5e": "deflate",
    b"\x78\x9c": "deflate",
    b"\x78\xda": "deflate",
}
#: Codes of refused credentials, by status in HTTP.
_REFUSED: Final = {400: grpc.StatusCode.INVALID_ARGUMENT, 403: grpc.StatusCode.PERMISSION_DENIED}
_DETAILS: Final = "grpc-status-details-bin"


class GrpcMetrics(Protocol):
    """**Protocol:** counts requests; implemented by `spanpost.metrics.Metrics`."""

    def requested(self, endpoint: str, signal: str, answer: str) -> None: ...


class CertificateSource(Protocol):
    """**Protocol:** PEM files for TLS: certificate chain, key, and the CA of client certificates (None: not
    required).
    """

    @property
    def chain(self) -> bytes: ...

    @property
    def key(self) -> bytes: ...

    @property
    def client_ca(self) -> bytes | None: ...


#: Returns the message of a request. Raises `Busy` if it does not arrive in time.
ReadMessage: TypeAlias = Callable[[], Awaitable[bytes]]


class GrpcRefused(Exception):
    """A request that is answered with an error; `retry_after` seconds, 0: the sender should not retry."""

    def __init__(self, code: grpc.StatusCode, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class TakesMessages(Protocol):
    """**Protocol:** takes an authenticated request and returns the answer's message.

    Raises `Busy`, `BodyTooLarge`, `Undecodable` and `GrpcRefused`.
    """

    async def __call__(self, signal: str, grant: TenantGrant, sender: Sender, read: ReadMessage) -> bytes: ...


class RecordsMessages:
    """Passes messages to the receiver, which records them. `attribute` returns that which names a tenant."""

    def __init__(self, receiver: Receiver, attribute: Callable[[], str]) -> None:
        self._receiver = receiver
        self._attribute = attribute

    async def __call__(self, signal: str, grant: TenantGrant, sender: Sender, read: ReadMessage) -> bytes:
        """Return the answer once everything is committed."""
        reservation = self._receiver.admit(sender, 0)  # refuse before reading
        raw = await read()
        try:
            reservation.grow(len(raw))
            body = await self._receiver.admission.inflate(reservation, raw, encoding_of(raw))
        except BaseException as error:
            reservation.leave()
            if isinstance(error, Undecodable):
                await self._receiver.keep(signal, sender.tenant, str(error), raw)
            raise
        taken = await take_named(self._receiver, grant, self._attribute(), reservation, signal, body, is_json=False)
        return otlp_responses.exported(signal, taken.rejected, taken.message, is_json=False)


def encoding_of(message: bytes) -> str:
    """Return the compression of a message by its first bytes; empty: none."""
    return _ENCODED.get(message[:2], "")


class OtlpGrpc(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The handlers of all methods, for a `GrpcServer`."""

    def __init__(
        self,
        take: TakesMessages,
        sender_tokens: SenderTokens,
        *,
        is_ready: Callable[[], bool],
        watch: GrpcMetrics | None = None,
    ) -> None:
        self._take = take
        self._sender_tokens = sender_tokens
        self._is_ready = is_ready
        self._watch = watch
        self._unread = Turns(_UNREAD)
        self._readers = Turns(READERS)
        # On the wire a unary call; declared as a stream, so that we decide whether and when the message is
        # read.
        answers_by = {method: self._export(signal) for method, signal in _METHODS.items()} | {_HEALTH: self._health}
        self._handlers = {method: grpc.stream_unary_rpc_method_handler(answer) for method, answer in answers_by.items()}

    def service(self, details: Any) -> Any:
        """Return the handler of a method; None: gRPC answers UNIMPLEMENTED."""
        return self._handlers.get(details.method)

    async def _health(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        return _SERVING if self._is_ready() else _NOT_SERVING

    def _export(self, signal: str) -> Callable[[AsyncIterator[bytes], Any], Any]:
        async def export(messages: AsyncIterator[bytes], context: Any) -> bytes:
            answer, code, message, retry_after = await self._answer(signal, messages, context)
            if self._watch is not None:
                self._watch.requested("grpc", signal, code.name.lower())
            if answer is not None:
                return answer
            if retry_after:
                details = as_protobuf(code.value[0], message, retry_after=retry_after)
                context.set_trailing_metadata(((_DETAILS, details),))
            await context.abort(code, message)
            raise AssertionError("abort returned")

        return export

    async def _answer(
        self, signal: str, messages: AsyncIterator[bytes], context: Any
    ) -> tuple[bytes | None, grpc.StatusCode, str, int]:
        try:
            grant = self._sender_tokens.grant(_claims(context, self._sender_tokens.rules.header))
        except TokenRefused as refusal:
            code = grpc.StatusCode.UNAVAILABLE if refusal.retry_after else _REFUSED[refusal.status]
            return None, code, str(refusal), refusal.retry_after
        if grant is None:
            _limited_log.warning("token", "a request without a valid token was refused")
            return None, grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed", 0
        sender = Sender(grant.tenant, _address(context.peer()))
        try:
            answer = await self._take(signal, grant, sender, partial(self._read, (*sender, context.peer()), messages))
        except BodyTooLarge as error:
            return None, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), 0
        except Busy as busy:
            return None, grpc.StatusCode.UNAVAILABLE, str(busy), busy.retry_after
        except Undecodable as error:
            return None, grpc.StatusCode.INVALID_ARGUMENT, str(error), 0
        except TokenRefused as refusal:
            return None, _REFUSED[refusal.status], str(refusal), 0
        except GrpcRefused as refused:
            return None, refused.code, str(refused), refused.retry_after
        except Exception as error:
            kind = type(error).__name__
            message_text = "internal error in a request, its sender keeps it: %s: %s"
            _limited_log.error(f"fault {kind}", message_text, kind, str(error)[:300], fault=error)
            return None, grpc.StatusCode.UNAVAILABLE, "internal error; try again", 5
        return answer, grpc.StatusCode.OK, "", 0

    async def _read(self, holder: Holder, messages: AsyncIterator[bytes]) -> bytes:
        """Return a request's message.

        Raises `Busy` if it does not arrive in time, or its turn is given to another sender.
        """
        try:
            async with asyncio.timeout(READING), self._unread.take(holder), self._readers.wait(holder):
                return await anext(messages, b"")
        except TimeoutError:
            message_text = (
                f"the message was not sent within {READING:g} s, or its turn went to another sender; send it again"
            )
            raise Busy(message_text, 1) from None
        except Full:
            raise Busy("too many requests wait to be read; send it again") from None


def _claims(context: Any, header: str) -> RequestClaims:
    """Return what a call brings. Several values of one name are refused: a proxy may have read another one."""
    pairs = [(name, value) for name, value in context.invocation_metadata() or () if isinstance(value, str)]

    def only(name: str) -> str | None:
        found = [value for one, value in pairs if one == name]
        return found[0] if len(found) == 1 else "" if found else None

    found = context.auth_context() or {}
    names = found.get("x509_subject_alternative_name") or found.get("x509_common_name") or ()
    kind, _, rest = context.peer().partition(":")
    return RequestClaims(
        authorization=only("authorization"),
        forwarded=only(FORWARDED_TENANT),
        named=[value for name, value in pairs if header and name == header],
        peer=unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else "",
        certificate=[name.decode("utf-8", "replace") for name in names],
    )


def _address(peer: str) -> str:
    """Return the address that a request counts for, from ``ipv4:127.0.0.1:4711``, ``ipv6:%5B::1%5D:4711`` or
    ``unix:``.
    """
    kind, _, rest = peer.partition(":")
    return network_of(unquote(rest).rpartition(":")[0].strip("[]")) if kind in ("ipv4", "ipv6") else kind


class GrpcServer:
    """Serves the handlers on addresses (``127.0.0.1:4317``, ``[::1]:4317``) and Unix sockets, in the running
    loop.
    """

    def __init__(
        self,
        handlers: OtlpGrpc,
        *,
        most_bytes: int,
        connections: int,
        certificates: CertificateSource | None = None,
        is_shared: bool = False,
    ) -> None:
        self._server = grpc.aio.server(
            handlers=(handlers,),
            options=(
                ("grpc.max_receive_message_length", most_bytes),
                ("grpc.per_message_decompression", 0),
                # A second server on the same port silently takes half of the requests: only if both are
                # configured so.
                ("grpc.so_reuseport", int(is_shared)),
                ("grpc.max_concurrent_streams", _STREAMS),
                ("grpc.max_allowed_incoming_connections", connections),
                ("grpc.max_connection_idle_ms", _IDLE * 1000),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE * 1000),
                # Clients may ping to keep a connection open through a firewall.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                # Long-lived connections reconnect now and then, so that replicas share the load.
                ("grpc.max_connection_age_ms", 600_000),
                ("grpc.max_connection_age_grace_ms", 30_000),
                ("grpc.max_metadata_size", 64 * 1024),
            ),
        )
        self._certificates = certificates

    def listen(self, address: str) -> int:
        """Bind an address; return the port. Raises OSError."""
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(self._certificates))
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {address}") from error
        if not port:
            raise OSError(f"gRPC cannot listen on {address}")
        return int(port)

    def listen_on_socket(self, path: Path) -> None:
        """Bind a Unix socket: file permissions decide who may send.

        A file left by a dead process is replaced.
        """
        if not path.parent.is_dir():  # gRPC would write a line of its own
            raise OSError(f"there is no directory {path.parent}")
        before = os.umask(0o117)  # owner and group, from the first moment on
        try:
            port = self._server.add_insecure_port(f"unix://{path}")
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {path}") from error
        finally:
            os.umask(before)
        if not port:
            raise OSError(f"gRPC cannot listen on {path}")

    async def start(self) -> None:
        """Accept requests."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Accept nothing new and wait for the responses in progress."""
        await self._server.stop(grace)


def _credentials(certificates: CertificateSource) -> Any:
    def current() -> Any:
        pair: Sequence[tuple[bytes, bytes]] = [(certificates.key, certificates.chain)]
        return grpc.ssl_server_certificate_configuration(pair, root_certificates=certificates.client_ca)

    # Called at each handshake: a renewed certificate is used without a restart.
    return grpc.dynamic_ssl_server_credentials(
        current(), current, require_client_authentication=certificates.client_ca is not None
    )
