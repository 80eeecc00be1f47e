"""Slack apps in workspaces: their tokens, their own ids there, and the choice of one for a payload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.async_context import AsyncBoltContext

from spanpost.interactions.acts import Interactions
from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.slack.guard import Secret, SlackRefused
from spanpost.interactions.slack.payloads import app_of, team_of, text_of
from spanpost.interactions.slack.web import Trouble, Web
from spanpost.model.errors import StoreUnavailable

log = logging.getLogger("spanpost.interactions")


class Self(msgspec.Struct, frozen=True, kw_only=True):
    """The app's own ids in a workspace, as Slack says."""

    team: str
    enterprise: str = ""
    bot_user: str = ""
    bot: str = ""


class Installation:
    """One app in one workspace. Its own ids are asked of Slack once."""

    def __init__(
        self,
        interactions: Interactions,
        web: Web,
        token: str,
        *,
        secrets: Iterable[str] = (),
        app_token: str = "",
        app_id: str = "",
        team: str = "",
        me: Self | None = None,
    ) -> None:
        self.interactions = interactions
        self.web = web
        self.token = token
        self.secrets = tuple(secrets)
        self.app_token = app_token
        # xapp-1-A012AB3CD-…: the token holds the app's id.
        self.app_id = app_id or app_of_token(app_token)
        self._team = team
        self._self = me
        self._asking: asyncio.Task[Self] | None = None

    def renew(self, token: str, secrets: Iterable[str], app_token: str) -> None:
        """Use other tokens and signing secrets from the next payload on."""
        self.secrets, self.app_token = tuple(secrets), app_token
        if token != self.token:
            self.token, self._self, self._asking = token, None, None
            self.web.use(token)

    async def whoami(self) -> Self:
        """Return the app's own ids. Raises `Trouble`."""
        if self._self is None:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            self._self = await asyncio.shield(self._asking)
        return self._self

    async def _ask(self) -> Self:
        response = await self.web.call("auth.test")
        return Self(
            team=text_of(response.get("team_id")),
            enterprise=text_of(response.get("enterprise_id")),
            bot_user=text_of(response.get("user_id")),
            bot=text_of(response.get("bot_id")),
        )

    async def post_ephemeral(
        self, message: PersonMessage, thread: str, user: str, text: str, blocks: Sequence[dict[str, Any]] = ()
    ) -> None:
        """Post a text that only one person sees, in the channel of a message. A failure is logged."""
        more: dict[str, Any] = ({"thread_ts": thread} if thread else {}) | ({"blocks": list(blocks)} if blocks else {})
        try:
            await self.web.call("chat.postEphemeral", channel=message.channel, user=user, text=text, **more)
        except Trouble as trouble:
            log.warning("a person could not be told the result of a click or command: %s", trouble)

    async def at(self, team: str, enterprise: str) -> Installation | None:
        """Return itself if it belongs to that workspace, else None. Raises `Trouble`."""
        return self if await self.is_of(team, enterprise) else None

    async def is_of(self, team: str, enterprise: str) -> bool:
        """Tell whether the bot token belongs to a workspace. Raises `Trouble`."""
        if self._team and self._team not in (team, enterprise):
            return False
        me = await self.whoami()
        return bool(me.team) and (team == me.team or (bool(me.enterprise) and enterprise == me.enterprise))


def is_meant(app: App, body: dict[str, Any]) -> bool:
    """Tell whether a payload is for an app.

    True if the app's id is unknown: signature or connection has proved it.
    """
    return not app.app_id or app_of(body) == app.app_id


def app_of_token(token: str) -> str:
    parts = token.split("-")
    return parts[2] if len(parts) > 3 and parts[0] == "xapp" and parts[2].startswith("A") else ""


class Finds(Protocol):
    """**Protocol:** the stored installations of an app. All methods raise `StoreUnavailable`."""

    async def find(self, team: str) -> Installation | None:
        """Return the app in a workspace; None if it is not installed there, or not allowed."""
        ...

    async def gone(self, team: str, why: str, at: float | None) -> bool:
        """Delete a workspace that reported its removal at that time; False if it is still there.

        Raises `Trouble`.
        """
        ...

    async def close(self) -> None: ...


class Everywhere:
    """One app in every workspace that installed it. `web` is for calls with the app's own token."""

    def __init__(
        self, finds: Finds, web: Web, *, secrets: Iterable[str] = (), app_token: str = "", app_id: str = ""
    ) -> None:
        self.finds = finds
        self.web = web
        self.secrets = tuple(secrets)
        self.app_token = app_token
        self.app_id = app_id or app_of_token(app_token)

    async def at(self, team: str, enterprise: str) -> Installation | None:
        """Return the app in a workspace; None if it is not installed there. Raises `StoreUnavailable`."""
        return await self.finds.find(team)


App: TypeAlias = Installation | Everywhere


async def choose(candidates: Sequence[App], body: dict[str, Any]) -> tuple[Installation, str]:
    """Return the installation that a payload is for, and its workspace.

    Raises `SlackRefused` if there is none. Apps with one fixed workspace come last, since Slack must be
    asked for their ids. A failed lookup does not prevent another app from being found: its `Trouble` or
    `StoreUnavailable` is raised only if none was.
    """
    candidates = [one for one in candidates if is_meant(one, body)]
    if not candidates:
        raise SlackRefused(401, "app")
    team, enterprise = team_of(body)
    failed: Exception | None = None
    for one in sorted(candidates, key=lambda one: isinstance(one, Installation)) if team else ():
        try:
            found = await one.at(team, enterprise)
        except (Trouble, StoreUnavailable) as error:
            failed = failed or error
            continue
        if found is not None:
            return found, team
    if failed is not None:
        raise failed
    raise SlackRefused(401, "team")


def secrets_of(apps: Sequence[App]) -> list[Secret]:
    """Return all signing secrets, and the installation that each proves."""
    return [Secret(i, secret) for i, one in enumerate(apps) for secret in one.secrets]


async def authorize(
    context: AsyncBoltContext, enterprise_id: str | None, team_id: str | None, user_id: str | None
) -> AuthorizeResult:
    """Give Bolt the identity that it would otherwise request from Slack each time."""
    installation: Installation = context["origin"].installation
    me = await installation.whoami()
    return AuthorizeResult(
        enterprise_id=me.enterprise or None,
        team_id=me.team or None,
        bot_user_id=me.bot_user or None,
        bot_id=me.bot or None,
        bot_token=installation.token,
    )
