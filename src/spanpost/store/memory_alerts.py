"""Alerts in memory: the same rules as `postgres_alerts`, over a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from spanpost.model.alerts import Alert, Alerted, Silence, SilenceFailure
from spanpost.model.interventions import Intervention, Result, Verdict
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.readers import alerts as rules
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_interventions import MemoryInterventions
from spanpost.store.memory_tables import MemoryTables
from spanpost.tasks import alert_acts

#: Alerts kept; the oldest are dropped.
_KEPT = 5_000


class MemoryAlerts:
    """Alerts of one process. `record` records the observations that are made of them."""

    def __init__(
        self,
        tables: MemoryTables,
        heartbeats: MemoryHeartbeats,
        interventions: MemoryInterventions,
        record: Callable[[Sequence[Observation]], Recorded],
    ) -> None:
        self._tables = tables
        self._heartbeats = heartbeats
        self._interventions = interventions
        self._record = record

    async def known(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """Return the kept alerts among `ids`."""
        return {id: alert for id in ids if (alert := self._tables.alerts.get(id)) is not None}

    async def listed(self, tenant: str, is_firing: bool | None, limit: int) -> list[Alert]:
        """Return a tenant's alerts, newest first."""
        found = [
            alert
            for alert in self._tables.alerts.values()
            if alert.tenant == tenant and is_firing in (None, not alert.is_resolved)
        ]
        return sorted(found, key=lambda alert: (-alert.starts_at.timestamp(), alert.id))[:limit]

    async def intervene(self, act: Intervention) -> Verdict:
        """Record a person's act on an alert."""
        if (before := self._interventions.verdict_of(act)) is not None:
            return before
        now, alert = self._tables.clock(), self._tables.alerts.get(act.key)
        task = self._task(alert) if alert is not None else None
        verdict = alert_acts.judge(act, alert, task, now)
        recorded = Recorded()
        if verdict.result is Result.DONE and alert is not None:
            alert = self._tables.alerts[alert.id] = alert_acts.after(act, alert, now)
            record = alert_acts.record(act, alert, now)
            recorded = self._record([record]) if record is not None else recorded
        self._interventions.keep_act(act, verdict, now)
        return msgspec.structs.replace(verdict, recorded=recorded)

    async def conclude(
        self, id: UUID, asked: Silence, silence_id: str, failure: SilenceFailure | None, by: str
    ) -> Alerted | None:
        """Record the outcome of a silence."""
        alert = self._tables.alerts.get(id)
        now = self._tables.clock()
        found = alert_acts.concluded(alert, asked, silence_id, failure, by, now) if alert is not None else None
        if found is None:
            return None
        self._tables.alerts[id] = found[0]
        return Alerted(alert=found[0], recorded=self._record([found[1]]))

    def _task(self, alert: Alert) -> Task | None:
        span = f"{alert.trace_id.hex()}-{alert.span_id.hex()}"
        tasks = [t for t in self._tables.tasks.values() if t.tenant == alert.tenant and span in (t.task_id, *t.aliases)]
        return tasks[0] if tasks else None

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
