"""Where telemetry is forwarded to: the address, the stock OTLP exporters for it, and what they report."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from spanpost.model.errors import ConfigError

#: Headers that requests and proxies need. Any other may be one that the application set for its own backend.
_HEADERS_SENT = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    }
)
#: Statuses worth a retry (OTLP specification 1.11, "Failures").
_GRPC_RETRYABLE = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_CURES = {
    401: "check forward.token or forward.headers",
    403: "check forward.token or forward.headers",
    404: "is it an OTLP receiver with a pipeline for logs and one for traces?",
}
_EXPORTERS = {"logs": ("_log_exporter", "OTLPLogExporter"), "traces": ("trace_exporter", "OTLPSpanExporter")}


def is_worth_another_try(status: int) -> bool:
    """Whether a request with this HTTP status may succeed later."""
    return status in (408, 429) or status >= 500


def cure_of(status: int) -> str:
    """Return advice for an HTTP status, to append to a sentence; empty: none."""
    cure = _CURES.get(status)
    return f"; {cure}" if cure else ""


class ExporterLog(logging.Filter):
    """Captures the exporters' log records in the worker's thread: why the last attempt failed, and whether a
    retry makes sense.

    The exporters would log every attempt, and report the reason only there. `Forwarder` logs it once, in its
    own words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        """Forget the previous attempt; capture the calling thread's records from now on."""
        self._thread = threading.get_ident()
        self.message = ""
        self.status: int | None = None
        self.is_final = False

    def attach(self) -> None:
        """Capture from the exporters that are loaded by now."""
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if (
                name.startswith("opentelemetry.exporter.")
                and isinstance(logger, logging.Logger)
                and self not in logger.filters
            ):
                logger.filters.insert(0, self)  # before the SDK's own filter, which passes equal messages once a minute

    def filter(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self._thread:
            return True
        self.message = record.getMessage()
        arguments: tuple[Any, ...] = record.args if isinstance(record.args, tuple) else ()
        for value in arguments:
            if type(value).__name__ == "StatusCode":
                self.is_final = value.name not in _GRPC_RETRYABLE
        return False

    def answered(self, response: Any, *args: Any, **kwargs: Any) -> None:
        """Note the status of an HTTP response (a hook of requests)."""
        self.status = int(response.status_code)
        self.is_final = self.status >= 300 and not is_worth_another_try(self.status)

    def why(self) -> str:
        """Return the reason in words, with advice if there is some."""
        cure = _CURES.get(self.status or 0, "")
        return (self.message or (f"HTTP {self.status}" if self.status else "the exporter says no more")) + (
            f"; {cure}" if cure else ""
        )


class Target:
    """A destination: address, credentials, and the time limit of one attempt, seconds."""

    def __init__(
        self,
        endpoint: str,
        *,
        protocol: str = "",
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        certificate: str | None = None,
        client_certificate: str | None = None,
        client_key: str | None = None,
    ) -> None:
        for suffix in ("/v1/logs", "/v1/traces"):
            endpoint = endpoint.rstrip("/").removesuffix(suffix)
        self.endpoint = endpoint
        self.protocol = protocol or protocol_of(endpoint)
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self.timeout = timeout
        self.certificate = certificate
        self.client_certificate = client_certificate
        self.client_key = client_key

    def check(self) -> None:
        """Raise `ConfigError` if the exporters are missing or a certificate cannot be read.

        Opens no connection.
        """
        for signal in _EXPORTERS:
            self._exporter(signal)
        records = import_module("opentelemetry.proto.logs.v1.logs_pb2").LogRecord
        if "event_name" not in records.DESCRIPTOR.fields_by_name:
            raise ConfigError(
                "forward: this OTLP exporter writes no event names, by which live records are known; "
                "upgrade it: pip install 'spanpost[forward]'"
            )
        for path in (self.certificate, self.client_certificate, self.client_key):
            try:
                _read(path)
            except OSError as error:
                raise ConfigError(
                    f"forward: {path}: cannot be read: {error.strerror or error}; mend the path"
                ) from error

    def open(self, signal: str, log: ExporterLog) -> Any:
        """Return the stock exporter for a signal (``logs`` or ``traces``); `log` captures its responses and
        log records.
        """
        kind = self._exporter(signal)
        exporter = self._http(kind, signal, log) if self.protocol == "http" else self._grpc(kind)
        log.attach()
        return exporter

    def _exporter(self, signal: str) -> Any:
        path, name = _EXPORTERS[signal]
        try:
            return getattr(import_module(f"opentelemetry.exporter.otlp.proto.{self.protocol}.{path}"), name)
        except ImportError as error:
            raise ConfigError(
                f"forward: the OTLP exporter for {self.protocol} is missing ({error.name}); "
                f"install it with: pip install 'spanpost[{'forward' if self.protocol == 'http' else 'forward-grpc'}]'"
            ) from error

    def _http(self, kind: Any, signal: str, log: ExporterLog) -> Any:
        import requests
        from opentelemetry.exporter.otlp.proto.http import Compression

        session = requests.Session()
        session.auth = self._only_ours  # applied last; also keeps requests from reading ~/.netrc
        session.max_redirects = 0  # never send credentials to another host
        session.hooks["response"].append(log.answered)
        return kind(
            endpoint=f"{self.endpoint}/v1/{signal}",
            certificate_file=self.certificate,
            client_certificate_file=self.client_certificate,
            client_key_file=self.client_key,
            headers=self.headers,
            timeout=self.timeout,
            compression=Compression.Gzip,
            session=session,
        )

    def _only_ours(self, request: Any) -> Any:
        # The exporter adds OTEL_EXPORTER_OTLP_HEADERS by itself; they hold the key of the application's
        # backend.
        for name in [name for name in request.headers if name.lower() not in _HEADERS_SENT]:
            del request.headers[name]
        request.headers.update(self.headers)
        return request

    def _grpc(self, kind: Any) -> Any:
        import grpc

        is_secure = self.endpoint.startswith("https://")
        return kind(
            endpoint=self.endpoint,
            insecure=not is_secure,
            credentials=grpc.ssl_channel_credentials(
                *map(_read, (self.certificate, self.client_key, self.client_certificate))
            )
            if is_secure
            else None,
            # Never empty: otherwise the exporter uses the application's OTEL_EXPORTER_OTLP_HEADERS.
            headers=tuple({"x-spanpost": "forward", **self.headers}.items()),
            timeout=self.timeout,
            compression=grpc.Compression.Gzip,
        )


def try_out(target: Target, signal: str) -> str:
    """Send an empty request; return why it failed, empty: it was accepted."""
    log = ExporterLog()
    log.begin()
    exporter = None
    try:
        exporter = target.open(signal, log)
        return "" if exporter.export([]).name == "SUCCESS" else log.why()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if exporter is not None:
            exporter.shutdown()
        for logger in list(logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.removeFilter(log)


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def protocol_of(endpoint: str) -> str:
    """Return the likely protocol of an address: ``grpc`` for port 4317 and Unix sockets, else ``http``."""
    return "grpc" if endpoint.startswith("unix:") or urlsplit(endpoint).port == 4317 else "http"
