"""What answers on the gateway's HTTP port beside OTLP: a table of prefixes and applications, made by the modules of this package.

Each module is one door: its ``doors(house)`` returns what it opens, nothing where its settings or packages are missing; it may have ``prepare(settings)``, which imports what takes long. A new
room adds a module here and touches no other.
"""

from __future__ import annotations

import json
import logging
import pkgutil
from collections.abc import Callable, Iterable, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import msgspec

from spanpost.asgi import Application, Receive, Scope, Send
from spanpost.http_guard import Guard, Passed, Refusal, Request, by_name, mark
from spanpost.intake.seldom import Seldom

if TYPE_CHECKING:
    from spanpost.intake.otlp_http import Watches
    from spanpost.intake.tokens import Doorkeeper
    from spanpost.pipeline import Pipeline
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.gateway")
_seldom = Seldom(log)
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
#: What pages of `gateway.allowed_origins` may do: send telemetry.
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding, traceparent, tracestate"),
    (b"access-control-max-age", b"600"),
)


class House(msgspec.Struct, frozen=True, kw_only=True):
    """What a door is given of the gateway that it is in."""

    pipeline: Pipeline
    settings: Settings
    doorkeeper: Doorkeeper
    #: As it is reached: scheme, host, port.
    url: str


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """An application and where it answers. All of it is called in the pipeline's loop."""

    #: Ends with a slash: whatever begins so. Else, and of ``/``: this path alone. The longest that fits answers.
    prefix: str
    application: Application
    #: Goes by other settings from now on. Raises `ConfigError`, and then nothing has changed.
    reload: Callable[[Settings], None] | None = None
    #: The gateway stops: answer who waits, end streams, at once.
    end: Callable[[], None] | None = None


class Doors:
    """The application that has the guard judge each request, and hands it to the endpoint of its path; `rest` takes all other paths."""

    def __init__(self, doors: Iterable[Door], rest: Application, guard: Guard, *, watch: Watches | None = None) -> None:
        #: Holds from the next request on.
        self.guard = guard
        self._watch = watch
        self._doors = tuple(doors)
        self._exact = {door.prefix: door.application for door in self._doors if not _is_under(door)}
        ordered = sorted((d for d in self._doors if _is_under(d)), key=lambda d: -len(d.prefix))
        self._under = tuple((door.prefix, door.application) for door in ordered)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        verdict = self.guard.judge(request_of(scope))
        if isinstance(verdict, Refusal):
            await self._refuse(scope, send, verdict)
            return
        mark(scope, verdict)
        if verdict.shared_with and scope["method"] == "OPTIONS":
            await _send(_with_headers(send, verdict), 204, _PREFLIGHT, b"")
            return
        await self._application(scope["path"])(scope, receive, _with_headers(send, verdict))

    async def _refuse(self, scope: Scope, send: Send, refusal: Refusal) -> None:
        """Answer with a google.rpc.Status, as OTLP does, at every endpoint."""
        _seldom.warning(f"guard {refusal.why}", "a request for %r was refused: %s", scope["path"][:100], refusal.message)
        if self._watch is not None:
            self._watch.requested("http", "guard", str(refusal.status))
        body = json.dumps({"code": refusal.code, "message": refusal.message}).encode()
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), _NOSNIFF]
        headers += [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
        await _send(send, refusal.status, headers, b"" if scope["method"] == "HEAD" else body)

    def _application(self, path: str) -> Application:
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        return next((application for prefix, application in self._under if path.startswith(prefix)), self._rest)

    def reload(self, settings: Settings) -> None:
        """Have all doors go by other settings."""
        for door in self._doors:
            if door.reload is not None:
                door.reload(settings)

    def end(self) -> None:
        """Tell all doors that the gateway stops."""
        for door in self._doors:
            if door.end is not None:
                door.end()


def request_of(scope: Scope) -> Request:
    """Return the head of a request, as the guard reads it."""
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=scope["path"],
        target=scope.get("spanpost.target", "/"),
        http_version=scope.get("http_version", "1.1"),
        scheme=scope.get("scheme", "http"),
        peer=client[0] if client else "",
        headers=by_name(scope["headers"]),
    )


def _with_headers(send: Send, passed: Passed) -> Send:
    """Add the headers that every answer has."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [one for one in message.get("headers", ()) if one[0].lower() != _NOSNIFF[0]]
            headers.append(_NOSNIFF)
            if passed.shared_with:
                headers += [(b"access-control-allow-origin", passed.shared_with.encode("latin-1")), (b"vary", b"origin")]
            message = {**message, "headers": headers}
        await send(message)

    return sending


async def _send(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


def _is_under(door: Door) -> bool:
    return door.prefix.endswith("/") and door.prefix != "/"


def prepare(settings: Settings) -> None:
    """Import what the doors need, before there is a loop that it would hold up."""
    for module in _modules():
        if hasattr(module, "prepare"):
            module.prepare(settings)


def doors_of(house: House) -> list[Door]:
    """Open all doors that there are. Raises `ConfigError`."""
    return [door for module in _modules() for door in module.doors(house)]


def _modules() -> list[Any]:
    found = sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
    return [import_module(f"{__name__}.{module.name}") for module in found]
