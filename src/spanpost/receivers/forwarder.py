"""The forwarder: sends observations over OTLP with the stock exporters, instead of recording them.

It runs in the feed's worker thread, so that the agent never waits for it. A batch that cannot be sent is
retried for `RETRY_TIME` seconds while the feed's queue fills. After that, or at once if the other side will
never accept it, the batch is dropped, and counted by the feed.

Which finished spans are sent (`ForwardedSpans`): *auto* leaves out those that an OTLP exporter of the
application sends to the same place. It sends the others: spans that the sampler keeps from exporters, and
spans that a cancellation ended, because only this process knows that.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from spanpost import semconv as c
from spanpost.model.errors import ConfigError, SpanpostError
from spanpost.model.observations import Observation, Part
from spanpost.readers.redaction import Redaction
from spanpost.receivers.otlp_encoder import Encoder

_log = logging.getLogger("spanpost.receivers")

#: Seconds for which a batch is retried: the time of a Collector's restart.
RETRY_TIME = 60.0
#: First and longest pause between two attempts, seconds.
_PAUSE = (0.5, 5.0)
#: Seconds between two searches for the application's exporters, which may be attached after us.
_SEARCH_EVERY = 5.0
#: Depth and number of objects searched for exporters: wrappers nest.
_DEPTH, _MOST = 6, 400
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
_OTLP_PORTS = frozenset({4317, 4318})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost", "0.0.0.0", "::"})


_EXPORTERS = {"logs": ("_log_exporter", "OTLPLogExporter"), "traces": ("trace_exporter", "OTLPSpanExporter")}


class ForwardedSpans(StrEnum):
    """Which finished spans are sent in addition to live records."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class NotSent(SpanpostError):
    """A batch was not sent in time, or was refused."""


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


