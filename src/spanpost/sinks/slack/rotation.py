"""Token rotation: fetches the next token of an app."""

from __future__ import annotations

import logging
from datetime import timedelta
from time import time
from typing import Final

import aiohttp
import msgspec
from slack_sdk.errors import SlackTokenRotationError
from slack_sdk.oauth.installation_store import Bot
from slack_sdk.oauth.token_rotation.async_rotator import AsyncTokenRotator
from slack_sdk.web.async_client import AsyncWebClient

from spanpost.sinks.slack.transport import proxy_for

_TIMEOUT: Final = 10.0


class Rotated(msgspec.Struct, frozen=True):
    """A token, its refresh token, and how long it is valid."""

    token: str
    refresh: str
    lasts: timedelta


class NoRotation(Exception):
    """Slack gave no new token. The text holds no token."""


async def rotated(client_id: str, client_secret: str, refresh: str, *, base_url: str) -> Rotated:
    """Exchange a refresh token, which can be used only once. Raises `NoRotation`."""
    bot = Bot(
        bot_token="", bot_id="", bot_user_id="", bot_refresh_token=refresh, bot_token_expires_at=1, installed_at=1.0
    )
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        nowhere = logging.Logger("spanpost.slack.nowhere", level=logging.CRITICAL + 1)
        client = AsyncWebClient(base_url=base_url, session=session, retry_handlers=[], logger=nowhere)
        client.proxy = proxy_for(base_url)
        rotator = AsyncTokenRotator(client_id=client_id, client_secret=client_secret, client=client)
        began = time()
        try:
            found = await rotator.perform_bot_token_rotation(bot=bot)
        except SlackTokenRotationError as error:
            word = str(error.api_error.response.get("error") or "nothing that can be read")
            raise NoRotation(f"Slack answers {word[:100]}") from None
        except Exception as error:
            raise NoRotation(f"no answer ({type(error).__name__})") from None
    if found is None or not found.bot_token or not found.bot_refresh_token or not found.bot_token_expires_at:
        raise NoRotation("Slack's answer is no bot's token")
    return Rotated(
        found.bot_token, found.bot_refresh_token, timedelta(seconds=max(found.bot_token_expires_at - began, 0))
    )
