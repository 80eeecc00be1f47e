"""The HTTP API: ``/api``, an ASGI application."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI

from spanpost.desk.api import acts, events, tasks, views
from spanpost.desk.api.errors import ALWAYS, Guarded, handle_errors
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
    for router in (events.router, acts.router, views.router, tasks.router):
        app.include_router(router)
    return Guarded(app)
