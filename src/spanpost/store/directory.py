"""Protocols of the store for log-in sessions, access tokens, totals of tenants, installed Slack apps and standing
approvals.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from spanpost.model.access_tokens import TokenState
from spanpost.model.installations import Installed
from spanpost.model.sessions import SessionState
from spanpost.model.standing_approvals import StandingApproval, StandingQuery
from spanpost.model.tenant_limits import TenantStorage


class LoginSessions(Protocol):
    """**Protocol:** keeps log-in sessions. Every method raises `StoreUnavailable`."""

    async def state(self) -> SessionState:
        """**Protocol:** return the state; the first call creates the secret."""
        ...

    async def end(self, id: str, until: datetime) -> None:
        """**Protocol:** end a session that would expire at `until`. Safe to repeat."""
        ...


class AccessTokens(Protocol):
    """**Protocol:** keeps access tokens, as hashes. Every method raises `StoreUnavailable`."""

    async def state(self, seen: str = "") -> TokenState | None:
        """**Protocol:** return the tokens; None where their version is the one that was seen."""
        ...

    async def used(self, uses: Mapping[UUID, datetime]) -> None:
        """**Protocol:** save when tokens were used last, by id. Safe to repeat."""
        ...


class TenantTotals(Protocol):
    """**Protocol:** what each tenant has stored and open. Every method raises `StoreUnavailable`."""

    async def measure(self, every: timedelta) -> bool:
        """**Protocol:** measure what each tenant has stored, unless some process did within `every` or does it now.

        False: it was not measured.
        """
        ...

    async def stored(self) -> list[TenantStorage]:
        """**Protocol:** return what was last measured, by tenant."""
        ...

    async def open_tasks(self) -> dict[str, int]:
        """**Protocol:** count the open tasks of each tenant that has any, except those without telemetry for a day."""
        ...

    async def open_traces(self, tenant: str) -> frozenset[bytes]:
        """**Protocol:** return the traces of these tasks of one tenant."""
        ...


class Installations(Protocol):
    """**Protocol:** keeps the Slack apps that were installed in workspaces, their tokens encrypted.

    Every method raises `StoreUnavailable`. `find` and `listed` only read.
    """

    async def save(self, installed: Installed) -> Installed:
        """**Protocol:** save an installation in place of the workspace's older one; return it as saved.

        Repeated, it saves the same tokens under a new revision.
        """
        ...

    async def find(self, client: str, team: str) -> Installed | None:
        """**Protocol:** return an installation, also a removed one; None if there is none."""
        ...

    async def listed(self, client: str) -> list[Installed]:
        """**Protocol:** list an app's installations by team, including removed ones."""
        ...

    async def remove(self, client: str, team: str, why: str, revision: int | None = None) -> bool:
        """**Protocol:** delete the workspace's tokens (only that revision, if given).

        False: there were none. Safe to repeat.
        """
        ...

    async def claim(self, installed: Installed, lease: timedelta) -> bool:
        """**Protocol:** lease the right to fetch the next token.

        False when another process has it or the row has changed.
        """
        ...

    async def renew(self, installed: Installed, encrypted: bytes, expires_at: datetime | None) -> bool:
        """**Protocol:** save renewed encrypted tokens.

        False when the row has changed since it was read (also when repeated).
        """
        ...


class StandingApprovals(Protocol):
    """**Protocol:** reads what people allow beyond one question."""

    async def standing_approval(self, id: UUID) -> StandingApproval | None:
        """**Protocol:** return a standing approval."""
        ...

    async def standing_approvals(self, query: StandingQuery) -> list[StandingApproval]:
        """**Protocol:** list standing approvals, newest first."""
        ...
