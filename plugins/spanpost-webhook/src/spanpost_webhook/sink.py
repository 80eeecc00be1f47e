"""The webhook's I/O: one POST a delivery, and what its answer means."""

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

    What may have arrived is posted again under the same ``webhook-id``, by which the receiver knows a repeat; so nothing
    needs to be looked up before.
    """

    name = "webhook"

    def __init__(self, settings: WebhookSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._poster = Poster(settings, mistake=_MISTAKE, cure=_CURE, clock=clock)

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Post the delivery. Raises what the answer, or its absence, means."""
        if delivery.checkpoint is None and not self._settings.states:
            return Receipt(skipped="news alone is posted")
        body = body_of(delivery)
        message_id = id_of(delivery, body)
        await self._poster.post(message_id, body)
        return Receipt(ref={"id": message_id})

    async def reconcile(self, deliveries: Sequence[Delivery]) -> dict[int, Receipt | None]:
        """Ask for another post of each: the receiver drops repeats."""
        return {delivery.id: None for delivery in deliveries}

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Name the one receiver: where one delivery is throttled, all wait, and while it fails it is probed alone."""
        return (RateLimit(key=self.name, is_breaker=True),)

    async def close(self) -> None:
        await self._poster.close()
