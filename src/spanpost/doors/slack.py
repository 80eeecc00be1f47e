"""Slack, where it is heard over HTTP."""

from __future__ import annotations

from spanpost.doors import Door, House


def doors(house: House) -> list[Door]:
    """Open ``/slack/events``."""
    reception = house.pipeline.reception
    if reception is None or not reception.has_http:
        return []
    from spanpost.desk.slack.http import PATH

    return [Door(prefix=PATH, application=reception.http())]
