"""A small HTTP server for metrics in a daemon thread, behind the same guard as the gateway's port."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from spanpost.http.bearer import holder_of
from spanpost.http.guard import Guard, GuardedRequest, Refusal
from spanpost.http.hosts import is_loopback
from spanpost.http.status import JSON, as_json, code_of
from spanpost.metrics.series import MULTIPROCESS
from spanpost.model.errors import ConfigError


def shown(registry: CollectorRegistry) -> CollectorRegistry:
    """Return the registry to collect: this one, or all processes' files in a server of several processes."""
    if MULTIPROCESS not in os.environ:
        return registry
    whole = CollectorRegistry()
    _AllProcesses(whole)  # type: ignore[no-untyped-call]
    return whole


class _AllProcesses(MultiProcessCollector):
    """Collects the files of all processes. An empty one, which its process has just made or was killed over, says
    nothing, and would end each collection (https://github.com/prometheus/client_python/issues/1199).
    """

    def collect(self) -> Iterable[Metric]:
        found = [path for path in Path(self._path).glob("*.db") if _size(path)]
        return self.merge([str(path) for path in found])  # type: ignore[no-untyped-call, no-any-return]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # its process has ended
        return 0


class _Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    #: A scraper that sends nothing must not hold a thread forever.
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Do not log scrapes."""


class GuardedMetrics:
    """Checks each request with the guard, and for one of the tokens, if there are any (SHA-256)."""

    def __init__(self, app: Callable[..., Iterable[bytes]], guard: Guard, tokens: Sequence[bytes]) -> None:
        self._app = app
        self._guard = guard
        self._tokens = [("scraper", digest) for digest in tokens]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        verdict = self._guard.judge(_request_of(environ))
        if not isinstance(verdict, Refusal) and self._tokens:
            scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
            if scheme.lower() != "bearer" or holder_of(token.strip(), self._tokens) is None:
                challenge = {"www-authenticate": "Bearer"}
                verdict = Refusal(
                    status=401, why="unauthenticated", message="a token of metrics.tokens is needed", headers=challenge
                )

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, ("x-content-type-options", "nosniff")], *more)

        if not isinstance(verdict, Refusal):
            return self._app(environ, start)
        body = as_json(code_of(verdict.status), verdict.message, reason=verdict.why)
        headers = [("content-type", JSON), ("content-length", str(len(body))), *verdict.headers.items()]
        start(f"{verdict.status} {HTTPStatus(verdict.status).phrase}", headers)
        return [body]


def _request_of(environ: dict[str, Any]) -> GuardedRequest:
    """Return the head of a request.

    WSGI joins repeated headers by a comma: such a host or origin is refused.
    """
    headers = {
        name[5:].replace("_", "-").lower(): (value.strip(" \t"),)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    path = environ.get("PATH_INFO", "/")
    return GuardedRequest(
        method=environ["REQUEST_METHOD"],
        path="/metrics",  # every path is answered with the metrics
        target=path,
        http_version=environ.get("SERVER_PROTOCOL", "").removeprefix("HTTP/"),
        peer=environ.get("REMOTE_ADDR", ""),
        headers=headers,
    )


class MetricsServer:
    """Serves a registry. The default guard accepts loopback hosts; on another address any host."""

    def __init__(
        self,
        registry: CollectorRegistry,
        address: str,
        port: int,
        guard: Guard | None = None,
        tokens: Sequence[bytes] = (),
    ) -> None:
        app = GuardedMetrics(
            make_wsgi_app(shown(registry)), guard or Guard(is_beyond_loopback=not is_loopback(address)), tokens
        )
        try:
            self._http = make_server(address, port, app, _Threading, handler_class=_Quiet)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"metrics: cannot listen on {address} port {port}: {error}. "
                "Set SPANPOST_METRICS__PORT to a free port, or to 0 to have one chosen."
            ) from error
        self.port: int = self._http.server_port
        self._thread = Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.5}, name="spanpost-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop and free the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)
