"""Work that starts by the clock: the schedules of a gateway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from spanpost.model.errors import StoreUnavailable
from spanpost.model.launch_orders import Taken
from spanpost.routing.launch_orders import Launches
from spanpost.store.protocols import LaunchOrders
from spanpost.text.sanitise import line

log = logging.getLogger(__name__)

#: Interval of checks for due times, seconds.
CHECK: Final = 1.0


class Schedules:
    """Places the orders of schedules when their times come. All gateways on a database place the same orders, and
    each order is placed once.
    """

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
        self._task: asyncio.Task[None] | None = None
        #: The last time of each schedule that was looked after, by name.
        self._done: dict[str, datetime] = {}

    def start(self) -> None:
        """Start checking, in the running loop."""
        self._task = asyncio.create_task(self._run(), name="spanpost-schedules")

    async def close(self) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.scan(datetime.now(UTC))
            except StoreUnavailable:
                pass  # the dispatcher logs it; a time stays due until `max_age`
            except Exception as error:
                log.error("a schedule could not start its work: %s: %s", type(error).__name__, line(str(error), 300))
            await asyncio.sleep(CHECK)

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
