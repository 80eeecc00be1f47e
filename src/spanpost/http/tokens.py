"""Bearer tokens of tenants, operators and routing gateways: of the settings, and of the database.

All are known only by their hashes. In the settings a tenant may have several, so that a new token can be issued
before the old one is revoked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import TypeVar
from urllib.parse import quote

from spanpost.http.bearer import digest_of, holder_of
from spanpost.http.stored_tokens import PREFIX, StoredTokens, TokenRefused
from spanpost.http.tenancy import RequestClaims, TenantGrant, TenantSources, decide, tenant_of_header
from spanpost.model.access_tokens import AccessToken, TokenScope

T = TypeVar("T")


def new_token() -> str:
    """Return a new token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return the stored form of a token: SHA-256 in hex."""
    return digest_of(token).hex()


def forwarded_tenant(tenant: str) -> str:
    """Return a tenant as the value of `FORWARDED_TENANT`: percent-encoded UTF-8."""
    return quote(tenant, safe="")


class SenderTokens:
    """Resolves tokens to tenants. Without any tokens every sender is the `default` tenant.

    Tokens of the settings have all scopes of their kind. A valid token of the database without the scope is
    refused (`TokenRefused`).
    """

    def __init__(
        self,
        default: str,
        tokens: Iterable[tuple[str, str]] = (),
        operators: Iterable[str] = (),
        routers: Iterable[str] = (),
        *,
        is_required: bool = False,
        stored: StoredTokens | None = None,
        rules: TenantSources | None = None,
    ) -> None:
        self.stored = stored if stored is not None else StoredTokens()
        self.replace(default, tokens, operators, routers, is_required=is_required, rules=rules)

    def replace(
        self,
        default: str,
        tokens: Iterable[tuple[str, str]],
        operators: Iterable[str] = (),
        routers: Iterable[str] = (),
        *,
        is_required: bool = False,
        rules: TenantSources | None = None,
    ) -> None:
        """Replace the (tenant, hash) pairs, the hashes of operators and routing gateways, and the rules."""
        self._default = default
        self.rules = rules = rules or TenantSources()
        self._tokens = tuple(
            (TenantGrant(tenant, rules.others.get(digest, frozenset())), bytes.fromhex(digest))
            for tenant, digest in tokens
        )
        self._operators = tuple(("operator", bytes.fromhex(digest)) for digest in operators)
        self._routers = tuple(("router", bytes.fromhex(digest)) for digest in routers)
        self._is_required = is_required

    @property
    def default(self) -> str:
        """The tenant of senders without a token, if none is required."""
        return self._default

    @property
    def is_open(self) -> bool:
        """Whether no credential is required."""
        is_closed = self._tokens or self._routers or self._is_required or self.rules.is_closed
        return not (is_closed or self.stored.is_closed)

    def grant(self, claims: RequestClaims, scopes: Sequence[TokenScope] = (TokenScope.SEND,)) -> TenantGrant | None:
        """Return the tenant of a request, by the rules of `spanpost.http.tenancy`; None: it proves none.

        `RequestClaims.forwarded` counts with a routing gateway's token alone, which needs it; beside any other
        credential the request is refused. Raises `TokenRefused`.
        """
        named, certified = self.rules.named(claims), self.rules.certified(claims.certificate)
        if claims.forwarded is not None:
            is_router = self._find(self._routers, claims.authorization) is not None
            is_router = is_router or self._stored(claims.authorization, TokenScope.ROUTE) is not None
            tenant = tenant_of_header(claims.forwarded) if is_router else None
            return decide(TenantGrant(tenant), certified, named=named) if tenant is not None else None
        if self.is_open:
            return TenantGrant(self._default)
        token = self._find(self._tokens, claims.authorization)
        if token is None:
            found = self._stored(claims.authorization, *scopes)
            token = TenantGrant(found.tenant) if found is not None and found.tenant is not None else None
        if token is None and claims.authorization is not None:
            return None
        return decide(token, certified, named=named)

    def is_operator(self, authorization: str | None, *, reads: bool = True, is_strict: bool = False) -> bool:
        """Whether the caller may see all tenants: with an operator's token, or if no token is required at
        all. A token of the database may only read so. One without the scope raises `TokenRefused` where strict.
        """
        if (self.is_open and not self._operators) or self._find(self._operators, authorization) is not None:
            return True
        return reads and self._stored(authorization, TokenScope.METRICS, is_strict=is_strict) is not None

    def _stored(self, authorization: str | None, *scopes: TokenScope, is_strict: bool = True) -> AccessToken | None:
        """Return the database's token of a header.

        One with none of the scopes is None, or `TokenRefused` where strict.
        """
        found = self.stored.find(_bearer(authorization))
        if found is None or not found.scopes.isdisjoint(scopes):
            return found
        if is_strict:
            has = ", ".join(sorted(found.scopes))
            raise TokenRefused(
                403, "scope", f"this needs a token with the scope {' or '.join(scopes)}; this one has {has}"
            )
        return None

    @staticmethod
    def _find(known: tuple[tuple[T, bytes], ...], authorization: str | None) -> T | None:
        return holder_of(_bearer(authorization), known)


def _bearer(authorization: str | None) -> str:
    """Return the token of a header; empty: none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
