"""The part of the Postgres store that records alerts: each in one transaction with its checkpoint."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from spanpost.model.alerts import Alert
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.readers import alerts as rules
from spanpost.store import alert_rows
from spanpost.store.folding import Folding
from spanpost.store.protocols import Alerted
from spanpost.tasks.approvals import topic_of

log = logging.getLogger(__name__)
T = TypeVar("T")


class AlertRecording(Folding):
    """The methods of `PostgresStore` for alerts."""

    @abstractmethod
    async def _fold_in(self, connection: Any, record: Observation, locked: set[bytes], now: datetime) -> Recorded: ...

    @abstractmethod
    def _domains(self, record: Observation) -> set[bytes]: ...

    async def alerts(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """Return the recorded alerts among `ids`."""
        return await self._run(partial(alert_rows.read, ids=ids))

    async def take_alert(self, alert: Alert) -> Alerted:
        """Record an alert and its checkpoint. See `Store.take_alert`."""
        if (redaction := self._redaction) is not None:
            alert = redaction.alert(alert)
        idempotency_key = topic_of(alert.tenant, "alert", str(alert.id))

        async def foreseen(connection: Any) -> set[bytes]:
            new = await self._new(connection, alert)
            return (
                {idempotency_key}
                if new is None
                else {idempotency_key, *self._domains(rules.record_of(new, alert.starts_at))}
            )

        return await self._widening(partial(self._take_alert, alert), await self._run(foreseen))

    async def _new(self, connection: Any, alert: Alert) -> Alert | None:
        known = (await alert_rows.read(connection, [alert.id])).get(alert.id)
        if known is not None:
            return rules.again(known, alert)
        return rules.placed(alert, await alert_rows.named(connection, alert.tenant, rules.wanted(alert)))

    async def _take_alert(self, alert: Alert, connection: Any, locked: set[bytes]) -> Alerted:
        now = await self._lock(connection, locked)
        new = await self._new(connection, alert)
        if new is None:
            await alert_rows.count_duplicates(connection, [alert.id])
            return Alerted(alert=alert, is_repeat=True)
        record = rules.record_of(new, now)
        await self._lock_more(connection, locked, self._domains(record) - locked)
        await alert_rows.write(connection, new)
        return Alerted(alert=new, recorded=await self._fold_in(connection, record, locked, now))
