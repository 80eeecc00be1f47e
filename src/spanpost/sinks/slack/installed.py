"""Transport to a workspace where the app was installed: its token is looked up, and may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from spanpost.model.errors import DeliveryRefused, StoreUnavailable, Unavailable
from spanpost.sinks.base import NoToken, TokenSource
from spanpost.sinks.slack.calls import Response, SlackRequest
from spanpost.sinks.slack.preview import Transport

#: Slack did nothing because of the token: a newer one may work.
_OF_TOKEN: Final = frozenset({"token_revoked", "token_expired", "account_inactive", "invalid_auth"})


class InstalledApi:
    """Slack's Web API in one workspace.

    `web` makes the transport for a token; `name` is the workspace's name in routes.
    """

    def __init__(self, name: str, team: str, web: Callable[[str], Transport]) -> None:
        self._name = name
        self._team = team
        self._web = web
        self._tokens: TokenSource | None = None
        self._token = ""
        self._now: Transport | None = None
        #: The previous transport is closed at the next change: calls may be under way in it.
        self._before: Transport | None = None

    def lend(self, tokens: TokenSource) -> None:
        """Set the source of the token."""
        self._tokens = tokens

    async def call(self, request: SlackRequest) -> Response:
        """Make a call with the current token, and again with a newer one if Slack refuses it."""
        api = await self._wire()
        response = await api.call(request)
        if response.error in _OF_TOKEN:
            again = await self._wire(refused=self._token)
            if again is not api:
                response = await again.call(request)
        return response

    async def _wire(self, *, refused: str = "") -> Transport:
        if self._tokens is None:
            raise self._none("no source of its token is set up here", "set [slack_oauth] as on the gateways")
        try:
            token = await self._tokens.token(self._team, refused=refused)
        except NoToken as error:
            raise self._none(str(error), error.cure) from None
        except StoreUnavailable:
            raise Unavailable("the token cannot be looked up: the database is down", reason="no_database") from None
        if self._now is None or token != self._token:
            if self._before is not None:
                await self._before.close()
            self._before, self._now, self._token = self._now, self._web(token), token
        return self._now

    def _none(self, why: str, cure: str) -> DeliveryRefused:
        message = f"workspace {self._name!r} ({self._team}): {why}"
        return DeliveryRefused(message, cure=cure, reason="not_installed", closes=f"slack:{self._name}")

    async def close(self) -> None:
        for api in (self._before, self._now):
            if api is not None:
                await api.close()
        self._before = self._now = None
