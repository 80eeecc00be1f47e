"""Authentication of every endpoint: tokens of tenants, operators, API callers and this machine, and
sessions.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Final, Protocol, TypeVar

from starlette.requests import Request

from spanpost.http.asgi import Scope
from spanpost.http.errors import HttpError
from spanpost.http.guard import allowed_request
from spanpost.http.tokens import FORWARDED_TENANT, SenderTokens

C_co = TypeVar("C_co", covariant=True)
C = TypeVar("C")

_IN_QUERY: Final = re.compile(rb"(^|&)(access_?token|token|api_?key|authorization|auth)=", re.IGNORECASE)
_READS: Final = ("GET", "HEAD", "OPTIONS")


class KnowsCallers(Protocol[C_co]):
    """**Protocol:** resolves the callers of the API."""

    #: How to get a token or session; ends the message of a refusal.
    @property
    def way_in(self) -> str: ...

    def of_token(self, token: str, *, is_this_machine: bool) -> C_co | None: ...

    async def of_session(self, request: Request) -> C_co | None: ...


class Authenticator:
    """Resolves a request's credential, or raises the `HttpError` of the response."""

    def __init__(self, tokens: SenderTokens) -> None:
        self._tokens = tokens

    def tenant(self, scope: Scope) -> str:
        """Return the tenant of a request."""
        authorization = authorization_of(scope)
        tenant = self._tokens.tenant_of(authorization, _forwarded_of(scope))
        if tenant is not None:
            return tenant
        if not self._tokens.is_open and self._tokens.is_operator(authorization):
            raise HttpError(
                403,
                "operator_token",
                "an operator's token is no tenant's: use the token by which the agent sends",
                outcome="token",
            )
        raise unauthenticated("a valid token is needed, as Authorization: Bearer ...")

    def tenant_or_operator(self, scope: Scope) -> tuple[str | None, bool]:
        """Return a request's tenant, and whether it may act for all tenants.

        A Basic password counts as a token.
        """
        authorization = bearer_of_basic(authorization_of(scope))
        tenant = self._tokens.tenant_of(authorization, _forwarded_of(scope))
        is_operator = self._tokens.is_operator(authorization)
        if tenant is None and not is_operator:
            raise unauthenticated("a valid token is needed, as Authorization: Bearer, or as the password of Basic")
        return tenant, is_operator

    def require_operator(self, scope: Scope) -> None:
        """Raise unless the request has an operator's token, or no token is required."""
        if not self._tokens.is_operator(authorization_of(scope)):
            raise unauthenticated("an operator's token is needed")


async def caller_of(request: Request, known: KnowsCallers[C]) -> C:
    """Return the API's caller, by bearer token or else by session. Raises `HttpError` and
    `StoreUnavailable`.

    An unknown token is refused even with a valid session. A browser never adds a token by itself, but adds
    the session to any page's request. So a change by session must have an ``Origin``; the guard has refused
    every foreign one.
    """
    authorization = authorization_of(request.scope)
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        is_here = allowed_request(request.scope).is_this_machine
        found = known.of_token(token.strip(), is_this_machine=is_here) if scheme.lower() == "bearer" else None
        if found is None:
            raise unauthenticated(f"the token is not known here{known.way_in}")
        return found
    person = await known.of_session(request)
    if person is None:
        raise unauthenticated(f"a token is needed: Authorization: Bearer ...{known.way_in}")
    require_own_page(request)
    return person


def require_own_page(request: Request) -> None:
    """Refuse a change by session without an ``Origin``."""
    if request.method not in _READS and "origin" not in request.headers:
        message = "a request that changes something must come from our own pages, or bring a token"
        raise HttpError(403, "foreign_origin", message)


def unauthenticated(message: str) -> HttpError:
    """Return the error for a request without a known credential."""
    return HttpError(401, "unauthenticated", message, headers={"www-authenticate": "Bearer"})


def authorization_of(scope: Scope) -> str | None:
    """Return the Authorization header; None: absent; empty: several, of which a proxy may have read another
    one.

    A token in the URL is refused: every log between client and server has the URL.
    """
    query = scope.get("query_string")
    if query and _IN_QUERY.search(query):
        raise HttpError(400, "token_in_url", "a token in the URL is refused; send it as Authorization: Bearer ...")
    found = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if not found:
        return None
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _forwarded_of(scope: Scope) -> str | None:
    """Return the tenant that a routing gateway names; None: absent; empty, and so refused: several."""
    found = [value for name, value in scope["headers"] if name.lower() == FORWARDED_TENANT.encode()]
    if not found:
        return None
    return str(found[0].decode("latin-1")) if len(found) == 1 else ""


def bearer_of_basic(authorization: str | None) -> str | None:
    """Convert Basic to Bearer: the password is the token, the user name is ignored."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        return f"Bearer {b64decode(encoded.strip(), validate=True).decode('latin-1').partition(':')[2]}"
    except ValueError:
        return ""
