"""The control API, where agents wait for people."""

from __future__ import annotations

from spanpost.interactions.control import ControlHttp
from spanpost.runtime.endpoints import Endpoint, EndpointContext
from spanpost.settings.gateway import GatewaySettings


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Return ``/control/``."""
    section = context.settings.gateway or GatewaySettings()
    answers = context.pipeline.components.answers
    control = ControlHttp(answers, context.sender_tokens, most=section.max_waiters)
    answers.begin()  # decisions of other processes also start deliveries at once
    return [Endpoint(routes=control.routes, end=control.end)]
