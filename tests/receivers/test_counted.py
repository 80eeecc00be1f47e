"""Bodies outside of OTLP count in the shared memory limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from spanpost.http.asgi import read_body
from spanpost.http.routing import HttpRoute, HttpRouter
from spanpost.http.shares import Sender
from spanpost.http.tokens import SenderTokens
from spanpost.receivers.admission import Admission
from spanpost.receivers.alerts_http import AlertsHttp
from spanpost.receivers.counted import Counted
from spanpost.receivers.limits import AdmissionLimits

LIMIT = 10_000


async def echo(request: HttpRequest) -> Response:
    """Read a body and return its length."""
    return Response(str(len(await read_body(request.receive, 100 * LIMIT))))


def counted(routes: list[HttpRoute], admission: Admission) -> HttpRouter:
    """Return an application whose bodies count."""
    for route in routes:
        route.app = Counted(route.app, admission)
    return HttpRouter(routes)


class Request:
    """A request whose body comes in pieces, the last of them when it is released."""

    def __init__(self, app: Any, address: str, size: int) -> None:
        self.let_go, self.has_read = asyncio.Event(), asyncio.Event()
        self.sent: list[Any] = []
        self._pieces = [b"x" * 1000] * (size // 1000)
        scope = {"type": "http", "method": "POST", "path": "/alerts/grafana", "headers": [], "client": (address, 1)}
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._pieces:
            return {"type": "http.request", "body": self._pieces.pop(), "more_body": True}
        self.has_read.set()
        await self.let_go.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def status(self) -> int:
        self.let_go.set()
        await self.task
        assert [message["type"] for message in self.sent] == ["http.response.start", "http.response.body"]
        return int(self.sent[0]["status"])


async def test_bodies_of_other_endpoints_have_the_same_shares() -> None:
    """Item 6: a body counts while it is read; beyond the address's share it is 503, others have theirs, and
    all is released.
    """
    admission = Admission(AdmissionLimits(max_in_flight=LIMIT, max_body=LIMIT))
    app = counted([HttpRoute("/alerts/", echo, ["POST"])], admission)
    held = Request(app, "192.0.2.1", LIMIT)
    await held.has_read.wait()
    assert admission.held.total == LIMIT
    assert not admission.held.fits(Sender("blue", "192.0.2.9"), LIMIT, LIMIT)  # OTLP is counted beside it
    assert await Request(app, "192.0.2.1", 1000).status() == 503
    assert await Request(app, "192.0.2.2", 3000).status() == 200
    assert await held.status() == 200
    assert admission.held.total == 0


@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.2"])
async def test_a_body_without_a_share_is_answered_503(address: str) -> None:
    """Item 6: a body without a share in an endpoint gets 503 alone, and nothing is kept."""

    async def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("it was taken")

    alerts = AlertsHttp(never, SenderTokens("default"), keep=never)
    app = counted(alerts.routes, Admission(AdmissionLimits(max_in_flight=LIMIT, max_body=LIMIT)))
    assert await Request(app, address, 2 * LIMIT).status() == 503
