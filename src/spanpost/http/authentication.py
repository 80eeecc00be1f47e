"""Authentication of every endpoint: tokens of tenants, operators, API callers and this machine, and
sessions.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from spanpost.http.asgi import Scope
from spanpost.http.errors import HttpError
from spanpost.http.guard import allowed_request
from spanpost.http.request_log import note_tenant
from spanpost.http.stored_tokens import PREFIX, TokenRefused
from spanpost.http.tenancy import CERTIFICATE, FORWARDED_TENANT, RequestClaims, TenantGrant
from spanpost.http.tokens import SenderTokens
from spanpost.model.access_tokens import TokenScope

C_co = TypeVar("C_co", covariant=True)
C = TypeVar("C")

#: Parameters of a URL that name a credential, without separators.
_IN_QUERY: Final = frozenset(
    {"accesstoken", "apikey", "auth", "authorization", "authtoken", "bearer", "token", "xapikey"}
)
#: A token as `new_token` makes it, under any name.
_OURS: Final = re.compile(rf"(?<!\w){PREFIX}[\w-]{{40,}}", re.ASCII)
_READS: Final = ("GET", "HEAD", "OPTIONS")


class KnowsCallers(Protocol[C_co]):
    """**Protocol:** resolves the callers of the API."""

    #: How to get a token or session; ends the message of a refusal.
    @property
    def way_in(self) -> str: ...

    async def of_token(self, token: str, *, is_this_machine: bool) -> C_co | None: ...

    async def of_session(self, request: Request) -> C_co | None: ...


class Authenticator:
    """Resolves a request's credential, or raises the `HttpError` of the response."""

    def __init__(self, tokens: SenderTokens) -> None:
        self._tokens = tokens

    @property
    def attribute(self) -> str:
        """The resource attribute that may name a tenant; empty: none."""
        return self._tokens.rules.attribute

    def tenant(self, scope: Scope, *needs: TokenScope) -> str:
        """Return the tenant of a request whose token has one of the scopes."""
        return self.grant(scope, *needs).tenant

    def grant(self, scope: Scope, *needs: TokenScope) -> TenantGrant:
        """Return the tenant of a request whose token has one of the scopes, and the others that it may name."""
        claims = self._claims(scope)
        with _answered():
            grant = self._tokens.grant(claims, needs)
            if grant is not None:
                note_tenant(scope, grant.tenant)
                return grant
            is_operator = not self._tokens.is_open and self._tokens.is_operator(claims.authorization)
        if is_operator:
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
        claims = self._claims(scope)
        claims = msgspec.structs.replace(claims, authorization=bearer_of_basic(claims.authorization))
        with _answered():
            is_operator = self._tokens.is_operator(claims.authorization, reads=False)
            if is_operator and not self._tokens.is_open:
                named = self._tokens.rules.named(claims)
                return named, named is None
            grant = self._tokens.grant(claims, (TokenScope.ALERTS,))
        if grant is None:
            raise unauthenticated("a valid token is needed, as Authorization: Bearer, or as the password of Basic")
        return grant.tenant, is_operator

    def _claims(self, scope: Scope) -> RequestClaims:
        header = self._tokens.rules.header.encode()
        return RequestClaims(
            authorization=authorization_of(scope),
            forwarded=_forwarded_of(scope),
            named=[value.decode("latin-1") for name, value in scope["headers"] if header and name.lower() == header],
            peer=(scope.get("client") or ("",))[0],
            certificate=scope.get(CERTIFICATE, ()),
        )

    def require_operator(self, scope: Scope) -> None:
        """Raise unless the request has an operator's token, or no token is required."""
        authorization = authorization_of(scope)
        with _answered():
            is_operator = self._tokens.is_operator(authorization, is_strict=True)
        if not is_operator:
            raise unauthenticated("an operator's token is needed")

    async def until_refused(self, scope: Scope, needs: TokenScope) -> None:
        """Wait until the request's token is revoked or has expired; then raise the `HttpError`."""
        while True:
            await self._tokens.stored.change()
            self.tenant(scope, needs)


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
        found = await known.of_token(token.strip(), is_this_machine=is_here) if scheme.lower() == "bearer" else None
        if found is None:
            raise unauthenticated(f"the token is not known here{known.way_in}")
        return found
    person = await known.of_session(request)
    if person is None:
        raise unauthenticated(f"a token is needed: Authorization: Bearer ...{known.way_in}")
    require_own_page(request)
    return person


@contextmanager
def _answered() -> Iterator[None]:
    """Convert `TokenRefused` to the `HttpError` of the response."""
    try:
        yield
    except TokenRefused as refused:
        raise HttpError(refused.status, refused.reason, str(refused), retry_after=refused.retry_after) from None


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
    if _has_token(scope.get("query_string") or b""):
        raise HttpError(400, "token_in_url", "a token in the URL is refused; send it as Authorization: Bearer ...")
    found = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if not found:
        return None
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _has_token(query: bytes) -> bool:
    """Whether a query has a token, however its characters are escaped."""
    parts = parse_qsl(query.decode("latin-1").replace(";", "&"), keep_blank_values=True) if query else ()
    return any(
        re.sub(r"[-_.]", "", name).lower() in _IN_QUERY or _OURS.search(f"{name} {value}") for name, value in parts
    )


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
