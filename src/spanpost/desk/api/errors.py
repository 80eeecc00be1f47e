"""Errors as JSON: ``{"error": {"code", "message", "field"?}}``; a mistake of the caller is never a 500."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from spanpost.asgi import Receive, Scope, Send
from spanpost.desk.api.shapes import Error
from spanpost.domain.errors import LedgerUnavailable

log = logging.getLogger("spanpost.desk")


#: Bytes of a request's body.
LONGEST_BODY: Final = 64 * 1024

_CODES: Final = {
    400: "invalid", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 406: "not_acceptable",
    409: "conflict", 413: "too_large", 415: "unsupported_media_type", 422: "invalid", 429: "too_many", 503: "unavailable",
}  # fmt: skip


def documented(**texts: str) -> dict[int | str, dict[str, Any]]:
    """Return responses as the OpenAPI document has them: ``_404="..."``."""
    return {int(status[1:]): {"model": Error, "description": text} for status, text in texts.items()}


ALWAYS = documented(
    _401="Who asks is not known.",
    _403="Who asks may not do this.",
    _422="Something that was asked is not understood.",
    _503="Not just now; come back after `Retry-After`.",
)
INVALID = documented(_422="Something that was asked is not understood.")
NOT_FOUND = documented(_404="There is no such thing, or it is another tenant's.")
REFUSED = documented(
    _400="The body is not JSON.",
    _403="The rules of who may refused it; that is kept.",
    _409="It does not stand: somebody else was first, or its time is over. `error.code` says which.",
    _413="The body is too large.",
)


class Refused(Exception):
    """An answer that is no success."""

    def __init__(
        self, status: int, code: str, message: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.headers = dict(headers or {})


def answer(
    status: int, code: str, message: str, field: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error as it is sent."""
    error = {"code": code, "message": message} | ({"field": field} if field else {})
    return JSONResponse({"error": error}, status, {"cache-control": "no-store", **(headers or {})})


def handle_errors(app: FastAPI) -> None:
    """Have an application answer all errors alike."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return answer(error.status, error.code, str(error), error.field, error.headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = error.errors()
        first: dict[str, Any] = dict(found[0]) if found else {}
        where = [str(part) for part in first.get("loc", ())]
        if first.get("type") == "json_invalid":
            return answer(400, "invalid", "the body is not JSON")
        # Never the value: it may be a token that was pasted into the wrong place.
        field = ".".join(where[1:]) or None
        what = f"{where[0]} " if where else ""
        message = str(first.get("msg", "it is not understood")).removeprefix("Value error, ")
        if first.get("type") == "extra_forbidden":
            message = "it is not understood here; see /api/openapi.json"
        return answer(422, "invalid", f"{what}{field or ''}: {message}"[:500], field)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        status = error.status_code
        said = {404: "there is nothing here; see /api/openapi.json", 405: "it does not take this method"}.get(status, error.detail)
        return answer(status, _CODES.get(status, "error"), str(said), headers=error.headers)

    async def away(request: Request, error: Exception) -> JSONResponse:
        return answer(503, "unavailable", "the database cannot be reached; come back", headers={"retry-after": "1"})

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return answer(503, "unavailable", "it failed in here; come back", headers={"retry-after": "5"})

    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(LedgerUnavailable, away)


class Guarded:
    """Bounds bodies, and logs a fault of ours, which `handle_errors` has answered: outermost."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

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
                raise HTTPException(413, f"the body has more than {LONGEST_BODY} bytes")
            return message

        try:
            await self._app(scope, bounded, send)
        except Exception:
            log.exception("a request to the API could not be answered")
