"""The endpoints of the gateway's HTTP port besides OTLP, one for each module of this package.

A module has ``endpoints(context)``, which returns its endpoints; an empty list if its settings or packages
are missing. It may have ``prepare(settings)`` for slow imports. A new endpoint adds a module, and changes
no other.
"""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from spanpost.http.asgi import Receive, Scope, Send
from spanpost.http.errors import log_fault, of_refusal, response_of
from spanpost.http.guard import AllowedRequest, Guard, GuardedRequest, Refusal, by_name, mark
from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.request_log import logged
from spanpost.http.routing import HttpRoute, HttpRouter

if TYPE_CHECKING:
    from spanpost.http.tokens import SenderTokens
    from spanpost.receivers.otlp_http import HttpMetrics
    from spanpost.runtime.component_health import ComponentHealth
    from spanpost.runtime.pipeline import Pipeline
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
#: Pages of `gateway.allowed_origins` may do this alone: send telemetry.
_PREFLIGHT: Final = {
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "authorization, content-type, content-encoding, traceparent, tracestate",
    "access-control-max-age": "600",
}


class EndpointContext(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of the gateway that an endpoint uses."""

    pipeline: Pipeline
    settings: Settings
    sender_tokens: SenderTokens
    #: Where the gateway is reached: scheme, host, port.
    url: str
    #: Returns the state of each component; None in a process without a gateway.
    components: Callable[[], Awaitable[Sequence[ComponentHealth]]] | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Routes that belong together. All of it is called in the pipeline's loop."""

    routes: Sequence[HttpRoute]
    #: Apply new settings. Raises `ConfigError`, and then nothing has changed.
    reload: Callable[[Settings], None] | None = None
    #: The gateway stops: answer waiting clients and end streams at once.
    end: Callable[[], None] | None = None
    #: Tokens have changed: end the streams of callers that are not known any more.
    check: Callable[[], None] | None = None


class Endpoints:
    """The application of the HTTP port: the guard judges a request, then the router finds its endpoint."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        first: Sequence[HttpRoute],
        guard: Guard,
        *,
        watch: HttpMetrics | None = None,
        on_fault: Callable[[Scope, Exception], None] = log_fault,
    ) -> None:
        #: Replaced on reload; holds from the next request on.
        self.guard = guard
        self._watch = watch
        self._endpoints = tuple(endpoints)
        self._logged = logged(self._serve)
        self.router = HttpRouter(
            [*first, *(route for endpoint in self._endpoints for route in endpoint.routes)], on_fault
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._logged(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        verdict = self.guard.judge(request_of(scope))
        if isinstance(verdict, Refusal):
            await self._refuse(scope, receive, send, verdict)
            return
        mark(scope, verdict)
        send = _with_headers(send, verdict)
        if verdict.shared_with and scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, send)
            return
        await self.router(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
        _limited_log.warning(
            f"guard {refusal.why}", "a request for %r was refused: %s", scope["path"][:100], refusal.message
        )
        if self._watch is not None:
            self._watch.requested("http", "guard", str(refusal.status))
        await response_of(scope, of_refusal(refusal))(scope, receive, _with_headers(send))

    def reload(self, settings: Settings) -> None:
        """Make all endpoints apply new settings."""
        for endpoint in self._endpoints:
            if endpoint.reload is not None:
                endpoint.reload(settings)

    def check(self) -> None:
        """Tell all endpoints that tokens have changed."""
        for endpoint in self._endpoints:
            if endpoint.check is not None:
                endpoint.check()

    def end(self) -> None:
        """Tell all endpoints that the gateway stops."""
        for endpoint in self._endpoints:
            if endpoint.end is not None:
                endpoint.end()


def request_of(scope: Scope) -> GuardedRequest:
    """Return the head of a request, as the guard reads it."""
    client = scope.get("client")
    return GuardedRequest(
        method=scope["method"],
        path=scope["path"],
        target=scope.get("spanpost.target", "/"),
        http_version=scope.get("http_version", "1.1"),
        scheme=scope.get("scheme", "http"),
        peer=client[0] if client else "",
        headers=by_name(scope["headers"]),
    )


def _with_headers(send: Send, passed: AllowedRequest | None = None) -> Send:
    """Add the headers of every answer."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [one for one in message.get("headers", ()) if one[0].lower() != _NOSNIFF[0]]
            headers.append(_NOSNIFF)
            if passed is not None and passed.shared_with:
                headers += [
                    (b"access-control-allow-origin", passed.shared_with.encode("latin-1")),
                    (b"vary", b"origin"),
                ]
            message = {**message, "headers": headers}
        await send(message)

    return sending


def prepare(settings: Settings) -> None:
    """Import the packages of the endpoints before the loop runs, which the imports would block."""
    for module in _modules():
        if hasattr(module, "prepare"):
            module.prepare(settings)


def endpoints_of(context: EndpointContext) -> list[Endpoint]:
    """Make all endpoints. Raises `ConfigError`."""
    return [endpoint for module in _modules() for endpoint in module.endpoints(context)]


def _modules() -> list[Any]:
    found = sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
    return [import_module(f"{__name__}.{module.name}") for module in found]
