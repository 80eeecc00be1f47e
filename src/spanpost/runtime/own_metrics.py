"""The metrics of this process: made from the settings, served on a port, and kept up with the other processes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.runtime import workers
from spanpost.settings import MetricsSettings
from spanpost.sinks.base import CallingSink

if TYPE_CHECKING:
    from spanpost.metrics.recorder import Metrics
    from spanpost.sinks.base import Sink
    from spanpost.store.protocols import Store

log = logging.getLogger("spanpost")

#: Interval between counts of the open tasks, seconds; a third of a process's turn (`store.fleet.TURN`).
_PUBLISH = 10.0
#: File with the metrics port of worker 0.
_PORT = "metrics-port"


def metrics_of(section: MetricsSettings, sinks: Mapping[str, Sink]) -> Metrics | None:
    """Return the metrics of this process; None if their package is missing."""
    try:
        from spanpost.metrics.recorder import Metrics
    except ImportError:
        return None
    bridge = None
    if section.otlp and section.enabled:
        from spanpost.metrics.bridge import Bridge

        bridge = Bridge()
    metrics = Metrics(section, bridge=bridge)
    count_calls(metrics, sinks)
    return metrics


def count_calls(metrics: Metrics, sinks: Mapping[str, Sink]) -> None:
    """Let sinks report their calls to the metrics."""
    for name, sink in sinks.items():
        # Start at 0, so that the first deliveries are an increase for `rate`.
        metrics.delivery_age.labels(name)
        if isinstance(sink, CallingSink):
            sink.when_called = partial(metrics.called, name)


def serve(metrics: Metrics | None, section: MetricsSettings | None, *, is_gateway: bool) -> str | None:
    """Serve the metrics on their port; return the page's address, None if it is taken or not wanted.

    Raises `ConfigError` if they cannot be served and must be.
    """
    if section is None or not section.enabled or not workers.is_first():
        return None
    if metrics is None:
        raise ConfigError("metrics: prometheus_client is missing; install it with: pip install 'spanpost[metrics]'")
    from spanpost.metrics.series import MULTIPROCESS
    from spanpost.settings.guards import metrics_guard

    if section.exposure:
        log.warning("%s", section.exposure)
    try:
        tokens = [bytes.fromhex(digest) for digest in section.tokens]
        serving = partial(metrics.serve, section.host, guard=metrics_guard(section), tokens=tokens)
        before = 0 if section.port else _port_before()
        try:
            port = serving(before or section.port)
        except ConfigError:
            if not before:
                raise
            port = serving(section.port)  # another program has it now
        if workers.current is not None:
            (workers.current.directory / _PORT).write_text(str(port))
    except ConfigError as error:
        # A gateway must have its port. An agent goes on without: its work and its notifications matter more than
        # a page of metrics, and another process of this host probably has the port. Workers of one server share
        # their metrics, so the port of any one shows the numbers of all.
        if (
            is_gateway
            and "port" in section.model_fields_set
            and (MULTIPROCESS not in os.environ or workers.current is not None)
        ):
            raise
        log.warning("this process serves no metrics on a port of their own: %s", error)
        return None
    host = f"[{section.host}]" if ":" in section.host else section.host
    return f"http://{host}:{port}/metrics"


def _port_before() -> int:
    """Return the port that worker 0 had before it was started again: scrapers know it. 0: it had none."""
    path = workers.current.directory / _PORT if workers.current is not None else None
    return int(path.read_text()) if path is not None and path.exists() else 0


async def publish(store: Store, metrics: Metrics) -> None:
    """Update the gauges of all processes, in turn with the other processes, until it is cancelled."""
    while True:
        try:
            metrics.fleet(await store.fleet())
            metrics.store_up.set(1)
        except StoreUnavailable:
            metrics.fleet(None)
            metrics.store_up.set(0)
        await asyncio.sleep(_PUBLISH)
