"""What the sinks say of their rate limits: a round names those of every channel for which something waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from spanpost.dispatch.reports import DispatcherReports
from spanpost.model.deliveries import RateLimit, SinkCall
from spanpost.routing import rate_limiting
from spanpost.sinks.redaction import DeliveryCarrier


class SinkLimits:
    """Rate limits by sink, address and call. A sink is asked again after `lasts` seconds."""

    def __init__(self, sinks: Mapping[str, DeliveryCarrier], reports: DispatcherReports, lasts: float) -> None:
        self._sinks = sinks
        self._reports = reports
        self._lasts = lasts
        self._known: dict[tuple[str, str, SinkCall], tuple[RateLimit, ...]] = {}
        self._ends_at = float("-inf")

    def forget(self) -> None:
        """Ask the sinks again."""
        self._known.clear()

    def of(self, sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return the rate limits of a call."""
        now = asyncio.get_running_loop().time()
        if now >= self._ends_at:
            self._known.clear()
            self._ends_at = now + self._lasts
        found = self._known.get((sink, address, call))
        if found is None:
            found = self._known[sink, address, call] = self._asked(sink, address, call)
        return found

    def _asked(self, sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Ask a sink. One that names no circuit breaker has one for all its calls."""
        try:
            found = self._sinks[sink].rate_limits(address, call)
            for rate_limit in found:
                rate_limiting.check(rate_limit)
        except Exception as error:
            self._reports.bug(sink, error)
            found = ()
        if any(b.is_breaker for b in found):
            return found
        return (RateLimit(key=sink, is_breaker=True), *(b for b in found if b.key != sink))
