"""The letters of the memory ledger: what people see of them and do with them, over what recording and the pump do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from spanpost.dispatch import states
from spanpost.dispatch.states import OutboxEntry
from spanpost.domain import fleet
from spanpost.domain.deliveries import Budget, Receipt
from spanpost.domain.orders import Order
from spanpost.fold import paces
from spanpost.ledger.base import BudgetRow, DeliveryRow, OrderRow, row_of
from spanpost.ledger.memory_claims import Claims


class Letters(Claims):
    """Letters, lanes and buckets of one process."""

    def fleet(self) -> list[fleet.Letters]:
        """Return what waits and what was given up, by sink."""
        now = self._clock()
        found: dict[str, list[OutboxEntry]] = {}
        for row in self._letters.values():
            if row.state != "delivered":
                found.setdefault(row.sink, []).append(row)
        out = []
        for sink, rows in found.items():
            waits = [max((now - row.born_at).total_seconds(), 0.0) for row in rows if row.state != "dead"]
            out.append(fleet.Letters(sink=sink, waiting=len(waits), oldest=max(waits, default=0.0), dead=len(rows) - len(waits)))
        return out

    def listed(self, state: str | None, sink: str | None, limit: int) -> list[DeliveryRow]:
        """List letters, oldest first."""
        rows = []
        for row in self._letters.values():
            if (state is not None and row.state != state) or (sink is not None and row.sink != sink):
                continue
            task = self._knows.task(row.task_uid)
            checkpoint = self._knows.checkpoint(row.checkpoint_id) if row.checkpoint_id is not None else None
            rows.append(
                DeliveryRow(
                    id=row.id,
                    sink=row.sink,
                    address=row.address,
                    lane=row.lane,
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

    def shown_in(self, sink: str, ref: Mapping[str, Any]) -> UUID | None:
        """Return the task of a message, by a part of its receipt's `ref`; that of a lane's state before that of news."""
        found = [r for r in self._letters.values() if r.sink == sink and r.receipt is not None and _holds(r.receipt, ref)]
        best = max(found, key=lambda row: (row.is_state, row.id), default=None)
        return best.task_uid if best is not None else None

    def refs(self, sink: str, uids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return where a sink shows the state of these tasks; of several places the newest."""
        rows = [row for row in self._letters.values() if row.sink == sink and row.is_state and row.task_uid in uids]
        rows.sort(key=lambda row: row.id)
        return {row.task_uid: dict(row.receipt.ref) for row in rows if row.receipt is not None}

    def of(self, order: Order) -> OrderRow:
        """Return an order with what became of its letter."""
        row = self._letters.get(self._ids.get((order.carrier, str(order.id)), 0))
        if row is None:
            return OrderRow(order=order)
        ref = row.receipt.ref if row.receipt is not None else {}
        return OrderRow(order=order, state=row.state, reason=row.reason, error=row.error, ref=ref)

    def revive(self, ids: Sequence[int] | None, sink: str | None) -> int:
        """Set dead letters waiting again."""
        chosen = [
            row
            for row in self._letters.values()
            if row.state == "dead" and (ids is None or row.id in ids) and (sink is None or row.sink == sink)
        ]
        for row in chosen:
            self._store(states.revive(row, self._clock()))
        return len(chosen)

    def bury(self, ids: Sequence[int]) -> int:
        """Give up waiting letters by hand."""
        chosen = [row for number in ids if (row := self._letters.get(number)) is not None and row.state == "waiting"]
        for row in chosen:
            self._store(states.discard(row))
        return len(chosen)

    def states(self) -> dict[str, int]:
        """Count letters by state."""
        return dict(Counter(row.state for row in self._letters.values()))

    def budgets(self, *, is_closed: bool) -> list[BudgetRow]:
        """List budgets, those that are closed for longest first."""
        now = self._clock()
        found = [(b, self._budgets.get(b.key) or Budget(key=b.key)) for b in self._buckets.values()]
        rows = [row_of(bucket, budget, now) for bucket, budget in found]
        rows.sort(key=lambda row: (row.state == "open", -(row.until or now).timestamp(), row.key))
        return [row for row in rows if not is_closed or row.state != "open"]

    def reopen(self, keys: Iterable[str]) -> int:
        """Open closed budgets by hand."""
        closed = {row.key for row in self.budgets(is_closed=True)} & set(keys)
        self._buckets.update({key: paces.reopened(self._buckets[key]) for key in closed})
        return len(closed)


def _holds(receipt: Receipt, ref: Mapping[str, Any]) -> bool:
    return all(receipt.ref.get(name) == value for name, value in ref.items())
