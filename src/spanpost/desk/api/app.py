"""The HTTP API: ``/api``, an ASGI application."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from spanpost.desk.api import shapes, tasks
from spanpost.desk.api.errors import Guarded, handle_errors
from spanpost.desk.api.parts import Parts

PREFIX = "/api/"
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": shapes.Error, "description": text}
    for status, text in {401: "Who asks is not known.", 503: "Not just now; come back after `Retry-After`."}.items()
}


def application(parts: Parts) -> Guarded:
    """Return the application."""
    app = FastAPI(
        title="spanpost",
        version=version("spanpost"),
        description="Tasks of agents, live: what runs, what waits, what failed.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_ERRORS,
    )
    app.state.parts = parts
    handle_errors(app)
    app.include_router(tasks.router)
    return Guarded(app)
