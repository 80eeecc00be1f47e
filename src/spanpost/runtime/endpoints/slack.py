"""Slack over HTTP: its events, and the installation of its app."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from spanpost.model.errors import ConfigError
from spanpost.runtime.endpoints import Endpoint, EndpointContext

if TYPE_CHECKING:
    from spanpost.interactions.slack.oauth import OauthHttp
    from spanpost.runtime.workspaces import Workspaces
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.interactions")


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Return ``/slack/events``, and ``/slack/install`` with its redirect. Raises `ConfigError`."""
    opened = []
    components = context.pipeline.components
    interactions_runtime, workspaces = components.interactions_runtime, components.workspaces
    if interactions_runtime is not None and interactions_runtime.has_http:
        opened.append(Endpoint(routes=interactions_runtime.http().routes))
    if workspaces is not None:
        try:
            http = oauth(context, workspaces)
            opened.append(Endpoint(routes=http.routes, reload=partial(_reload, http)))
        except ImportError as error:
            raise ConfigError(
                f"slack_oauth: {error.name} is missing; install it with: pip install 'spanpost[interactions]'"
            ) from error
        if workspaces.encryption is None:
            log.warning("the Slack app cannot be installed: slack_oauth.key is not set; `spanpost slack key` makes one")
    return opened


def _reload(http: OauthHttp, settings: Settings) -> None:
    section = settings.slack_oauth
    if section is not None and section.client_secret is not None:
        http.client_secret = section.client_secret.get_secret_value()


def oauth(context: EndpointContext, workspaces: Workspaces) -> OauthHttp:
    """Return the endpoint that installs the app."""
    from spanpost.interactions.slack.oauth import OauthHttp

    section, interactions = workspaces.section, context.settings.interactions
    assert section.client_secret is not None
    return OauthHttp(
        section,
        section.client_secret.get_secret_value(),
        workspaces,
        context.pipeline.store.interventions,
        app_id=interactions.app_id if interactions is not None else "",
        base_url=workspaces.base_url,
        watch=context.pipeline.metrics,
    )
