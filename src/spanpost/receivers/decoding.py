"""Decoding in the event loop: large bodies in pieces with pauses, so that small requests proceed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

#: Bodies up to this are decoded at once, in a few milliseconds at most.
_AT_ONCE: Final = 16 * 1024
#: Seconds of work before a pause; and the pause as a multiple of the work: a small request needs a dozen
#: turns of the loop.
_SLICE: Final = 0.01
_PAUSE: Final = 2


class Decoding:
    """Decodes all bodies of one event loop. Only one piece of a large body is parsed at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def pieces(self, coming: Iterator[T | None], size: int, has_others: Callable[[], bool]) -> AsyncIterator[T]:
        """Yield the pieces of a body of `size` bytes; raises as `coming` does, which yields None for a pause.

        `has_others` says whether other requests are under way.
        """
        if size <= _AT_ONCE:
            await asyncio.sleep(0)
            for piece in coming:
                if piece is not None:
                    yield piece
            return
        worked = 0.0
        while True:
            async with self._lock:
                piece, worked = await self._next(coming, worked, has_others)
            if piece is None:
                return
            yield piece

    @staticmethod
    async def _next(
        coming: Iterator[T | None], worked: float, has_others: Callable[[], bool]
    ) -> tuple[T | None, float]:
        """Return the next piece, None after the last, and the seconds of work since the last pause."""
        while True:
            began = time.monotonic() - worked
            for piece in coming:
                worked = time.monotonic() - began
                if piece is not None:
                    return piece, worked
                if worked > _SLICE:
                    break
            else:
                return None, 0.0
            await asyncio.sleep(_PAUSE * worked if has_others() else 0)
            worked = 0.0
