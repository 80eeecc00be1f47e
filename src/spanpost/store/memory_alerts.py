"""Alerts in memory: the same rules as `alert_recording`, over a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from spanpost.model.alerts import Alert
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.readers import alerts as rules
from spanpost.store.protocols import Alerted

#: Alerts kept; the oldest are dropped.
_KEPT = 5_000


class AlertsHost(Protocol):
    """**Protocol:** what alerts need of the store that keeps the tasks."""

    def stored(self) -> Collection[Task]: ...

    def shown(self, task: Task) -> Task: ...

    def record_own(self, records: Sequence[Observation]) -> Recorded: ...


class MemoryAlerts:
    """Alerts of one process."""

    def __init__(self, host: AlertsHost, clock: Callable[[], datetime]) -> None:
        self._host = host
        self._clock = clock
        self.kept: dict[UUID, Alert] = {}

    def take(self, alert: Alert) -> Alerted:
        """Keep an alert and attach it to the task that it names."""
        known = self.kept.get(alert.id)
        new = rules.placed(alert, self._named(alert)) if known is None else rules.again(known, alert)
        if new is None:
            return Alerted(alert=known or alert, is_repeat=True)
        self.kept[new.id] = new
        if len(self.kept) > _KEPT:
            del self.kept[next(iter(self.kept))]
        return Alerted(alert=new, recorded=self._host.record_own([rules.record_of(new, self._clock())]))

    def _named(self, alert: Alert) -> Task | None:
        wanted = rules.wanted(alert)
        tasks = [t for t in self._host.stored() if t.tenant == alert.tenant and t.is_announced]
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
            self._host.shown(t)
            for t in tasks
            if t.agent_name == wanted.agent and wanted.environment in ("", t.environment)
        ]
        meant = [t for t in of_agent if t.ended_at is None and t.status == wanted.status]
        meant = meant or [t for t in of_agent if wanted.was_under_way(t)]
        return meant[0] if len(meant) == 1 else None


def _seconds(at: datetime | None) -> float:
    return (at or datetime.min.replace(tzinfo=UTC)).timestamp()
