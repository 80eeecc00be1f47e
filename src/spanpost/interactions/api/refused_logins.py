"""Rows of refused logins, few enough that a flood of logins does not fill the table."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from spanpost.model.acts import Operation
from spanpost.model.errors import SpanpostError
from spanpost.model.interventions import Actor
from spanpost.store.protocols import Acts
from spanpost.tasks.interventions import id_of

log = logging.getLogger("spanpost.interactions")

_MINUTE: Final = 60.0
#: Persons and addresses with rows of their own in a minute.
_MOST: Final = 20
_OTHERS: Final = Actor(provider="address", id="others", credential="login")


class RefusedLogins:
    """Records refused logins: the first of each person or address at once, then one row with the number of the rest
    of that minute. Beyond `_MOST` in a minute all others are one.
    """

    def __init__(self, acts: Acts, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._acts = acts
        self._sleep = sleep
        #: The refusals of this minute: the last of each, and how often there was one beside the first.
        self._seen: dict[str, Operation] = {}
        self._more: Counter[str] = Counter()
        self._minute: asyncio.Task[None] | None = None

    async def note(self, refused: Operation) -> None:
        """Record or count a refused login. It is refused whether or not it can be recorded."""
        if (key := id_of(refused.by)) not in self._seen and len(self._seen) >= _MOST:
            refused = replace(refused, tenant="", actor=_OTHERS)
            key = id_of(_OTHERS)
        is_first = key not in self._seen
        self._seen[key] = refused
        if not is_first:
            self._more[key] += 1
            return
        if self._minute is None:
            self._minute = asyncio.create_task(self._until_over())
        await self._record(refused)

    async def _until_over(self) -> None:
        await self._sleep(_MINUTE)
        seen, more = self._seen, self._more
        self._seen, self._more, self._minute = {}, Counter(), None
        for key, number in more.items():
            await self._record(replace(seen[key], detail=f"{number} more in this minute"))

    async def _record(self, refused: Operation) -> None:
        try:
            await self._acts.note_operation(refused)
        except SpanpostError as error:
            log.warning("a refused login is not recorded: %s", error)
