"""The forwarder: a receiver that sends what it is handed over OTLP, by the stock exporters, instead of recording it.

It runs in the feed's worker thread, so whatever it waits for the agent does not. A batch that cannot be sent is tried again
for `PATIENCE` seconds while the feed's queue fills; then, or at once when the other side will never take it, it is lost, and
counted by the feed.

Which finished spans are sent (`ForwardedSpans`): *auto* leaves out those that an OTLP exporter of the application sends to the same
place. It sends the rest: spans that the sampler keeps from exporters, and spans that a cancellation ended, because that is
known in this process alone.
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

#: How long a batch is tried, seconds: a Collector's restart. Between two tries, first and longest.
STALL_RULES = 60.0
_PAUSE = (0.5, 5.0)
#: How often it is looked anew for exporters of the application, seconds: they may be attached after us.
_LOOK_EVERY = 5.0
#: How deep and how far providers and processors are searched for exporters: wrappers nest.
_DEPTH, _MOST = 6, 400
#: What requests and proxies need, and nothing that the application's own settings may have added for its backend.
_HEADERS_SENT = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "host", "user-agent"}
)
#: What another try may mend (OTLP specification 1.11, "Failures").
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
    """Which finished spans are sent beside what is live."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class NotSent(SpanpostError):
    """A batch could not be sent in time."""


def is_worth_another_try(status: int) -> bool:
    """Say whether a request that was answered so may be taken later."""
    return status in (408, 429) or status >= 500


def cure_of(status: int) -> str:
    """Return what to do about an HTTP status, to be appended to a sentence; empty where that is not known."""
    cure = _CURES.get(status)
    return f"; {cure}" if cure else ""


