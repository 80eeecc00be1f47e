"""Health of a gateway: whether it is ready, and the pages that say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec

from spanpost.http.tokens import SenderTokens
from spanpost.model.errors import StoreUnavailable
from spanpost.receivers.receiver import Receiver
from spanpost.runtime import workers
from spanpost.runtime.assembly import enabled_sinks
from spanpost.runtime.component_health import SAMPLES, ComponentHealth, components
from spanpost.runtime.pipeline import Pipeline

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from spanpost.http.routing import HttpRoute
    from spanpost.settings import Settings

    Show = Callable[[Request], Awaitable[Response]]

#: Also answered on connections beyond the limit.
LIVE: Final = "/health/live"
READY: Final = "/health/ready"
#: The same answer, for load balancers and scripts that ask for nothing more exact.
HEALTH: Final = "/health"
#: How long one database check answers readiness requests; and its timeout. Seconds.
_CHECK_INTERVAL: Final = 1.0
_CHECK_TIMEOUT: Final = 1.0
#: Without a commit for this long, a check writes something: a disk may be full before a sender notices. Seconds.
_WRITE_INTERVAL: Final = 30.0
_FIGURES_TIMEOUT: Final = 5.0
#: How long the state of components answers requests, seconds: their figures read many rows.
_COMPONENTS_INTERVAL: Final = 10.0


class GatewayHealth:
    """The state of one gateway, in its loop. `connections` returns the number of its HTTP connections.

    `why_not_written` returns why what is received cannot be written, if that is not to the database.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        receiver: Receiver,
        settings: Settings,
        connections: Callable[[], int],
        why_not_written: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._receiver = receiver
        self._settings = settings
        self._connections = connections
        self._why_not_written = why_not_written
        self.is_stopping = False
        self._began = time.monotonic()
        self._checked_at = float("-inf")
        self._trouble = ""
        self._check: asyncio.Task[str] | None = None
        #: When the database's trouble, or its absence, began.
        self._since = datetime.now(UTC)
        self._components: list[ComponentHealth] = []
        self._components_at = float("-inf")
        self._looking = asyncio.Lock()
        #: Number of the receiver's commits at the last check, and when a write succeeded last.
        self._commits = 0
        self._wrote_at = time.monotonic()

    def why_not(self) -> str:
        """Return why requests would be refused now; empty if they would be accepted."""
        return "stopping" if self.is_stopping else self._trouble or self._receiver.trouble

    def routes(self, tokens: SenderTokens) -> list[HttpRoute]:
        """Return the routes of health and metrics. Where tokens are required, pages about all tenants need
        an operator's token.
        """
        from spanpost.http.authentication import Authenticator
        from spanpost.http.routing import HttpRoute

        authenticator = Authenticator(tokens)

        def operators(show: Show) -> Show:
            async def shown(request: Request) -> Response:
                authenticator.require_operator(request.scope)
                return await show(request)

            return shown

        return [
            HttpRoute(LIVE, self._live, ["GET"]),
            *(HttpRoute(path, self._ready, ["GET"]) for path in (READY, HEALTH)),
            HttpRoute("/health/detailed", operators(self._detailed), ["GET"]),
            HttpRoute("/metrics", operators(self._metrics), ["GET"]),
        ]

    async def _check_database(self) -> None:
        """Check the database, at most once a second for all readiness requests together."""
        if time.monotonic() - self._checked_at < _CHECK_INTERVAL:
            return
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._checked())
        await asyncio.wait((self._check,), timeout=_CHECK_TIMEOUT)
        if not self._check.done():
            if not self._trouble:
                self._trouble, self._since = "the database does not answer", datetime.now(UTC)
            return
        trouble = self._check.result()
        if bool(trouble) != bool(self._trouble):
            self._since = datetime.now(UTC)
        self._trouble = trouble
        self._checked_at = time.monotonic()
        if not self._trouble:
            self._receiver.trouble = ""  # no sender has tried since the outage

    async def _checked(self) -> str:
        """Return why nothing can be acknowledged. Writes only in doubt: after a failure, or without commits."""
        if self._why_not_written is not None:
            return await self._why_not_written()
        now, commits = time.monotonic(), self._receiver.groups.done
        if commits != self._commits:
            self._commits, self._wrote_at = commits, now
        tries = bool(self._receiver.trouble or self._trouble) or now - self._wrote_at >= _WRITE_INTERVAL
        trouble = await self._pipeline.store.why_not_writable(tries=tries)
        if tries and not trouble:
            self._wrote_at = time.monotonic()
        return trouble

    async def components(self) -> list[ComponentHealth]:
        """Return the state of each component, at most ten seconds old."""
        async with self._looking:
            if time.monotonic() - self._components_at >= _COMPONENTS_INTERVAL:
                await self._check_database()
                fleet = None
                with suppress(StoreUnavailable, TimeoutError):
                    fleet = await asyncio.wait_for(self._pipeline.store.fleet(is_asked=True), _FIGURES_TIMEOUT)
                metrics = self._pipeline.metrics
                samples = metrics.samples(SAMPLES) if metrics is not None else {}
                self._components = components(self._settings, fleet, samples, self._trouble, self._since)
                self._components_at = time.monotonic()
        return self._components

    async def _live(self, request: Request) -> Response:
        return _json(200, {"status": "live"})

    async def _ready(self, request: Request) -> Response:
        from spanpost.http.errors import HttpError

        if not self.is_stopping:
            await self._check_database()
        why = self.why_not()
        if not why and workers.current is not None and (missing := workers.current.missing()):
            why = f"of {workers.current.total} workers {len(missing)} are not ready"
        if why:
            raise HttpError(503, "not_ready", why)
        return _json(200, {"status": "ready"})

    async def _detailed(self, request: Request) -> Response:
        await self._check_database()
        receiver, why = self._receiver, self.why_not()
        section = self._settings.gateway
        details: dict[str, Any] = {
            "status": "not ready" if why else "ready",
            "reason": why,
            "version": version("spanpost"),
            "uptime_seconds": round(time.monotonic() - self._began),
            "in_flight_bytes": receiver.in_flight,
            "waiting_bytes": receiver.waiting,
            "recorded_bytes_per_second": round(receiver.pace or 0),
            "journal_bytes": receiver.journal.size if receiver.journal is not None else 0,
            "journal_lag_seconds": receiver.journal.lag if receiver.journal is not None else 0,
            "connections": self._connections(),
            "components": msgspec.to_builtins(await self.components()),
            "sinks": list(enabled_sinks(self._settings)),
            "tenants": sorted({token.tenant for token in section.tokens}) if section is not None else [],
        }
        return _json(503 if why else 200, details)

    async def _metrics(self, request: Request) -> Response:
        from starlette.responses import Response

        from spanpost.http.errors import HttpError

        metrics = self._pipeline.metrics
        if metrics is None:
            raise HttpError(
                404, "not_found", "prometheus_client is missing; install it with: pip install 'spanpost[metrics]'"
            )
        content_type, page = metrics.page(request.headers.get("accept", ""))
        return Response(page, headers={"content-type": content_type})


def _json(status: int, content: dict[str, Any]) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status)
