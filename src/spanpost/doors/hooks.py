"""Requests of other programs."""

from __future__ import annotations

from spanpost.desk.hooks.http import HooksHttp
from spanpost.doors import Door, House
from spanpost.settings import Settings


def doors(house: House) -> list[Door]:
    """Open ``/hooks/``."""
    hooks = house.pipeline.hooks
    if hooks is None:
        return []
    room = house.settings.hooks
    application = HooksHttp(hooks.hall, hooks.providers, max_body=room.max_body, watch=house.pipeline.metrics)

    def reload(settings: Settings) -> None:
        application.providers = dict(hooks.providers)
        application.max_body = settings.hooks.max_body

    return [Door(routes=application.routes, reload=reload)]
