"""Each response of a counted route is counted once, by its status and outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from spanpost.http.errors import HttpError
from spanpost.http.routing import HttpRoute, HttpRouter


class Called:
    """A router, its answers, and what it counted."""

    def __init__(self, router: HttpRouter, counted: list[tuple[int, str]]) -> None:
        self.router, self.counted = router, counted
        self.sent: list[dict[str, Any]] = []

    async def __call__(self, path: str, method: str = "GET") -> int:
        """Return the status of a request."""
        scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
        await self.router(scope, self._receive, self._send)
        return int(next(m["status"] for m in self.sent if m["type"] == "http.response.start"))

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def _send(self, message: Any) -> None:
        self.sent.append(dict(message))


async def _fine(_: Request) -> Response:
    return PlainTextResponse("fine")


async def _refused(_: Request) -> Response:
    raise HttpError(429, "over_limit", "too much")


async def _broken(_: Request) -> Response:
    raise ValueError("a defect")


class _Half:
    """An endpoint with a defect after its first byte."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("a defect")


class _Waits:
    """An endpoint that waits for ever."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered.set()
        await asyncio.Event().wait()


def _router(*endpoints: tuple[str, Any]) -> Called:
    counted: list[tuple[int, str]] = []
    routes = [HttpRoute(path, do, ["GET"], count=lambda *seen: counted.append(seen)) for path, do in endpoints]
    return Called(HttpRouter(routes, on_fault=lambda *_: None), counted)


@pytest.mark.parametrize(
    ("path", "method", "status", "counted"),
    [
        ("/fine", "GET", 200, [(200, "")]),
        ("/refused", "GET", 429, [(429, "over_limit")]),
        ("/broken", "GET", 503, [(503, "fault")]),
        ("/fine", "POST", 405, [(405, "method")]),
        ("/nothing", "GET", 404, []),
        ("/half", "GET", 200, [(200, "")]),
    ],
)
async def test_each_answer_is_counted_once(path: str, method: str, status: int, counted: list[tuple[int, str]]) -> None:
    """Answers, errors and defects of a route are counted once, and a path without a route is not. After the first byte
    nothing else is sent.
    """
    called = _router(("/fine", _fine), ("/refused", _refused), ("/broken", _broken), ("/half", _Half()))
    assert await called(path, method) == status
    assert called.counted == counted
    assert [m["type"] for m in called.sent].count("http.response.start") == 1


async def test_a_request_that_a_stop_ends_is_counted() -> None:
    """What is not answered before the end of a stop is answered 503, and counted as that."""
    waits = _Waits()
    called = _router(("/slow", waits))
    asked = asyncio.create_task(called("/slow"))
    await waits.entered.wait()
    asked.cancel()
    assert await asked == 503
    assert called.counted == [(503, "unavailable")]


async def test_a_router_below_a_route_counts_by_itself() -> None:
    """A response of a router below another is counted by the route that answered, and once."""
    below = _router(("/below/fine", _fine))
    above = _router(("/below/", below.router))
    assert await above("/below/fine") == 200
    assert (below.counted, above.counted) == ([(200, "")], [])
