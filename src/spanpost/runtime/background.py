"""What runs beside a gateway's requests until it is closed."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod

from spanpost.model.errors import StoreUnavailable
from spanpost.text.sanitise import line

log = logging.getLogger(__name__)


class Background(ABC):
    """A task of the running loop: `_run` goes on until `close`. `_name` is the task's name in logs."""

    _name: str
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start, in the running loop."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """Stop: what is under way ends at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    async def _run(self) -> None:
        """Run until cancelled."""


class Rounds(Background):
    """Work in rounds, `_interval` seconds apart. `_purpose` begins the log line of a failed round."""

    _interval: float
    _purpose: str

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except StoreUnavailable:
                pass  # the dispatcher logs it; what is due stays due
            except Exception as error:
                log.error("%s: %s: %s", self._purpose, type(error).__name__, line(str(error), 300))
            await asyncio.sleep(self._interval)

    @abstractmethod
    async def _round(self) -> object:
        """Do what is due. Raises `StoreUnavailable`."""
