"""Errors of the API: for FastAPI and in the OpenAPI document. Their body is that of every endpoint."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from spanpost.http.asgi import Receive, Scope, Send
from spanpost.http.errors import HttpError, error_of, response_of
from spanpost.interactions.api.schemas import Error
from spanpost.model.errors import StoreUnavailable

log = logging.getLogger("spanpost.interactions")

#: Bytes of a request's body.
LONGEST_BODY: Final = 64 * 1024


def documented(**texts: str) -> dict[int | str, dict[str, Any]]:
    """Return responses as the OpenAPI document has them: ``_404="..."``."""
    return {int(status[1:]): {"model": Error, "description": text} for status, text in texts.items()}


ALWAYS = documented(
    _401="The caller is unknown.",
    _403="The caller may not do this.",
    _422="A part of the request is not understood.",
    _503="Temporarily unavailable; retry after `Retry-After`.",
)
INVALID = documented(_422="A part of the request is not understood.")
NOT_FOUND = documented(_404="It does not exist, or belongs to another tenant.")
REFUSED = documented(
    _400="The body is not JSON.",
    _403="The authorization rules refused it; the refusal is recorded.",
    _409="It has no effect: another person was first, or the time is over. `reason` says which.",
    _413="The body is too large.",
)


def handle_errors(app: FastAPI) -> None:
    """Make an application answer errors as every endpoint does."""

    async def answer(request: Request, error: Exception) -> Response:
        known = _invalid(error) if isinstance(error, RequestValidationError) else error
        return response_of(
            request.scope, error_of(request.scope, known, lambda scope, error: None)
        )  # `GuardedApi` logs faults

    for kind in (HTTPException, RequestValidationError, StoreUnavailable, Exception):
        app.add_exception_handler(kind, answer)


def _invalid(error: RequestValidationError) -> HttpError:
    found = error.errors()
    first: dict[str, Any] = dict(found[0]) if found else {}
    where = [str(part) for part in first.get("loc", ())]
    if first.get("type") == "json_invalid":
        return HttpError(400, "invalid", "the body is not JSON")
    # Never the value: it may be a token pasted into the wrong field.
    field = ".".join(where[1:])
    what = f"{where[0]} " if where else ""
    message = str(first.get("msg", "it is not understood")).removeprefix("Value error, ")
    if first.get("type") == "extra_forbidden":
        message = "it is not understood here; see /api/openapi.json"
    return HttpError(422, "invalid", f"{what}{field}: {message}"[:500], field=field)


class GuardedApi:
    """Limits bodies, and logs our faults, which `handle_errors` has answered. Outermost."""

    def __init__(self, app: FastAPI, routers: Sequence[APIRouter]) -> None:
        self._app = app
        #: The routes of the API, for the table of all routes.
        self.routes = [
            *(one for one in app.routes if isinstance(one, Route)),
            *(one for each in routers for one in each.routes),
        ]

    def document(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return self._app.openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LONGEST_BODY:
                raise HttpError(413, "too_large", f"the body has more than {LONGEST_BODY} bytes")
            return message

        try:
            await self._app(scope, bounded, send)
        except Exception:
            log.exception("a request to the API could not be answered")
