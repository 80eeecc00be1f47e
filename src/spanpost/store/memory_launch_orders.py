"""Launch orders in memory: the same rules as `launch_orders`, over a dictionary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from spanpost.model.launch_orders import Order
from spanpost.model.summaries import SUMMARY
from spanpost.model.tasks import Task
from spanpost.routing import launch_orders as rules
from spanpost.routing.launch_orders import Launches
from spanpost.routing.planned import PlannedDelivery
from spanpost.store.protocols import OrderQuery, OrderRow
from spanpost.tasks.folded import Folded

log = logging.getLogger("spanpost.store.memory")

#: Orders kept; the oldest are dropped.
_MOST: Final = 10_000
_HOUR: Final = timedelta(hours=1)


class CarriesOrders(Protocol):
    """**Protocol:** the deliveries of the same store."""

    def post(self, delivery: PlannedDelivery, *, is_new: bool) -> None: ...

    def of(self, order: Order) -> OrderRow: ...

    def tidy(self, sink: str, ordering_key: str, kept: int) -> None: ...


class Orders:
    """Launch orders of one process."""

    def __init__(self, deliveries: CarriesOrders, clock: Callable[[], datetime]) -> None:
        self._deliveries = deliveries
        self._clock = clock
        self.known: dict[UUID, Order] = {}
        self._recorded: dict[UUID, datetime] = {}

    def place(self, orders: Iterable[Order]) -> int:
        """Keep orders and post the deliveries that carry them; return how many are new."""
        new = [order for order in orders if order.id not in self.known]
        for order in new:
            self.known[order.id] = order
            self._recorded[order.id] = self._clock()
            self._deliveries.post(rules.planned_of(order), is_new=True)
            if order.carrier.startswith(SUMMARY):
                self._tidy(order)
        while len(self.known) > _MOST:
            oldest = next(iter(self.known))
            del self.known[oldest], self._recorded[oldest]
        return len(new)

    def _tidy(self, order: Order) -> None:
        """Keep the newest of a series of summaries: each holds a whole message, and one a minute may follow."""
        self._deliveries.tidy(order.carrier, rules.planned_of(order).ordering_key, rules.KEPT)
        series = [one for one in self.known.values() if (one.carrier, one.task_uid) == (order.carrier, order.task_uid)]
        for one in series:
            if not self._deliveries.of(one).state:
                del self.known[one.id], self._recorded[one.id]

    def standing(self, task: Task) -> Order | None:
        """Return the order by which this run of a task is being started again."""
        since = self._clock() - rules.STANDS
        for order in self.known.values():
            if order.task_uid == task.uid and order.run == task.runs and order.retry_of:
                state = self._deliveries.of(order).state
                if state != "dead" and (state in ("waiting", "sending") or self._recorded[order.id] > since):
                    return order
        return None

    def first(self, task: Task) -> Order | None:
        """Return the order that started a task, if the task names it."""
        try:
            found = self.known.get(UUID(task.order_id or ""))
        except ValueError:
            return None
        return found if found is not None and found.tenant == task.tenant else None

    def on_end(self, folded: Folded, launches: Launches) -> int:
        """Place the orders that the ended runs of this batch trigger; return how many are new."""
        if not launches.rules or not folded.ended:
            return 0
        now, ended, placed = self._clock(), set(folded.ended), 0
        wanted = [
            order
            for task in folded.tasks
            if task.uid in ended
            for order in rules.on_end(task, launches, self.first(task), now)
        ]
        may, deep = rules.too_deep(wanted, launches)
        for order in deep:
            log.warning(
                "launcher %s is not started after %s: %d rules deep, a loop?", order.name, order.caused_by, order.depth
            )
        for order in may:
            recent = [id for id, at in self._recorded.items() if at > now - _HOUR and self.known[id].rule == order.rule]
            if len(recent) >= launches.max_hourly:
                log.warning(
                    "launcher %s is not started after %s: its rule has started enough in this hour",
                    order.name,
                    order.caused_by,
                )
                continue
            placed += self.place([order])
        return placed

    def listed(self, query: OrderQuery) -> list[OrderRow]:
        """List launch orders, newest first."""
        found = [
            order
            for order in self.known.values()
            if (query.tenant is None or order.tenant == query.tenant)
            and (query.carrier is None or order.carrier == query.carrier)
            and (query.task_uid is None or order.task_uid == query.task_uid)
            and (query.id is None or order.id == query.id)
        ]
        return [self._deliveries.of(order) for order in found[::-1][: query.limit]]
