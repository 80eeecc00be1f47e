"""The board of the demo: the API and the page, served to this machine alone from the pipeline of one process."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spanpost.http.server import HttpServer
    from spanpost.runtime.endpoints import Endpoints
    from spanpost.runtime.pipeline import Pipeline
    from spanpost.settings import Settings

_HOST: Final = "127.0.0.1"
#: What the end may take: answers under way, then connections. Seconds.
_GRACE: Final = 1.0
#: The person at the demo.
_CONNECTIONS: Final = 100


class DemoBoard:
    """Serves until `close`. `url` is empty without the packages of `spanpost[api,gateway]`."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self.url = ""
        self._pipeline = pipeline
        self._settings = settings
        self._endpoints: Endpoints | None = None
        self._server: HttpServer | None = None

    def open(self) -> str:
        """Listen on a free port of this machine; return the address of the page, with the token that opens
        it; empty where there is none.
        """
        try:
            from spanpost.http import server
            from spanpost.interactions.api import app
            from spanpost.runtime.endpoints.api import token_here
            from spanpost.runtime.local_token import link
        except ImportError:
            return ""
        del app
        if self._pipeline.is_off:
            return ""
        listener = server.listen(_HOST, 0)
        self.url = f"http://{_HOST}:{listener.getsockname()[1]}/"
        self._pipeline.ask(self._open(listener))
        token = token_here(self._settings)
        return link(self.url, token) if token else self.url

    async def _open(self, listener: socket.socket) -> None:
        from spanpost.http.server import HttpServer
        from spanpost.http.tokens import SenderTokens
        from spanpost.runtime.endpoints import EndpointContext, Endpoints, api, board
        from spanpost.settings.gateway import GatewaySettings
        from spanpost.settings.guards import gateway_guard

        app = EndpointContext(
            pipeline=self._pipeline,
            settings=self._settings,
            sender_tokens=SenderTokens(self._settings.intake.tenant),
            url=self.url.rstrip("/"),
        )
        self._endpoints = Endpoints(
            [*api.endpoints(app), *board.endpoints(app)], [], gateway_guard(self._settings, GatewaySettings())
        )
        self._server = HttpServer(self._endpoints, listener, connections=_CONNECTIONS, grace=_GRACE)
        await self._server.start()

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._pipeline.ask(self._close(), _GRACE + 1.0)

    async def _close(self) -> None:
        assert self._endpoints is not None
        assert self._server is not None
        self._endpoints.end()
        await self._server.stop()
