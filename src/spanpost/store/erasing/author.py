"""Who erases and why, as the sealed log keeps it: rows that are erased keep their leaves and lose their salts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from spanpost.store.sealing.forgetting import SealedRow, erased

#: (occurred_at, event_id, content_hash) of an audit row.
AuditKey = tuple[datetime, UUID, int]
#: What a row that is changed gets, so that its new content becomes a leaf of its own.
SEALED_ANEW: Final = "written_in = pg_current_xact_id()::text::bigint"


class Author:
    """Who erases and why. The reason stays in the sealed log for ever. `act`: id of the operation's row."""

    def __init__(self, actor: str, reason: str, act: UUID) -> None:
        self.actor = actor
        self.reason = reason
        self.act = act

    async def erased_rows(self, connection: Any, tenant: str, keys: Iterable[AuditKey]) -> None:
        """Forget the salts of audit rows, in the transaction that erases or changes them."""
        await self._erased(connection, tenant, [SealedRow("audit_rows", key) for key in keys])

    async def erased_acts(self, connection: Any, tenant: str, ids: Iterable[UUID]) -> None:
        """Forget the salts of interventions, in the transaction that erases or changes them."""
        await self._erased(connection, tenant, [SealedRow("human_interventions", (id,)) for id in ids])

    async def _erased(self, connection: Any, tenant: str, rows: list[SealedRow]) -> None:
        if rows:
            await erased(connection, tenant, rows, actor=self.actor, reason=self.reason, act=self.act)
