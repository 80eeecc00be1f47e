"""The HTTP API: ``/api``, an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, Response

from spanpost.http.asgi import Receive, Scope, Send
from spanpost.interactions.api import acts, alerts, audit, events, lists, login, tasks, views, waterfalls
from spanpost.interactions.api.errors import ALWAYS, GuardedApi, handle_errors
from spanpost.interactions.api.parts import ApiParts

PREFIX = "/api/"


def application(parts: ApiParts, draw: views.DrawMessage | None = None) -> GuardedApi:
    """Return the application. Without `draw` it only serves its document, without drawn messages."""
    app = FastAPI(
        title="spanpost",
        version=version("spanpost"),
        description="Tasks of agents, live: running, waiting and failed ones, and people's answers.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ALWAYS,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.parts = parts
    app.state.draw = draw

    @app.get("/api/openapi.json", include_in_schema=False)
    async def document() -> Response:
        # Made once, which takes a while; the loop goes on recording.
        return JSONResponse(await asyncio.to_thread(app.openapi))

    handle_errors(app)
    # Paths with a last word first: an id may contain slashes.
    own = alerts, audit, acts, lists, views, waterfalls, tasks
    routers = login.router, events.router, *(one.router for one in own)
    for router in routers:
        app.include_router(router)
    app.add_middleware(Packing)
    return GuardedApi(app, routers)


class Packing:
    """Compresses long answers for clients that accept it: a list of tasks shrinks to a tenth.

    Streams stay as they are.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._packs = GZipMiddleware(app, minimum_size=2_000, compresslevel=3)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        await (self._app if scope.get("path") == f"{PREFIX}events" else self._packs)(scope, receive, send)
