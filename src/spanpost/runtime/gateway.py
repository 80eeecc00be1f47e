"""The gateway: a pipeline with servers of OTLP/HTTP and OTLP/gRPC in its loop.

Call `start`, then `reload` at SIGHUP, then `stop`, which takes at most ten seconds, all from the main
thread. The servers live in the pipeline's loop, where recording happens, so that nothing is passed between
threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import stat
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from spanpost.http.connections import fit_descriptors
from spanpost.http.tokens import SenderTokens
from spanpost.model.errors import ConfigError, SpanpostError, StoreUnavailable
from spanpost.receivers.admission import AdmissionLimits
from spanpost.receivers.dealing import Dealer
from spanpost.receivers.receiver import Receiver
from spanpost.runtime import workers
from spanpost.runtime.assembly import enabled_sinks
from spanpost.runtime.certificates import Certificates, stamp, take, tls_context
from spanpost.runtime.journaling import journal_of
from spanpost.runtime.pipeline import Pipeline
from spanpost.runtime.system_user import system_user
from spanpost.settings.gateway import GatewaySettings

if TYPE_CHECKING:
    from prometheus_client import Gauge
    from starlette.requests import Request
    from starlette.responses import Response

    from spanpost.http.routing import HttpRoute
    from spanpost.http.server import HttpServer
    from spanpost.receivers.otlp_grpc import GrpcServer
    from spanpost.receivers.otlp_http import OtlpHttp
    from spanpost.runtime.endpoints import Endpoints
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.runtime.gateway")

#: Also answered on connections beyond the limit.
LIVE: Final = "/health/live"
READY: Final = "/health/ready"
#: Shares of the ten seconds of a stop: requests in progress, recording, then sinks and connections. Seconds.
_GRACE: Final = 3.5
_RECORD: Final = 1.0
_CLOSE: Final = 1.0
#: Part of the grace for bodies that are still being sent when the stop begins, seconds.
_BODIES: Final = 2.0
#: Interval of checks for renewed certificates, seconds.
_RENEW_INTERVAL: Final = 30.0
#: Interval at which a worker shows that it lives, and writes its bytes in flight to the shared metrics, seconds.
_SHOW_INTERVAL: Final = 1.0
#: How long one database check answers readiness requests; and its timeout. Seconds.
_CHECK_INTERVAL: Final = 1.0
_CHECK_TIMEOUT: Final = 1.0


def url(scheme: str, host: str, port: int) -> str:
    """Return an address as people write it."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Gateway:
    """Receives, records and delivers until it is stopped. `reread` returns the present settings."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        self.section = settings.gateway or GatewaySettings(enabled=False)
        self._reread = reread
        self.http_url = ""
        self.grpc_url = ""
        self.slack_url = ""
        self.api_url = ""
        #: This machine's token, if the API accepts it.
        self.local_token = ""
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._app: OtlpHttp | None = None
        self._endpoints: Endpoints | None = None
        self._receiver: Receiver | None = None
        self._dealer: Dealer | None = None
        self._context: ssl.SSLContext | None = None
        self._sender_tokens = SenderTokens(settings.intake.tenant, *_hashes(self.section))
        #: State of the certificate files when they were read last, and the task that checks them for changes.
        self._stamp: tuple[tuple[int, int, int], ...] = ()
        self._renewer: asyncio.Task[None] | None = None
        self._showing: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._began = time.monotonic()
        self._checked_at = float("-inf")
        self._trouble = ""
        self._check: asyncio.Task[str] | None = None
        self.pipeline = Pipeline(
            settings, is_gateway=True, new_loop=_fast_loop if self.section.enabled else asyncio.new_event_loop
        )

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the store and the receivers. Raises `ConfigError`, and then nothing is open."""
        if self.section.enabled:
            self.section.refuse_exposure()
            refuse_missing(self.section)
            self._stamp = stamp(self.section)
            self._context = tls_context(self.section)
        listener = self._bind_http()
        if listener is not None:
            from spanpost.runtime.endpoints import prepare

            prepare(self.settings)
        try:
            self.pipeline.start()
            if self.section.enabled:
                self.pipeline.ask(self._open(listener))
                # Producers could not reach us while we were down: do not count that time as a stall.
                self.pipeline.ask(self.pipeline.store.listen_anew())
                self.pipeline.publish()
        except BaseException:
            if listener is not None:
                listener.close()
            self.pipeline.shutdown(1.0)
            raise

    def _bind_http(self) -> socket.socket | None:
        if not self.section.enabled or self.section.http_port < 0:
            return None
        from spanpost.http.server import listen

        try:
            listener = listen(self.section.host, self.section.http_port, is_shared=self.section.share_ports)
        except (OSError, OverflowError) as error:
            raise _taken("http_port", self.section.host, self.section.http_port, error) from None
        self.http_url = url("https" if self._context else "http", self.section.host, listener.getsockname()[1])
        return listener

    async def _open(self, listener: socket.socket | None) -> None:
        section, metrics = self.section, self.pipeline.metrics
        limits = AdmissionLimits(
            body=section.max_body,
            in_flight=section.max_in_flight,
            group=section.group_size,
            writers=section.writers,
            journal=section.journal_bytes,
        )
        keep = getattr(self.pipeline.store, "keep_body", None)
        journal = await journal_of(self.pipeline, self.settings, section)
        worker = workers.current
        self._dealer = dealer = Dealer(worker.number, worker.total, worker.directory) if worker is not None else None
        self._receiver = receiver = Receiver(self.pipeline.record, keep, metrics, limits, journal, dealer)
        if worker is not None:
            gauge = metrics.in_flight if metrics is not None else None
            self._showing = asyncio.create_task(self._show(worker, receiver, gauge))
            if metrics is not None and worker.restarts:
                metrics.worker_restarts.inc()
        elif metrics is not None:
            metrics.in_flight.set_function(lambda: receiver.in_flight)
        has_grpc = section.grpc_port >= 0 or section.grpc_socket is not None
        http, grpc = fit_descriptors(
            section.max_connections + section.max_waiters + self.settings.api.max_streams,
            section.max_connections if has_grpc else 0,
        )
        if has_grpc:
            self._open_grpc(receiver, grpc)
        receiver.start()
        if dealer is not None:
            await dealer.start(receiver.take_share)
        if self._context is not None:
            self._renewer = asyncio.create_task(self._renewing())
        if self._grpc is not None:
            await self._grpc.start()
        if listener is not None:
            from spanpost.http.server import HttpServer
            from spanpost.receivers.otlp_http import OtlpHttp

            self._app = OtlpHttp(receiver, self._sender_tokens, watch=metrics)
            self._endpoints = self._open_endpoints(self._app, receiver)
            self._http = HttpServer(
                self._endpoints, listener, context=self._context, connections=http, always=(LIVE, READY), grace=_GRACE
            )
            await self._http.start()

    def _open_endpoints(self, app: OtlpHttp, receiver: Receiver) -> Endpoints:
        """Return the application of the HTTP port: the endpoints (`spanpost.runtime.endpoints`), OTLP, and
        the pages.
        """
        from spanpost.receivers.counted import Counted
        from spanpost.receivers.otlp_http import log_fault
        from spanpost.runtime.endpoints import EndpointContext, Endpoints, endpoints_of
        from spanpost.runtime.endpoints.api import token_here
        from spanpost.settings.guards import gateway_guard

        context = EndpointContext(
            pipeline=self.pipeline, settings=self.settings, sender_tokens=self._sender_tokens, url=self.http_url
        )
        endpoints = endpoints_of(context)
        for route in (route for endpoint in endpoints for route in endpoint.routes):
            if route.path == "/slack/events":
                self.slack_url = self.http_url + route.path
            elif route.path == "/api/":
                self.api_url = self.http_url + route.path
                self.local_token = token_here(self.settings)
            route.app = Counted(route.app, receiver.admission)
        guard = gateway_guard(self.settings, self.section)
        return Endpoints(
            endpoints, [*app.routes, *self._pages()], guard, watch=self.pipeline.metrics, on_fault=log_fault
        )

    def _pages(self) -> list[HttpRoute]:
        """Return the routes of health and metrics. Where tokens are required, pages about all tenants need
        an operator's token.
        """
        from spanpost.http.authentication import Authenticator
        from spanpost.http.routing import HttpRoute

        authenticator = Authenticator(self._sender_tokens)

        def operators(show: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
            async def shown(request: Request) -> Response:
                authenticator.require_operator(request.scope)
                return await show(request)

            return shown

        return [
            HttpRoute(LIVE, self._live, ["GET"]),
            HttpRoute(READY, self._ready, ["GET"]),
            HttpRoute("/health/detailed", operators(self._detailed), ["GET"]),
            HttpRoute("/metrics", operators(self._metrics), ["GET"]),
        ]

    def _open_grpc(self, receiver: Receiver, connections: int) -> None:
        from spanpost.receivers.otlp_grpc import GrpcServer, OtlpGrpc

        section = self.section
        handlers = OtlpGrpc(
            receiver, self._sender_tokens, is_ready=lambda: not self._why_not(), watch=self.pipeline.metrics
        )
        certificates = Certificates(section) if self._context is not None else None
        self._grpc = GrpcServer(
            handlers,
            most_bytes=section.max_body,
            connections=connections,
            certificates=certificates,
            is_shared=section.share_ports,
        )
        if section.grpc_port >= 0:
            host = f"[{section.host}]" if ":" in section.host else section.host
            try:
                port = self._grpc.listen(f"{host}:{section.grpc_port}")
            except OSError as error:
                raise _taken("grpc_port", section.host, section.grpc_port, error) from None
            self.grpc_url = url("https" if certificates else "http", section.host, port)
        if section.grpc_socket is not None and workers.is_first():
            try:
                _refuse_foreign(section.grpc_socket)
                self._grpc.listen_on_socket(section.grpc_socket)
            except OSError as error:
                raise ConfigError(
                    f"gateway.grpc_socket: cannot listen on {section.grpc_socket}: {error}; its directory must "
                    "exist and be ours to "
                    "write, and the path have fewer than 100 bytes"
                ) from None

    def reload(self) -> bool:
        """Read the settings again: routes, tokens and certificates apply from now on. False: nothing
        changed, and the reason is logged.
        """
        try:
            if self._reread is None:
                return False
            settings = self._reread()
            section = settings.gateway or GatewaySettings(enabled=False)
            if self._context is not None:
                tls_context(section)  # keep a certificate that works if the new one does not fit its key
            if section.enabled:
                section.refuse_exposure()
            self.pipeline.reload(settings)
            if self._endpoints is not None:
                self._endpoints.reload(settings)
            if self._context is not None and section.tls_certificate and section.tls_key:
                take(self._context, section)
                self._stamp = stamp(section)
        except (SpanpostError, OSError) as error:
            for each in str(error).splitlines():
                log.error("the new settings are refused, the old ones stay: %s", each)
            self._count_reload("refused")
            return False
        self._sender_tokens.replace(settings.intake.tenant, *_hashes(section))
        if self._endpoints is not None:
            from spanpost.settings.guards import gateway_guard

            # The address and the client CA change only at the next start.
            unchanged = {"host": self.section.host, "client_ca": self.section.client_ca}
            self._endpoints.guard = gateway_guard(settings, section.model_copy(update=unchanged))
        self._count_reload("taken")
        what = "routes, tokens and certificates apply from now on; all else at the next start"
        log.info("settings read again, as %s: %s", system_user(), what)
        return True

    def renew(self) -> bool:
        """Use certificates whose files have changed; True if there were any. A certificate that does not
        fit its key is ignored, and logged.
        """
        section, now = self.section, stamp(self.section)
        if self._context is None or not now or now == self._stamp:
            return False
        self._stamp = now
        try:
            tls_context(section)
            take(self._context, section)
        except (ConfigError, OSError) as error:
            log.error("the renewed certificate is refused, the old one stays: %s", error)
            self._count_reload("refused")
            return False
        self._count_reload("taken")
        log.info("the certificate was renewed: new connections use it")
        return True

    @staticmethod
    async def _show(worker: workers.Worker, receiver: Receiver, gauge: Gauge | None) -> None:
        while True:
            worker.show_life()
            if gauge is not None:  # workers share metrics by files, which never show the value of a function
                gauge.set(receiver.in_flight)
            await asyncio.sleep(_SHOW_INTERVAL)

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_INTERVAL)
            self.renew()

    def _count_reload(self, outcome: str) -> None:
        if self.pipeline.metrics is not None:
            self.pipeline.metrics.reloads.labels(outcome).inc()

    def stop(self) -> bool:
        """Answer requests in progress, record what waits and close everything, within ten seconds. True if
        all was done.
        """
        self._is_stopping = True
        is_done = True
        if self._receiver is not None:
            try:
                is_done = self.pipeline.ask(self._close(), _GRACE + _RECORD + 1.0)
            except (TimeoutError, SpanpostError):
                is_done = False
        return self.pipeline.shutdown(_CLOSE) and is_done

    async def _close(self) -> bool:
        if self._endpoints is not None:
            self._endpoints.end()
        endpoints = []
        if self._http is not None:
            endpoints.append(asyncio.create_task(self._http.stop()))
        if self._grpc is not None:
            endpoints.append(asyncio.create_task(self._grpc.stop(_GRACE)))
        if endpoints:
            _, late = await asyncio.wait(endpoints, timeout=_BODIES)
            if late:
                if self._app is not None:
                    self._app.end()
                _, late = await asyncio.wait(late, timeout=_GRACE - _BODIES)
        assert self._receiver is not None
        is_done = await self._receiver.close(_RECORD)
        if self._dealer is not None:
            await self._dealer.close()
        return is_done

    # --- pages ------------------------------------------------------------------------------------------------------

    def _why_not(self) -> str:
        """Return why requests would be refused now; empty if they would be accepted."""
        if self._is_stopping:
            return "stopping"
        assert self._receiver is not None
        return self._receiver.trouble or self._trouble

    async def _check_database(self) -> None:
        """Query the database, at most once a second for all readiness requests together."""
        if time.monotonic() - self._checked_at < _CHECK_INTERVAL:
            return
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._checked())
        await asyncio.wait((self._check,), timeout=_CHECK_TIMEOUT)
        self._trouble = self._check.result() if self._check.done() else "the database does not answer"
        if self._check.done():
            self._checked_at = time.monotonic()
            if not self._trouble and self._receiver is not None:
                self._receiver.trouble = ""  # no sender has tried since the outage

    async def _checked(self) -> str:
        try:
            await self.pipeline.store.outbox.due_in()
        except StoreUnavailable:
            return "the database cannot be reached"
        return ""

    async def _live(self, request: Request) -> Response:
        return _json(200, {"status": "live"})

    async def _ready(self, request: Request) -> Response:
        from spanpost.http.errors import HttpError

        if not self._is_stopping:
            await self._check_database()
        why = self._why_not()
        if not why and workers.current is not None and (missing := workers.current.missing()):
            why = f"of {workers.current.total} workers {len(missing)} are not ready"
        if why:
            raise HttpError(503, "not_ready", why)
        return _json(200, {"status": "ready"})

    async def _detailed(self, request: Request) -> Response:
        await self._check_database()
        receiver = self._receiver
        assert receiver is not None
        why = self._why_not()
        details: dict[str, Any] = {
            "status": "not ready" if why else "ready",
            "reason": why,
            "version": version("spanpost"),
            "uptime_seconds": round(time.monotonic() - self._began),
            "in_flight_bytes": receiver.in_flight,
            "waiting_bytes": receiver.waiting,
            "recorded_bytes_per_second": round(receiver.pace or 0),
            "journal_bytes": receiver.journal.size if receiver.journal is not None else 0,
            "journal_lag_seconds": receiver.journal.lag if receiver.journal is not None else 0,
            "connections": self._http.connections if self._http is not None else 0,
            "sinks": list(enabled_sinks(self.settings)),
            "tenants": sorted({token.tenant for token in self.section.tokens}),
        }
        return _json(503 if why else 200, details)

    async def _metrics(self, request: Request) -> Response:
        from starlette.responses import Response

        from spanpost.http.errors import HttpError

        metrics = self.pipeline.metrics
        if metrics is None:
            raise HttpError(
                404, "not_found", "prometheus_client is missing; install it with: pip install 'spanpost[metrics]'"
            )
        content_type, page = metrics.page(request.headers.get("accept", ""))
        return Response(page, headers={"content-type": content_type})


