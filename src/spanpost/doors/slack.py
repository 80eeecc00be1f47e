"""Slack, where it is heard over HTTP, and where its app is installed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from spanpost.domain.errors import ConfigError
from spanpost.doors import Door, House

if TYPE_CHECKING:
    from spanpost.desk.slack.oauth import OauthHttp
    from spanpost.workspaces import Workspaces

log = logging.getLogger("spanpost.desk")


def doors(house: House) -> list[Door]:
    """Open ``/slack/events``, and ``/slack/install`` with where Slack leads back to. Raises `ConfigError`."""
    opened = []
    reception, workspaces = house.pipeline.reception, house.pipeline.workspaces
    if reception is not None and reception.has_http:
        opened.append(Door(routes=reception.http().routes))
    if workspaces is not None:
        try:
            opened.append(Door(routes=oauth(house, workspaces).routes))
        except ImportError as error:
            raise ConfigError(f"slack_oauth: {error.name} is missing; install it with: pip install 'spanpost[desk]'") from error
        if workspaces.seal is None:
            log.warning("nobody can install the Slack app: slack_oauth.key is not set; `spanpost slack key` makes one")
    return opened


def oauth(house: House, workspaces: Workspaces) -> OauthHttp:
    """Return the application by which the app is installed."""
    from spanpost.desk.slack.oauth import OauthHttp, Terms
    from spanpost.sinks.slack.transport import proxy_for

    room, desk = workspaces.room, house.settings.desk
    assert room.client_secret is not None
    terms = Terms(
        client_id=room.client_id,
        client_secret=room.client_secret.get_secret_value(),
        public_url=room.public_url,
        scopes=room.scopes,
        app_id=desk.app_id if desk is not None else "",
        base_url=workspaces.base_url,
        proxy=proxy_for(workspaces.base_url),
    )
    return OauthHttp(terms, workspaces, house.pipeline.ledger, watch=house.pipeline.metrics)
