"""Log-in sessions of people: the secret that signs them, and the sessions that were ended."""

from __future__ import annotations

import msgspec


class SessionState(msgspec.Struct, frozen=True):
    """The current state, shared by all gateways on one database."""

    #: 32 random bytes. A new secret ends all sessions.
    secret: bytes
    #: Ids of sessions ended before they expired.
    ended: frozenset[str]
