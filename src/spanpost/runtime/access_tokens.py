"""Reads the database's access tokens for the requests of one process, and saves when they were used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from spanpost.http.stored_tokens import StoredTokens
from spanpost.model.errors import StoreUnavailable
from spanpost.store.directory import AccessTokens

log = logging.getLogger("spanpost.runtime.gateway")

#: Seconds between two reads: a revoked token is refused everywhere within about this time.
READ: Final = 2.0
#: Seconds between two notes of one token's use.
USED: Final = 60.0


class TokenReader:
    """Keeps `stored` up to date. `changed` is called in the loop after tokens have changed or expired."""

    def __init__(
        self,
        rows: AccessTokens,
        stored: StoredTokens,
        changed: Callable[[], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = rows
        self._stored = stored
        self._changed = changed
        self._monotonic = monotonic
        self._seen = ""
        #: When the use of each token was saved last.
        self._saved: dict[UUID, float] = {}
        self._is_away = False

    async def keep(self) -> None:
        """Read and save until cancelled."""
        while True:
            await self.read()
            await self.save()
            await asyncio.sleep(READ)

    async def read(self) -> None:
        """Read the tokens once, if they have changed. Without the database the cached ones stay."""
        try:
            state = await self._rows.state(self._seen)
        except StoreUnavailable as error:
            if not self._is_away:
                log.warning("tokens cannot be read from the database, cached ones stay valid for a while: %s", error)
            self._is_away = True
            if not self._stored.is_fresh:
                self._stored.notify()
                self._changed()
            return
        self._is_away = False
        if state is not None:
            self._seen = state.version
        if self._stored.take(state):
            self._changed()

    async def save(self, *, is_last: bool = False) -> None:
        """Save the uses of tokens whose last use was saved a minute ago; at the end, of all."""
        now, uses = self._monotonic(), self._stored.uses
        due = {id: at for id, at in uses.items() if is_last or now - self._saved.get(id, -USED) >= USED}
        if not due:
            return
        try:
            await self._rows.used(due)
        except StoreUnavailable:
            return
        for id, at in due.items():
            self._saved[id] = now
            if uses.get(id) == at:
                del uses[id]
