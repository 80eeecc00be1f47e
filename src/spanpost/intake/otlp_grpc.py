"""OTLP/gRPC: the three export services, on TCP and on a Unix socket, and gRPC's health service.

Bodies are taken as bytes, inflated and read by what does it for HTTP: left to gRPC, each of them may become as large as the
limit before anybody was asked. Nothing is read of a sender without a valid token. UNAVAILABLE with RetryInfo is the answer that
asks to come back; RESOURCE_EXHAUSTED, without RetryInfo, is for what is larger than the limit, which gRPC itself refuses where it
is not compressed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import grpc

from spanpost.intake import answers
from spanpost.intake.decoded import Undecodable
from spanpost.intake.encodings import TooLarge
from spanpost.intake.receiver import Busy, Receiver
from spanpost.intake.seldom import Seldom
from spanpost.intake.tokens import Doorkeeper

log = logging.getLogger("spanpost.gateway")
_seldom = Seldom(log)

_METHODS: Final = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_HEALTH: Final = "/grpc.health.v1.Health/Check"
#: HealthCheckResponse: field 1, SERVING or NOT_SERVING.
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"
#: Requests that are read at once, each of at most `max_body` bytes as it is sent; and what reading one may take, seconds.
READERS: Final = 16
_READING: Final = 30.0
#: How a compressed message begins (gRPC's gzip and deflate, which is zlib's). A request in protobuf begins with the tag of field 1.
_ENCODED: Final = {
    b"\x1f\x8b": "gzip",
    b"\x78\x01": "deflate",
    b"\x78\x5e": "deflate",
    b"\x78\x9c": "deflate",
    b"\x78\xda": "deflate",
}
_DETAILS: Final = "grpc-status-details-bin"


class Watches(Protocol):
    """**Protocol:** counts requests; `spanpost.metrics.Metrics` is it."""

    def requested(self, door: str, signal: str, answer: str) -> None: ...


class Certificates(Protocol):
    """**Protocol:** what TLS needs, in PEM: the certificate's chain, its key, and who signs clients, if they must have one."""

    @property
    def chain(self) -> bytes: ...

    @property
    def key(self) -> bytes: ...

    @property
    def client_ca(self) -> bytes | None: ...


class OtlpGrpc(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The handlers of all methods. Give it to a `GrpcServer`."""

    def __init__(
        self, receiver: Receiver, doorkeeper: Doorkeeper, *, is_ready: Callable[[], bool], watch: Watches | None = None
    ) -> None:
        self._receiver = receiver
        self._doorkeeper = doorkeeper
        self._is_ready = is_ready
        self._watch = watch
        self._readers = asyncio.Semaphore(READERS)
        # On the wire it is the same as a unary call; here it leaves it to us when the message is read.
        self._handlers = {method: grpc.stream_unary_rpc_method_handler(self._export(signal)) for method, signal in _METHODS.items()}
        self._handlers[_HEALTH] = grpc.unary_unary_rpc_method_handler(self._health)

    def service(self, details: Any) -> Any:
        """Return the handler of a method, None for one that is not here (gRPC answers UNIMPLEMENTED)."""
        return self._handlers.get(details.method)

    async def _health(self, request: bytes, context: Any) -> bytes:
        return _SERVING if self._is_ready() else _NOT_SERVING

    def _export(self, signal: str) -> Callable[[AsyncIterator[bytes], Any], Any]:
        async def export(messages: AsyncIterator[bytes], context: Any) -> bytes:
            answer, code, message, retry_after = await self._answer(signal, messages, context)
            if self._watch is not None:
                self._watch.requested("grpc", signal, code.name.lower())
            if answer is not None:
                return answer
            if retry_after:
                details = answers.status(code.value[0], message, retry_after, is_json=False)
                context.set_trailing_metadata(((_DETAILS, details),))
            await context.abort(code, message)
            raise AssertionError("abort returned")

        return export

    async def _answer(
        self, signal: str, messages: AsyncIterator[bytes], context: Any
    ) -> tuple[bytes | None, grpc.StatusCode, str, int]:
        authorization = next((value for name, value in context.invocation_metadata() or () if name == "authorization"), None)
        tenant = self._doorkeeper.tenant_of(authorization if isinstance(authorization, str) else None)
        if tenant is None:
            _seldom.warning("token", "a request without a valid token was refused")
            return None, grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed", 0
        try:
            self._receiver.admit(0).leave()  # who would be sent away, is before the reading
            async with self._readers, asyncio.timeout(_READING):
                raw = await anext(messages, b"")
            seat = self._receiver.admit(len(raw))
            try:
                body = await self._receiver.inflate(seat, raw, _ENCODED.get(raw[:2], ""))
            except BaseException as error:
                seat.leave()
                if isinstance(error, Undecodable):
                    await self._receiver.keep(signal, tenant, str(error), raw)
                raise
            taken = await self._receiver.take(seat, signal, body, tenant=tenant, is_json=False)
        except TimeoutError:
            return None, grpc.StatusCode.UNAVAILABLE, f"the request was not sent within {_READING:g} s", 1
        except TooLarge as error:
            return None, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), 0
        except Busy as busy:
            return None, grpc.StatusCode.UNAVAILABLE, str(busy), busy.retry_after
        except Undecodable as error:
            return None, grpc.StatusCode.INVALID_ARGUMENT, str(error), 0
        except Exception as error:
            kind = type(error).__name__
            said = "a request failed in here, its sender keeps it: %s: %s"
            _seldom.error(f"fault {kind}", said, kind, str(error)[:300], fault=error)
            return None, grpc.StatusCode.UNAVAILABLE, "it failed in here; try again", 5
        return answers.exported(signal, taken.rejected, taken.message, is_json=False), grpc.StatusCode.OK, "", 0


class GrpcServer:
    """Serves the handlers on addresses (``127.0.0.1:4317``, ``[::1]:4317``) and Unix sockets, in the running loop."""

    def __init__(
        self, handlers: OtlpGrpc, *, most_bytes: int, certificates: Certificates | None = None, is_shared: bool = False
    ) -> None:
        self._server = grpc.aio.server(
            handlers=(handlers,),
            options=(
                ("grpc.max_receive_message_length", most_bytes),
                ("grpc.per_message_decompression", 0),
                # A second server on the same port takes half of the requests, without a word: only where both were told so.
                ("grpc.so_reuseport", int(is_shared)),
                ("grpc.max_concurrent_streams", 100),
                # Clients that ping to keep a connection through a firewall are no attackers.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                # Long-lived connections come back now and then, so that replicas share the work.
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
        """Bind a Unix socket; whoever may open it may send. A file left by a process that is gone is replaced."""
        try:
            port = self._server.add_insecure_port(f"unix://{path}")
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {path}") from error
        if not port:
            raise OSError(f"gRPC cannot listen on {path}")

    async def start(self) -> None:
        """Accept requests."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Accept nothing new and wait for the answers under way."""
        await self._server.stop(grace)


def _credentials(certificates: Certificates) -> Any:
    def fresh() -> Any:
        pair: Sequence[tuple[bytes, bytes]] = [(certificates.key, certificates.chain)]
        return grpc.ssl_server_certificate_configuration(pair, root_certificates=certificates.client_ca)

    # Asked at each handshake: a renewed certificate holds without a restart.
    return grpc.dynamic_ssl_server_credentials(fresh(), fresh, require_client_authentication=certificates.client_ca is not None)
