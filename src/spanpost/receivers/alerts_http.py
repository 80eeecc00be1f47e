"""``POST /alerts/alertmanager`` and ``/alerts/grafana``: webhooks of monitors.

Alertmanager 0.25 retries only after a 5xx; after any other response it sends the alerts again with each
`group_interval` (measured 2026-11). So the response is 2xx once everything is stored, unreadable alerts too
(in the quarantine, and counted), and 503 while nothing can be stored. Repeated alerts are recognised as
duplicates.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

from spanpost.http.asgi import Receive, TooLong, address_of, read_body
from spanpost.http.authentication import Authenticator
from spanpost.http.errors import HttpError
from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.routing import HttpRoute
from spanpost.http.shares import Full, Sender
from spanpost.http.tokens import SenderTokens
from spanpost.model.alerts import Alert
from spanpost.model.errors import StoreUnavailable
from spanpost.readers.alerts import ALERTMANAGER, GRAFANA, Unreadable, alerts_of, read, sender_of
from spanpost.receivers.receiver import KEPT, Keep
from spanpost.receivers.turns import Turns

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

PREFIX: Final = "/alerts/"
PATHS: Final = {f"{PREFIX}{source}": source for source in (ALERTMANAGER, GRAFANA)}
#: Most bytes read of a body; of a larger one the beginning is stored.
MOST_BODY: Final = 8 * 1024 * 1024
#: Requests stored at once, shared by tenants and addresses; the others are asked to retry.
MOST: Final = 4
#: Seconds after which a request fails and its retry continues: senders wait ten.
LONGEST: Final = 8.0
#: Most alerts of a request: about so many are stored within `LONGEST`.
MOST_ALERTS: Final = 10_000
#: Unreadable alerts of a request that are kept; the others are counted.
MOST_UNREADABLE: Final = 100
#: Alerts read before other requests have a turn.
_AT_ONCE: Final = 100


class Takes(Protocol):
    """**Protocol:** stores and reports alerts; returns whether each was new. Raises `StoreUnavailable`."""

    async def __call__(self, alerts: Sequence[Alert], /, until: float) -> Sequence[bool]: ...


class AlertMetrics(Protocol):
    """**Protocol:** counts requests and alerts; implemented by `spanpost.metrics.Metrics`."""

    def requested(self, endpoint: str, signal: str, answer: str) -> None: ...

    def alerted(self, source: str, outcome: str, n: int = 1) -> None: ...


class AlertsHttp:
    """The alert endpoints. `base`: Grafana's URL, for links without a host."""

    def __init__(
        self,
        take: Takes,
        sender_tokens: SenderTokens,
        *,
        keep: Keep | None = None,
        watch: AlertMetrics | None = None,
        base: str = "",
    ) -> None:
        self._take = take
        self._sender_tokens = sender_tokens
        self._authenticator = Authenticator(sender_tokens)
        self._keep = keep
        self._watch = watch
        self._base = base
        self._under_way = Turns(MOST)

    @property
    def routes(self) -> list[HttpRoute]:
        """The routes of the endpoints."""
        return [
            HttpRoute(path, partial(self._answer, source), ["POST"], count=self._count)
            for path, source in PATHS.items()
        ]

    def _count(self, status: int, outcome: str) -> None:
        if self._watch is not None:
            self._watch.requested("http", "alerts", str(status))

    async def _answer(self, source: str, request: Request) -> JSONResponse:
        tenant, is_of_all = self._authenticator.tenant_or_operator(request.scope)
        body, is_whole = await _body(request.receive)
        tenant = tenant or self._sender_tokens.default
        try:
            async with self._under_way.take(Sender(tenant, address_of(request.scope))):
                return JSONResponse(await self._read(source, tenant, body, is_whole=is_whole, is_of_all=is_of_all))
        except (Full, TimeoutError):
            raise HttpError(503, "too_many", "too many requests with alerts are in progress; send it again") from None

    async def _read(self, source: str, tenant: str, body: bytes, *, is_whole: bool, is_of_all: bool) -> dict[str, Any]:
        until = time.monotonic() + LONGEST
        try:
            if not is_whole:
                raise Unreadable(f"the body is larger than {MOST_BODY} bytes")
            whole = msgspec.json.decode(body)
            listed, external_url = alerts_of(whole), sender_of(whole)
            if len(listed) > MOST_ALERTS:
                raise Unreadable(f"the body holds {len(listed)} alerts, more than {MOST_ALERTS}")
        except (ValueError, RecursionError) as error:  # msgspec's and ours are both
            await self._discard(tenant, source, str(error), body)
            return {"taken": 0, "new": 0, "unreadable": 1}
        alerts: list[Alert] = []
        unreadable = 0
        for i, each in enumerate(listed):
            try:
                whose = (_tenant(each) if is_of_all else "") or tenant
                alerts.append(read(each, source, whose, base=self._base, external_url=external_url))
            except (ValueError, RecursionError) as error:
                unreadable += 1
                kept = msgspec.json.encode(each) if unreadable <= MOST_UNREADABLE else None
                await self._discard(tenant, source, f"alerts[{i}]: {error}", kept)
            if i % _AT_ONCE == 0:
                _refuse_after(until, len(listed))
                await asyncio.sleep(0)
        new = await self._take(alerts, until=until)
        if self._watch is not None:
            for alert, is_new in zip(alerts, new, strict=True):
                self._watch.alerted(source, ("resolved" if alert.is_resolved else "firing") if is_new else "repeat")
        return {"taken": len(alerts), "new": sum(new), "unreadable": unreadable}

    async def _discard(self, tenant: str, source: str, error: str, body: bytes | None) -> None:
        _limited_log.warning(
            "alert", "an alert of %s cannot be read and is kept in the quarantine: %s", source, error[:300]
        )
        if self._watch is not None:
            self._watch.alerted(source, "unreadable")
        if self._keep is not None and body is not None:
            await self._keep(tenant, f"alerts/{source}", error[:300], body[:KEPT])


def _tenant(alert: object) -> str:
    """Return an alert's label `tenant`, because an operator's token has no tenant; empty: none."""
    labels = alert.get("labels") if isinstance(alert, dict) else None
    label = labels.get("tenant") if isinstance(labels, dict) else None
    return label[:200] if isinstance(label, str) and label.isprintable() else ""


async def _body(receive: Receive) -> tuple[bytes, bool]:
    """Return a body, or the beginning of one that is too large, and whether it is complete."""
    try:
        return await read_body(receive, MOST_BODY), True
    except TooLong as error:
        return error.begun, False


async def take_each(alerts: Sequence[Alert], take: Callable[[Alert], Awaitable[bool]], until: float) -> list[bool]:
    """Take alerts one by one.

    Raises `StoreUnavailable` after `until`; a retry recognises the alerts taken before.
    """
    new = []
    for alert in alerts:
        _refuse_after(until, len(alerts))
        new.append(await take(alert))
        await asyncio.sleep(0)
    return new


def _refuse_after(until: float, count: int) -> None:
    if time.monotonic() > until:
        raise StoreUnavailable(f"{count} alerts take too long")
