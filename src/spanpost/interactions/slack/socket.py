"""Socket Mode: Slack is called, and speaks back through the connection; no public address is needed.

slack_sdk's client holds the connection: it pings, and connects anew when Slack says so or the line is dead. Each process has a
connection of its own, and any of them may hear a click.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from spanpost.interactions.protocols import InteractionMetrics
from spanpost.interactions.slack.app import SlackApp
from spanpost.interactions.slack.installations import App
from spanpost.interactions.slack.web import Trouble, Web, is_slack, silent

log = logging.getLogger("spanpost.interactions")

#: Between two tries to connect, first and longest; and where a person must mend something. Seconds.
_PAUSE: Final = (1.0, 60.0)
_REFUSED: Final = 300.0
#: Between two pings; a line is dead after four without an answer. Seconds.
PING: Final = 5.0
#: What one try to connect may take, seconds.
_TRY: Final = 5.0
#: What Slack answers where trying again mends nothing.
_LASTING: Final = frozenset(
    {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "not_allowed_token_type", "missing_scope"}
)
#: Requests that are worked on at once: beyond it Slack is left to bring them again.
_MOST: Final = 200


class _Client(SocketModeClient):
    """slack_sdk's client, with an address asked for anew at every try, and what goes wrong told once."""

    def __init__(self, app_token: str, web: Web, proxy: str | None, ping: float) -> None:
        super().__init__(app_token, logger=silent(), web_client=web.client, ping_interval=ping)
        self.proxy = proxy  # it takes one from the environment without heeding NO_PROXY
        self._web = web
        self._told = ""
        self._pause = _PAUSE[0]

    async def issue_new_wss_url(self) -> str:
        """Return a new address, whatever it takes: until it is had, there is nothing else to do."""
        while not self.closed:
            why = ""
            pause = self._pause
            try:
                told = await self._web.call("apps.connections.open", token=self.app_token)
                url = told.get("url")
                if isinstance(url, str) and (not is_slack(self._web.base_url) or urlsplit(url).scheme == "wss"):
                    self._pause = _PAUSE[0]
                    return url
                why = "an address that is none"
            except Trouble as trouble:
                why = str(trouble)
                if trouble.error in _LASTING:
                    pause = _REFUSED
            self.tell(why)
            self._pause = min(self._pause * 2, _PAUSE[1])
            await asyncio.sleep(pause)
        raise asyncio.CancelledError

    def tell(self, why: str) -> None:
        """Log what keeps us from being connected, once for each reason."""
        if why != self._told:
            self._told = why
            log.warning("Slack's Socket Mode cannot be reached, nobody is heard until it is: %s", why)

    async def connect(self) -> None:
        """Connect; every try with an address of its own, since one that failed may be used up."""
        while not self.closed:
            if self.wss_uri is None:
                self.wss_uri = await self.issue_new_wss_url()
            # In a task of its own: once connected, it cancels whoever noticed that the old line was dead.
            trying = asyncio.create_task(self._connect())
            done, _ = await asyncio.wait({trying}, timeout=_TRY)
            if done:
                trying.result()
                return
            trying.cancel()
            await asyncio.wait({trying})
            self.wss_uri = None
            self.tell("no connection")

    async def _connect(self) -> None:
        await super().connect()  # type: ignore[no-untyped-call]
        if self._told:
            log.info("Slack's Socket Mode is connected again")
            self._told = ""


class Socket:
    """One connection for one app; for all of these, where several have its token."""

    def __init__(
        self,
        app: SlackApp,
        *of: App,
        proxy: str | None = None,
        watch: InteractionMetrics | None = None,
        ping: float = PING,
    ) -> None:
        self._ping = ping
        self._app = app
        self._of = of
        self._proxy = proxy
        self._watch = watch
        self._is_closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._client: _Client | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._under_way = 0

    def start(self) -> None:
        """Connect in the background, and stay connected."""
        self._client = _Client(self._of[0].app_token, self._of[0].web, self._proxy, self._ping)
        self._client.socket_mode_request_listeners.append(self._hear)
        self._connecting = asyncio.create_task(self._client.connect())

    async def is_connected(self) -> bool:
        """Tell whether it is heard now what people do."""
        return self._client is not None and await self._client.is_connected()

    async def _hear(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        if self._is_closing or self._under_way >= _MOST or not isinstance(request.payload, dict):
            self._count("payload" if not isinstance(request.payload, dict) else "busy")
            return  # not acknowledged: another process hears it, or Slack brings it again
        self._under_way += 1
        self._idle.clear()
        try:
            await self._answer(client, request, request.payload)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _answer(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest, body: dict[str, Any]) -> None:
        answer = await self._app.hear(self._of, body)
        self._count(answer.word)
        if answer.status >= 500:
            return
        payload: dict[str, Any] | None = None
        if answer.body and answer.content_type.startswith("application/json"):
            payload = json.loads(answer.body)
        with suppress(Exception):  # the connection has gone: what was asked is recorded, and Slack may bring it again
            await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id, payload=payload))

    def _count(self, word: str) -> None:
        if self._watch is not None:
            self._watch.knocked("slack_socket", word)

    async def close(self) -> None:
        """Answer what is under way, then close the connection."""
        self._is_closing = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), 1.0)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._client is not None:
            with suppress(Exception):
                await asyncio.wait_for(self._client.close(), 1.0)  # type: ignore[no-untyped-call]
