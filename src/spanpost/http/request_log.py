"""A line for each request, at DEBUG: who sent what, and how it was answered. It has no query, header or body."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from spanpost.http.asgi import Application, Receive, Scope, Send
from spanpost.http.errors import outcome_of
from spanpost.http.guard import client_address
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.requests")

#: Key of a request's tenant in its scope.
_TENANT: Final = "spanpost.tenant"
_TRACEPARENT: Final = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-")


def note_tenant(scope: Scope, tenant: str) -> None:
    """Store a request's tenant for its line."""
    scope[_TENANT] = tenant


def trace_id_of(scope: Scope) -> str:
    """Return the id of the trace that a request belongs to; empty: none."""
    found = _TRACEPARENT.match(_header(scope, b"traceparent"))
    return found[1] if found else ""


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted), "")


def logged(app: Application) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the application with a line for each request, while the log's level is DEBUG."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not log.isEnabledFor(logging.DEBUG):
            await app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, watched)
        finally:
            fields: dict[str, object] = {
                "method": scope["method"],
                "path": line(scope["path"], 200),
                "status": status,
                "duration_ms": round((time.monotonic() - began) * 1000, 1),
                "client": client_address(scope),
                "tenant": scope.get(_TENANT, ""),
                "reason": outcome_of(scope),
                "request_id": line(_header(scope, b"x-request-id"), 100),
                "trace_id": trace_id_of(scope),
            }
            said = (fields["method"], fields["path"], status or "no answer", fields["duration_ms"])
            log.debug("%s %s: %s in %s ms", *said, extra={name: value for name, value in fields.items() if value})

    return serve
