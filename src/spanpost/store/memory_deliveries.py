"""Deliveries of the memory store: listing, retries, discards. `memory_outbox` and `memory_claims` have the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from spanpost.model import fleet
from spanpost.model.deliveries import DeliveryRow, RateLimit, RateLimitRow, Receipt
from spanpost.model.launch_orders import Order, OrderRow
from spanpost.routing import delivery_states, rate_limiting
from spanpost.routing.delivery_states import OutboxEntry
from spanpost.store.memory_claims import Claims
from spanpost.store.rate_limit_rows import row_of


class MemoryOutbox(Claims):
    """Deliveries, ordering keys and rate limits of one process."""

    def fleet(self) -> list[fleet.SinkQueue]:
        """Count waiting and dead deliveries by sink."""
        now = self._clock()
        found: dict[str, list[OutboxEntry]] = {}
        for row in self._deliveries.values():
            if row.state != "delivered":
                found.setdefault(row.sink, []).append(row)
        out = []
        for sink, rows in found.items():
            waits = [max((now - row.born_at).total_seconds(), 0.0) for row in rows if row.state != "dead"]
            out.append(
                fleet.SinkQueue(
                    sink=sink, waiting=len(waits), oldest=max(waits, default=0.0), dead=len(rows) - len(waits)
                )
            )
        return out

    async def deliveries(
        self, *, state: str | None = None, sink: str | None = None, limit: int = 100, tenant: str | None = None
    ) -> list[DeliveryRow]:
        """List deliveries, oldest first."""
        rows = []
        for row in self._in(state):
            if (state is not None and row.state != state) or (sink is not None and row.sink != sink):
                continue
            if tenant is not None and row.tenant != tenant:
                continue
            task = self._tables.task(row.task_uid)
            checkpoint = self._tables.checkpoints.get(row.checkpoint_id) if row.checkpoint_id is not None else None
            rows.append(
                DeliveryRow(
                    id=row.id,
                    sink=row.sink,
                    address=row.address,
                    ordering_key=row.ordering_key,
                    mode=row.mode,
                    state=row.state,
                    task_id=task.task_id if task is not None else "",
                    kind=checkpoint.kind if checkpoint is not None else "state" if row.is_state else "order",
                    attempt=row.attempt,
                    born_at=row.born_at,
                    not_before=row.not_before,
                    reason=row.reason,
                    error=row.error,
                )
            )
            if len(rows) >= limit:
                break
        return rows

    def _in(self, state: str | None) -> Iterable[OutboxEntry]:
        """Return the deliveries among which are those of a state, oldest first."""
        if state not in ("waiting", "sending"):
            return self._deliveries.values()
        return sorted((one for found in self._open.values() for one in found.values()), key=lambda entry: entry.id)

    def shown_in(self, sink: str, ref: Mapping[str, Any]) -> UUID | None:
        """Return the task of a message, by a part of its receipt's `ref`.

        A message of state ranks before a checkpoint.
        """
        found = [
            r for r in self._deliveries.values() if r.sink == sink and r.receipt is not None and _holds(r.receipt, ref)
        ]
        best = max(found, key=lambda row: (row.is_state, row.id), default=None)
        return best.task_uid if best is not None else None

    def refs(self, sink: str, uids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return where a sink shows the state of these tasks; of several places the newest."""
        rows = [row for row in self._deliveries.values() if row.sink == sink and row.is_state and row.task_uid in uids]
        rows.sort(key=lambda row: row.id)
        return {row.task_uid: dict(row.receipt.ref) for row in rows if row.receipt is not None}

    def of(self, order: Order) -> OrderRow:
        """Return a launch order with the state of its delivery."""
        row = self._deliveries.get(self._ids.get((order.carrier, str(order.id)), 0))
        if row is None:
            return OrderRow(order=order)
        ref = row.receipt.ref if row.receipt is not None else {}
        return OrderRow(order=order, state=row.state, reason=row.reason, error=row.error, ref=ref)

    async def retry(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """Set dead deliveries waiting again."""
        chosen = [
            row
            for row in self._deliveries.values()
            if row.state == "dead" and (ids is None or row.id in ids) and (sink is None or row.sink == sink)
        ]
        for row in chosen:
            self._store(delivery_states.revive(row, self._clock()))
        return len(chosen)

    async def discard(self, ids: Sequence[int]) -> int:
        """Discard waiting deliveries by hand."""
        chosen = [row for number in ids if (row := self._deliveries.get(number)) is not None and row.state == "waiting"]
        for row in chosen:
            self._store(delivery_states.discard(row))
        return len(chosen)

    def states(self) -> dict[str, int]:
        """Count deliveries by state."""
        return dict(Counter(row.state for row in self._deliveries.values()))

    async def rate_limits(self, *, is_closed: bool = False) -> list[RateLimitRow]:
        """List rate limits, those with the longest open circuit first."""
        return self._listed_rate_limits(is_closed)

    def closed_rate_limits(self) -> list[tuple[str, str]]:
        """Return the keys of closed rate limits, each with the reason."""
        return [(row.key, row.why) for row in self._listed_rate_limits(is_closed=True)]

    def delivered_at(self) -> dict[str, datetime]:
        """Return when the newest delivery of each sink was sent that arrived."""
        sent = sorted((d.sent_at, d.sink) for d in self._deliveries.values() if d.state == "delivered" and d.sent_at)
        return {sink: at for at, sink in sent}

    def _listed_rate_limits(self, is_closed: bool) -> list[RateLimitRow]:
        now = self._clock()
        found = [(b, self._rate_limits.get(b.key) or RateLimit(key=b.key)) for b in self._buckets.values()]
        rows = [row_of(bucket, rate_limit, now) for bucket, rate_limit in found]
        rows.sort(key=lambda row: (row.state == "open", -(row.until or now).timestamp(), row.key))
        return [row for row in rows if not is_closed or row.state != "open"]

    async def reopen(self, keys: Sequence[str]) -> int:
        """Close open circuits by hand."""
        closed = {row.key for row in self._listed_rate_limits(is_closed=True)} & set(keys)
        self._buckets.update({key: rate_limiting.reopened(self._buckets[key]) for key in closed})
        return len(closed)


def _holds(receipt: Receipt, ref: Mapping[str, Any]) -> bool:
    return all(receipt.ref.get(name) == value for name, value in ref.items())
