"""Calls of Slack's Web API and of response URLs. They are not logged; errors hold no token, URL or body."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

#: Seconds for a call: a click must be answered within three seconds, however slow Slack's Web API is.
TIMEOUT = 1.5
#: Hosts of response URLs: Slack, and Slack for the US government.
SLACK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")
#: Bytes of an answer, at most.
_MOST = 4 * 1024 * 1024


def silent() -> logging.Logger:
    """Return a detached logger (no handlers, no parent): slack_sdk and Bolt log bodies and tokens."""
    return logging.Logger("spanpost.interactions.nowhere", level=logging.CRITICAL + 1)


class Trouble(Exception):
    """A call that Slack refused or that did not reach it. The text may be shown."""

    def __init__(self, error: str, needed: str = "") -> None:
        super().__init__(f"{error}: {needed}" if needed else error)
        self.error = error


class Web:
    """The Web API of one workspace, in the running loop."""

    def __init__(self, token: str, *, base_url: str, proxy: str | None = None) -> None:
        self.base_url = base_url
        self._token = token
        self._proxy = proxy
        self._open: tuple[asyncio.AbstractEventLoop, aiohttp.ClientSession, AsyncWebClient] | None = None

    def use(self, token: str) -> None:
        """Use another token from the next call on."""
        self._token = token
        if self._open is not None:
            self._open[2].token = token

    @property
    def client(self) -> AsyncWebClient:
        """slack_sdk's client, without logs and without retries."""
        return self._connected()[1]

    def _connected(self) -> tuple[aiohttp.ClientSession, AsyncWebClient]:
        loop = asyncio.get_running_loop()
        if self._open is None or self._open[0] is not loop or self._open[1].closed:
            session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
            client = AsyncWebClient(
                token=self._token, base_url=self.base_url, session=session, retry_handlers=[], logger=silent()
            )
            client.proxy = self._proxy  # slack_sdk takes one from the environment and ignores NO_PROXY
            self._open = (loop, session, client)
        return self._open[1], self._open[2]

    async def call(self, method: str, *, token: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Return Slack's answer. Raises `Trouble`."""
        return (await self.ask(method, token=token, **arguments))[0]

    async def ask(
        self, method: str, *, token: str | None = None, **arguments: Any
    ) -> tuple[dict[str, Any], tuple[str, ...] | None]:
        """Return Slack's answer, and the token's scopes if it names them. Raises `Trouble`."""
        _, client = self._connected()
        headers = {"Authorization": f"Bearer {token}"} if token else None
        try:
            if any(isinstance(value, (dict, list)) for value in arguments.values()):
                answer = await client.api_call(method, json=arguments, headers=headers)
            else:
                answer = await client.api_call(method, data=arguments, headers=headers)
        except SlackApiError as error:
            body = getattr(error.response, "data", None)
            body = body if isinstance(body, dict) else {}
            raise Trouble(
                _word(body.get("error")) or "an answer that is not Slack's", _word(body.get("needed"))
            ) from None
        except TimeoutError:
            raise Trouble("no answer in time") from None
        except Exception as error:
            raise Trouble(f"no answer ({type(error).__name__})") from None
        scopes = answer.headers.get("x-oauth-scopes")
        data = answer.data if isinstance(answer.data, dict) else {}
        return data, tuple(one.strip() for one in scopes.split(",") if one.strip()) if scopes is not None else None

    async def respond(self, url: str, text: str, blocks: list[dict[str, Any]] | None = None) -> bool:
        """Answer only the person who pressed; False if the address is not Slack's or does not accept it."""
        if not leads_to_slack(url, self.base_url):
            return False
        session, _ = self._connected()
        body: dict[str, Any] = {"response_type": "ephemeral", "replace_original": False, "text": text}
        body |= {"blocks": blocks} if blocks else {}
        try:
            async with session.post(url, json=body, proxy=self._proxy, allow_redirects=False) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False

    async def close(self) -> None:
        """Close the connections."""
        if self._open is not None:
            _, session, _ = self._open
            self._open = None
            await session.close()


def leads_to_slack(url: str, base_url: str) -> bool:
    """Tell whether a response URL may be called: HTTPS at Slack, or the server that stands in for Slack."""
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
        if parts.username is not None or parts.password is not None or "@" in parts.netloc:
            return False
        place = (parts.scheme, parts.hostname, parts.port)
        stands_in = (base.scheme, base.hostname, base.port)
    except ValueError:
        return False
    if is_slack(base_url):
        return parts.scheme == "https" and parts.hostname in SLACK_HOSTS and parts.port in (None, 443)
    return place == stands_in


def is_slack(base_url: str) -> bool:
    """Tell whether an address is Slack's own, not that of a stand-in."""
    host = urlsplit(base_url).hostname or ""
    return host in ("slack.com", "slack-gov.com") or host.endswith((".slack.com", ".slack-gov.com"))


def _word(value: object) -> str:
    return value[:100] if isinstance(value, str) and value.isprintable() else ""
