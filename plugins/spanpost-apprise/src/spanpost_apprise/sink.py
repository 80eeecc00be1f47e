"""Sends through `apprise`, to each service by itself, in threads."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Final

from apprise import Apprise, AppriseAsset, NotifyBase, NotifyFormat, NotifyType

from spanpost import ConfigError, Delivery, DeliveryUncertain, RateLimit, Receipt, Rejected, SinkCall, Throttled
from spanpost_apprise.render import Notification, notification
from spanpost_apprise.settings import AppriseSettings

#: Deliveries of which it is remembered which services have them, so that a try after a partial failure
#: repeats less.
REMEMBERED: Final = 1000
#: Seconds that a delivery waits for its turn at a service; apprise itself paces calls by sleeping.
TURN: Final = 10.0

_at_work: ContextVar[bool] = ContextVar("spanpost_apprise_at_work", default=False)


class _Stall(logging.Filter):
    """Drops log records of apprise: they hold addresses, which are secrets, and at DEBUG whole messages."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _at_work.get()


_STALL = _Stall()


class AppriseSink:
    """Notifies services that cannot edit messages.

    At least once: apprise says whether a service took a message, not why it did not; a message that it took
    before a time-out is sent again.
    """

    name = "apprise"

    def __init__(self, settings: AppriseSettings) -> None:
        for logger in ("apprise", "urllib3.connectionpool", "requests", "requests_oauthlib"):
            logging.getLogger(logger).addFilter(_STALL)  # adding it twice is adding it once
        asset = AppriseAsset(app_id="spanpost", app_desc="spanpost", async_mode=False, secure_logging=True)
        self._services = {name: _service(name, url.get_secret_value(), asset) for name, url in settings.urls.items()}
        self._turns = {name: asyncio.Lock() for name in self._services}
        self._taken: OrderedDict[str, set[str]] = OrderedDict()

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Notify the service that the address names, or all.

        Raises `DeliveryUncertain` when one of them did not take it.
        """
        checkpoint = delivery.checkpoint
        if checkpoint is None:
            return Receipt(skipped="the services cannot edit messages")
        if delivery.address and delivery.address not in self._services:
            raise Rejected(f"apprise.urls holds no {delivery.address!r}; add it, or mend the route", reason="address")
        asked = [delivery.address] if delivery.address else list(self._services)
        taken = self._taken.setdefault(delivery.key, set())
        while len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)
        said = notification(delivery.task, checkpoint)
        results = await asyncio.gather(*(self._notify(name, said, taken) for name in asked), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        if failed := [name for name in asked if name not in taken]:
            raise DeliveryUncertain(f"not taken by {', '.join(failed)}; apprise says no more", reason="failed")
        return Receipt(ref={"services": asked})

    async def reconcile(self, deliveries: Sequence[Delivery]) -> dict[int, Receipt | None]:
        """Ask for another attempt of each: no service can be searched."""
        return {delivery.id: None for delivery in deliveries}

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return a rate limit for each service: while it throttles or fails, its deliveries wait."""
        return tuple(
            RateLimit(key=f"apprise:{name}", is_breaker=True) for name in ([address] if address else self._services)
        )

    async def close(self) -> None: ...

    async def _notify(self, name: str, said: Notification, taken: set[str]) -> None:
        if name in taken:
            return
        turn = self._turns[name]
        try:
            async with asyncio.timeout(TURN):
                await turn.acquire()
        except TimeoutError:
            raise Throttled(f"{name} is busy", retry_after=timedelta(seconds=TURN), reason="busy") from None
        try:
            if await asyncio.to_thread(_send, self._services[name], said):
                taken.add(name)
        finally:
            turn.release()


def _service(name: str, url: str, asset: AppriseAsset) -> NotifyBase:
    token = _at_work.set(True)
    try:
        service = Apprise.instantiate(url, asset=asset)
    finally:
        _at_work.reset(token)
    if not isinstance(service, NotifyBase):
        raise ConfigError(
            f"apprise.urls.{name}: apprise knows no such service, or its address is incomplete; see https://appriseit.com/services"
        )
    return service


def _send(service: NotifyBase, said: Notification) -> bool:
    _at_work.set(True)  # of this call alone: a thread of `to_thread` works in a copy of the context
    return bool(
        service.notify(
            title=said.title, body=said.body, notify_type=NotifyType(said.type), body_format=NotifyFormat.TEXT
        )
    )