class Forwarder:
    """Implements `Receive` and takes ended spans. Belongs to one feed, whose worker thread calls both
    methods.

    `providers` are searched for the application's own exporters. After a fork the child opens its own
    exporters.
    """

    def __init__(
        self,
        target: Target,
        *,
        spans: ForwardedSpans = ForwardedSpans.AUTO,
        providers: Callable[[], Iterable[Any]] = tuple,
        retry_time: float = RETRY_TIME,
        redaction: Redaction | None = None,
    ) -> None:
        self.target = target
        self._redaction = redaction
        self.spans = spans
        self._providers = providers
        self._retry_time = retry_time
        self._parents: list[Any] = []
        target.check()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._exporters: dict[str, Any] = {}
        self._exporter_log: ExporterLog | None = None
        self._encoder = Encoder(self._redaction)
        self._ended: list[Any] = []
        self._stop = threading.Event()
        self._is_covered_now = False
        self._search_at = 0.0
        #: Signals that failed last time, and whether the failure is final.
        self._failing: dict[str, bool] = {}

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            # Kept alive after fork, so that the child does not close the parent's connections.
            self._parents.append((self._exporters, self._encoder, self._stop))
            self._begin()

    def tell_end(self, readable: Any, o: Observation) -> None:
        """Take an ended span, to send it with the next batch."""
        self._check_process()
        if self._sends(readable, o):
            self._ended.append(self._encoder.span(readable, o))

    def __call__(self, batch: Sequence[Observation], /) -> None:
        """Send a batch; return when the other side has accepted it.

        Raises `NotSent` after `RETRY_TIME`, at shutdown at once.
        """
        self._check_process()
        spans, self._ended = self._ended, []
        items_by_signal = {
            "logs": [self._encoder.record(o) for o in batch if o.part is not Part.ENDED and o.name],
            "traces": spans,
        }
        waiting = {signal: items for signal, items in items_by_signal.items() if items}
        refused: list[str] = []
        until = time.monotonic() + self._retry_time
        pause = _PAUSE[0]
        while waiting:
            # The signals are independent: a Collector without a logs pipeline may have one for traces.
            for signal in list(waiting):
                is_taken, is_final = self._try(signal, waiting[signal])
                if is_taken or is_final:
                    del waiting[signal]
                    refused += [signal] if is_final else []
            if waiting:
                if time.monotonic() + pause >= until or self._stop.wait(pause):
                    refused += waiting
                    break
                pause = min(pause * 2, _PAUSE[1])
        if refused:
            raise NotSent(f"{' and '.join(refused)} could not be sent to {self.target.endpoint}")

    def close(self) -> None:
        """Shut the exporters down; batches that are still retried are dropped."""
        if self._pid != os.getpid():
            return
        self._stop.set()
        for exporter in list(self._exporters.values()):
            exporter.shutdown()

    def give_up(self) -> None:
        """Retry nothing from now on: the process ends."""
        if self._pid == os.getpid():
            self._stop.set()

    # --- sending ----------------------------------------------------------------------------------------------------

    def _try(self, signal: str, items: Sequence[Any]) -> tuple[bool, bool]:
        """Send once; return (accepted, finally refused)."""
        log = self._exporter_log
        if log is None:
            log = self._exporter_log = ExporterLog()
        log.begin()
        try:
            exporter = self._exporters.get(signal)
            if exporter is None:
                exporter = self._exporters[signal] = self.target.open(signal, log)
            if exporter.export(items).name == "SUCCESS":
                if self._failing.pop(signal, None) is not None:
                    _log.info("forwarding %s to %s goes on", signal, self.target.endpoint)
                return True, False
            why, is_final = log.why(), log.is_final
        except Exception as error:
            # Older exporters raise for a refused connection. Any other error (it cannot be encoded) would
            # come again.
            why, is_final = f"{type(error).__name__}: {error}", log.is_final or not isinstance(error, OSError)
        if self._failing.get(signal) is not is_final:
            self._failing[signal] = is_final
            outcome = "they are lost, and counted" if is_final else "trying again; new telemetry waits in memory"
            _log.warning("forwarding %s to %s fails: %s (%s)", signal, self.target.endpoint, why, outcome)
        return False, is_final

    # --- which spans ------------------------------------------------------------------------------------------------

    def _sends(self, readable: Any, o: Observation) -> bool:
        if self.spans is not ForwardedSpans.AUTO:
            return self.spans is ForwardedSpans.ALWAYS
        context = readable.get_span_context()
        return not context.trace_flags.sampled or c.SPAN_CANCELLED in o.attributes or not self._is_covered()

    def _is_covered(self) -> bool:
        """Whether the application's exporters send the finished spans of every provider to the same place."""
        now = time.monotonic()
        if now >= self._search_at or not self._search_at:
            self._search_at = now + _SEARCH_EVERY
            endpoints_by_provider = [endpoints_of(provider) for provider in self._providers()]
            self._is_covered_now = bool(endpoints_by_provider) and all(
                any(is_same_place(self.target.endpoint, e) for e in endpoints) for endpoints in endpoints_by_provider
            )
        return self._is_covered_now


def endpoints_of(provider: Any) -> list[str]:
    """Return the endpoints of a tracer provider's OTLP span exporters, also wrapped ones."""
    found: list[str] = []
    seen: set[int] = set()
    level: list[Any] = [getattr(provider, "provider", None), provider]
    level = [getattr(p, "_active_span_processor", None) for p in level]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for thing in level:
            if id(thing) in seen or len(seen) >= _MOST:
                continue
            seen.add(id(thing))
            if isinstance(thing, (tuple, list)):
                below.extend(thing)
                continue
            fields = getattr(thing, "__dict__", None)
            if not isinstance(fields, dict) or isinstance(thing, type):
                continue
            endpoint = fields.get("_endpoint")
            if "SpanExporter" in type(thing).__name__ and isinstance(endpoint, str):
                found.append(endpoint)
                continue
            below.extend(
                value
                for value in list(fields.values())
                if hasattr(value, "__dict__") or isinstance(value, (tuple, list))
            )
        level = below
    return found


def is_same_place(one: str, other: str) -> bool:
    """Whether two OTLP addresses lead to the same receiver: one host, and one port or the two standard ones."""
    host, port = _place(one)
    other_host, other_port = _place(other)
    return host == other_host and (port == other_port or {port, other_port} <= _OTLP_PORTS)


def _place(address: str) -> tuple[str, int | None]:
    if address.startswith("unix:"):
        return "unix:/" + address.removeprefix("unix:").lstrip("/"), None
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        port = parts.port
    except ValueError:
        port = None
    host = (parts.hostname or "").lower()
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return "localhost" if host in _LOOPBACK else host, port if port is not None else default
