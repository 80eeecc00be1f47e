"""Health of a routing gateway.

It is ready while at least one cell is. One cell that is down must not take the router away from the tenants of
the others; a router that reaches no cell at all is probably cut off itself, and another replica may not be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from spanpost.http.authentication import Authenticator
from spanpost.http.errors import HttpError
from spanpost.http.routing import HttpRoute
from spanpost.http.tokens import SenderTokens
from spanpost.runtime import workers
from spanpost.runtime.health import HEALTH, LIVE, READY

if TYPE_CHECKING:
    from starlette.requests import Request

    from spanpost.metrics.recorder import Metrics
    from spanpost.receivers.cells.passing import Cells


class RouterHealth:
    """The state of one routing gateway. `connections` returns the number of its HTTP connections."""

    def __init__(self, cells: Cells, metrics: Metrics | None, connections: Callable[[], int]) -> None:
        self._cells = cells
        self._metrics = metrics
        self._connections = connections
        self._began = time.monotonic()
        self.is_stopping = False

    def why_not(self) -> str:
        """Return why requests would be refused now; empty if some cell would accept them."""
        if self.is_stopping:
            return "stopping"
        return "" if any(cell.is_up for cell in self._cells) else "no cell is ready"

    def routes(self, tokens: SenderTokens) -> list[HttpRoute]:
        """Return the routes of health and metrics. Where tokens are required, pages about all tenants need
        an operator's token.
        """
        authenticator = Authenticator(tokens)

        async def live(request: Request) -> Response:
            return JSONResponse({"status": "live"})

        async def ready(request: Request) -> Response:
            why = self.why_not()
            if not why and workers.current is not None and (missing := workers.current.missing()):
                why = f"of {workers.current.total} workers {len(missing)} are not ready"
            if why:
                raise HttpError(503, "not_ready", why)
            return JSONResponse({"status": "ready"})

        async def detailed(request: Request) -> Response:
            authenticator.require_operator(request.scope)
            why = self.why_not()
            details = {
                "status": "not ready" if why else "ready",
                "reason": why,
                "version": version("spanpost"),
                "uptime_seconds": round(time.monotonic() - self._began),
                "connections": self._connections(),
                "cells": {
                    cell.name: {
                        "is_ready": cell.is_up,
                        "in_flight_bytes": cell.admission.held.total,
                        "gateways": [
                            {"url": one.url, "is_ready": one.is_ready, "requests": one.under_way}
                            for one in cell.replicas
                        ],
                    }
                    for cell in self._cells
                },
            }
            return JSONResponse(details, 503 if why else 200)

        async def metrics(request: Request) -> Response:
            authenticator.require_operator(request.scope)
            if self._metrics is None:
                message = "prometheus_client is missing; install it with: pip install 'spanpost[metrics]'"
                raise HttpError(404, "not_found", message)
            content_type, page = self._metrics.page(request.headers.get("accept", ""))
            return Response(page, headers={"content-type": content_type})

        return [
            HttpRoute(LIVE, live, ["GET"]),
            *(HttpRoute(path, ready, ["GET"]) for path in (READY, HEALTH)),
            HttpRoute("/health/detailed", detailed, ["GET"]),
            HttpRoute("/metrics", metrics, ["GET"]),
        ]