def _json(status: int, content: dict[str, Any]) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status)


def _hashes(section: GatewaySettings) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
    return [(token.tenant, digest) for token in section.tokens for digest in token.sha256], section.operator_tokens


def _fast_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def refuse_missing(section: GatewaySettings) -> None:
    """Raise `ConfigError` if a package of the receivers is missing."""
    wanted = ["opentelemetry.proto", "uvicorn", "httptools", "starlette"] + (
        ["grpc"] if section.grpc_port >= 0 or section.grpc_socket else []
    )
    for name in wanted:
        try:
            __import__(name)
        except ImportError as error:
            raise ConfigError(
                f"gateway: {error.name or name} is missing; install it with: pip install 'spanpost[gateway]'"
                " (or turn the gateway off: SPANPOST_GATEWAY__ENABLED=false)"
            ) from None


def _refuse_foreign(path: os.PathLike[str]) -> None:
    """Raise OSError if the socket's path holds another kind of file, which would be removed."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError("the path is taken by a file that is not a socket")


def _taken(field: str, host: str, port: int, error: BaseException) -> ConfigError:
    why = getattr(error, "strerror", None) or str(error)
    return ConfigError(
        f"gateway.{field}: cannot listen on {host} port {port}: {why}; stop what listens there (a Collector "
        "takes 4317 and 4318 "
        f"by default), or set SPANPOST_GATEWAY__{field.upper()} to another port, 0 for a free one, -1 for none"
    )
