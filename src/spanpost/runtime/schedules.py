"""Work that starts by the clock: the schedules of a gateway."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from spanpost.model.launch_orders import Taken
from spanpost.routing.launch_orders import Launches
from spanpost.runtime.background import Rounds
from spanpost.store.protocols import LaunchOrders


class Schedules(Rounds):
    """Places the orders of schedules when their times come. All gateways on a database place the same orders, and
    each order is placed once.
    """

    _name, _interval, _purpose = "spanpost-schedules", 1.0, "a schedule could not start its work"

    def __init__(
        self,
        launch_orders: LaunchOrders,
        launches: Callable[[], Launches],
        tenant: str,
        wake: Callable[[], None],
    ) -> None:
        self._launch_orders = launch_orders
        self._launches = launches
        self._tenant = tenant
        self._wake = wake
        #: The last time of each schedule that was looked after, by name.
        self._done: dict[str, datetime] = {}

    async def _round(self) -> int:
        return await self.scan(datetime.now(UTC))

    async def scan(self, now: datetime) -> int:
        """Place the orders that are due; return how many are new. Raises `StoreUnavailable`."""
        launches, placed = self._launches(), 0
        for schedule in launches.schedules:
            at = schedule.last(now)
            if at is None or self._done.get(schedule.name) == at:
                continue
            if now - at <= launches.max_age:
                for order in schedule.orders(at, launches.launchers, self._tenant):
                    placed += int(await self._launch_orders.place(order) is Taken.NEW)
            self._done[schedule.name] = at
        if placed:
            self._wake()
        return placed
