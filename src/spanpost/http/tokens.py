"""Bearer tokens of tenants and operators, stored as hashes.

A tenant may have several hashes, so that a new token can be issued before the old one is revoked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final

from spanpost.http.bearer import digest_of, holder_of

_PREFIX: Final = "spt_"


def new_token() -> str:
    """Return a new token of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return the stored form of a token: SHA-256 in hex."""
    return digest_of(token).hex()


class SenderTokens:
    """Resolves tokens to tenants. Without any tokens every sender is the `default` tenant."""

    def __init__(self, default: str, tokens: Iterable[tuple[str, str]] = (), operators: Iterable[str] = ()) -> None:
        self.replace(default, tokens, operators)

    def replace(self, default: str, tokens: Iterable[tuple[str, str]], operators: Iterable[str] = ()) -> None:
        """Replace the (tenant, hash) pairs and the operators' hashes."""
        self._default = default
        self._tokens = tuple((tenant, bytes.fromhex(digest)) for tenant, digest in tokens)
        self._operators = tuple(("operator", bytes.fromhex(digest)) for digest in operators)

    @property
    def default(self) -> str:
        """The tenant of senders without a token, if none is required."""
        return self._default

    @property
    def is_open(self) -> bool:
        """Whether no token is required."""
        return not self._tokens

    def tenant_of(self, authorization: str | None) -> str | None:
        """Return the tenant of the header's token; None: absent, unknown or unreadable."""
        if not self._tokens:
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
