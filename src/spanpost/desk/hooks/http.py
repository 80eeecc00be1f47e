"""``POST /hooks/<provider>`` as a bare ASGI callable: proven, stored, answered. Any bytes get an answer, and none of them a 500."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from spanpost.asgi import HungUp, Receive, Scope, Send, TooLong, read_body
from spanpost.desk.base import Watches
from spanpost.desk.hooks.base import Hall, Provider
from spanpost.desk.hooks.reading import document_of
from spanpost.desk.hooks.schemes import Proven, Refused, prove
from spanpost.domain.errors import LedgerUnavailable
from spanpost.domain.orders import HOOK, Order, Taken
from spanpost.fold.ids import named
from spanpost.fold.templates import render

log = logging.getLogger("spanpost.desk")

PREFIX: Final = "/hooks/"
#: Headers that are kept with a request: their number, and characters of each.
_MOST_HEADERS, _LONGEST = 60, 500
#: Headers that are not kept: they may prove who somebody is.
_UNKEPT: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_TOLD: Final[Mapping[str, str]] = {
    "unsigned": "the request is not signed, or not in the way of this provider",
    "timestamp": "the request does not say when it was made",
    "too_old": "the request was made more than five minutes ago, or in the future: check both clocks",
    "signature": "no signature is right: check the secret, and that nothing between changes the body",
}


class _Answer(Exception):
    """An answer at once."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class HooksHttp:
    """The application. `providers` by name; `clock` is the time of day."""

    def __init__(
        self,
        hall: Hall,
        providers: Mapping[str, Provider],
        *,
        max_body: int,
        watch: Watches | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.providers = dict(providers)
        self.max_body = max_body
        self._hall = hall
        self._watch = watch
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            taken, id = await self._take(scope, receive)
            status, word = {Taken.NEW: (202, "taken"), Taken.KNOWN: (200, "known"), Taken.REPLAYED: (409, "replayed")}[taken]
            told: dict[str, Any] = {"status": word, "id": str(id)}
            if taken is Taken.REPLAYED:
                told = _error("replayed", "the very same request was heard before")
        except HungUp:
            return
        except _Answer as answer:
            status, word, told = answer.status, answer.code, _error(answer.code, answer.message)
        except Refused as refused:
            status, word, told = 401, refused.why, _error(refused.why, _TOLD[refused.why])
        except LedgerUnavailable:
            status, word, told = 503, "ledger", _error("unavailable", "it could not be stored: send it again")
        except Exception as error:
            log.error("a request to %s could not be taken: %s", PREFIX, type(error).__name__)
            status, word, told = 503, "fault", _error("unavailable", "it could not be stored: send it again")
        if self._watch is not None:
            self._watch.knocked("hooks", word)
        body = json.dumps(told).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if status == 405:
            headers.append((b"allow", b"POST"))
        if status == 503:
            headers.append((b"retry-after", b"5"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Scope, receive: Receive) -> tuple[Taken, UUID]:
        provider = self.providers.get(scope["path"].removeprefix(PREFIX).rstrip("/"))
        if provider is None:
            raise _Answer(404, "unknown", "no provider of this name is set up here")
        if scope["method"] != "POST":
            raise _Answer(405, "method", "requests are sent by POST")
        headers = _headers(scope["headers"])
        body = await self._body(headers, receive)
        now = self._clock()
        proven = prove(provider.scheme, headers, body, provider.keys, now)
        order = self._order(provider, proven, headers, body, now)
        # The signature holds time and id: who repeats it repeats all.
        return await self._hall.order(order, signature=f"hook:{provider.name}:{proven.signature}"), order.id

    def _order(self, provider: Provider, proven: Proven, headers: Mapping[str, str], body: bytes, now: float) -> Order:
        known_by = proven.id
        if template := provider.once or provider.scheme.once:
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
        too_large = _Answer(413, "too_large", f"more than {self.max_body} bytes: hooks.max_body")
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self.max_body:
            raise too_large
        try:
            return await read_body(receive, self.max_body)
        except TooLong:
            raise too_large from None


def _headers(given: Any) -> dict[str, str]:
    """Return headers by name; those that stand there twice are left out: it could not be told which was signed."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for raw, value in given:
        name = bytes(raw).decode("latin-1").lower()
        if name in found:
            twice.add(name)
        found[name] = bytes(value).decode("latin-1")
    return {name: value for name, value in found.items() if name not in twice}


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
