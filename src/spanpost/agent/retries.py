"""Pauses between tries, for the loops that wait for people in the background."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

log = logging.getLogger("spanpost.control")

#: Shortest and longest pause between two tries, seconds.
SHORTEST: Final = 0.2
_LONGEST: Final = 5.0
#: An empty answer that comes sooner than this is not from a long poll; seconds.
SOON: Final = 0.5


class Retries:
    """Growing pauses between tries. The first failure of a row is logged."""

    def __init__(self, failure: str) -> None:
        self._failure = failure
        self._pause = SHORTEST
        self._is_logged = False

    async def pause(self, error: Exception) -> None:
        """Log the first error and sleep."""
        if not self._is_logged:
            self._is_logged = True
            log.warning("%s, trying again: %s", self._failure, str(error)[:300])
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(self._pause * 2, _LONGEST)

    def succeeded(self) -> None:
        """Begin again with the shortest pause."""
        self._pause, self._is_logged = SHORTEST, False


def leave_caller_context() -> None:
    """Continue in a context without the caller's span and with instrumentation suppressed."""
    otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, otel_context.Context()))
