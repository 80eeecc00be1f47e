"""Errors of endpoints: raised anywhere, answered in one place with one error body (`spanpost.http.status`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from spanpost.http import status
from spanpost.http.asgi import Scope
from spanpost.http.guard import PROTOBUF, Refusal
from spanpost.model.errors import StoreUnavailable

log = logging.getLogger("spanpost.runtime.gateway")

#: Seconds after which a client should retry a 503, if the error names none.
RETRY_AFTER: Final = 2
_OUTCOME: Final = "spanpost.outcome"


class HttpError(HTTPException):
    """An error response. `reason` is a lower-case word for programs, `message` a sentence for people."""

    def __init__(
        self,
        status_code: int,
        reason: str,
        message: str,
        *,
        field: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after: int = 0,
        headers: Mapping[str, str] | None = None,
        outcome: str = "",
    ) -> None:
        retry_after = retry_after or (RETRY_AFTER if status_code == 503 else 0)
        super().__init__(
            status_code, message, {**({"retry-after": str(retry_after)} if retry_after else {}), **(headers or {})}
        )
        self.reason = reason
        #: The fields of the request that are wrong, each with its message.
        self.fields = fields or ({field: message} if field else {})
        self.retry_after = retry_after
        #: The outcome label of metrics, if the client must not see it.
        self.outcome = outcome or reason

    @property
    def message(self) -> str:
        """The sentence for people."""
        return self.detail


def of_refusal(refusal: Refusal) -> HttpError:
    """Convert the guard's refusal to an error."""
    return HttpError(refusal.status, refusal.why, refusal.message, headers=refusal.headers)


def response_of(scope: Scope, error: HttpError) -> Response:
    """Return the response of an error: in protobuf if the request was, else in JSON."""
    kind = next((value for name, value in scope["headers"] if name.lower() == b"content-type"), b"").decode("latin-1")
    kind = kind.partition(";")[0].strip().lower()
    is_protobuf = kind in PROTOBUF
    made = status.as_protobuf if is_protobuf else status.as_json
    body = made(
        status.code_of(error.status_code),
        error.message,
        reason=error.reason,
        fields=error.fields,
        retry_after=error.retry_after,
    )
    headers = {"cache-control": "no-store", **(error.headers or {})}
    return Response(body, error.status_code, headers, kind if is_protobuf else status.JSON)


def note_outcome(scope: Scope, outcome: str) -> None:
    """Store a request's outcome label for metrics."""
    scope[_OUTCOME] = outcome


def outcome_of(scope: Scope) -> str:
    """Return a request's outcome label for metrics; empty: none."""
    return str(scope.get(_OUTCOME, ""))


def log_fault(scope: Scope, error: Exception) -> None:
    """Log an internal error."""
    log.error("internal error in a request to %r: %s", scope["path"][:100], type(error).__name__, exc_info=error)


def error_of(scope: Scope, error: Exception, on_fault: Callable[[Scope, Exception], None] = log_fault) -> HttpError:
    """Convert an exception to the error for the client.

    An internal error says only that the client may retry.
    """
    if isinstance(error, HttpError):
        return error
    if isinstance(error, HTTPException):
        return _of_router(scope, error)
    if isinstance(error, StoreUnavailable):
        return HttpError(503, "database_unavailable", "the database cannot be reached; send it again", retry_after=2)
    on_fault(scope, error)
    return HttpError(503, "fault", "internal error; send it again", retry_after=5)


def _of_router(scope: Scope, error: HTTPException) -> HttpError:
    """Convert an exception of the router or a framework."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    message = error.detail
    if error.status_code == 405 and "allow" in headers:
        headers["allow"] = ", ".join(sorted(headers["allow"].replace(" ", "").split(",")))
        message = f"it takes {headers['allow']}"
    elif error.status_code == 404:
        message = _nothing_at(scope)
    reason = status.ERRORS.get(error.status_code, ("", "invalid"))[1]
    return HttpError(error.status_code, reason, message, headers=headers)


def _nothing_at(scope: Scope) -> str:
    """Return the message for a path without an endpoint, with the nearest paths."""
    paths = [str(path) for path in getattr(scope.get("app"), "paths", ())]
    first = "/" + scope["path"].strip("/").partition("/")[0] + "/"
    near = [path for path in paths if path.startswith(first)] or paths
    return (
        f"there is nothing here; there is {', '.join(near)}" if near else "there is nothing here; see /api/openapi.json"
    )
