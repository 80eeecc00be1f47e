"""``spanpost run``: receive, record, deliver and serve metrics until a signal stops it."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanpost.runtime.gateway import Gateway
    from spanpost.runtime.router import Router
    from spanpost.settings import GatewaySettings, Settings

log = logging.getLogger("spanpost.runtime.gateway")


def serve(read: Callable[[], Settings]) -> bool:
    """Run until SIGINT or SIGTERM, with the workers of the settings. False if not everything could be
    finished.
    """
    settings = read()
    gateway = settings.gateway
    one = serve_one if settings.cells is None else serve_router
    if gateway is None or not gateway.enabled or gateway.workers == 1:
        return one(read)
    from spanpost.runtime.supervisor import Supervisor

    return Supervisor(read, one).run()


def serve_router(read: Callable[[], Settings]) -> bool:
    """Run a routing gateway in this process alone; SIGHUP reads the settings again."""
    from spanpost.runtime.process import exclude_from_collection
    from spanpost.runtime.router import Router

    router = Router(read(), read)

    def started() -> None:
        for line in _of_first(router_lines(router)):
            log.info("%s", line)
        exclude_from_collection()

    if is_done := _until_stopped(router, started, "stopping: requests in progress are answered"):
        log.info("stopped")
    else:
        log.info("stopped before everything was finished")
    return is_done


def serve_one(read: Callable[[], Settings]) -> bool:
    """Run in this process alone; SIGHUP reads the settings again."""
    from spanpost.runtime import workers
    from spanpost.runtime.gateway import Gateway
    from spanpost.runtime.local_token import link
    from spanpost.runtime.process import exclude_from_collection, switch_often

    gateway = Gateway(read(), read)

    def started() -> None:
        for line in _of_first(lines(gateway)):
            log.info("%s", line)
        if gateway.local_token and workers.is_first() and sys.stderr.isatty():
            # Not in the log: logs are kept, and others read them.
            print(f"\nopen the board: {link(gateway.http_url, gateway.local_token)}\n", file=sys.stderr, flush=True)
        exclude_from_collection()
        switch_often()

    if is_done := _until_stopped(gateway, started, "stopping: requests in progress are answered and recorded"):
        log.info("stopped")
    else:
        log.info("stopped before everything was finished; the rest continues at the next start")
    return is_done


def _of_first(said: Iterator[str]) -> Iterable[str]:
    """Return start-up lines in the first worker alone."""
    from spanpost.runtime import workers

    return said if workers.is_first() else ()


def _until_stopped(server: Gateway | Router, started: Callable[[], None], stopping: str) -> bool:
    """Start, reload at each SIGHUP, and stop at another signal; return what the stop returned."""
    from spanpost.runtime import workers

    with _signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
        server.start()
        if workers.current is not None:
            workers.current.begin()
        started()
        while next(received) == signal.SIGHUP:
            server.reload()
        log.info(stopping)
        return server.stop()


@contextmanager
def _signals(*numbers: int) -> Iterator[Iterator[int]]:
    """Yield the signals as they arrive, through a pipe: nothing else reliably wakes a waiting thread.

    Those that a supervisor has blocked until now arrive, too.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, lambda number, frame: None) for number in numbers}
    wakes_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def received() -> Iterator[int]:
        while True:
            # Each once, and SIGHUP last: a stop does not wait behind many reloads.
            yield from sorted(set(reader.recv(4096)) & set(numbers), key=signal.SIGHUP.__eq__)

    try:
        yield received()
    finally:
        signal.set_wakeup_fd(wakes_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def router_lines(router: Router) -> Iterator[str]:
    """Yield the start-up lines of a routing gateway."""
    settings, section = router.settings, router.section
    if router.http_url:
        yield f"receiving OTLP/HTTP on {router.http_url} (/v1/traces, /v1/logs, /v1/metrics)"
    if router.grpc_url:
        yield f"receiving OTLP/gRPC on {router.grpc_url}"
    if section.grpc_socket is not None:
        yield f"receiving OTLP/gRPC on unix://{section.grpc_socket}"
    yield from _access(settings, section)
    assert settings.cells is not None
    for name, cell in settings.cells.named.items():
        own = ", ".join(sorted(tenant for tenant, of in settings.cells.tenants.items() if of == name))
        other = "all other tenants" if settings.cells.default == name else ""
        whose = ", ".join(each for each in (own, other) if each) or "no tenant"
        yield f"cell {name} at {', '.join(cell.urls)}: {whose}"
    pages = [router.metrics_url, f"{router.http_url}/metrics" if router.http_url else None]
    yield f"metrics: {', '.join(page for page in pages if page) or 'off'}"
    yield "stop with Ctrl-C; SIGHUP reads assignment and tokens again"


def _access(settings: Settings, section: GatewaySettings) -> Iterator[str]:
    if section.tokens:
        tenants = ", ".join(sorted({token.tenant for token in section.tokens}))
        yield f"tokens are required; tenants: {tenants}"
    elif section.require_token:
        yield "tokens of the database are required"
    if section.router_tokens:
        yield "requests of a routing gateway are of the tenant that it names"
    elif not section.asks_token and section.client_ca is not None:
        yield f"client certificates are required; all senders are tenant {settings.intake.tenant}"
    elif not section.asks_token:
        access = (
            "ANYBODY WHO REACHES THE PORT MAY WRITE (allow_insecure)" if section.is_exposed else "no token is required"
        )
        yield f"{access}; all senders are tenant {settings.intake.tenant}"


def lines(gateway: Gateway) -> Iterator[str]:
    """Yield the start-up lines of a gateway."""
    from spanpost.runtime.assembly import enabled_sinks

    settings, section = gateway.settings, gateway.section
    if gateway.http_url:
        yield f"receiving OTLP/HTTP on {gateway.http_url} (/v1/traces, /v1/logs, /v1/metrics)"
    if gateway.grpc_url:
        yield f"receiving OTLP/gRPC on {gateway.grpc_url}"
    if section.enabled and section.grpc_socket is not None:
        yield f"receiving OTLP/gRPC on unix://{section.grpc_socket}"
    if gateway.api_url:
        yield f"the API on {gateway.api_url}"
        hint = "; `spanpost token local` prints its address with this machine's token" if gateway.local_token else ""
        yield f"the board on {gateway.http_url}/{hint}"
    if gateway.slack_url:
        yield f"receiving Slack events on {gateway.slack_url}"
    components = gateway.pipeline.components
    if gateway.http_url and components.workspaces is not None:
        yield f"the Slack app is installed at {components.workspaces.section.install_url}"
    if components.interactions_runtime is not None and components.interactions_runtime.sockets.open:
        yield "receiving Slack events by Socket Mode"
    if not section.enabled:
        yield "receiving nothing: gateway.enabled is false"
    else:
        yield from _access(settings, section)
    if settings.kafka is not None:
        kafka = settings.kafka
        if kafka.produce and section.enabled:
            yield f"telemetry goes to Kafka first, to topic {kafka.topic}"
        if kafka.consume:
            topics = ", ".join((kafka.topic, *(each.topic for each in kafka.collector_topics)))
            yield f"recording the topics {topics} of Kafka, as group {kafka.group}"
    # Never the URL: it holds the password.
    yield f"rows go to {'PostgreSQL' if settings.dsn else f'the embedded PostgreSQL in {settings.database.data_dir}'}"
    yield f"checkpoints go to {', '.join(enabled_sinks(settings)) or 'no sink: none is on'}"
    pages = [gateway.pipeline.metrics_url, f"{gateway.http_url}/metrics" if gateway.http_url else None]
    yield f"metrics: {', '.join(page for page in pages if page) or 'off'}"
    yield "stop with Ctrl-C; SIGHUP reads routes and secrets again"
