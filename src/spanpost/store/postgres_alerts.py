"""The part of the Postgres store that records alerts: each in one transaction with its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from spanpost.model.alerts import Alert, Alerted
from spanpost.readers import alerts as rules
from spanpost.store import alert_rows
from spanpost.store.folding import Folding
from spanpost.store.own_records import domains_of, fold_in
from spanpost.tasks.approvals import topic_of


class PostgresAlerts:
    """The alerts of a `PostgresStore`."""

    def __init__(self, store: Folding) -> None:
        self._store = store

    async def known(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """Return the recorded alerts among `ids`."""
        return await self._store.run(partial(alert_rows.read, ids=ids))

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
            await alert_rows.count_duplicates(connection, [alert.id])
            return Alerted(alert=alert, is_repeat=True)
        record = rules.record_of(new, now)
        await self._store.lock_more(connection, locked, domains_of(record) - locked)
        await alert_rows.write(connection, new)
        return Alerted(alert=new, recorded=await fold_in(self._store, connection, record, locked, now))
