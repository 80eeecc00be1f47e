"""The outbox in PostgreSQL: deliveries are claimed, finished and listed. `claims` and `outbox` have the SQL."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from spanpost.model.deliveries import Delivery, DeliveryRow, RateLimit, RateLimitRow, RateLimits, SinkCall, unlimited
from spanpost.model.errors import StoreUnavailable
from spanpost.model.outcomes import Outcome
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.store import claims, heartbeats, outbox, rate_limit_rows, takeovers
from spanpost.store.folding import Folding

log = logging.getLogger(__name__)


class PostgresOutbox:
    """The deliveries of a `PostgresStore`."""

    def __init__(self, store: Folding, lease: timedelta, jitter: Callable[[], float] = random.random) -> None:
        self._store = store
        self.lease = lease
        self._jitter = jitter
        #: Marks the deliveries that this process claimed.
        self._owner = uuid4()
        #: Rate limits as the sinks last named them, by key.
        self._rate_limits: dict[str, RateLimit] = {}

    async def claim(self, sinks: Sequence[str], limit: int, rate_limits: RateLimits = unlimited) -> list[Delivery]:
        """Lease deliveries that are due. See `Outbox.claim`."""
        routes = self._store.rules.routes

        def remembered(sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
            found = rate_limits(sink, address, call)
            self._rate_limits.update((b.key, b) for b in found)
            return found

        async def work(connection: Any) -> tuple[list[Delivery], list[int]]:
            return await claims.claim(connection, sinks, limit, self._owner, self.lease, remembered, routes)

        async def move(connection: Any) -> None:
            await outbox.put(connection, [], [], await takeovers.plan_moves(connection, strays, routes))

        found, strays = await self._store.run(work)
        if strays:
            with contextlib.suppress(StoreUnavailable):  # the next claim meets them again; ours stand
                await self._store.run(move)
                if not found:
                    found, _ = await self._store.run(work)
        return found

    async def finish(self, delivery: Delivery, outcome: Outcome) -> list[OpenCircuit]:
        """Record the outcome of a claimed delivery. See `Outbox.finish`."""
        jitter = self._jitter()
        is_held, closed = await self._store.run(
            lambda c: claims.finish(c, delivery, outcome, self._owner, self._rate_limits, jitter)
        )
        if not is_held:
            log.info("delivery %d was claimed by another process before its outcome was recorded", delivery.id)
        return closed

    async def due_in(self, sinks: Sequence[str] | None = None, rate_limits: RateLimits = unlimited) -> float | None:
        """Return the seconds until a delivery or a timer is due; None when nothing waits."""

        async def work(connection: Any) -> float | None:
            await connection.execute(heartbeats.RECEIVER_RUNS)
            return await claims.due_in(connection, sinks, rate_limits)

        return await self._store.run(work)

    async def deliveries(
        self, *, state: str | None = None, sink: str | None = None, limit: int = 100, tenant: str | None = None
    ) -> list[DeliveryRow]:
        """List deliveries, oldest first."""
        return await self._store.run(lambda c: outbox.listed(c, state, sink, limit, tenant))

    async def retry(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """Set dead deliveries to waiting."""
        return await self._store.run(lambda c: outbox.revive(c, ids, sink))

    async def discard(self, ids: Sequence[int]) -> int:
        """Give up waiting deliveries."""
        return await self._store.run(lambda c: outbox.give_up(c, ids))

    async def rate_limits(self, *, is_closed: bool = False) -> list[RateLimitRow]:
        """List rate limits."""
        return await self._store.run(lambda c: rate_limit_rows.listed(c, is_closed=is_closed))

    async def reopen(self, keys: Sequence[str]) -> int:
        """Open closed rate limits at once."""
        return await self._store.run(lambda c: rate_limit_rows.reopen(c, keys))
