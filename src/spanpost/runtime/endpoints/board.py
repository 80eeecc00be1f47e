"""The web board: its files, where there is an API that it can show."""

from __future__ import annotations

from importlib.util import find_spec

from spanpost.runtime.endpoints import Endpoint, EndpointContext


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Open ``/`` and ``/board/``, where ``/api`` is."""
    if not context.settings.api.enabled or find_spec("fastapi") is None:
        return []
    from spanpost.interactions.board import board_routes

    return [Endpoint(routes=board_routes())]
