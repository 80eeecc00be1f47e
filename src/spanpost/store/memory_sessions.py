"""Login sessions in memory: all end with the process."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime

from spanpost.model.sessions import SessionState


class MemorySessions:
    """The same as `sessions`, over a dictionary."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._ended: dict[str, datetime] = {}

    async def state(self) -> SessionState:
        """Return the secret and the ended sessions."""
        return SessionState(self._secret, frozenset(self._ended))

    async def end(self, id: str, until: datetime) -> None:
        """End a session; drop those that have expired."""
        now = self._clock()
        self._ended = {each: over for each, over in self._ended.items() if over > now} | {id: until}
