"""Agents that wait for people."""

from __future__ import annotations

from spanpost.desk.control import ControlHttp
from spanpost.doors import Door, House
from spanpost.settings.gateway import GatewaySettings


def doors(house: House) -> list[Door]:
    """Open ``/control/``."""
    room = house.settings.gateway or GatewaySettings()
    answers = house.pipeline.answers
    control = ControlHttp(answers, house.doorkeeper, most=room.max_waiters)
    answers.begin()  # what other processes decide has letters that go out at once, too
    return [Door(routes=control.routes, end=control.end)]
