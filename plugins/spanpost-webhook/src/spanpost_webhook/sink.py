"""The webhook's I/O: one POST for each delivery, and the meaning of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from spanpost import Delivery, RateLimit, Receipt, SinkCall
from spanpost_webhook.payload import body_of, id_of
from spanpost_webhook.post import Poster
from spanpost_webhook.settings import WebhookSettings

_MISTAKE = "webhook.url: is not a URL; mend SPANPOST_WEBHOOK__URL or [webhook] in spanpost.toml"
_CURE = "set SPANPOST_WEBHOOK__ENABLED=false or another URL"


class WebhookSink:
    """Posts deliveries to one URL.

    A delivery that may have arrived is posted again under the same ``webhook-id``: the receiver drops the
    duplicate, so no reconciliation is needed.
    """

    name = "webhook"

    def __init__(self, settings: WebhookSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._poster = Poster(settings, mistake=_MISTAKE, cure=_CURE, clock=clock)

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Post the delivery. Raises the `DeliveryError` of the answer, or of its absence."""
        if delivery.checkpoint is None and not self._settings.states:
            return Receipt(skipped="only checkpoints are posted")
        body = body_of(delivery)
        message_id = id_of(delivery, body)
        await self._poster.post(message_id, body)
        return Receipt(ref={"id": message_id})

    async def reconcile(self, deliveries: Sequence[Delivery]) -> dict[int, Receipt | None]:
        """Ask for another post of each: the receiver drops duplicates."""
        return {delivery.id: None for delivery in deliveries}

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return the receiver's one rate limit: while it throttles or fails, all deliveries wait."""
        return (RateLimit(key=self.name, is_breaker=True),)

    async def close(self) -> None:
        await self._poster.close()
