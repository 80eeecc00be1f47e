"""Records that the Postgres store makes itself, of people's acts and of alerts, folded in their transaction."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from spanpost.model.errors import OverBudget
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.store.folding import Folding
from spanpost.store.quarantine import mended
from spanpost.store.transactions import is_of_data, unfoldable
from spanpost.tasks import batches

log = logging.getLogger(__name__)


def domains_of(record: Observation) -> set[bytes]:
    """Return the domains that a record touches."""
    return batches.domains(batches.prepare([record], keeps_content=True))


async def fold_in(store: Folding, connection: Any, record: Observation, locked: set[bytes], now: datetime) -> Recorded:
    """Fold the record of an act.

    If that fails by a bug, the act is recorded all the same: an agent may wait for it.
    """
    try:
        with unfoldable():
            placed = batches.prepare([mended(record)], keeps_content=True)
        async with connection.transaction():
            # A copy: locks taken within are released when it is rolled back.
            return await store.take_locked(connection, placed, set(locked), now, asks_all=True)
    except Exception as error:
        if not (is_of_data(error) or isinstance(error, OverBudget)):
            raise
        log.warning("a person's act is recorded, but its task does not show it: %s", error, exc_info=True)
        return Recorded()
