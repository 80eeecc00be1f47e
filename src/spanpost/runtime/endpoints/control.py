"""Agents that wait for people."""

from __future__ import annotations

from spanpost.interactions.control import ControlHttp
from spanpost.runtime.endpoints import Endpoint, EndpointContext
from spanpost.settings.gateway import GatewaySettings


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Open ``/control/``."""
    section = context.settings.gateway or GatewaySettings()
    answers = context.pipeline.answers
    control = ControlHttp(answers, context.sender_tokens, most=section.max_waiters)
    answers.begin()  # what other processes decide has deliveries that go out at once, too
    return [Endpoint(routes=control.routes, end=control.end)]
