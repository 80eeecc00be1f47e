"""Memory accounting for the bodies of requests that are not OTLP: they count for the sender's address."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from spanpost.http.asgi import Application, Receive, Scope, Send, address_of
from spanpost.http.errors import HttpError
from spanpost.http.shares import Sender
from spanpost.receivers.admission import Admission, Busy, MemoryReservation


class Counted:
    """An ASGI application whose request bodies count for their addresses' memory until they are answered.

    A body beyond its address's share is answered 503. The tenant is known only after the body was read (a
    signature covers it), so the body counts for no tenant.
    """

    def __init__(self, application: Application, admission: Admission) -> None:
        self._application = application
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reservation = self._admission.reservation(Sender("", address_of(scope)))
        try:
            await self._application(scope, counted(receive, reservation), send)
        finally:
            reservation.leave()


def counted(receive: Receive, reservation: MemoryReservation) -> Receive:
    """Return a `receive` that reserves the memory of a body as it arrives. It raises the `HttpError` of a sender
    that is beyond its share.
    """

    async def receiving() -> MutableMapping[str, Any]:
        message = await receive()
        try:
            reservation.grow(len(message.get("body") or b""))
        except Busy as busy:
            raise HttpError(503, "busy", str(busy), retry_after=busy.retry_after) from None
        return message

    return receiving
