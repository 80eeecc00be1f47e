"""What a gateway with a database does to its tables beside recording: sealing and retention."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from spanpost.runtime import workers

if TYPE_CHECKING:
    from spanpost.runtime.retention import RetentionSchedule
    from spanpost.runtime.sealing import SealingProcess
    from spanpost.settings import Settings
    from spanpost.settings.retention import RetentionSettings
    from spanpost.settings.sealing import SealingSettings
    from spanpost.store.postgres import PostgresStore
    from spanpost.store.protocols import Store

    _Given = tuple[SealingSettings | RetentionSettings, str]


class Upkeep:
    """Runs the sealer and retention, where the settings say so, in the first worker of a gateway."""

    def __init__(self) -> None:
        #: What runs, with the section of the settings and the database's URL that it was started with.
        self._running: dict[str, tuple[_Given, SealingProcess | RetentionSchedule]] = {}
        self._changing = asyncio.Lock()

    async def apply(self, settings: Settings, store: Store) -> None:
        """Start, end or start anew what these settings ask for. A store without a database has neither.

        A process that is ended loses nothing: the next goes on where it was.
        """
        from spanpost.store.postgres import PostgresStore

        if not workers.is_first() or not isinstance(store, PostgresStore):
            return
        asked: dict[str, _Given] = {
            "sealing": (settings.sealing, store.dsn), "retention": (settings.retention, store.dsn)
        }  # fmt: skip
        async with self._changing:
            for name, given in asked.items():
                if name in self._running and self._running[name][0] != given:
                    await self._running.pop(name)[1].close()
                if given[0].enabled and name not in self._running:
                    self._running[name] = given, _started(name, settings, store)

    async def close(self) -> None:
        """End what runs."""
        async with self._changing:
            while self._running:
                await self._running.popitem()[1][1].close()


def _started(name: str, settings: Settings, store: PostgresStore) -> SealingProcess | RetentionSchedule:
    from spanpost.runtime.retention import RetentionSchedule
    from spanpost.runtime.sealing import SealingProcess

    made: SealingProcess | RetentionSchedule
    if name == "sealing":
        made = SealingProcess(settings, lambda: store.dsn)
    else:
        made = RetentionSchedule(settings.retention, lambda: store.dsn)
    made.start()
    return made
