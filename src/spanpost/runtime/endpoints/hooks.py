"""Webhooks: requests of other programs."""

from __future__ import annotations

from spanpost.interactions.webhooks.http import HooksHttp
from spanpost.runtime.endpoints import Endpoint, EndpointContext
from spanpost.settings import Settings


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Return ``/hooks/``."""
    hooks = context.pipeline.components.hooks
    if hooks is None:
        return []
    section = context.settings.webhooks
    pipeline = context.pipeline
    application = HooksHttp(
        pipeline.store.launch_orders,
        hooks.providers,
        take=pipeline.components.take,
        max_body=section.max_body,
        watch=pipeline.metrics,
    )

    def reload(settings: Settings) -> None:
        application.providers = dict(hooks.providers)
        application.max_body = settings.webhooks.max_body

    return [Endpoint(routes=application.routes, reload=reload)]
