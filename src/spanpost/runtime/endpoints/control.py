"""The control API, where agents and permission hooks wait for people."""

from __future__ import annotations

from spanpost.interactions.control import ControlHttp
from spanpost.interactions.hooks.http import HooksEndpoint
from spanpost.interactions.waiting import Waiters
from spanpost.runtime.endpoints import Endpoint, EndpointContext
from spanpost.settings import Settings
from spanpost.settings.gateway import GatewaySettings


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Return ``/control/``."""
    section = context.settings.gateway or GatewaySettings()
    components, store = context.pipeline.components, context.pipeline.store
    answers, waiters = components.answers, Waiters(section.max_waiters)
    control = ControlHttp(answers, context.sender_tokens, waiters)
    hooks = HooksEndpoint(
        answers,
        store.reader,
        store.interventions,
        context.sender_tokens,
        waiters,
        context.settings.hooks,
        key=lambda: store.hash_key,
        take=components.take,
    )

    def reload(settings: Settings) -> None:
        hooks.rules = settings.hooks

    answers.begin()  # decisions of other processes also start deliveries at once
    return [Endpoint(routes=[*hooks.routes, *control.routes], end=control.end, reload=reload)]
