"""OTLP/HTTP as a bare ASGI callable: ``POST /v1/traces``, ``/v1/logs``, ``/v1/metrics``, and pages that are read.

After opentelemetry-proto's specification 1.11: the answer's content type is the request's, errors are google.rpc.Status,
503 with ``Retry-After`` is the only answer that asks to come back (exporters drop a batch on 429). It never raises: what
fails in here is a 503, and the sender still has what it sent.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, Final, NamedTuple, Protocol

from spanpost.asgi import Receive, Scope, Send, address_of
from spanpost.intake import answers
from spanpost.intake.admission import Busy, Seat
from spanpost.intake.decoded import Undecodable
from spanpost.intake.encodings import TooLarge, UnknownEncoding, known
from spanpost.intake.receiver import Receiver
from spanpost.intake.seldom import Seldom
from spanpost.intake.tokens import Doorkeeper
from spanpost.shares import Sender

log = logging.getLogger("spanpost.gateway")
_seldom = Seldom(log)


PATHS: Final = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_TYPES: Final = {_PROTOBUF: False, "application/protobuf": False, _JSON: True}
_TOKEN_IN_QUERY: Final = re.compile(rb"(^|&)(access_?token|token|api_?key|authorization|auth)=", re.IGNORECASE)
_TRACEPARENT: Final = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-")


class Page(NamedTuple):
    """What a page answers."""

    status: int
    content_type: str
    body: bytes


class Reads(Protocol):
    """**Protocol:** makes a page; is given the request's ``Accept``."""

    async def __call__(self, accept: str, /) -> Page: ...


class Watches(Protocol):
    """**Protocol:** counts requests; `spanpost.metrics.Metrics` is it."""

    def requested(self, door: str, signal: str, answer: str) -> None: ...


