"""What a gateway does beside recording: it watches the limits of tenants, seals and archives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from spanpost.receivers.tenant_gate import TenantGate
from spanpost.runtime import workers

if TYPE_CHECKING:
    from spanpost.metrics.recorder import Metrics
    from spanpost.runtime.retention import RetentionSchedule
    from spanpost.runtime.sealing import SealingProcess
    from spanpost.runtime.tenant_watch import TenantWatch
    from spanpost.settings import Settings
    from spanpost.settings.limits import LimitSettings
    from spanpost.settings.retention import RetentionSettings
    from spanpost.settings.sealing import SealingSettings
    from spanpost.store.postgres import PostgresStore
    from spanpost.store.protocols import Store

    _Given = tuple[SealingSettings | RetentionSettings | LimitSettings, str]
    _Running = SealingProcess | RetentionSchedule | TenantWatch


class Upkeep:
    """Runs the sealer and retention, where the settings say so, in the first worker of a gateway; and in each worker
    what `gate` judges by.
    """

    def __init__(self, settings: Settings) -> None:
        #: The limits of tenants, for the receiver.
        self.gate = TenantGate(settings.limits)
        #: What runs, with the section of the settings and the database's URL that it was started with.
        self._running: dict[str, tuple[_Given, _Running]] = {}
        self._changing = asyncio.Lock()

    async def apply(self, settings: Settings, store: Store, metrics: Metrics | None) -> None:
        """Start, end or start anew what these settings ask for. Only a store with a database seals and archives.

        A process that is ended loses nothing: the next goes on where it was.
        """
        from spanpost.runtime.tenant_watch import TenantWatch
        from spanpost.store.postgres import PostgresStore

        self.gate.rules, self.gate.watch = settings.limits, metrics
        shown = metrics if workers.is_first() else None
        dsn = store.dsn if isinstance(store, PostgresStore) else ""
        asked: dict[str, tuple[_Given, Callable[[], _Running]]] = {
            "limits": ((settings.limits, dsn), lambda: TenantWatch(self.gate, settings.limits, store, shown))
        }
        if workers.is_first() and isinstance(store, PostgresStore):
            asked |= _of_tables(settings, store)
        async with self._changing:
            for name in [*self._running]:
                if name not in asked or asked[name][0] != self._running[name][0]:
                    await self._running.pop(name)[1].close()
            for name, (given, made) in asked.items():
                if name not in self._running:
                    self._running[name] = given, made()
                    self._running[name][1].start()

    async def close(self) -> None:
        """End what runs."""
        async with self._changing:
            while self._running:
                await self._running.popitem()[1][1].close()


def _of_tables(settings: Settings, store: PostgresStore) -> dict[str, tuple[_Given, Callable[[], _Running]]]:
    """Return what works on the tables, where it is enabled."""
    from spanpost.runtime.retention import RetentionSchedule
    from spanpost.runtime.sealing import SealingProcess

    made: dict[str, tuple[_Given, Callable[[], _Running]]] = {}
    if settings.sealing.enabled:
        made["sealing"] = (settings.sealing, store.dsn), lambda: SealingProcess(settings, lambda: store.dsn)
    if settings.retention.enabled:
        given = settings.retention, store.dsn
        made["retention"] = given, lambda: RetentionSchedule(settings.retention, lambda: store.dsn)
    return made
