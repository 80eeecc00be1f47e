"""``POST /alerts/alertmanager`` and ``/alerts/grafana`` as a bare ASGI callable: webhooks of monitors.

Alertmanager 0.25 tries again on a 5xx alone, and sends what was answered otherwise once more with each `group_interval` (measured
2026-11). So: 2xx once everything is stored, what nobody can read too (kept in `dead_letters` and counted); 503 while it cannot be
stored. What is sent again is known again. It never raises.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from spanpost.asgi import HungUp, Receive, Scope, Send, TooLong, address_of, read_body
from spanpost.domain.alerts import Alert
from spanpost.domain.errors import LedgerUnavailable
from spanpost.fold.alerts import ALERTMANAGER, GRAFANA, Unreadable, alerts_of, read
from spanpost.intake.receiver import KEPT, Keep
from spanpost.intake.seldom import Seldom
from spanpost.intake.tokens import Doorkeeper
from spanpost.intake.turns import Turns
from spanpost.shares import Full, Sender

log = logging.getLogger("spanpost.gateway")
_seldom = Seldom(log)

PREFIX: Final = "/alerts/"
PATHS: Final = {f"{PREFIX}{source}": source for source in (ALERTMANAGER, GRAFANA)}
#: Bytes of a body that are read; of what is larger the beginning is kept.
MOST_BODY: Final = 8 * 1024 * 1024
#: Requests that are stored at once, which tenants and addresses share; the others are asked to come back.
MOST: Final = 4
#: Seconds after which what is left of a request is left to its repeat: senders wait ten.
LONGEST: Final = 8.0


class Takes(Protocol):
    """**Protocol:** keeps alerts and tells them; returns of each whether it was new. Raises `LedgerUnavailable`."""

    async def __call__(self, alerts: Sequence[Alert], /, until: float) -> Sequence[bool]: ...


class Watches(Protocol):
    """**Protocol:** counts; `spanpost.metrics.Metrics` is it."""

    def requested(self, door: str, signal: str, answer: str) -> None: ...

    def alerted(self, source: str, outcome: str, n: int = 1) -> None: ...


class _Refused(Exception):
    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class AlertsHttp:
    """The application. `base` is where links without a host lead: Grafana."""

    def __init__(
        self, take: Takes, doorkeeper: Doorkeeper, *, keep: Keep | None = None, watch: Watches | None = None, base: str = ""
    ) -> None:
        self._take = take
        self._doorkeeper = doorkeeper
        self._keep = keep
        self._watch = watch
        self._base = base
        self._under_way = Turns(MOST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extra: dict[str, str] = {}
        try:
            status, told = 200, await self._answer(scope, receive)
        except HungUp:
            return
        except _Refused as refused:
            status, told, extra = refused.status, {"error": str(refused)}, refused.headers
        except LedgerUnavailable:
            status, told = 503, {"error": "the database cannot be reached; send it again"}
        except Exception as error:
            _seldom.error("alerts", "alerts could not be taken: %s", type(error).__name__, fault=error)
            status, told = 503, {"error": "it failed in here; send it again"}
        if status == 503:
            extra.setdefault("retry-after", "2")
        if self._watch is not None:
            self._watch.requested("http", "alerts", str(status))
        body = json.dumps(told).encode()
        sent = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        sent += [(name.replace("_", "-").encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        source = PATHS.get(scope["path"].rstrip("/"))
        if source is None:
            raise _Refused(404, f"there is nothing here; there is {' and '.join(PATHS)}")
        if scope["method"] != "POST":
            raise _Refused(405, "it takes POST", allow="POST")
        authorization = _bearer(dict(scope["headers"]).get(b"authorization", b"").decode("latin-1"))
        tenant = self._doorkeeper.tenant_of(authorization)
        is_of_all = self._doorkeeper.is_operator(authorization)
        if tenant is None and not is_of_all:
            raise _Refused(
                401, "a valid token is needed, as Authorization: Bearer, or as the password of Basic", www_authenticate="Bearer"
            )
        body, is_whole = await _body(receive)
        tenant = tenant or self._doorkeeper.default
        try:
            async with self._under_way.take(Sender(tenant, address_of(scope))):
                return await self._read(source, tenant, body, is_whole=is_whole, is_of_all=is_of_all)
        except (Full, TimeoutError):
            raise _Refused(503, "as many alerts are under way as may be; send it again") from None

    async def _read(self, source: str, tenant: str, body: bytes, *, is_whole: bool, is_of_all: bool) -> dict[str, Any]:
        until = time.monotonic() + LONGEST
        try:
            if not is_whole:
                raise Unreadable(f"the body is larger than {MOST_BODY} bytes")
            listed = alerts_of(msgspec.json.decode(body))
        except (ValueError, RecursionError) as error:  # msgspec's and ours are both
            await self._bury(tenant, source, str(error), body)
            return {"taken": 0, "new": 0, "unreadable": 1}
        alerts: list[Alert] = []
        unreadable = 0
        for i, each in enumerate(listed):
            try:
                alerts.append(read(each, source, _tenant(each) or tenant if is_of_all else tenant, base=self._base))
            except (ValueError, RecursionError) as error:
                unreadable += 1
                await self._bury(tenant, source, f"alerts[{i}]: {error}", msgspec.json.encode(each))
        new = await self._take(alerts, until=until)
        if self._watch is not None:
            for alert, is_new in zip(alerts, new, strict=True):
                self._watch.alerted(source, ("resolved" if alert.is_resolved else "firing") if is_new else "repeat")
        return {"taken": len(alerts), "new": sum(new), "unreadable": unreadable}

    async def _bury(self, tenant: str, source: str, error: str, body: bytes) -> None:
        _seldom.warning("alert", "an alert of %s cannot be read and is kept in dead_letters: %s", source, error[:300])
        if self._watch is not None:
            self._watch.alerted(source, "unreadable")
        if self._keep is not None:
            await self._keep(tenant, f"alerts/{source}", error[:300], body[:KEPT])


def _bearer(authorization: str) -> str:
    """Return what Basic says as Bearer: the password is the token, whatever the user's name."""
    scheme, _, said = authorization.partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        return f"Bearer {b64decode(said.strip(), validate=True).decode('latin-1').partition(':')[2]}"
    except ValueError:
        return ""


def _tenant(given: object) -> str:
    """Return the label `tenant` of an alert: an operator's token is no tenant's."""
    labels = given.get("labels") if isinstance(given, dict) else None
    said = labels.get("tenant") if isinstance(labels, dict) else None
    return said[:200] if isinstance(said, str) and said.isprintable() else ""


async def _body(receive: Receive) -> tuple[bytes, bool]:
    """Return a body, or what is kept of one that is too large, and whether it is whole."""
    try:
        return await read_body(receive, MOST_BODY), True
    except TooLong as error:
        return error.begun, False


async def take_each(alerts: Sequence[Alert], take: Callable[[Alert], Awaitable[bool]], until: float) -> list[bool]:
    """Take alerts one after the other; raises `LedgerUnavailable` when that takes too long. What was taken is known again then."""
    new = []
    for alert in alerts:
        if time.monotonic() > until:
            raise LedgerUnavailable(f"{len(alerts)} alerts take too long")
        new.append(await take(alert))
        await asyncio.sleep(0)
    return new