class Hush(logging.Filter):
    """Keeps what the exporters say in the worker's thread: why the last try failed, and whether another one is any use.

    They would write a line for each try, and tell nobody but the log why. `Forwarder` says it once, in words of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        """Forget the try before; hear the calling thread from now on."""
        self._thread = threading.get_ident()
        self.said = ""
        self.status: int | None = None
        self.is_final = False

    def listen(self) -> None:
        """Hear the exporters that are loaded by now."""
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if name.startswith("opentelemetry.exporter.") and isinstance(logger, logging.Logger) and self not in logger.filters:
                logger.filters.insert(0, self)  # before the SDK's own, which lets the same words through once a minute

    def filter(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self._thread:
            return True
        self.said = record.getMessage()
        arguments: tuple[Any, ...] = record.args if isinstance(record.args, tuple) else ()
        for value in arguments:
            if type(value).__name__ == "StatusCode":
                self.is_final = value.name not in _GRPC_RETRYABLE
        return False

    def answered(self, response: Any, *args: Any, **kwargs: Any) -> None:
        """Hear an HTTP response."""
        self.status = int(response.status_code)
        self.is_final = self.status >= 300 and not is_worth_another_try(self.status)

    def why(self) -> str:
        """Return the reason in words, with what to do about it where that is known."""
        cure = _CURES.get(self.status or 0, "")
        return (self.said or (f"HTTP {self.status}" if self.status else "the exporter says no more")) + (
            f"; {cure}" if cure else ""
        )


class Target:
    """Where it is sent to: an address, who sends, and how long one try may take."""

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
        """Raise `ConfigError` when the exporters are not installed or a certificate cannot be read. Opens nothing."""
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
                raise ConfigError(f"forward: {path}: cannot be read: {error.strerror or error}; mend the path") from error

    def open(self, signal: str, hush: Hush) -> Any:
        """Return the stock exporter for a signal (``logs`` or ``traces``); `hush` hears its answers and what it says of them."""
        kind = self._exporter(signal)
        exporter = self._http(kind, signal, hush) if self.protocol == "http" else self._grpc(kind)
        hush.listen()
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

    def _http(self, kind: Any, signal: str, hush: Hush) -> Any:
        import requests
        from opentelemetry.exporter.otlp.proto.http import Compression

        session = requests.Session()
        session.auth = self._only_ours  # asked last, and keeps requests from looking for others in ~/.netrc
        session.max_redirects = 0  # nobody else is to be told
        session.hooks["response"].append(hush.answered)
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
        # OTEL_EXPORTER_OTLP_HEADERS are for the application's backend, its key among them: the exporter adds them unasked.
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
            credentials=grpc.ssl_channel_credentials(*map(_read, (self.certificate, self.client_key, self.client_certificate)))
            if is_secure
            else None,
            # Never empty, or the exporter would take the application's from OTEL_EXPORTER_OTLP_HEADERS.
            headers=tuple({"x-spanpost": "forward", **self.headers}.items()),
            timeout=self.timeout,
            compression=grpc.Compression.Gzip,
        )


def try_out(target: Target, signal: str) -> str:
    """Send an empty request; return why it was not taken, empty when it was."""
    hush = Hush()
    hush.begin()
    exporter = None
    try:
        exporter = target.open(signal, hush)
        return "" if exporter.export([]).name == "SUCCESS" else hush.why()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if exporter is not None:
            exporter.shutdown()
        for logger in list(logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.removeFilter(hush)


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def protocol_of(endpoint: str) -> str:
    """Return what an address most likely speaks: gRPC on port 4317 and on Unix sockets, else HTTP."""
    return "grpc" if endpoint.startswith("unix:") or urlsplit(endpoint).port == 4317 else "http"


class Forwarder:
    """**Receive** and the tap on ended spans in one. Belongs to one feed; both methods are called in its worker thread.

    `providers` are looked at for the application's own exporters. After a fork the child opens exporters of its own.
    """

    def __init__(
        self,
        target: Target,
        *,
        spans: ForwardedSpans = ForwardedSpans.AUTO,
        providers: Callable[[], Iterable[Any]] = tuple,
        stall_rules: float = STALL_RULES,
        redaction: Redaction | None = None,
    ) -> None:
        self.target = target
        self._redaction = redaction
        self.spans = spans
        self._providers = providers
        self._stall_rules = stall_rules
        self._of_parent: list[Any] = []
        target.check()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._exporters: dict[str, Any] = {}
        self._hush: Hush | None = None
        self._encoder = Encoder(self._redaction)
        self._ended: list[Any] = []
        self._stop = threading.Event()
        self._covers = False
        self._looked_at = 0.0
        #: Signals that could not be sent last time, and whether trying again is no use.
        self._failing: dict[str, bool] = {}

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            # The parent's connections are the parent's: held, so that nothing of them is closed from here.
            self._of_parent.append((self._exporters, self._encoder, self._stop))
            self._begin()

    def tell_end(self, readable: Any, o: Observation) -> None:
        """Take a span that has ended, to be sent with the next batch."""
        self._check_process()
        if self._sends(readable, o):
            self._ended.append(self._encoder.span(readable, o))

    def __call__(self, batch: Sequence[Observation], /) -> None:
        """Send a batch; returns when the other side has taken it. Raises `NotSent` after `PATIENCE`, or at the end at once."""
        self._check_process()
        spans, self._ended = self._ended, []
        news = {"logs": [self._encoder.record(o) for o in batch if o.part is not Part.ENDED and o.name], "traces": spans}
        waiting = {signal: items for signal, items in news.items() if items}
        refused: list[str] = []
        until = time.monotonic() + self._stall_rules
        pause = _PAUSE[0]
        while waiting:
            # Neither waits for the other: a Collector without a pipeline for logs may have one for traces.
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
        """Let go of the exporters; what is still being tried is given up."""
        if self._pid != os.getpid():
            return
        self._stop.set()
        for exporter in list(self._exporters.values()):
            exporter.shutdown()

    def give_up(self) -> None:
        """Try nothing more than once from now on: the process ends."""
        if self._pid == os.getpid():
            self._stop.set()

    # --- sending ----------------------------------------------------------------------------------------------------

    def _try(self, signal: str, items: Sequence[Any]) -> tuple[bool, bool]:
        """Return whether it was taken; and, when not, whether it never will be."""
        hush = self._hush
        if hush is None:
            hush = self._hush = Hush()
        hush.begin()
        try:
            exporter = self._exporters.get(signal)
            if exporter is None:
                exporter = self._exporters[signal] = self.target.open(signal, hush)
            if exporter.export(items).name == "SUCCESS":
                if self._failing.pop(signal, None) is not None:
                    _log.info("forwarding %s to %s goes on", signal, self.target.endpoint)
                return True, False
            why, is_final = hush.why(), hush.is_final
        except Exception as error:
            # Older exporters let a refused connection through; what else is raised (it cannot be encoded) would be raised again.
            why, is_final = f"{type(error).__name__}: {error}", hush.is_final or not isinstance(error, OSError)
        if self._failing.get(signal) is not is_final:
            self._failing[signal] = is_final
            outcome = "they are lost, and counted" if is_final else "trying again, what happens meanwhile waits in memory"
            _log.warning("forwarding %s to %s fails: %s (%s)", signal, self.target.endpoint, why, outcome)
        return False, is_final

    # --- which spans ------------------------------------------------------------------------------------------------

    def _sends(self, readable: Any, o: Observation) -> bool:
        if self.spans is not ForwardedSpans.AUTO:
            return self.spans is ForwardedSpans.ALWAYS
        context = readable.get_span_context()
        return not context.trace_flags.sampled or c.SPAN_CANCELLED in o.attributes or not self._is_covered()

    def _is_covered(self) -> bool:
        """Say whether exporters of the application send the finished spans of every provider to the same place."""
        now = time.monotonic()
        if now >= self._looked_at or not self._looked_at:
            self._looked_at = now + _LOOK_EVERY
            places = [endpoints_of(provider) for provider in self._providers()]
            self._covers = bool(places) and all(any(is_same_place(self.target.endpoint, e) for e in there) for there in places)
        return self._covers


def endpoints_of(provider: Any) -> list[str]:
    """Return where the OTLP span exporters of a tracer provider send to, however they are wrapped."""
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
            held = getattr(thing, "__dict__", None)
            if not isinstance(held, dict) or isinstance(thing, type):
                continue
            endpoint = held.get("_endpoint")
            if "SpanExporter" in type(thing).__name__ and isinstance(endpoint, str):
                found.append(endpoint)
                continue
            below.extend(value for value in list(held.values()) if hasattr(value, "__dict__") or isinstance(value, (tuple, list)))
        level = below
    return found


def is_same_place(one: str, other: str) -> bool:
    """Say whether two OTLP addresses lead to the same receiver: one host, and one port or the two standard ones."""
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