class _Refused(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, status: int, code: int, message: str, *, retry_after: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.headers = dict(headers or {})


class _Gone(Exception):
    """The sender closed the connection."""


class OtlpHttp:
    """The application. `pages` are open to all; `guarded` ones ask for an operator's token where tokens are asked for."""

    def __init__(
        self,
        receiver: Receiver,
        doorkeeper: Doorkeeper,
        *,
        pages: Mapping[str, Reads] | None = None,
        guarded: Mapping[str, Reads] | None = None,
        watch: Watches | None = None,
    ) -> None:
        self._receiver = receiver
        self._doorkeeper = doorkeeper
        self._pages = dict(pages or {})
        self._guarded = dict(guarded or {})
        self._watch = watch
        self._reading: set[asyncio.Task[Any]] = set()
        self._ending = asyncio.Event()

    @property
    def open_pages(self) -> Collection[str]:
        """Paths of the pages that are open to all."""
        return self._pages

    def end(self) -> None:
        """Give bodies that are still being sent no more time: their senders are asked to come back."""
        self._ending.set()
        for task in list(self._reading):
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        path, method = scope["path"], scope["method"]
        signal = PATHS.get(path, "")
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = _TYPES.get(content_type, True)
        extra: dict[str, str] = {}
        try:
            if signal:
                answer = Page(200, content_type, await self._export(signal, method, content_type, headers, scope, receive))
            else:
                answer = await self._page(path, method, headers)
        except _Gone:
            return
        except _Refused as refused:
            extra = refused.headers
            if refused.retry_after:
                extra["retry-after"] = str(refused.retry_after)
            is_json = is_json or refused.status in (404, 405)  # nobody knows what was meant to be sent
            body = answers.status(refused.code, str(refused), refused.retry_after, is_json=is_json)
            answer = Page(refused.status, _JSON if is_json else content_type, body)
        except Exception as error:
            kind = type(error).__name__
            _seldom.error(
                f"fault {kind}",
                "a request failed in here, its sender keeps it: %s: %s",
                kind,
                str(error)[:300],
                trace_id=_trace_id(headers),
                fault=error,
            )
            extra = {"retry-after": "5"}
            body = answers.status(answers.UNAVAILABLE, "it failed in here; try again", 5, is_json=is_json)
            answer = Page(503, _JSON if is_json else content_type, body)
        if self._watch is not None and signal:
            self._watch.requested("http", signal, str(answer.status))
        sent = [(b"content-type", answer.content_type.encode("latin-1")), (b"content-length", b"%d" % len(answer.body))]
        sent += [(name.encode(), value.encode("latin-1")) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})

    # --- exports ----------------------------------------------------------------------------------------------------

    async def _export(
        self, signal: str, method: str, content_type: str, headers: Mapping[str, str], scope: Scope, receive: Receive
    ) -> bytes:
        if method != "POST":
            raise _Refused(405, answers.UNIMPLEMENTED, f"/v1/{signal} takes POST", headers={"allow": "POST"})
        sender = Sender(self._tenant(headers, scope), address_of(scope))
        is_json = _TYPES.get(content_type)
        if is_json is None:
            said = f"content type {content_type[:80]!r} is" if content_type else "a request without content type is"
            raise _Refused(415, answers.INVALID_ARGUMENT, f"{said} not understood; send {_PROTOBUF} or {_JSON}")
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "x-gzip", *known()):
            raise _Refused(415, answers.INVALID_ARGUMENT, str(UnknownEncoding(encoding)))
        try:
            length = self._length(headers)
            seat = self._receiver.admit(sender, length)
            body = await self._body(receive, seat, signal, length, encoding)
            taken = await self._receiver.take(seat, signal, body, is_json=is_json)
        except Busy as busy:
            raise _Refused(503, answers.UNAVAILABLE, str(busy), retry_after=busy.retry_after) from None
        except TooLarge as error:
            raise _Refused(413, answers.RESOURCE_EXHAUSTED, str(error)) from None
        except UnknownEncoding as error:
            raise _Refused(415, answers.INVALID_ARGUMENT, str(error)) from None
        except Undecodable as error:
            raise _Refused(400, answers.INVALID_ARGUMENT, str(error)) from None
        return answers.exported(signal, taken.rejected, taken.message, is_json=is_json)

    def _tenant(self, headers: Mapping[str, str], scope: Scope) -> str:
        query = scope.get("query_string") or b""
        if query and _TOKEN_IN_QUERY.search(query):
            # It stands in every log between here and there.
            raise _Refused(400, answers.INVALID_ARGUMENT, "a token in the URL is refused; send it as Authorization: Bearer ...")
        tenant = self._doorkeeper.tenant_of(headers.get("authorization"))
        if tenant is None:
            _seldom.warning("token", "a request without a valid token was refused", trace_id=_trace_id(headers))
            raise _Refused(401, answers.UNAUTHENTICATED, "a valid token is needed", headers={"www-authenticate": "Bearer"})
        return tenant

    def _length(self, headers: Mapping[str, str]) -> int:
        length = headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
        if size > self._receiver.limits.body:
            raise TooLarge(self._receiver.limits.body)
        return size

    async def _body(self, receive: Receive, seat: Seat, signal: str, length: int, encoding: str) -> bytes:
        try:
            raw = await self._read(receive, seat)
            if length and len(raw) != length:
                raise Undecodable(f"the body has {len(raw)} of the {length} bytes that content-length tells")
            try:
                return await self._receiver.admission.inflate(seat, raw, encoding)
            except Undecodable as error:
                await self._receiver.keep(signal, seat.sender.tenant, str(error), raw)
                raise
        except BaseException:
            seat.leave()
            raise

    async def _read(self, receive: Receive, seat: Seat) -> bytes:
        limit = self._receiver.limits.body
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._next(receive)
            if message["type"] != "http.request":
                raise _Gone
            part = message.get("body") or b""
            size += len(part)
            if size > limit:
                raise TooLarge(limit)
            seat.grow(len(part))
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _next(self, receive: Receive) -> MutableMapping[str, Any]:
        """Return the next piece, unless the end has come before it."""
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

    # --- pages ------------------------------------------------------------------------------------------------------

    async def _page(self, path: str, method: str, headers: Mapping[str, str]) -> Page:
        page = self._pages.get(path) or self._guarded.get(path)
        if page is None:
            offered = ", ".join((*PATHS, *self._pages, *self._guarded))
            raise _Refused(404, answers.NOT_FOUND, f"there is nothing here; there is {offered}")
        if method not in ("GET", "HEAD"):
            raise _Refused(405, answers.UNIMPLEMENTED, f"{path} takes GET", headers={"allow": "GET, HEAD"})
        if path in self._guarded and not self._doorkeeper.is_operator(headers.get("authorization")):
            _seldom.warning("operator", "a request for %s without an operator's token was refused", path)
            raise _Refused(401, answers.UNAUTHENTICATED, "an operator's token is needed", headers={"www-authenticate": "Bearer"})
        return await page(headers.get("accept", ""))


def _trace_id(headers: Mapping[str, str]) -> str:
    found = _TRACEPARENT.match(headers.get("traceparent", ""))
    return found[1] if found else ""
