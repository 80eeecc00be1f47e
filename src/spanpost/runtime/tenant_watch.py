"""Watches what tenants have stored and open, for the limits of a gateway.

Every process of a gateway reads it. Where storage is limited, one process of a database measures what is stored.
While the database is down, the last figures stay: nothing can be recorded meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Final

from spanpost.model.errors import StoreUnavailable
from spanpost.receivers.tenant_gate import TenantGate
from spanpost.runtime.background import Background
from spanpost.settings.limits import LimitSettings

if TYPE_CHECKING:
    from spanpost.metrics.recorder import Metrics
    from spanpost.store.protocols import Store

log = logging.getLogger("spanpost.runtime.gateway")

#: Seconds between two looks: as late, and by what is sent meanwhile, a limit may be exceeded.
_LOOK: Final = 5.0
#: The same where nothing is limited by it, seconds.
_RARE: Final = 60.0


class TenantWatch(Background):
    """Keeps the figures of a gate. `metrics`: None where another worker of this gateway shows them."""

    _name = "spanpost-tenant-limits"

    def __init__(self, gate: TenantGate, section: LimitSettings, store: Store, metrics: Metrics | None) -> None:
        self._gate = gate
        self._section = section
        self._store = store
        self._metrics = metrics

    async def _run(self) -> None:
        interval = self._section.measure_interval.total_seconds()
        every = self._section.every
        is_limited = any(limits.stored_bytes for limits in every)
        pause = min(_LOOK if is_limited or any(limits.open_tasks for limits in every) else _RARE, interval)
        measure_at = time.monotonic()
        while True:
            # Where no tenant's storage is limited, nobody needs it: measuring reads a sample of every table.
            is_due = is_limited and time.monotonic() >= measure_at
            try:
                await self.look(measures=is_due)
            except StoreUnavailable:  # the next look finds it
                pass
            except Exception as error:
                log.error("limits: what tenants have stored and open cannot be read: %s", error, exc_info=True)
            if is_due:
                # Not all processes of a database at one moment.
                measure_at = time.monotonic() + interval * random.uniform(0.25, 0.5)
            await asyncio.sleep(pause)

    async def look(self, *, measures: bool) -> None:
        """Read what is stored and open, after measuring it if that is due."""
        totals = self._store.tenant_totals
        if measures:
            await totals.measure(self._section.measure_interval)
        stored = await totals.stored()
        if self._metrics is not None:
            self._metrics.tenant_gauges.show(stored, self._gate.rules)
        self._gate.stored = {one.tenant: one.size for one in stored}
        full: dict[str, frozenset[bytes]] = {}
        if any(limits.open_tasks for limits in self._section.every):
            for tenant, number in (await totals.open_tasks()).items():
                if 0 < self._gate.rules.of(tenant).open_tasks <= number:
                    full[tenant] = await totals.open_traces(tenant)
        self._gate.full = full
