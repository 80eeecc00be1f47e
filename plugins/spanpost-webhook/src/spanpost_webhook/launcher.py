"""The webhook as a launcher: an order is one signed POST, by which its receiver starts the work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from spanpost import Order, Receipt
from spanpost.model.launch_orders import order_json
from spanpost_webhook.post import Poster
from spanpost_webhook.settings import WebhookLauncherSettings


def id_of(order: Order) -> str:
    """Return the ``webhook-id``: the same for every try of one order, by which the receiver knows a repeat."""
    return f"order_{order.id.hex}"


def body_of(order: Order) -> bytes:
    """Return the order as JSON: ``type``, ``timestamp`` (when it was asked for) and ``data``."""
    at = order.at.astimezone(UTC) if order.at.tzinfo is not None else datetime.fromtimestamp(0, UTC)
    message: dict[str, Any] = {
        "type": "order.launch",
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "data": order_json(order),
    }
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


class WebhookLauncher:
    """Posts orders to one URL. What may have arrived is posted again under the same ``webhook-id``."""

    retry_uncertain = True

    def __init__(self, name: str, settings: WebhookLauncherSettings, *, clock: Callable[[], float] = time.time) -> None:
        section = f"launchers.named.{name}"
        self._poster = Poster(
            settings,
            mistake=f"{section}.url: is not a URL; mend it",
            cure=f"set {section}.enabled to false, or another URL",
            clock=clock,
        )

    async def launch(self, order: Order) -> Receipt:
        """Post the order; 2xx says that the work will be done."""
        message_id = id_of(order)
        await self._poster.post(message_id, body_of(order))
        return Receipt(ref={"id": message_id})

    async def close(self) -> None:
        await self._poster.close()
