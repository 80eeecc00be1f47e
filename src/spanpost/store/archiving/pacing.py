"""Rests between pieces of work, so that recording keeps its share of the database's processors."""

from __future__ import annotations

import asyncio
import time


class DutyCycle:
    """Works for a share of the time (0 to 1). 1 never rests."""

    def __init__(self, share: float = 1.0) -> None:
        self._rest = 1.0 / share - 1.0
        self._at = time.monotonic()

    async def rest(self) -> None:
        """Rest as long as the share asks for after the work since the last rest."""
        if self._rest > 0:
            await asyncio.sleep((time.monotonic() - self._at) * self._rest)
        self._at = time.monotonic()
