"""Fair turns at work that only a few may do at once: reading a gRPC message, inflating a large body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from spanpost.http.shares import FairLine, Full, Holder, Sender, SharedPlaces


class Turns:
    """At most `most` turns at once; other holders wait, tenants and addresses in turn, or are refused.

    A turn is ended with TimeoutError in favour of a holder with fewer turns: a sender that wastes its turns
    cannot keep others out. A holder is a sender, with anything else that distinguishes its turns.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._turns: SharedPlaces[asyncio.Timeout] = SharedPlaces(most)
        self._line: FairLine[tuple[Holder, asyncio.Timeout, asyncio.Future[None]]] = FairLine()

    @asynccontextmanager
    async def wait(self, holder: Holder) -> AsyncIterator[None]:
        """Wait for a turn and hold it. Raises TimeoutError when it is ended."""
        async with asyncio.timeout(None) as turn:
            try:
                try:
                    self._take(holder, turn)
                except Full:
                    await self._wait(holder, turn)
                yield
            finally:
                self._give_back(turn)

    @asynccontextmanager
    async def take(self, holder: Holder) -> AsyncIterator[None]:
        """Hold a turn at once. Raises `Full`, and TimeoutError when it is ended."""
        async with asyncio.timeout(None) as turn:
            self._take(holder, turn)
            try:
                yield
            finally:
                self._give_back(turn)

    def _take(self, holder: Holder, turn: asyncio.Timeout) -> None:
        ended = self._turns.take(holder, turn)
        if ended is not None and not ended.expired():
            ended.reschedule(0.0)

    async def _wait(self, holder: Holder, turn: asyncio.Timeout) -> None:
        is_due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sender, waiting = Sender(*holder[:2]), (holder, turn, is_due)
        self._line.put(sender, waiting)
        try:
            await is_due
        finally:
            self._line.remove(sender, waiting)

    def _give_back(self, turn: asyncio.Timeout) -> None:
        self._turns.leave(turn)
        while self._line and len(self._turns) < self._most:
            holder, turn, is_due = self._line.next()
            if not is_due.done():
                self._turns.take(holder, turn)
                is_due.set_result(None)
