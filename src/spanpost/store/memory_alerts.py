"""Alerts in memory: the same rules as `postgres_alerts`, over a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from spanpost.model.alerts import Alert, Alerted
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.readers import alerts as rules
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_tables import MemoryTables

#: Alerts kept; the oldest are dropped.
_KEPT = 5_000


class MemoryAlerts:
    """Alerts of one process. `record` records the observations that are made of them."""

    def __init__(
        self,
        tables: MemoryTables,
        heartbeats: MemoryHeartbeats,
        record: Callable[[Sequence[Observation]], Recorded],
    ) -> None:
        self._tables = tables
        self._heartbeats = heartbeats
        self._record = record

    async def known(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """Return the kept alerts among `ids`."""
        return {id: alert for id in ids if (alert := self._tables.alerts.get(id)) is not None}

    async def take(self, alert: Alert) -> Alerted:
        """Keep an alert and attach it to the task that it names."""
        if (redaction := self._tables.redaction) is not None:
            alert = redaction.alert(alert)
        kept = self._tables.alerts
        known = kept.get(alert.id)
        new = rules.placed(alert, self._named(alert)) if known is None else rules.again(known, alert)
        if new is None:
            return Alerted(alert=known or alert, is_repeat=True)
        kept[new.id] = new
        if len(kept) > _KEPT:
            del kept[next(iter(kept))]
        return Alerted(alert=new, recorded=self._record([rules.record_of(new, self._tables.clock())]))

    def _named(self, alert: Alert) -> Task | None:
        wanted = rules.wanted(alert)
        tasks = [t for t in self._tables.tasks.values() if t.tenant == alert.tenant and t.is_announced]
        for ref in wanted.refs:
            found = [t for t in tasks if ref in (t.task_id, *t.aliases)] or [
                t for t in tasks if t.trace_id.hex() == ref
            ]
            if found:
                return min(
                    found, key=lambda t: (t.task_id != ref, t.parent_uid is not None, -_seconds(t.started_at), t.uid)
                )
        if not wanted.agent:
            return None
        of_agent = [
            self._heartbeats.shown(t)
            for t in tasks
            if t.agent_name == wanted.agent and wanted.environment in ("", t.environment)
        ]
        meant = [t for t in of_agent if t.ended_at is None and t.status == wanted.status]
        meant = meant or [t for t in of_agent if wanted.was_under_way(t)]
        return meant[0] if len(meant) == 1 else None


def _seconds(at: datetime | None) -> float:
    return (at or datetime.min.replace(tzinfo=UTC)).timestamp()
