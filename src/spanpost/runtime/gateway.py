"""The gateway: a pipeline with servers of OTLP/HTTP and OTLP/gRPC in its loop.

Call `start`, then `reload` at SIGHUP, then `stop`, which takes at most ten seconds, all from the main
thread. The servers live in the pipeline's loop, where recording happens, so that nothing is passed between
threads.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from spanpost.http.connections import fit_descriptors
from spanpost.http.stored_tokens import StoredTokens
from spanpost.http.tokens import SenderTokens
from spanpost.model.errors import SpanpostError
from spanpost.receivers.dealing import Dealer
from spanpost.receivers.receiver import Receiver
from spanpost.runtime import workers
from spanpost.runtime.access_tokens import TokenReader
from spanpost.runtime.certificates import Certificates, ServerTls
from spanpost.runtime.gateway_acts import GatewayActs
from spanpost.runtime.health import HEALTH, LIVE, READY, GatewayHealth
from spanpost.runtime.journaling import journal_of
from spanpost.runtime.pipeline import Pipeline
from spanpost.runtime.ports import listen_grpc, listen_http, refuse_missing, url
from spanpost.runtime.upkeep import Upkeep
from spanpost.settings.gateway import GatewaySettings
from spanpost.settings.guards import tenant_rules
from spanpost.store.system_user import system_user

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from spanpost.http.server import HttpServer
    from spanpost.receivers.kafka.consumer import TopicConsumer
    from spanpost.receivers.otlp_grpc import GrpcServer
    from spanpost.receivers.otlp_http import OtlpHttp
    from spanpost.receivers.recording_groups import RecordBatch
    from spanpost.runtime.endpoints import Endpoints
    from spanpost.runtime.kafka import PipelineTopic
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.runtime.gateway")

#: Shares of the ten seconds of a stop: requests in progress, recording, then sinks and connections. Seconds.
_GRACE: Final = 3.5
_RECORD: Final = 1.0
_CLOSE: Final = 1.0
#: Part of the grace for bodies that are still being sent when the stop begins, seconds.
_BODIES: Final = 2.0
#: Interval at which a worker shows that it lives, and writes its bytes in flight to the shared metrics, seconds.
_SHOW_INTERVAL: Final = 1.0


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
        self._tls: ServerTls | None = None
        stored = StoredTokens(self.section.trust_tokens.total_seconds())
        self._sender_tokens = SenderTokens(
            settings.intake.tenant,
            *hashes_of(self.section),
            is_required=self.section.require_token,
            stored=stored,
            rules=tenant_rules(self.section),
        )
        self._token_reader: TokenReader | None = None
        self._reading: asyncio.Task[None] | None = None
        self._topic: PipelineTopic | None = None
        self._consumer: TopicConsumer | None = None
        self._renewer: asyncio.Task[None] | None = None
        self._upkeep = Upkeep(settings)
        self._showing: asyncio.Task[None] | None = None
        self._health: GatewayHealth | None = None
        self.pipeline = Pipeline(
            settings, is_gateway=True, new_loop=fast_loop if self.section.enabled else asyncio.new_event_loop
        )
        self._acts, self._current = GatewayActs(self.pipeline), settings

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the store and the receivers. Raises `ConfigError`, and then nothing is open."""
        if self.section.enabled:
            self.section.refuse_exposure()
            refuse_missing(self.section)
            self._tls = ServerTls(self.section, self._count_reload)
        listener = listen_http(self.section) if self.section.enabled else None
        if listener is not None:
            from spanpost.runtime.endpoints import prepare

            self.http_url = url(self._is_secure, self.section.host, listener.getsockname()[1])
            prepare(self.settings)
        is_open = False
        try:
            self.pipeline.start()
            if self.section.enabled:
                # Producers could not reach us while we were down: do not count that time as a stall.
                self.pipeline.ask(self.pipeline.store.listen_anew())
                self.pipeline.ask(self._open(listener))
            is_open = True
            if self.settings.kafka is not None:
                self.pipeline.ask(self._consume())
            if self.section.enabled:
                self.pipeline.ask(self._upkeep.apply(self.settings, self.pipeline.store, self.pipeline.metrics))
                self.pipeline.publish()
            self._acts.started(self.settings)
        except BaseException:
            if is_open:
                self.stop()  # requests have come in: they get their answers
            elif listener is not None:
                listener.close()
            self.pipeline.shutdown(1.0)
            raise

    async def _open(self, listener: socket.socket | None) -> None:
        section, metrics = self.section, self.pipeline.metrics
        keep = getattr(self.pipeline.store, "keep_body", None)
        await self._read_tokens()
        journal = await journal_of(self.pipeline, self.settings, section)
        worker = workers.current
        dealer = Dealer(worker.number, worker.total, worker.directory) if worker is not None else None
        record: RecordBatch = self.pipeline.record
        limits = section
        if self.settings.kafka is not None:
            from spanpost.runtime.kafka import topic_of

            self._topic = topic = await topic_of(self.pipeline, self.settings, section)
            if topic is not None:  # the journal is only worked off, and the topic's keys bring traces together
                record, dealer = topic.record, None
                limits = section.model_copy(update={"journal_bytes": 0})
        self._dealer = dealer
        self._receiver = receiver = Receiver(record, keep, metrics, limits, journal, dealer, self._upkeep.gate)
        if worker is not None:
            gauge = metrics.in_flight if metrics is not None else None
            self._showing = asyncio.create_task(self._show(worker, receiver, gauge))
            if metrics is not None and worker.restarts:
                metrics.worker_restarts.inc()
        elif metrics is not None:
            metrics.in_flight.set_function(lambda: receiver.in_flight)
        self._health = health = GatewayHealth(
            self.pipeline,
            receiver,
            self.settings,
            lambda: self._http.connections if self._http is not None else 0,
            self._topic.producer.why_not if self._topic is not None else None,
        )
        has_grpc = section.grpc_port >= 0 or section.grpc_socket is not None
        http, grpc = fit_descriptors(
            section.max_connections + section.max_waiters + self.settings.api.max_streams,
            section.max_connections if has_grpc else 0,
        )
        if has_grpc:
            self._open_grpc(receiver, health, grpc)
        receiver.start()
        # Not at the first call: one that is recorded before they are loaded has no cost.
        self.pipeline.prices.begin()
        if dealer is not None:
            await dealer.start(receiver.take_share)
        if self._tls is not None:
            self._renewer = asyncio.create_task(self._tls.keep())
        if self._grpc is not None:
            await self._grpc.start()
        if listener is not None:
            from spanpost.http.server import HttpServer
            from spanpost.receivers.otlp_http import OtlpHttp

            self._app = OtlpHttp(receiver, self._sender_tokens, watch=metrics)
            self._endpoints = self._open_endpoints(self._app, receiver, health)
            self._http = HttpServer(
                self._endpoints,
                listener,
                context=self._tls.context if self._tls is not None else None,
                connections=http,
                always=(LIVE, READY, HEALTH),
                grace=_GRACE,
            )
            await self._http.start()

    async def _read_tokens(self) -> None:
        """Read the database's tokens before the first request, and from now on."""
        tokens = self.pipeline.store.access_tokens
        self._token_reader = TokenReader(tokens, self._sender_tokens.stored, self._check_callers)
        await self._token_reader.read()
        self._reading = asyncio.create_task(self._token_reader.keep(), name="spanpost-tokens")

    def _check_callers(self) -> None:
        if self._endpoints is not None:
            self._endpoints.check()

    async def _consume(self) -> None:
        """Start recording topics, if the settings say so."""
        from spanpost.runtime.kafka import consumer_of

        self._consumer = consumer = await consumer_of(self.pipeline, self.settings, self.section)
        if consumer is not None:
            consumer.start()

    def _open_endpoints(self, app: OtlpHttp, receiver: Receiver, health: GatewayHealth) -> Endpoints:
        """Return the application of the HTTP port: endpoints (`spanpost.runtime.endpoints`), OTLP and pages."""
        from spanpost.receivers.counted import Counted
        from spanpost.receivers.otlp_http import log_fault
        from spanpost.runtime.endpoints import EndpointContext, Endpoints, endpoints_of
        from spanpost.runtime.endpoints.api import token_here
        from spanpost.settings.guards import gateway_guard

        context = EndpointContext(
            pipeline=self.pipeline,
            settings=self.settings,
            sender_tokens=self._sender_tokens,
            url=self.http_url,
            components=health.components,
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
            endpoints,
            [*app.routes, *health.routes(self._sender_tokens)],
            guard,
            watch=self.pipeline.metrics,
            on_fault=log_fault,
        )

    def _open_grpc(self, receiver: Receiver, health: GatewayHealth, connections: int) -> None:
        from spanpost.receivers.otlp_grpc import GrpcServer, OtlpGrpc, RecordsMessages

        section = self.section
        handlers = OtlpGrpc(
            RecordsMessages(receiver, lambda: self._sender_tokens.rules.attribute),
            self._sender_tokens,
            is_ready=lambda: not health.why_not(),
            watch=self.pipeline.metrics,
        )
        certificates = Certificates(section) if self._is_secure else None
        self._grpc = GrpcServer(
            handlers,
            most_bytes=section.max_body,
            connections=connections,
            certificates=certificates,
            is_shared=section.share_ports,
        )
        self.grpc_url = listen_grpc(self._grpc, section, is_secure=certificates is not None)

    def reload(self) -> bool:
        """Read the settings again: routes, secrets, sinks, tokens, certificates, limits, sealing and retention apply
        from now on. False: nothing changed, and the reason is logged.
        """
        if self._reread is None:
            return False
        settings: Settings | None = None
        try:
            settings = self._reread()
            section = settings.gateway or GatewaySettings(enabled=False)
            if self._tls is not None:
                self._tls.check(section)
            if section.enabled:
                section.refuse_exposure()
            self.pipeline.reload(settings)
            if self._endpoints is not None:
                self._endpoints.reload(settings)
            if self._tls is not None:
                self._tls.replace(section)
        except (SpanpostError, OSError) as error:
            self._acts.refused(self._current, settings, error)
            for each in str(error).splitlines():
                log.error("the new settings are refused, the old ones stay: %s", each)
            self._count_reload("refused")
            return False
        self._sender_tokens.replace(
            settings.intake.tenant,
            *hashes_of(section),
            is_required=section.require_token,
            rules=tenant_rules(section),
        )
        self._sender_tokens.stored.trusted = section.trust_tokens.total_seconds()
        self.pipeline.begin(self._recheck())
        if self.section.enabled:
            self.pipeline.begin(self._upkeep.apply(settings, self.pipeline.store, self.pipeline.metrics))
        if self._endpoints is not None:
            from spanpost.settings.guards import gateway_guard

            # The address and the client CA change only at the next start.
            unchanged = {"host": self.section.host, "client_ca": self.section.client_ca}
            self._endpoints.guard = gateway_guard(settings, section.model_copy(update=unchanged))
        self._acts.reloaded(self._current, settings)
        self._current = settings
        self._count_reload("taken")
        what = "routes, secrets, sinks, tokens, certificates, limits, sealing and retention apply from now on"
        log.info("settings read again, as %s: %s; all else at the next start", system_user(), what)
        return True

    async def _recheck(self) -> None:
        """Let waiting requests check their tokens against the new settings."""
        self._sender_tokens.stored.notify()

    @staticmethod
    async def _show(worker: workers.Worker, receiver: Receiver, gauge: Gauge | None) -> None:
        while True:
            worker.show_life()
            if gauge is not None:  # workers share metrics by files, which never show the value of a function
                gauge.set(receiver.in_flight)
            await asyncio.sleep(_SHOW_INTERVAL)

    @property
    def _is_secure(self) -> bool:
        return self._tls is not None and self._tls.context is not None

    def _count_reload(self, outcome: str) -> None:
        if self.pipeline.metrics is not None:
            self.pipeline.metrics.reloads.labels(outcome).inc()

    def stop(self) -> bool:
        """Answer requests in progress, record what waits and close everything, within ten seconds. True if
        all was done.
        """
        if self._health is not None:
            self._health.is_stopping = True
        is_done = True
        if self._receiver is not None or self._consumer is not None:
            try:
                is_done = self.pipeline.ask(self._close(), _GRACE + _RECORD + 1.0)
            except (TimeoutError, SpanpostError):
                is_done = False
        if not self.pipeline.is_shut:
            self._acts.stopped(self._current, is_done=is_done)
        return self.pipeline.shutdown(_CLOSE) and is_done

    async def _close(self) -> bool:
        await self._upkeep.close()
        closing = [self._close_receiver()] if self._receiver is not None else []
        if self._consumer is not None:
            closing.append(self._consumer.close(_GRACE))
        return all(await asyncio.gather(*closing))

    async def _close_receiver(self) -> bool:
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
        if self._reading is not None and self._token_reader is not None:
            self._reading.cancel()
            await self._token_reader.save(is_last=True)
        if self._dealer is not None:
            await self._dealer.close()
        if self._topic is not None:
            await self._topic.producer.close(_RECORD)
        return is_done


def hashes_of(section: GatewaySettings) -> tuple[Sequence[tuple[str, str]], Sequence[str], Sequence[str]]:
    """Return the hashes of tenants' tokens with their tenants, of operators' and of routing gateways'."""
    tokens = [(token.tenant, digest) for token in section.tokens for digest in token.sha256]
    return tokens, section.operator_tokens, section.router_tokens


def fast_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop if it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
