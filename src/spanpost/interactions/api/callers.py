"""Callers: a bearer token, a person's session, or a user of this machine; and their roles."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec

from spanpost.http.bearer import holder_of
from spanpost.http.errors import HttpError
from spanpost.interactions.authorization import CallerRole


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A caller, and the tenant whose tasks they may see."""

    #: api (a token), oidc (a person), local (this machine).
    provider: str
    id: str
    name: str
    #: Confirmed by the provider; empty if unknown.
    email: str = ""
    tenant: str
    roles: frozenset[str]
    #: When the identity must be checked again, by our clock; None: never.
    until: float | None = None
    #: Id of the person's session, which can be ended; empty without a session.
    session: str = ""
    #: Id of the database's token; None: of the settings, or no token.
    token: UUID | None = None
    #: Program of the caller, as it says itself.
    client: str = ""

    @property
    def credential(self) -> str:
        """What proved the caller's identity."""
        if self.session:
            return f"session {self.session}"
        return "machine token" if self.provider == "local" else f"token {self.id}"

    def need(self, role: CallerRole) -> None:
        """Raise `HttpError` if the caller does not have this role."""
        if role not in self.roles:
            raise HttpError(
                403,
                "forbidden",
                f"this needs the role {role}; {self.name} has {', '.join(sorted(self.roles)) or 'none'}",
            )


class CallerToken(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token, known only by its hashes (SHA-256)."""

    name: str
    tenant: str
    roles: frozenset[str]
    digests: tuple[bytes, ...]


class CallerTokens:
    """Finds the caller of a bearer token."""

    def __init__(self, tokens: Iterable[CallerToken] = ()) -> None:
        self._tokens = tuple(tokens)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def find(self, token: str) -> Caller | None:
        """Return the caller of a token; None if it is unknown."""
        found = holder_of(token, ((one, digest) for one in self._tokens for digest in one.digests))
        if found is None:
            return None
        return Caller(provider="api", id=found.name, name=found.name, tenant=found.tenant, roles=found.roles)
