"""``POST /hooks/<provider>``: requests are verified, stored, answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse

from spanpost.http.asgi import Receive, TooLong, read_body
from spanpost.http.errors import HttpError, note_outcome
from spanpost.http.routing import HttpRoute
from spanpost.interactions.protocols import InteractionMetrics
from spanpost.interactions.webhooks.base import Provider
from spanpost.interactions.webhooks.reading import document_of
from spanpost.interactions.webhooks.schemes import Proven, WebhookRefused, prove
from spanpost.model.ids import named
from spanpost.model.launch_orders import HOOK, Order, Taken
from spanpost.model.recorded import Recorded
from spanpost.store.protocols import LaunchOrders
from spanpost.text.templates import render

PREFIX: Final = "/hooks/"
#: Headers that are kept with a request: their number, and characters of each.
_MOST_HEADERS, _LONGEST = 60, 500
#: Headers that are not kept, because they may hold credentials.
_UNKEPT: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_WHY: Final[Mapping[str, str]] = {
    "unsigned": "the request is not signed, or not in the way of this provider",
    "timestamp": "the request does not say when it was made",
    "too_old": "the request was made more than five minutes ago, or in the future: check both clocks",
    "signature": "no signature is right: check the secret, and that nothing between changes the body",
}


class HooksHttp:
    """The endpoint. `providers` by name; `take` receives the records of an order; `clock` returns Unix time."""

    def __init__(
        self,
        launch_orders: LaunchOrders,
        providers: Mapping[str, Provider],
        *,
        take: Callable[[Recorded], None],
        max_body: int,
        watch: InteractionMetrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.providers = dict(providers)
        self.max_body = max_body
        self._launch_orders = launch_orders
        self._take_recorded = take
        self._watch = watch
        self._clock = clock

    @property
    def routes(self) -> list[HttpRoute]:
        """The routes of this endpoint."""
        return [HttpRoute(PREFIX, self._take, ["POST"], count=self._count)]

    def _count(self, status: int, outcome: str) -> None:
        if self._watch is not None:
            self._watch.knocked("webhooks", outcome)

    async def _take(self, request: Request) -> JSONResponse:
        provider = self.providers.get(request.scope["path"].removeprefix(PREFIX).rstrip("/"))
        if provider is None:
            raise HttpError(404, "unknown", "no provider of this name is set up here")
        headers = _headers(request.scope["headers"])
        body = await self._body(headers, request.receive)
        now = self._clock()
        try:
            proven = prove(provider.scheme, headers, body, provider.keys, now, provider.window)
        except WebhookRefused as refused:
            raise HttpError(401, refused.why, _WHY[refused.why]) from None
        order = self._order(provider, proven, headers, body, now)
        # The signature covers time and id: a repeated signature is a repeated request.
        taken = await self._launch_orders.place(order, signature=f"hook:{provider.name}:{proven.signature}")
        if taken is Taken.REPLAYED:
            raise HttpError(409, "replayed", "this request was received before")
        if taken is Taken.NEW:
            self._take_recorded(Recorded(deliveries=1))
        status, word = (202, "taken") if taken is Taken.NEW else (200, "known")
        note_outcome(request.scope, word)
        return JSONResponse({"status": word, "id": str(order.id)}, status)

    def _order(self, provider: Provider, proven: Proven, headers: Mapping[str, str], body: bytes, now: float) -> Order:
        known_by = proven.id
        if template := provider.idempotency_key or provider.scheme.idempotency_key:
            document = document_of(headers, body)
            known_by = render(template, document) if document is not None else ""
        known_by = known_by or proven.signature
        kept = {name: value[:_LONGEST] for name, value in list(headers.items())[:_MOST_HEADERS] if name not in _UNKEPT}
        kept.pop(provider.scheme.signature_header, None)
        return Order(
            id=UUID(bytes=named(f"{provider.tenant}\0hook\0{provider.name}\0{known_by}")),
            tenant=provider.tenant,
            carrier=HOOK + provider.name,
            parameters=kept,
            source="hook",
            by=provider.name,
            body=body,
            at=datetime.fromtimestamp(now, UTC),
        )

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        too_large = HttpError(413, "too_large", f"more than {self.max_body} bytes: hooks.max_body")
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self.max_body:
            raise too_large
        try:
            return await read_body(receive, self.max_body)
        except TooLong:
            raise too_large from None


def _headers(given: Any) -> dict[str, str]:
    """Return headers by name, without repeated ones: it is unknown which of them was signed."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for raw, value in given:
        name = bytes(raw).decode("latin-1").lower()
        if name in found:
            twice.add(name)
        found[name] = bytes(value).decode("latin-1")
    return {name: value for name, value in found.items() if name not in twice}
