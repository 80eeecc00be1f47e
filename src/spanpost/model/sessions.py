"""What is kept of the sessions of people who logged in: what they are signed with, and which of them were ended."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec


class SessionState(msgspec.Struct, frozen=True):
    """As it is now, the same for all gateways on one database."""

    #: 32 random bytes. Another secret ends all sessions.
    secret: bytes
    #: Ids of sessions that were ended before their time.
    ended: frozenset[str]


class KeepsSessions(Protocol):
    """**Protocol:** where that is kept. All of it raises `LedgerUnavailable` when it cannot be reached."""

    async def state(self) -> SessionState:
        """Return the state; the first who asks makes the secret."""
        ...

    async def end(self, id: str, until: datetime) -> None:
        """End a session, which would run out by itself at `until`."""
        ...
