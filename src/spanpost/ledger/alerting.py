"""The part of the Postgres ledger that takes alerts: each in one transaction with what it tells."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from spanpost.domain.alerts import Alert
from spanpost.domain.observations import Observation
from spanpost.domain.records import Recorded
from spanpost.fold import alerts as rules
from spanpost.fold.approvals import topic_of
from spanpost.ledger import alerts
from spanpost.ledger.base import Alerted
from spanpost.ledger.folding import Folding

log = logging.getLogger(__name__)
T = TypeVar("T")


class Alerts(Folding):
    """Alerts, over the transactions of the ledger that this is a part of."""

    @abstractmethod
    async def _fold_in(self, connection: Any, record: Observation, locked: set[bytes], now: datetime) -> Recorded: ...

    @abstractmethod
    def _domains(self, record: Observation) -> set[bytes]: ...

    async def alerts(self, ids: Sequence[UUID]) -> dict[UUID, Alert]:
        """Return those of these alerts that are kept."""
        return await self._run(partial(alerts.read, ids=ids))

    async def take_alert(self, alert: Alert) -> Alerted:
        """Keep an alert, and tell it where it belongs. See `Ledger.take_alert`."""
        if (redaction := self._redaction) is not None:
            alert = redaction.alert(alert)
        once = topic_of(alert.tenant, "alert", str(alert.id))

        async def foreseen(connection: Any) -> set[bytes]:
            new = await self._new(connection, alert)
            return {once} if new is None else {once, *self._domains(rules.told(new, alert.starts_at))}

        return await self._widening(partial(self._take_alert, alert, once), await self._run(foreseen))

    async def _new(self, connection: Any, alert: Alert) -> Alert | None:
        known = (await alerts.read(connection, [alert.id])).get(alert.id)
        if known is not None:
            return rules.again(known, alert)
        return rules.placed(alert, await alerts.named(connection, alert.tenant, rules.wanted(alert)))

    async def _take_alert(self, alert: Alert, once: bytes, connection: Any, locked: set[bytes]) -> Alerted:
        now = await self._lock(connection, locked)
        new = await self._new(connection, alert)
        if new is None:
            await alerts.repeated(connection, [alert.id])
            return Alerted(alert=alert, is_repeat=True)
        record = rules.told(new, now)
        await self._lock_more(connection, locked, self._domains(record) - locked)
        await alerts.write(connection, new)
        return Alerted(alert=new, recorded=await self._fold_in(connection, record, locked, now))
