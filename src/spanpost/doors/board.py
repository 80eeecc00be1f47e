"""The web board: its files, where there is an API that it can show."""

from __future__ import annotations

from importlib.util import find_spec

from spanpost.doors import Door, House


def doors(house: House) -> list[Door]:
    """Open ``/`` and ``/board/``, where ``/api`` is."""
    if not house.settings.api.enabled or find_spec("fastapi") is None:
        return []
    from spanpost.desk.board import board_routes

    return [Door(routes=board_routes())]
