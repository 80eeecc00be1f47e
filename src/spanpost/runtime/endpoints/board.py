"""The web board: its files, if there is an API for its data."""

from __future__ import annotations

from importlib.util import find_spec

from spanpost.runtime.endpoints import Endpoint, EndpointContext


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Return ``/`` and ``/board/``, if there is ``/api``."""
    if not context.settings.api.enabled or find_spec("fastapi") is None:
        return []
    from spanpost.interactions.board import board_routes

    return [Endpoint(routes=board_routes())]
