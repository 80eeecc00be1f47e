"""OTLP/HTTP: ``POST /v1/traces``, ``/v1/logs`` and ``/v1/metrics``, as an ASGI application.

Follows opentelemetry-proto's specification 1.11: the response has the request's content type, errors are
google.rpc.Status, and 503 with ``Retry-After`` is the only response that asks for a retry (exporters drop a
batch on 429). It reads bodies itself, to reserve their memory before they are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any, Final, Protocol

from spanpost.http.asgi import HungUp, Receive, Scope, Send, address_of
from spanpost.http.authentication import Authenticator
from spanpost.http.errors import HttpError
from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.request_log import trace_id_of
from spanpost.http.routing import HttpRoute
from spanpost.http.shares import Sender
from spanpost.http.stored_tokens import TokenRefused
from spanpost.http.tenancy import TenantGrant
from spanpost.http.tokens import SenderTokens
from spanpost.model.access_tokens import TokenScope
from spanpost.receivers import otlp_responses
from spanpost.receivers.admission import Busy, MemoryReservation
from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.encodings import BodyTooLarge, UnknownEncoding, known
from spanpost.receivers.receiver import Receiver
from spanpost.receivers.tenant_parts import take_named

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)


PATHS: Final = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_TYPES: Final = {_PROTOBUF: False, "application/protobuf": False, _JSON: True}


class HttpMetrics(Protocol):
    """**Protocol:** counts requests; implemented by `spanpost.metrics.Metrics`."""

    def requested(self, endpoint: str, signal: str, answer: str) -> None: ...


class OtlpHttp:
    """The OTLP endpoints."""

    def __init__(self, receiver: Receiver, sender_tokens: SenderTokens, *, watch: HttpMetrics | None = None) -> None:
        self._receiver = receiver
        self._authenticator = Authenticator(sender_tokens)
        self._watch = watch
        self._reading: set[asyncio.Task[Any]] = set()
        self._ending = asyncio.Event()

    @property
    def routes(self) -> list[HttpRoute]:
        """The routes of the endpoints."""
        return [
            HttpRoute(path, _Signal(self, signal), ["POST"], count=partial(self._count, signal))
            for path, signal in PATHS.items()
        ]

    def _count(self, signal: str, status: int, outcome: str) -> None:
        if self._watch is not None:
            self._watch.requested("http", signal, str(status))

    def end(self) -> None:
        """Refuse bodies that are still being sent; their senders are asked to retry."""
        self._ending.set()
        for task in list(self._reading):
            task.cancel()

    async def export(self, signal: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request and answer it."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        grant = self._grant(scope)
        sender = Sender(grant.tenant, address_of(scope))
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = _TYPES.get(content_type)
        if is_json is None:
            given = f"content type {content_type[:80]!r} is" if content_type else "a request without content type is"
            raise HttpError(415, "content_type", f"{given} not understood; send {_PROTOBUF} or {_JSON}")
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "x-gzip", *known()):
            raise HttpError(415, "content_encoding", str(UnknownEncoding(encoding)))
        try:
            length = self._length(headers)
            reservation = self._receiver.admit(sender, length)
            body = await self._body(receive, reservation, signal, length, encoding)
            taken = await take_named(
                self._receiver, grant, self._authenticator.attribute, reservation, signal, body, is_json=is_json
            )
        except TokenRefused as refused:
            raise HttpError(refused.status, refused.reason, str(refused)) from None
        except Busy as busy:
            raise HttpError(503, busy.reason, str(busy), retry_after=busy.retry_after) from None
        except BodyTooLarge as error:
            raise HttpError(413, "too_large", str(error)) from None
        except UnknownEncoding as error:
            raise HttpError(415, "content_encoding", str(error)) from None
        except Undecodable as error:
            raise HttpError(400, "undecodable", str(error)) from None
        answer = otlp_responses.exported(signal, taken.rejected, taken.message, is_json=is_json)
        sent = [(b"content-type", content_type.encode("latin-1")), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": sent})
        await send({"type": "http.response.body", "body": answer})

    def _grant(self, scope: Scope) -> TenantGrant:
        try:
            return self._authenticator.grant(scope, TokenScope.SEND)
        except HttpError as error:
            if error.status_code != 400:
                _limited_log.warning(
                    "token",
                    "a request without a valid token was refused",
                    trace_id=trace_id_of(scope),
                )
            raise

    def _length(self, headers: Mapping[str, str]) -> int:
        length = headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
        if size > self._receiver.limits.max_body:
            raise BodyTooLarge(self._receiver.limits.max_body)
        return size

    async def _body(
        self, receive: Receive, reservation: MemoryReservation, signal: str, length: int, encoding: str
    ) -> bytes:
        try:
            raw = await self._read(receive, reservation)
            if length and len(raw) != length:
                raise Undecodable(f"the body has {len(raw)} of the {length} bytes of its content-length")
            try:
                return await self._receiver.admission.inflate(reservation, raw, encoding)
            except Undecodable as error:
                await self._receiver.keep(signal, reservation.sender.tenant, str(error), raw)
                raise
        except BaseException:
            reservation.leave()
            raise

    async def _read(self, receive: Receive, reservation: MemoryReservation) -> bytes:
        limit = self._receiver.limits.max_body
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._next(receive)
            if message["type"] != "http.request":
                raise HungUp
            part = message.get("body") or b""
            size += len(part)
            if size > limit:
                raise BodyTooLarge(limit)
            reservation.grow(len(part))
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _next(self, receive: Receive) -> MutableMapping[str, Any]:
        """Return the next ASGI message; raises `Busy` once `end` was called."""
        if self._ending.is_set():
            raise Busy("the gateway stops", 1)
        task = asyncio.current_task()
        assert task is not None
        self._reading.add(task)
        try:
            return await receive()
        except asyncio.CancelledError:
            if not self._ending.is_set():
                raise
            task.uncancel()
            raise Busy("the gateway stops", 1) from None
        finally:
            self._reading.discard(task)


class _Signal:
    """The endpoint of one signal: an ASGI application, so that no framework reads its body."""

    def __init__(self, otlp: OtlpHttp, signal: str) -> None:
        self._otlp = otlp
        self._signal = signal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._otlp.export(self._signal, scope, receive, send)
        except HttpError as error:
            # Its traceback and its cause hold the frames that hold the body: let go of them before the
            # answer is sent.
            error.__context__ = error.__traceback__ = None
            raise error from None


def log_fault(scope: Scope, error: Exception) -> None:
    """Log an internal error, rate-limited, with the request's trace."""
    kind = type(error).__name__
    message = "internal error in a request to %r, its sender keeps it: %s: %s"
    _limited_log.error(
        f"fault {kind}", message, scope["path"][:100], kind, str(error)[:300], trace_id=trace_id_of(scope), fault=error
    )
