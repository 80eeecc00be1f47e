"""Socket Mode: a connection to Slack, which sends payloads through it; no public address is needed.

slack_sdk's client holds the connection: it pings, and reconnects when Slack asks or the connection is dead.
Each process has its own connection, and any of them may receive a click.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
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

#: Seconds between attempts to connect: first, longest; and after an error that a person must fix.
_PAUSE: Final = (1.0, 60.0)
_REFUSED: Final = 300.0
#: Seconds between pings; four without an answer mean a dead connection.
PING: Final = 5.0
#: Seconds for one attempt to connect.
_TRY: Final = 5.0
#: Slack's errors that a retry does not cure.
_LASTING: Final = frozenset(
    {
        "invalid_auth",
        "not_authed",
        "account_inactive",
        "token_revoked",
        "token_expired",
        "not_allowed_token_type",
        "missing_scope",
    }
)
#: Requests handled at once; beyond it they are not acknowledged, and Slack sends them again.
_MOST: Final = 200


class _Client(SocketModeClient):
    """slack_sdk's client, with a new address for every attempt, and each error logged once."""

    def __init__(self, app_token: str, web: Web, proxy: str | None, ping: float) -> None:
        super().__init__(app_token, logger=silent(), web_client=web.client, ping_interval=ping)
        self.proxy = proxy  # slack_sdk takes one from the environment and ignores NO_PROXY
        self._web = web
        self._logged = ""
        self._pause = _PAUSE[0]

    async def issue_new_wss_url(self) -> str:
        """Return a new address. Retries until it has one: without it nothing else can be done."""
        while not self.closed:
            why = ""
            pause = self._pause
            try:
                response = await self._web.call("apps.connections.open", token=self.app_token)
                url = response.get("url")
                if isinstance(url, str) and (not is_slack(self._web.base_url) or urlsplit(url).scheme == "wss"):
                    self._pause = _PAUSE[0]
                    return url
                why = "an address that is none"
            except Trouble as trouble:
                why = str(trouble)
                if trouble.error in _LASTING:
                    pause = _REFUSED
            self.log_once(why)
            self._pause = min(self._pause * 2, _PAUSE[1])
            await asyncio.sleep(pause)
        raise asyncio.CancelledError

    def log_once(self, why: str) -> None:
        """Log why there is no connection, once for each reason."""
        if why != self._logged:
            self._logged = why
            log.warning("Slack's Socket Mode cannot be reached, so clicks and messages do not arrive: %s", why)

    async def connect(self) -> None:
        """Connect. Every attempt uses a new address, since a failed one may be used up."""
        while not self.closed:
            if self.wss_uri is None:
                self.wss_uri = await self.issue_new_wss_url()
            # In its own asyncio task: once connected, it cancels the task that noticed the dead connection.
            trying = asyncio.create_task(self._connect())
            done, _ = await asyncio.wait({trying}, timeout=_TRY)
            if done:
                trying.result()
                return
            trying.cancel()
            await asyncio.wait({trying})
            self.wss_uri = None
            self.log_once("no connection")

    async def _connect(self) -> None:
        await super().connect()  # type: ignore[no-untyped-call]
        if self._logged:
            log.info("Slack's Socket Mode is connected again")
            self._logged = ""


class Socket:
    """One connection for an app token, and for all `of` that share the token."""

    def __init__(
        self,
        app: SlackApp,
        *of: App,
        proxy: str | None = None,
        watch: InteractionMetrics | None = None,
        ping: float = PING,
    ) -> None:
        #: The app token that it connects with.
        self.token = of[0].app_token
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
        self._client = _Client(self.token, self._of[0].web, self._proxy, self._ping)
        self._client.socket_mode_request_listeners.append(self._on_request)
        self._connecting = asyncio.create_task(self._client.connect())

    async def until_connected(self) -> None:
        """Return once it has connected for the first time."""
        if self._connecting is not None:
            await asyncio.shield(self._connecting)

    async def is_connected(self) -> bool:
        """Tell whether payloads are received now."""
        return self._client is not None and await self._client.is_connected()

    async def _on_request(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        if self._is_closing or self._under_way >= _MOST or not isinstance(request.payload, dict):
            self._count("payload" if not isinstance(request.payload, dict) else "busy")
            return  # not acknowledged: another process receives it, or Slack sends it again
        self._under_way += 1
        self._idle.clear()
        try:
            await self._answer(client, request, request.payload)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _answer(
        self, client: AsyncBaseSocketModeClient, request: SocketModeRequest, body: dict[str, Any]
    ) -> None:
        answer = await self._app.handle(self._of, body)
        self._count(answer.word)
        if answer.status >= 500:
            return
        payload: dict[str, Any] | None = None
        if answer.body and answer.content_type.startswith("application/json"):
            payload = json.loads(answer.body)
        with suppress(Exception):  # the connection is gone: the act is recorded, and Slack may send it again
            await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id, payload=payload))

    def _count(self, word: str) -> None:
        if self._watch is not None:
            self._watch.knocked("slack_socket", word)

    async def close(self) -> None:
        """Answer pending requests, then close the connection."""
        self._is_closing = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), 1.0)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._client is not None:
            with suppress(Exception):
                await asyncio.wait_for(self._client.close(), 1.0)  # type: ignore[no-untyped-call]


class Sockets:
    """The connections of one process, one for each app token.

    `make` makes the connection for the apps that share a token.
    """

    def __init__(self, make: Callable[[Sequence[App]], Socket]) -> None:
        self._make = make
        self.open: list[Socket] = []
        #: Connections of replaced tokens: they receive until those of the new tokens do.
        self._replaced: list[Socket] = []
        self._replacing: asyncio.Task[None] | None = None

    def use(self, apps: Sequence[App]) -> None:
        """Connect with the present tokens of the apps, in the background, and stay connected.

        Slack sends a payload through any one connection of an app. So the old one stays until the new one receives:
        none is missed, and none comes twice.
        """
        by_token: dict[str, list[App]] = {}
        for one in apps:
            by_token.setdefault(one.app_token, []).append(one)
        known = {socket.token: socket for socket in (*self._replaced, *self.open)}
        self.open = []
        for token, of in by_token.items():
            if not token:
                continue
            if (socket := known.pop(token, None)) is None:
                socket = self._make(of)
                socket.start()
            self.open.append(socket)
        self._replaced = list(known.values())
        if self._replacing is not None:
            self._replacing.cancel()
        self._replacing = asyncio.create_task(self._replace(self.open)) if self._replaced else None

    async def _replace(self, new: Sequence[Socket]) -> None:
        for socket in new:
            await socket.until_connected()
        while self._replaced:
            await self._replaced[0].close()
            self._replaced.pop(0)

    async def close(self) -> None:
        """Answer pending requests, then close the connections."""
        if self._replacing is not None:
            self._replacing.cancel()
        await asyncio.gather(*(socket.close() for socket in (*self._replaced, *self.open)))
