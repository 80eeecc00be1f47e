"""Places of agents that wait for people: a bounded number, shared by tenant, then by address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from spanpost.http.asgi import HungUp, Receive, until_hung_up
from spanpost.http.errors import HttpError
from spanpost.http.shares import Full, Sender, SharedPlaces


class Waiters:
    """At most `most` requests wait at once; tenants share the places, then a tenant's addresses do."""

    def __init__(self, most: int) -> None:
        #: Waiting requests, each by the event that ends its wait.
        self._places: SharedPlaces[asyncio.Event] = SharedPlaces(most)

    def __len__(self) -> int:
        return len(self._places)

    async def wait(
        self,
        sender: Sender,
        answer: Coroutine[Any, Any, Any],
        otherwise: Callable[[], Awaitable[Any]],
        receive: Receive,
        refused: Coroutine[Any, Any, None],
    ) -> Any:
        """Await an answer for as long as the client stays connected; `otherwise` where its place is given up.

        `refused` raises the `HttpError` of a token that is revoked while its request waits.

        Raises `HungUp`, and `HttpError` when all places are taken. In each of these cases `answer` is cancelled.
        """
        ended = asyncio.Event()
        try:
            longest = self._places.take(sender, ended)
        except Full:
            answer.close()
            refused.close()
            said = "all places of gateway.max_waiters are taken; come back"
            raise HttpError(503, "too_many", said) from None
        if longest is not None:
            longest.set()
        asked = asyncio.ensure_future(answer)
        waits = (until_hung_up(receive), refused, ended.wait())
        ends = [asyncio.ensure_future(each) for each in waits]
        try:
            await asyncio.wait({asked, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if ends[1].done():
                await ends[1]
            if asked.done():
                return await asked
            if ends[0].done():
                await ends[0]  # refuses a body without end
                raise HungUp
            return await otherwise()
        finally:
            self._places.leave(ended)
            for each in (asked, *ends):
                each.cancel()
