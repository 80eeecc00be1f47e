"""Bearer tokens of tenants, operators and routing gateways, stored as hashes.

A tenant may have several hashes, so that a new token can be issued before the old one is revoked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote

from spanpost.http.bearer import digest_of, holder_of

#: Header in which a routing gateway names the tenant of a request to a cell (`forwarded_tenant`). The guard
#: counts it among the headers of proxies by its name.
FORWARDED_TENANT: Final = "spanpost-forwarded-tenant"
_PREFIX: Final = "spt_"
_LONGEST_TENANT: Final = 200


def new_token() -> str:
    """Return a new token of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return the stored form of a token: SHA-256 in hex."""
    return digest_of(token).hex()


def forwarded_tenant(tenant: str) -> str:
    """Return a tenant as the value of `FORWARDED_TENANT`: percent-encoded UTF-8."""
    return quote(tenant, safe="")


class SenderTokens:
    """Resolves tokens to tenants. Without any tokens every sender is the `default` tenant."""

    def __init__(
        self,
        default: str,
        tokens: Iterable[tuple[str, str]] = (),
        operators: Iterable[str] = (),
        routers: Iterable[str] = (),
    ) -> None:
        self.replace(default, tokens, operators, routers)

    def replace(
        self,
        default: str,
        tokens: Iterable[tuple[str, str]],
        operators: Iterable[str] = (),
        routers: Iterable[str] = (),
    ) -> None:
        """Replace the (tenant, hash) pairs, and the hashes of operators and routing gateways."""
        self._default = default
        self._tokens = tuple((tenant, bytes.fromhex(digest)) for tenant, digest in tokens)
        self._operators = tuple(("operator", bytes.fromhex(digest)) for digest in operators)
        self._routers = tuple(("router", bytes.fromhex(digest)) for digest in routers)

    @property
    def default(self) -> str:
        """The tenant of senders without a token, if none is required."""
        return self._default

    @property
    def is_open(self) -> bool:
        """Whether no token is required."""
        return not self._tokens and not self._routers

    def tenant_of(self, authorization: str | None, forwarded: str | None = None) -> str | None:
        """Return the tenant of the header's token; None: absent, unknown or unreadable.

        `forwarded` is the header `FORWARDED_TENANT`. It counts with a routing gateway's token alone, which needs
        it; beside any other credential the request is refused.
        """
        if forwarded is not None:
            return _tenant(forwarded) if self._find(self._routers, authorization) is not None else None
        if self.is_open:
            return self._default
        return self._find(self._tokens, authorization)

    def is_operator(self, authorization: str | None) -> bool:
        """Whether the caller may see all tenants: with an operator's token, or if no token is required at
        all.
        """
        return (self.is_open and not self._operators) or self._find(self._operators, authorization) is not None

    @staticmethod
    def _find(known: tuple[tuple[str, bytes], ...], authorization: str | None) -> str | None:
        if not authorization:
            return None
        scheme, _, token = authorization.partition(" ")
        return holder_of(token.strip(), known) if scheme.lower() == "bearer" else None


def _tenant(forwarded: str) -> str | None:
    """Return the tenant that a routing gateway names; None: malformed."""
    tenant = unquote(forwarded, errors="replace")
    is_plain = 0 < len(tenant) <= _LONGEST_TENANT and tenant.isprintable() and "\ufffd" not in tenant
    return tenant if is_plain else None
