"""Launch orders in memory: the same rules as `launch_orders`, over a dictionary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from spanpost.model.interventions import Intervention, Verdict
from spanpost.model.launch_orders import Order, OrderQuery, OrderRow, Taken
from spanpost.model.summaries import SUMMARY
from spanpost.model.tasks import Task
from spanpost.routing import launch_orders as rules
from spanpost.routing.launch_orders import Launches
from spanpost.store.memory_deliveries import MemoryOutbox
from spanpost.store.memory_tables import MemoryTables
from spanpost.tasks.folded import Folded

log = logging.getLogger("spanpost.store.memory")

#: Orders kept; the oldest are dropped.
_MOST: Final = 10_000
_HOUR: Final = timedelta(hours=1)


class MemoryLaunchOrders:
    """Launch orders of one process."""

    def __init__(self, tables: MemoryTables, outbox: MemoryOutbox) -> None:
        self._tables = tables
        self._outbox = outbox
        self._clock = tables.clock
        self._orders = tables.orders
        self._recorded: dict[UUID, datetime] = {}
        #: Keeps the act of a program that placed an order (`MemoryInterventions.keep_act`).
        self.keep_act: Callable[[Intervention, Verdict, datetime], None] | None = None

    async def place(self, order: Order, *, signature: str = "") -> Taken:
        """Place a launch order, with the delivery that carries it. See `LaunchOrders.place`."""
        if signature and not self._tables.is_first(signature):
            return Taken.REPLAYED
        order = order if (redaction := self._tables.redaction) is None else redaction.order(order)
        return Taken.NEW if self.put([order]) else Taken.KNOWN

    def put(self, orders: Iterable[Order]) -> int:
        """Keep orders and post the deliveries that carry them; return how many are new."""
        new = [order for order in orders if order.id not in self._orders]
        for order in new:
            self._orders[order.id] = order
            self._recorded[order.id] = self._clock()
            if (act := rules.act_of(order)) is not None and self.keep_act is not None:
                self.keep_act(*act, self._clock())
            self._outbox.post(rules.planned_of(order), is_new=True)
            if order.carrier.startswith(SUMMARY):
                self._tidy(order)
        while len(self._orders) > _MOST:
            oldest = next(iter(self._orders))
            del self._orders[oldest], self._recorded[oldest]
        return len(new)

    def _tidy(self, order: Order) -> None:
        """Keep the newest of a series of summaries: each holds a whole message, and one a minute may follow."""
        self._outbox.tidy(order.carrier, rules.planned_of(order).ordering_key, rules.KEPT)
        series = [
            one for one in self._orders.values() if (one.carrier, one.task_uid) == (order.carrier, order.task_uid)
        ]
        for one in series:
            if not self._outbox.of(one).state:
                del self._orders[one.id], self._recorded[one.id]

    def standing(self, task: Task) -> Order | None:
        """Return the order by which this run of a task is being started again."""
        since = self._clock() - rules.STANDS
        for order in self._orders.values():
            if order.task_uid == task.uid and order.run == task.runs and order.retry_of:
                state = self._outbox.of(order).state
                if state != "dead" and (state in ("waiting", "sending") or self._recorded[order.id] > since):
                    return order
        return None

    def first(self, task: Task) -> Order | None:
        """Return the order that started a task, if the task names it."""
        try:
            found = self._orders.get(UUID(task.order_id or ""))
        except ValueError:
            return None
        return found if found is not None and found.tenant == task.tenant else None

    def on_end(self, folded: Folded, launches: Launches) -> int:
        """Place the orders that the ended runs of this batch trigger; return how many are new."""
        if not launches.rules or not folded.ended:
            return 0
        now, ended, placed = self._clock(), set(folded.ended), 0
        tasks = [task for task in folded.tasks if task.uid in ended]
        complete = {
            join
            for join, rule in rules.joins(tasks, launches, now)
            if rule.is_complete(
                task
                for task in self._tables.tasks.values()
                if task.tenant == join.tenant
                and getattr(task, join.field) == join.value
                and task.started_at is not None
                and task.started_at > now - rule.within
            )
        }
        wanted = [order for task in tasks for order in rules.on_end(task, launches, self.first(task), now, complete)]
        may, deep = rules.too_deep(wanted, launches)
        for order in deep:
            log.warning(
                "launcher %s is not started after %s: %d rules deep, a loop?",
                order.name,
                order.caused_by,
                order.depth,
                extra=rules.log_fields(order),
            )
        for order in may:
            recent = [
                id for id, at in self._recorded.items() if at > now - _HOUR and self._orders[id].rule == order.rule
            ]
            if len(recent) >= launches.max_hourly:
                log.warning(
                    "launcher %s is not started after %s: its rule has started enough in this hour",
                    order.name,
                    order.caused_by,
                    extra=rules.log_fields(order),
                )
                continue
            placed += self.put([order])
        return placed

    async def listed(self, query: OrderQuery) -> list[OrderRow]:
        """List launch orders, newest first."""
        found = [
            order
            for order in self._orders.values()
            if (query.tenant is None or order.tenant == query.tenant)
            and (query.carrier is None or order.carrier == query.carrier)
            and (query.task_uid is None or order.task_uid == query.task_uid)
            and (query.id is None or order.id == query.id)
        ]
        return [self._outbox.of(order) for order in found[::-1][: query.limit]]
