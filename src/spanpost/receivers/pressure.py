"""Tenants whose requests arrive faster than they are recorded: all of their requests go to the journal.

Otherwise some would still be recorded directly, whenever the queue is short for a moment. They would take
the time of those that are only written, and be answered last.
"""

from __future__ import annotations

from typing import Final

#: Seconds over which arrivals are compared with the pace of recording.
_WINDOW: Final = 1.0
#: Arrivals of so many times the pace are a burst: recording meanwhile would shorten it little, and delay answers.
_BURST: Final = 4.0


class _Window:
    """Bytes that arrived since a moment."""

    __slots__ = ("arrived", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.arrived = 0

    def rate(self, now: float) -> float:
        """Bytes per second, once the window has passed; infinite before."""
        return self.arrived / (now - self.since) if now - self.since >= _WINDOW else float("inf")


class Pressure:
    """Measures the arrivals of tenants whose requests could not be recorded at once."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Window] = {}
        self._all = _Window(float("-inf"))
        #: Bytes per second of all of these tenants, over the last window that has passed.
        self._rate = 0.0

    def begin(self, tenant: str, size: int, now: float) -> None:
        """Note a request that could not be recorded at once."""
        self._note(self._tenants.setdefault(tenant, _Window(now)), size, now)

    def is_on(self, tenant: str, size: int, pace: float, now: float) -> bool:
        """Note a request; return whether the tenant's requests arrive faster than `pace`, bytes per second."""
        if (window := self._tenants.get(tenant)) is None:
            return False
        if (rate := window.rate(now)) <= pace:
            del self._tenants[tenant]
            return False
        if rate < float("inf"):
            window = self._tenants[tenant] = _Window(now)
        self._note(window, size, now)
        return True

    def _note(self, window: _Window, size: int, now: float) -> None:
        window.arrived += size
        if now - self._all.since >= _WINDOW:
            # After a pause the rate is not known yet.
            self._rate = self._all.rate(now) if now - self._all.since < 2 * _WINDOW else float("inf")
            self._all = _Window(now)
        self._all.arrived += size

    def is_burst(self, pace: float, now: float) -> bool:
        """Whether requests of all tenants arrive several times as fast as `pace`."""
        return now - self._all.since < 2 * _WINDOW and self._rate > _BURST * pace
