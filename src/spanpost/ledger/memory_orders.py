"""Orders, in memory: the same rules as `orders`, over a dictionary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from spanpost.domain.orders import Order
from spanpost.domain.summaries import SUMMARY
from spanpost.domain.tasks import Task
from spanpost.fold import orders as rules
from spanpost.fold.batch import Folded
from spanpost.fold.letters import Letter
from spanpost.fold.orders import Launches
from spanpost.ledger.base import OrderQuery, OrderRow

log = logging.getLogger("spanpost.ledger.memory")

#: Orders that are remembered.
_MOST: Final = 10_000
_HOUR: Final = timedelta(hours=1)


class Carries(Protocol):
    """**Protocol:** the letters of the same ledger."""

    def post(self, letter: Letter, *, is_new: bool) -> None: ...

    def of(self, order: Order) -> OrderRow: ...

    def tidy(self, sink: str, lane: str, kept: int) -> None: ...


class Orders:
    """Orders of one process's ledger."""

    def __init__(self, letters: Carries, clock: Callable[[], datetime]) -> None:
        self._letters = letters
        self._clock = clock
        self.known: dict[UUID, Order] = {}
        self._recorded: dict[UUID, datetime] = {}

    def place(self, orders: Iterable[Order]) -> int:
        """Keep orders and post the letters that carry them; return how many are new."""
        new = [order for order in orders if order.id not in self.known]
        for order in new:
            self.known[order.id] = order
            self._recorded[order.id] = self._clock()
            self._letters.post(rules.letter_of(order), is_new=True)
            if order.carrier.startswith(SUMMARY):
                self._tidy(order)
        while len(self.known) > _MOST:
            oldest = next(iter(self.known))
            del self.known[oldest], self._recorded[oldest]
        return len(new)

    def _tidy(self, order: Order) -> None:
        """Keep the newest of a lane of summaries: each holds a whole message, and one a minute may follow."""
        self._letters.tidy(order.carrier, rules.letter_of(order).lane, rules.KEPT)
        lane = [one for one in self.known.values() if (one.carrier, one.task_uid) == (order.carrier, order.task_uid)]
        for one in lane:
            if not self._letters.of(one).state:
                del self.known[one.id], self._recorded[one.id]

    def standing(self, task: Task) -> Order | None:
        """Return the order by which this run of a task is being started again."""
        since = self._clock() - rules.STANDS
        for order in self.known.values():
            if order.task_uid == task.uid and order.run == task.segments and order.retry_of:
                state = self._letters.of(order).state
                if state != "dead" and (state in ("waiting", "sending") or self._recorded[order.id] > since):
                    return order
        return None

    def first(self, task: Task) -> Order | None:
        """Return the order by which a task was started, as far as it says it."""
        try:
            found = self.known.get(UUID(task.order_id or ""))
        except ValueError:
            return None
        return found if found is not None and found.tenant == task.tenant else None

    def on_end(self, folded: Folded, launches: Launches) -> int:
        """Place what the runs that ended in this batch start; return how many orders are new."""
        if not launches.rules or not folded.ended:
            return 0
        now, ended, placed = self._clock(), set(folded.ended), 0
        wanted = [
            order for task in folded.tasks if task.uid in ended for order in rules.on_end(task, launches, self.first(task), now)
        ]
        may, deep = rules.too_deep(wanted, launches)
        for order in deep:
            log.warning("launcher %s is not started after %s: %d rules deep, a loop?", order.name, order.caused_by, order.depth)
        for order in may:
            recent = [id for id, at in self._recorded.items() if at > now - _HOUR and self.known[id].rule == order.rule]
            if len(recent) >= launches.hourly:
                log.warning(
                    "launcher %s is not started after %s: its rule has started enough in this hour", order.name, order.caused_by
                )
                continue
            placed += self.place([order])
        return placed

    def listed(self, query: OrderQuery) -> list[OrderRow]:
        """List orders, newest first."""
        found = [
            order
            for order in self.known.values()
            if (query.tenant is None or order.tenant == query.tenant)
            and (query.carrier is None or order.carrier == query.carrier)
            and (query.task_uid is None or order.task_uid == query.task_uid)
            and (query.id is None or order.id == query.id)
        ]
        return [self._letters.of(order) for order in found[::-1][: query.limit]]
