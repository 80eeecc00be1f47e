"""The routing gateway: the servers, guard and authenticator of a gateway, in front of the cells instead of a store.

It keeps nothing: any number of replicas have the same settings. Call `start`, then `reload` at SIGHUP, then
`stop`, all from the main thread.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from spanpost.http.connections import fit_descriptors
from spanpost.http.hosts import is_loopback
from spanpost.http.tokens import SenderTokens
from spanpost.model.errors import ConfigError, SpanpostError
from spanpost.runtime import own_metrics, workers
from spanpost.runtime.background_loop import BackgroundLoop, cancel_others
from spanpost.runtime.certificates import Certificates, ServerTls
from spanpost.runtime.gateway import fast_loop, hashes_of
from spanpost.runtime.health import HEALTH, LIVE, READY
from spanpost.runtime.ports import listen_grpc, listen_http, refuse_missing, url
from spanpost.runtime.router_health import RouterHealth
from spanpost.settings.cells import CellSettings, CellsSettings
from spanpost.settings.gateway import GatewaySettings
from spanpost.settings.guards import gateway_guard, tenant_rules
from spanpost.settings.interactions import InteractionsSettings

if TYPE_CHECKING:
    import socket

    from spanpost.http.server import HttpServer
    from spanpost.metrics.recorder import Metrics
    from spanpost.receivers.cells.http import CellHttp
    from spanpost.receivers.cells.passing import Cells
    from spanpost.receivers.otlp_grpc import GrpcServer
    from spanpost.runtime.endpoints import Endpoints
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.runtime.gateway")

#: Shares of the ten seconds of a stop: requests in progress, then connections. Seconds.
_GRACE: Final = 6.0
_CLOSE: Final = 1.0
#: Interval at which a worker shows that it lives, seconds.
_SHOW_INTERVAL: Final = 1.0


class Router:
    """Passes requests on to cells until it is stopped. `reread` returns the present settings."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        self.section = settings.gateway or GatewaySettings()
        self._cells_section = cells_of(settings)
        self._reread = reread
        self.http_url = self.grpc_url = ""
        self.metrics_url: str | None = None
        self.metrics: Metrics | None = None
        self._sender_tokens = SenderTokens(
            settings.intake.tenant,
            *hashes_of(self.section),
            is_required=self.section.require_token,
            rules=tenant_rules(self.section),
        )
        self._loop: BackgroundLoop | None = None
        self._tls: ServerTls | None = None
        self._cells: Cells | None = None
        self._app: CellHttp | None = None
        self._endpoints: Endpoints | None = None
        self._health: RouterHealth | None = None
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the receivers. Raises `ConfigError`, and then nothing is open."""
        refuse_unfit(self.settings)
        self.section.refuse_exposure()
        refuse_missing(self.section)
        self.metrics = own_metrics.metrics_of(self.settings.metrics, {}) if self.settings.metrics else None
        if self.metrics is not None:
            self.metrics.store_up.set(1)  # there is no store that could fail: an alert waits for 0
        self._tls = ServerTls(self.section, self._count_reload)
        listener = listen_http(self.section)
        if listener is not None:
            self.http_url = url(self._tls.context is not None, self.section.host, listener.getsockname()[1])
        self._loop = BackgroundLoop(fast_loop)
        try:
            self._loop.ask(self._open(listener))
            self.metrics_url = own_metrics.serve(self.metrics, self.settings.metrics, is_gateway=True)
        except BaseException:
            if listener is not None:
                listener.close()
            self._loop.stop(1.0)
            raise

    async def _open(self, listener: socket.socket | None) -> None:
        from spanpost.receivers.cells.passing import Cells

        section, api = self.section, self.settings.api
        requests, waits = section.max_connections, section.max_waiters + api.max_streams
        has_grpc = section.grpc_port >= 0 or section.grpc_socket is not None
        # Each connection of a client may need one to a cell.
        http, grpc = fit_descriptors(2 * (requests + waits), 2 * section.max_connections if has_grpc else 0)
        made = {
            name: self._cell(name, cell, requests=requests, waits=waits)
            for name, cell in self._cells_section.named.items()
        }
        self._cells = cells = Cells(
            made,
            self._cells_section,
            self._cells_section.hosts,
            section,
            self._cells_section.timeout,
            watch=self.metrics,
        )
        for cell in made.values():
            await cell.open()
        if workers.current is not None:
            self._tasks.append(asyncio.create_task(self._show(workers.current, cells)))
        elif self.metrics is not None:
            self.metrics.in_flight.set_function(lambda: cells.in_flight)
        self._health = health = RouterHealth(
            cells, self.metrics, lambda: self._http.connections if self._http is not None else 0
        )
        assert self._tls is not None
        self._tasks.append(asyncio.create_task(self._tls.keep()))
        if has_grpc:
            await self._open_grpc(cells, health, grpc // 2)
        if listener is not None:
            await self._open_http(listener, cells, health, http // 2)

    def _cell(self, name: str, cell: CellSettings, *, requests: int, waits: int) -> Any:
        from spanpost.receivers.cells.cell import Cell

        return Cell(
            name,
            cell.urls,
            cell.token.get_secret_value(),
            self.section,
            requests=requests,
            waits=waits,
            tls=ssl.create_default_context(cafile=str(cell.ca)) if cell.ca is not None else None,
            watch=self.metrics,
        )

    async def _open_grpc(self, cells: Cells, health: RouterHealth, connections: int) -> None:
        from spanpost.receivers.cells.grpc import CellGrpc
        from spanpost.receivers.otlp_grpc import GrpcServer, OtlpGrpc

        assert self._tls is not None
        handlers = OtlpGrpc(
            CellGrpc(cells), self._sender_tokens, is_ready=lambda: not health.why_not(), watch=self.metrics
        )
        certificates = Certificates(self.section) if self._tls.context is not None else None
        self._grpc = GrpcServer(
            handlers,
            most_bytes=self.section.max_body,
            connections=connections,
            certificates=certificates,
            is_shared=self.section.share_ports,
        )
        self.grpc_url = listen_grpc(self._grpc, self.section, is_secure=certificates is not None)
        await self._grpc.start()

    async def _open_http(self, listener: socket.socket, cells: Cells, health: RouterHealth, connections: int) -> None:
        from spanpost.http.server import HttpServer
        from spanpost.receivers.cells.http import CellHttp
        from spanpost.receivers.otlp_http import log_fault
        from spanpost.runtime.endpoints import Endpoint, Endpoints

        assert self._tls is not None
        self._app = CellHttp(
            cells,
            self._sender_tokens,
            tenant_of_caller=_callers(self.settings),
            team_of=_team_of,
            watch=self.metrics,
        )
        self._endpoints = Endpoints(
            [Endpoint(routes=self._app.routes, end=cells.end)],
            health.routes(self._sender_tokens),
            gateway_guard(self.settings, self.section),
            watch=self.metrics,
            on_fault=log_fault,
        )
        self._http = HttpServer(
            self._endpoints,
            listener,
            context=self._tls.context,
            connections=connections,
            always=(LIVE, READY, HEALTH),
            grace=_GRACE,
        )
        await self._http.start()

    async def _show(self, worker: workers.Worker, cells: Cells) -> None:
        while True:
            worker.show_life()
            if self.metrics is not None:  # workers share metrics by files, which never show the value of a function
                self.metrics.in_flight.set(cells.in_flight)
            await asyncio.sleep(_SHOW_INTERVAL)

    def reload(self) -> bool:
        """Read the settings again: assignment, tokens and certificates apply from now on. False: nothing changed,
        and the reason is logged.
        """
        assert self._loop is not None
        try:
            if self._reread is None:
                return False
            settings = self._reread()
            section = settings.gateway or GatewaySettings()
            assert self._tls is not None
            self._tls.check(section)
            refuse_unfit(settings)
            section.refuse_exposure()
            if unknown := sorted(cells_of(settings).used - self._cells_section.named.keys()):
                raise ConfigError(
                    f"cells: {unknown[0]!r} is new: restart this gateway, which reads its cells at the start"
                )
            self._tls.replace(section)
        except (SpanpostError, OSError) as error:
            for each in str(error).splitlines():
                log.error("the new settings are refused, the old ones stay: %s", each)
            self._count_reload("refused")
            return False
        self._loop.call(self._go_by, settings, section)
        self._count_reload("taken")
        log.info(
            "settings read again: assignment, tokens and certificates apply from now on; all else at the next start"
        )
        return True

    def _go_by(self, settings: Settings, section: GatewaySettings) -> None:
        """Apply new settings, in the loop."""
        self._sender_tokens.replace(
            settings.intake.tenant,
            *hashes_of(section),
            is_required=section.require_token,
            rules=tenant_rules(section),
        )
        cells = cells_of(settings)
        if self._cells is not None:
            self._cells.assignment, self._cells.hosts = cells, cells.hosts
        if self._app is not None:
            self._app.tenant_of_caller = _callers(settings)
        if self._endpoints is not None:
            # The address and the client CA change only at the next start.
            unchanged = {"host": self.section.host, "client_ca": self.section.client_ca}
            self._endpoints.guard = gateway_guard(settings, section.model_copy(update=unchanged))

    def _count_reload(self, outcome: str) -> None:
        if self.metrics is not None:
            self.metrics.reloads.labels(outcome).inc()

    def stop(self) -> bool:
        """Answer requests in progress and close everything, within ten seconds. True if all was done. Safe to
        repeat.
        """
        loop, self._loop = self._loop, None
        if loop is None:
            return True
        try:
            loop.ask(self._close(), _GRACE + _CLOSE + 1.0)
            is_done = True
        except (TimeoutError, SpanpostError):
            is_done = False
        if self.metrics is not None:
            self.metrics.close()
        loop.stop(_CLOSE)
        return is_done

    async def _close(self) -> None:
        assert self._cells is not None
        assert self._health is not None
        self._health.is_stopping = True
        self._cells.end()
        servers = []
        if self._http is not None:
            servers.append(asyncio.create_task(self._http.stop()))
        if self._grpc is not None:
            servers.append(asyncio.create_task(self._grpc.stop(_GRACE)))
        if servers:
            await asyncio.wait(servers, timeout=_GRACE)
        for cell in self._cells:
            await cell.close()
        await cancel_others()


def cells_of(settings: Settings) -> CellsSettings:
    """Return the section `cells`, which a routing gateway has. Raises `ConfigError`: it was taken out meanwhile."""
    if settings.cells is None:
        raise ConfigError("cells: the section is missing: this routing gateway becomes another one at the next start")
    return settings.cells


def refuse_unfit(settings: Settings) -> None:
    """Raise `ConfigError` for a routing gateway whose settings do not fit together."""
    section, cells = settings.gateway or GatewaySettings(), cells_of(settings)
    if section.tenant_attribute:
        raise ConfigError("gateway.tenant_attribute: a routing gateway reads no resources; set it in the cells")
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise ConfigError("cells: aiohttp is missing; install it with: pip install 'spanpost[cells]'") from None
    if not section.enabled:
        raise ConfigError("cells: gateway.enabled is false, and a routing gateway does nothing but receive")
    interactions = settings.interactions or InteractionsSettings()
    tenants = {token.tenant for token in section.tokens} or {settings.intake.tenant}
    tenants |= {one.tenant if one.tenant is not None else settings.intake.tenant for one in interactions.tokens}
    if missing := sorted(tenant for tenant in tenants if not cells.of_tenant(tenant)):
        raise ConfigError(
            f"cells: tenant {missing[0]!r} has a token and no cell; name it in cells.tenants, or set cells.default"
        )
    for name, cell in cells.named.items():
        for one in cell.urls:
            host = urlsplit(one).hostname or ""
            if one.startswith("http://") and not is_loopback(host):
                log.warning("cells.named.%s.urls: %s is not encrypted, and carries the router's token", name, host)


def _callers(settings: Settings) -> Callable[[str], str | None]:
    """Return the function that resolves API tokens to tenants."""
    from spanpost.runtime.endpoints.api import caller_tokens

    tokens = caller_tokens(settings)

    def tenant_of(token: str) -> str | None:
        caller = tokens.find(token)
        return caller.tenant if caller is not None else None

    return tenant_of


def _team_of(body: bytes, content_type: str) -> str:
    """Return the workspace that a body of Slack's names; empty: none. Its cell checks the signature."""
    from spanpost.interactions.slack.payloads import decode, team_of

    payload = decode(body, content_type)
    return team_of(payload)[0] if payload is not None else ""
