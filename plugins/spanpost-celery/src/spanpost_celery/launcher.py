"""The launcher's I/O: an order is one message to the broker."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from celery import Celery

from spanpost import DeliveryUncertain, Order, Receipt, Unavailable
from spanpost.model.launch_orders import order_json
from spanpost_celery.settings import CelerySettings

#: For a connection, and for a message to be taken by the broker: seconds, of the dispatcher's thirty.
CONNECT: Final = 5.0
SEND: Final = 15.0


class CeleryLauncher:
    """Puts orders into a queue. The Celery task has the order's id."""

    def __init__(self, name: str, settings: CelerySettings) -> None:
        self.retry_uncertain = settings.retry_uncertain
        self._settings = settings
        self._app = Celery(f"spanpost-{name}", broker=settings.broker.get_secret_value(), set_as_current=False)
        self._app.conf.update(
            task_ignore_result=True,
            broker_connection_timeout=CONNECT,
            # The broker says that it has a message before we say so; brokers that know no such thing leave
            # it out.
            broker_transport_options={
                "confirm_publish": True,
                "socket_connect_timeout": CONNECT,
                "socket_timeout": SEND,
            },
        )

    async def launch(self, order: Order) -> Receipt:
        """Send the order; return when the broker has it."""
        try:
            async with asyncio.timeout(CONNECT + SEND):
                await asyncio.to_thread(self._send, order)
        except TimeoutError:
            raise DeliveryUncertain("the broker did not take it in time", reason="timeout") from None
        return Receipt(ref={"task_id": str(order.id)})

    def _send(self, order: Order) -> None:
        # Only the type of an error is shown: its text may hold the broker's address.
        with self._app.connection_for_write() as connection:
            try:
                connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=CONNECT)
            except Exception as error:
                raise Unavailable(f"no connection to the broker ({type(error).__name__})", reason="connect") from None
            try:
                self._app.send_task(
                    self._settings.task,
                    kwargs={"order": order_json(order)},
                    task_id=str(order.id),
                    connection=connection,
                    retry=False,
                    **self._options(),
                )
            except Exception as error:
                raise DeliveryUncertain(f"the broker may not have it ({type(error).__name__})", reason="send") from None

    def _options(self) -> dict[str, Any]:
        found = {"queue": self._settings.queue, "expires": self._settings.expires}
        return {name: value for name, value in found.items() if value is not None}

    async def close(self) -> None:
        """Close the connection to the broker."""
        await asyncio.to_thread(self._app.close)
