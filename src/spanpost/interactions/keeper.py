"""Work that outlives the request that began it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

#: Seconds that remain for the work at least, however late its request arrived.
_LEAST: Final = 0.2


class Keeper:
    """Holds asyncio tasks that outlive their request: they are not collected, and are awaited at the end."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[object]] = set()

    def keep(self, task: asyncio.Task[object]) -> None:
        """Hold an asyncio task until it is done."""
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin work in the background."""
        self.keep(asyncio.create_task(work))

    async def within(self, work: Coroutine[Any, Any, None], until: float) -> bool:
        """Do the work by this loop time; False if it continues after that."""
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=max(until - asyncio.get_running_loop().time(), _LEAST))
        except asyncio.CancelledError:
            self.keep(task)
            raise
        if not done:
            self.keep(task)
            return False
        task.result()
        return True

    async def close(self, seconds: float) -> None:
        """Wait for the pending tasks, then cancel them."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=seconds)
            for task in late:
                task.cancel()
