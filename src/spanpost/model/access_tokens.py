"""Access tokens that the database keeps: what each may do, for whom, and how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from spanpost.model.interventions import Verb

#: Prefix of a scope that allows one action of people: ``act:approve``.
ACT: Final = "act:"


class TokenScope(StrEnum):
    """What a token may do. Public: command line, rows."""

    #: Send telemetry (OTLP).
    SEND = "send"
    #: Ask people and budgets, and wait for them (`/control`): waiting agents and permission hooks.
    CONTROL = "control"
    #: Send alerts.
    ALERTS = "alerts"
    #: Read `/metrics` and `/health/detailed`, of all tenants.
    METRICS = "metrics"
    #: Name the tenant of each request: a routing gateway in front of a cell.
    ROUTE = "route"
    #: The roles at the API.
    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"


#: Scopes of a sender: what a token of `gateway.tokens` may do.
OF_SENDERS: Final = (TokenScope.SEND, TokenScope.CONTROL, TokenScope.ALERTS)
#: Scopes that belong to no tenant.
OF_NO_TENANT: Final = (TokenScope.METRICS, TokenScope.ROUTE)
#: Scopes whose tokens close a gateway that was open to senders without a token.
CLOSING: Final = frozenset((*OF_SENDERS, TokenScope.ROUTE))
OF_CALLERS: Final = frozenset((TokenScope.VIEWER, TokenScope.OPERATOR, TokenScope.APPROVER, TokenScope.AUDITOR))
SCOPES: Final = (*map(str, TokenScope), *(f"{ACT}{verb}" for verb in Verb))


class AccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token, known only by its hash. Rotated tokens share a name."""

    id: UUID
    name: str
    #: None: no tenant (`OF_NO_TENANT`).
    tenant: str | None
    scopes: frozenset[str]
    #: SHA-256 of the token.
    digest: bytes
    #: The system's user who made it.
    made_by: str
    made_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    #: When it was used last, to about a minute.
    used_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def roles(self) -> frozenset[str]:
        """Its roles at the API, and its single actions."""
        return frozenset(scope for scope in self.scopes if scope in OF_CALLERS or scope.startswith(ACT))


#: A name whose newest token ends within this time, or ended within it, is reported.
ENDS_SOON: Final = timedelta(days=14)


def ending(tokens: Iterable[AccessToken], now: datetime) -> list[AccessToken]:
    """Return the newest token of each name whose newest token ends soon or has ended lately. Revoked ones do not
    count.
    """
    newest: dict[str, tuple[datetime, AccessToken]] = {}
    for token in tokens:
        until = token.expires_at or datetime.max.replace(tzinfo=UTC)
        if token.revoked_at is None and (token.name not in newest or newest[token.name][0] < until):
            newest[token.name] = until, token
    return [token for _, (until, token) in sorted(newest.items()) if abs(until - now) < ENDS_SOON]


def by_tenant(tokens: Iterable[AccessToken]) -> dict[str, int]:
    """Count tokens by tenant; those of no tenant under the empty name."""
    return dict(Counter(token.tenant or "" for token in tokens))


class TokenState(msgspec.Struct, frozen=True):
    """The tokens of a database at one time."""

    #: Differs whenever a token was made, changed or removed.
    version: str
    #: Those that are not revoked and had not expired.
    tokens: tuple[AccessToken, ...] = ()
    #: There was ever a sender's token: no sender without a token is accepted any more.
    is_closed: bool = False
