"""The part of the Postgres store that records alerts: each in one transaction with its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.alerts import Alert, Alerted, Silence, SilenceFailure
from spanpost.model.interventions import Intervention, Result, Verdict
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.readers import alerts as rules
from spanpost.store import alert_rows, intervention_rows
from spanpost.store.folding import Folding
from spanpost.store.own_records import domains_of, fold_in
from spanpost.store.rows import tidy
from spanpost.tasks import alert_acts
from spanpost.tasks.approvals import topic_of


class PostgresAlerts:
    """The alerts of a `PostgresStore`."""

    def __init__(self, store: Folding) -> None:
        self._store = store

    async def known(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """Return the recorded alerts among `ids`."""
        return await self._store.run(partial(alert_rows.read, ids=ids))

    async def listed(self, tenant: str, is_firing: bool | None, limit: int) -> list[Alert]:
        """Return a tenant's alerts. See `Alerts.listed`."""
        return await self._store.run(lambda c: alert_rows.listed(c, tenant, is_firing, limit))

    async def intervene(self, act: Intervention) -> Verdict:
        """Record a person's act on an alert. See `Alerts.intervene`."""
        act = tidy(act)
        keys = {topic_of(act.tenant, "act", act.idempotency_key), topic_of(act.tenant, "alert", str(act.key))}

        async def foreseen(connection: Any) -> set[bytes]:
            alert = (await alert_rows.read(connection, [act.key])).get(act.key)
            return keys | _touched(alert, act.at)

        return await self._store.widening(partial(self._intervene, act), await self._store.run(foreseen))

    async def _intervene(self, act: Intervention, connection: Any, locked: set[bytes]) -> Verdict:
        now = await self._store.lock(connection, locked)
        before = await intervention_rows.verdict_of(connection, act)
        if before is not None:
            return msgspec.structs.replace(before, is_repeat=True)
        alert = await alert_rows.locked(connection, act.key)
        task = None
        if alert is not None:
            span = f"{alert.trace_id.hex()}-{alert.span_id.hex()}"
            task = await intervention_rows.referred(connection, alert.tenant, span)
        verdict = alert_acts.judge(act, alert, task, now)
        recorded = Recorded()
        if verdict.result is Result.DONE and alert is not None:
            alert = alert_acts.after(act, alert, now)
            await alert_rows.write(connection, alert)
            recorded = await self._fold(connection, alert_acts.record(act, alert, now), locked, now)
        await intervention_rows.write_act(connection, act, verdict, None)
        return msgspec.structs.replace(verdict, recorded=recorded)

    async def conclude(
        self, id: UUID, asked: Silence, silence_id: str, failure: SilenceFailure | None, by: str
    ) -> Alerted | None:
        """Record the outcome of a silence. See `Alerts.conclude`."""

        async def foreseen(connection: Any) -> set[bytes]:
            alert = (await alert_rows.read(connection, [id])).get(id)
            if alert is None:
                return set()
            return {topic_of(alert.tenant, "alert", str(id))} | _touched(alert, asked.asked_at)

        async def work(connection: Any, locked: set[bytes]) -> Alerted | None:
            now = await self._store.lock(connection, locked)
            alert = await alert_rows.locked(connection, id)
            found = alert_acts.concluded(alert, asked, silence_id, failure, by, now) if alert is not None else None
            if found is None:
                return None
            await alert_rows.write(connection, found[0])
            return Alerted(alert=found[0], recorded=await self._fold(connection, found[1], locked, now))

        return await self._store.widening(work, await self._store.run(foreseen))

    async def _fold(self, connection: Any, record: Observation | None, locked: set[bytes], now: datetime) -> Recorded:
        if record is None:
            return Recorded()
        await self._store.lock_more(connection, locked, domains_of(record) - locked)
        return await fold_in(self._store, connection, record, locked, now)

    async def take(self, alert: Alert) -> Alerted:
        """Record an alert and its checkpoint. See `Alerts.take`."""
        if (redaction := self._store.redaction) is not None:
            alert = redaction.alert(alert)
        idempotency_key = topic_of(alert.tenant, "alert", str(alert.id))

        async def foreseen(connection: Any) -> set[bytes]:
            new = await self._new(connection, alert)
            return (
                {idempotency_key}
                if new is None
                else {idempotency_key, *domains_of(rules.record_of(new, alert.starts_at))}
            )

        return await self._store.widening(partial(self._take, alert), await self._store.run(foreseen))

    async def _new(self, connection: Any, alert: Alert) -> Alert | None:
        known = (await alert_rows.read(connection, [alert.id])).get(alert.id)
        if known is not None:
            return rules.again(known, alert)
        return rules.placed(alert, await alert_rows.named(connection, alert.tenant, rules.wanted(alert)))

    async def _take(self, alert: Alert, connection: Any, locked: set[bytes]) -> Alerted:
        now = await self._store.lock(connection, locked)
        new = await self._new(connection, alert)
        if new is None:
            return Alerted(alert=alert, is_repeat=True)
        record = rules.record_of(new, now)
        await self._store.lock_more(connection, locked, domains_of(record) - locked)
        await alert_rows.write(connection, new)
        return Alerted(alert=new, recorded=await fold_in(self._store, connection, record, locked, now))


def _touched(alert: Alert | None, now: datetime) -> set[bytes]:
    """Return the domains of a change of an alert."""
    return domains_of(rules.change_of(alert, "acknowledged", "", now)) if alert is not None else set()
