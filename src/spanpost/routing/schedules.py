"""Work that starts by the clock: the times of a schedule, and the order of each.

Rules.

1. A time has one order, however many gateways look: its id is made of the schedule's name, the launcher and the time.
2. Of times that were missed the last alone is made up for, and only until `max_age` after it.
3. A time of day that the clocks skip is taken as if they had not; one that they repeat counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from spanpost.model.ids import named
from spanpost.model.launch_orders import LAUNCH, Order
from spanpost.routing.routes import Weekday
from spanpost.routing.summaries import WEEK, at_time

#: `Order.source` of a schedule's order.
SCHEDULE: Final = "schedule"
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Launchers that start at times of day (`at`, on `days`), or at each multiple of `every` from midnight UTC."""

    #: Its name, in rows and in the ids of its orders.
    name: str
    start: tuple[str, ...]
    text: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    #: Tenant of its orders; None: the one of the settings.
    tenant: str | None = None
    every: timedelta | None = None
    at: tuple[time, ...] = ()
    days: tuple[Weekday, ...] = WEEK
    timezone: str = "UTC"

    def last(self, now: datetime) -> datetime | None:
        """Return its last time until now, in UTC; None if the last week had none."""
        now = now.astimezone(UTC)
        if self.every is not None:
            midnight = datetime.combine(now, time(), UTC)
            return midnight + (now - midnight) // self.every * self.every
        zone = ZoneInfo(self.timezone)
        today = now.astimezone(zone)
        times = (
            at_time(day, at, zone)
            for day in (today - n * _DAY for n in range(8))
            if WEEK[day.weekday()] in self.days
            for at in self.at
        )
        return max((one for one in times if one <= now), default=None)

    def orders(self, at: datetime, launchers: Collection[str], tenant: str) -> Iterator[Order]:
        """Return the orders of one of its times, to the enabled ones among `launchers`."""
        tenant = self.tenant or tenant
        for launcher in (name for name in dict.fromkeys(self.start) if name in launchers):
            yield Order(
                id=UUID(bytes=named(f"{tenant}\0schedule\0{self.name}\0{launcher}\0{at.isoformat()}")),
                tenant=tenant,
                carrier=LAUNCH + launcher,
                text=self.text or self.name,
                parameters=dict(self.parameters),
                source=SCHEDULE,
                rule=self.name,
                at=at,
            )
