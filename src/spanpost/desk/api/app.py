"""The HTTP API: ``/api``, an ASGI application."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from spanpost.desk.api import acts, events, oidc, tasks
from spanpost.desk.api.errors import ALWAYS, Guarded, handle_errors
from spanpost.desk.api.parts import Parts

PREFIX = "/api/"


def application(parts: Parts) -> Guarded:
    """Return the application."""
    app = FastAPI(
        title="spanpost",
        version=version("spanpost"),
        description="Tasks of agents, live: what runs, what waits, what failed; and what people answer.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ALWAYS,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.parts = parts

    @app.get("/api/openapi.json", include_in_schema=False)
    async def document() -> Response:
        # It takes a while to be made, once: whoever records in this loop goes on.
        return JSONResponse(await asyncio.to_thread(app.openapi))

    handle_errors(app)
    # First what ends in a word: an id may hold slashes.
    for router in (oidc.router, events.router, acts.router, tasks.router):
        app.include_router(router)
    return Guarded(app)
