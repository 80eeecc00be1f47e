"""Work that outlives the request that began it."""

from __future__ import annotations

import asyncio


class Keeper:
    """Holds asyncio tasks that outlive their request: they are not collected, and are awaited at the end."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[object]] = set()

    def keep(self, task: asyncio.Task[object]) -> None:
        """Hold an asyncio task until it is done."""
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self, seconds: float) -> None:
        """Wait for the pending tasks, then cancel them."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=seconds)
            for task in late:
                task.cancel()
