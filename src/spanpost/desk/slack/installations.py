"""An app in a workspace: its tokens, who it is there, and which of several a payload is for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from spanpost.desk.acts import Desk
from spanpost.desk.slack.guard import Refused, Secret
from spanpost.desk.slack.payloads import app_of, team_of
from spanpost.desk.slack.web import Web


class Self(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are in a workspace, as Slack says."""

    team: str
    enterprise: str = ""
    bot_user: str = ""
    bot: str = ""


class Installation:
    """One app in one workspace. What it is there, Slack is asked once."""

    def __init__(
        self,
        desk: Desk,
        web: Web,
        token: str,
        *,
        secrets: Iterable[str] = (),
        app_token: str = "",
        app_id: str = "",
        team: str = "",
    ) -> None:
        self.desk = desk
        self.web = web
        self.token = token
        self.secrets = tuple(secrets)
        self.app_token = app_token
        # xapp-1-A012AB3CD-…: the token says whose it is.
        self.app_id = app_id or _app_of_token(app_token)
        self._team = team
        self._self: Self | None = None
        self._asking: asyncio.Task[Self] | None = None

    async def whoami(self) -> Self:
        """Return who we are there. Raises `Trouble`."""
        if self._self is None:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            self._self = await asyncio.shield(self._asking)
        return self._self

    async def _ask(self) -> Self:
        told = await self.web.call("auth.test")
        return Self(
            team=_text(told.get("team_id")),
            enterprise=_text(told.get("enterprise_id")),
            bot_user=_text(told.get("user_id")),
            bot=_text(told.get("bot_id")),
        )

    def is_app_of(self, body: dict[str, Any]) -> bool:
        """Tell whether a payload is for this app; where its id is not known, the signature or the connection has proved it."""
        return not self.app_id or app_of(body) == self.app_id

    async def is_of(self, team: str, enterprise: str) -> bool:
        """Tell whether a workspace is the one of the bot token. Raises `Trouble`."""
        if self._team and self._team not in (team, enterprise):
            return False
        me = await self.whoami()
        return bool(me.team) and (team == me.team or (bool(me.enterprise) and enterprise == me.enterprise))


def _app_of_token(token: str) -> str:
    parts = token.split("-")
    return parts[2] if len(parts) > 3 and parts[0] == "xapp" and parts[2].startswith("A") else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


async def choose(candidates: Sequence[Installation], body: dict[str, Any]) -> tuple[Installation, str]:
    """Return which installation a payload is for, and its workspace; raises `Refused` where none of them, `Trouble` unasked."""
    candidates = [one for one in candidates if one.is_app_of(body)]
    if not candidates:
        raise Refused(401, "app")
    team, enterprise = team_of(body)
    for one in candidates:
        if team and await one.is_of(team, enterprise):
            return one, team
    raise Refused(401, "team")


def secrets_of(installations: Sequence[Installation]) -> list[Secret]:
    """Return all signing secrets, and what each proves."""
    return [Secret(i, secret) for i, one in enumerate(installations) for secret in one.secrets]
