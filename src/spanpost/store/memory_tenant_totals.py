"""What each tenant has in the memory store: its tasks and checkpoints, as bytes of MessagePack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.tasks import Task
from spanpost.model.tenant_limits import FORGOTTEN, TenantStorage
from spanpost.semconv import FINAL_STATUSES
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_tables import MemoryTables


class MemoryTenantTotals:
    """`TenantTotals` of one process. Its store is bounded, whatever the limits say."""

    def __init__(self, tables: MemoryTables, heartbeats: MemoryHeartbeats) -> None:
        self._tables = tables
        self._heartbeats = heartbeats
        self._stored: list[TenantStorage] = []
        self._measured_at: datetime | None = None

    async def measure(self, every: timedelta) -> bool:
        """Measure what each tenant has stored. See `TenantTotals.measure`."""
        now = self._tables.clock()
        if self._measured_at is not None and now - self._measured_at < every:
            return False
        rows, sizes = Counter[str](), Counter[str]()
        kept: list[Task | Checkpoint] = [*self._tables.tasks.values(), *self._tables.checkpoints.values()]
        for one in kept:
            rows[one.tenant] += 1
            sizes[one.tenant] += len(msgspec.msgpack.encode(one))
        self._stored = [TenantStorage(tenant=name, rows=rows[name], size=sizes[name]) for name in sorted(rows)]
        self._measured_at = now
        return True

    async def stored(self) -> list[TenantStorage]:
        """Return what was last measured."""
        return self._stored

    async def open_tasks(self) -> dict[str, int]:
        """Count the open tasks of each tenant."""
        return dict(Counter(task.tenant for task in self._open()))

    async def open_traces(self, tenant: str) -> frozenset[bytes]:
        """Return the traces of a tenant's open tasks."""
        return frozenset(task.trace_id for task in self._open() if task.tenant == tenant and task.trace_id)

    def _open(self) -> Iterator[Task]:
        since = self._tables.clock() - FORGOTTEN
        for task in self._tables.tasks.values():
            at = self._heartbeats.recorded_at(task)
            if task.status not in FINAL_STATUSES and not task.is_alert and at is not None and at > since:
                yield task
