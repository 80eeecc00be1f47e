"""A small HTTP server of metrics, in a daemon thread."""

from __future__ import annotations

import os
from socketserver import ThreadingMixIn
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from spanpost.domain.errors import ConfigError
from spanpost.metrics.series import MULTIPROCESS


def shown(registry: CollectorRegistry) -> CollectorRegistry:
    """Return what is to be collected: the registry, or what all processes of a server wrote to their common directory."""
    if MULTIPROCESS not in os.environ:
        return registry
    whole = CollectorRegistry()
    MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
    return whole


class _Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    #: A scraper that says nothing must not hold a thread for ever.
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""


class Server:
    """Serves a registry."""

    def __init__(self, registry: CollectorRegistry, address: str, port: int) -> None:
        try:
            self._http = make_server(address, port, make_wsgi_app(shown(registry)), _Threading, handler_class=_Quiet)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"metrics: cannot listen on {address} port {port}: {error}. "
                "Set SPANPOST_METRICS__PORT to a free port, or to 0 to have one chosen."
            ) from error
        self.port: int = self._http.server_port
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.5}, name="spanpost-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop and free the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)
