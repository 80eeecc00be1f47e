"""Bodies of all requests that are not OTLP: they count for the memory of the address that they come from."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from spanpost.asgi import Application, Receive, Scope, Send, address_of
from spanpost.http.errors import HttpError
from spanpost.intake.admission import Admission, Busy
from spanpost.shares import Sender


class Counted:
    """An application whose bodies count for the memory of their addresses while it answers. A body beyond its
    address's share is answered 503.

    A request's tenant is known only after the body was read (a signature covers it): it counts for none.
    """

    def __init__(self, application: Application, admission: Admission) -> None:
        self._application = application
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seat = self._admission.seat(Sender("", address_of(scope)))

        async def counted() -> MutableMapping[str, Any]:
            message = await receive()
            try:
                seat.grow(len(message.get("body") or b""))
            except Busy as busy:
                raise HttpError(503, "busy", str(busy), retry_after=busy.retry_after) from None
            return message

        try:
            await self._application(scope, counted, send)
        finally:
            seat.leave()
