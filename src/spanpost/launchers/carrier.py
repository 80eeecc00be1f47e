"""A launcher as the dispatcher sees it: a sink whose deliveries are launch orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spanpost.launchers.base import Launcher
from spanpost.model.deliveries import Delivery, RateLimit, Receipt, SinkCall
from spanpost.model.errors import DeliveryError, Rejected, Unverifiable
from spanpost.model.launch_orders import LAUNCH


class Carrier:
    """Carries orders to one launcher.

    It has its own circuit breaker, which tries one order at a time while it fails.
    """

    def __init__(self, name: str, launcher: Launcher) -> None:
        self.name = LAUNCH + name
        self._launcher = launcher

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Launch the order. Raises the launcher's errors."""
        if delivery.order is None:
            raise Rejected("a delivery to a launcher that carries no order", reason="no_order")
        return await self._launcher.launch(delivery.order)

    async def reconcile(self, deliveries: Sequence[Delivery]) -> Mapping[int, Receipt | DeliveryError | None]:
        """Launch again if a duplicate is harmless; else leave it to a person."""
        if self._launcher.retry_uncertain:
            return {delivery.id: None for delivery in deliveries}
        why = (
            "it may have been started, and cannot be looked up: check yourself, then retry this delivery or "
            "leave it as a dead letter"
        )
        return {delivery.id: Unverifiable(why, reason="unverifiable") for delivery in deliveries}

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return the launcher's circuit breaker."""
        return (RateLimit(key=self.name, is_breaker=True),)

    async def close(self) -> None:
        await self._launcher.close()
