"""Bodies of all requests that are not OTLP: they count for the memory of the address that they come from."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from spanpost.asgi import Application, Receive, Scope, Send, address_of
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
        is_answered = is_refused = False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal is_refused
            message = await receive()
            try:
                seat.grow(len(message.get("body") or b""))
            except Busy:
                is_refused = True
            return {"type": "http.disconnect"} if is_refused else message

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal is_answered
            if not is_refused or is_answered:  # the application believes that the sender hung up
                is_answered = True
                await send(message)

        try:
            await self._application(scope, counted, answer)
        finally:
            seat.leave()
        if is_refused and not is_answered:
            headers = [(b"content-length", b"0"), (b"retry-after", b"2")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
