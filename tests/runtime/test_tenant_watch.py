"""What a gateway reads about the storage of tenants."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from spanpost.receivers.tenant_gate import TenantGate
from spanpost.runtime.tenant_watch import TenantWatch
from spanpost.settings.limits import LimitSettings


class CountedTotals:
    """Totals of tenants that count who asks for them."""

    def __init__(self) -> None:
        self.measured = 0
        self.read = asyncio.Event()

    async def measure(self, every: timedelta) -> bool:
        self.measured += 1
        return True

    async def stored(self) -> list[Any]:
        self.read.set()
        return []

    async def open_tasks(self) -> dict[str, int]:
        return {}


@pytest.mark.parametrize(
    ("limits", "measured"),
    [({}, 0), ({"open_tasks": 5, "entries_per_second": 5}, 0), ({"tenants": {"a": {"stored_bytes": 10**8}}}, 1)],
)
async def test_storage_is_measured_where_it_is_limited(limits: dict[str, Any], measured: int) -> None:
    """Where no tenant's storage has a limit, no table is read for it; one limit of one tenant is enough."""
    totals, section = CountedTotals(), LimitSettings(**limits)
    store: Any = SimpleNamespace(tenant_totals=totals)
    running = asyncio.create_task(TenantWatch(TenantGate(section), section, store, None)._run())
    try:
        await asyncio.wait_for(totals.read.wait(), 60)
        assert totals.measured == measured
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
