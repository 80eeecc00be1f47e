"""Who may come in, and as whom: bearer tokens, of which only hashes are known here.

A tenant may have several hashes, so that a new token is given out before the old one is taken back.
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
    """Return what is kept of a token: SHA-256 in hex."""
    return digest_of(token).hex()


class SenderTokens:
    """Knows whose a token is. Without any tokens everybody is the `default` tenant."""

    def __init__(self, default: str, tokens: Iterable[tuple[str, str]] = (), operators: Iterable[str] = ()) -> None:
        self.replace(default, tokens, operators)

    def replace(self, default: str, tokens: Iterable[tuple[str, str]], operators: Iterable[str] = ()) -> None:
        """Know these (tenant, hash) pairs and hashes of operators from now on."""
        self._default = default
        self._tokens = tuple((tenant, bytes.fromhex(digest)) for tenant, digest in tokens)
        self._operators = tuple(("operator", bytes.fromhex(digest)) for digest in operators)

    @property
    def default(self) -> str:
        """The tenant of those of whom no token is asked."""
        return self._default

    @property
    def is_open(self) -> bool:
        """True where no token is asked for."""
        return not self._tokens

    def tenant_of(self, authorization: str | None) -> str | None:
        """Return whose the header's token is; None for an absent, unknown or unreadable one."""
        if not self._tokens:
            return self._default
        return self._find(self._tokens, authorization)

    def is_operator(self, authorization: str | None) -> bool:
        """Tell whether what concerns all tenants may be shown: to an operator's token, and to all where none is asked for."""
        return (self.is_open and not self._operators) or self._find(self._operators, authorization) is not None

    @staticmethod
    def _find(known: tuple[tuple[str, bytes], ...], authorization: str | None) -> str | None:
        if not authorization:
            return None
        scheme, _, token = authorization.partition(" ")
        return holder_of(token.strip(), known) if scheme.lower() == "bearer" else None
