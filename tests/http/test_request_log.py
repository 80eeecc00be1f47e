"""Lines of requests in the log."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from spanpost.cli import logs
from spanpost.http.errors import HttpError
from spanpost.http.guard import Guard
from spanpost.http.request_log import note_tenant
from spanpost.http.routing import HttpRoute
from spanpost.runtime.endpoints import Endpoints
from spanpost.settings import LogSettings

SECRET = "xoxb-" + "1234567890-abcdefghijkl"
HEADERS = [
    (b"host", b"127.0.0.1:4318"),
    (b"authorization", b"Bearer " + SECRET.encode()),
    (b"traceparent", b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"),
    (b"x-request-id", b"r-1"),
]


def requested(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Send a request to two pages behind the guard."""

    async def work(request: Request) -> Response:
        note_tenant(request.scope, "acme")
        if request.url.path.endswith("full"):
            raise HttpError(503, "over_limit", "the tenant sends too much", outcome="tenant_spans", retry_after=1)
        return Response("fine")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None: ...

    app = Endpoints((), [HttpRoute("/health/", work)], Guard())
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": b"q=" + SECRET.encode(),
        "headers": headers, "client": ("127.0.0.1", 5), "http_version": "1.1", "scheme": "http",
        "spanpost.target": path,
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))


def test_each_request_is_a_line_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    """At DEBUG each request is one JSON line with tenant, status, reason and ids, without its query and headers."""
    logs.configure(LogSettings(level="DEBUG", json_lines=True))
    requested("/health/x", HEADERS)
    requested("/health/full", HEADERS)
    requested("/health/x", [(b"host", b"evil.example")])
    written = capsys.readouterr().err
    assert SECRET not in written
    lines = [line for line in map(json.loads, written.splitlines()) if line["logger"] == "spanpost.requests"]
    took = [line.pop("duration_ms") for line in lines]
    assert all(isinstance(one, float) for one in took)
    common = {"method": "GET", "client": "127.0.0.1", "tenant": "acme", "request_id": "r-1", "trace_id": "a1" * 16}
    wanted = [
        common | {"path": "/health/x", "status": 200},
        common | {"path": "/health/full", "status": 503, "reason": "tenant_spans"},
        {"method": "GET", "path": "/health/x", "client": "127.0.0.1", "status": 403},
    ]
    fields = [{name: line[name] for name in logs.FIELDS if name in line} for line in lines]
    assert fields == wanted


def test_no_line_without_debug(capsys: pytest.CaptureFixture[str]) -> None:
    """At INFO requests leave no line."""
    logs.configure(LogSettings())
    requested("/health/x", HEADERS)
    assert capsys.readouterr().err == ""
