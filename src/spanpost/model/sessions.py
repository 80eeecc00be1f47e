"""Log-in sessions of people: the secret that signs them, and the sessions that were ended."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec


class SessionState(msgspec.Struct, frozen=True):
    """The current state, shared by all gateways on one database."""

    #: 32 random bytes. A new secret ends all sessions.
    secret: bytes
    #: Ids of sessions ended before they expired.
    ended: frozenset[str]


class KeepsSessions(Protocol):
    """**Protocol:** the store of sessions. Every method may raise `StoreUnavailable`."""

    async def state(self) -> SessionState:
        """Return the state; the first call creates the secret."""
        ...

    async def end(self, id: str, until: datetime) -> None:
        """End a session that would expire at `until`."""
        ...
