"""The HTTP API: ``/api``, an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from spanpost.desk.api import acts, events, oidc, tasks, views
from spanpost.desk.api.errors import ALWAYS, Guarded, Receive, Scope, Send, handle_errors
from spanpost.desk.api.parts import Parts

PREFIX = "/api/"


def application(parts: Parts, drawing: views.Views) -> Guarded:
    """Return the application."""
    app = FastAPI(
        title="spanpost",
        version=version("spanpost"),
        description="Tasks of agents, live: what runs, what waits, what failed; and what people answer.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ALWAYS,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.parts = parts
    app.state.views = drawing
    handle_errors(app)
    # First what ends in a word: an id may hold slashes.
    for router in (oidc.router, events.router, acts.router, views.router, tasks.router):
        app.include_router(router)
    return Guarded(_packed(app))


def _packed(app: FastAPI) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Send long answers packed to who takes them so: a list of tasks shrinks to a tenth. Of streams each event goes as it is."""
    packs = GZipMiddleware(app, minimum_size=2_000, compresslevel=3)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == f"{PREFIX}events":
            await app(scope, receive, send)
        else:
            await packs(scope, receive, send)

    return application
