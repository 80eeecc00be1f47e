"""Who asks: a bearer token, a person's session, or somebody at this machine; and what their roles let them do."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from spanpost.http.bearer import holder_of
from spanpost.http.errors import HttpError


class CallerRole(StrEnum):
    """What a caller may. Public: settings, JSON. Every caller with any role may look."""

    VIEWER = "viewer"
    #: May cancel, pause, resume, retry, mute and send messages.
    OPERATOR = "operator"
    #: May decide approvals.
    APPROVER = "approver"
    #: Sees what was recorded, prompts and tool arguments included.
    AUDITOR = "auditor"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who asks, and whose tasks they may see."""

    #: api (a token), oidc (a person), local (this machine).
    provider: str
    id: str
    name: str
    #: Confirmed by the provider; empty when unknown.
    email: str = ""
    tenant: str
    roles: frozenset[str]
    #: When who it is must be asked anew, by our clock; None: never.
    until: float | None = None
    #: Id of the session by which a person is known, which can be ended; empty without one.
    session: str = ""

    def need(self, role: CallerRole) -> None:
        """Raise `HttpError` where the caller has no such role."""
        if role not in self.roles:
            raise HttpError(
                403, "forbidden", f"this needs the role {role}; {self.name} has {', '.join(sorted(self.roles)) or 'none'}"
            )


class CallerToken(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token, of which only hashes are known (SHA-256)."""

    name: str
    tenant: str
    roles: frozenset[str]
    digests: tuple[bytes, ...]


class CallerTokens:
    """Knows whose a bearer token is."""

    def __init__(self, tokens: Iterable[CallerToken] = ()) -> None:
        self._tokens = tuple(tokens)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def find(self, token: str) -> Caller | None:
        """Return whose it is; None for nobody's."""
        found = holder_of(token, ((one, digest) for one in self._tokens for digest in one.digests))
        if found is None:
            return None
        return Caller(provider="api", id=found.name, name=found.name, tenant=found.tenant, roles=found.roles)
