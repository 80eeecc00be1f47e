"""Where telemetry is forwarded to: the address, the credentials, and the transports for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from urllib.parse import urlsplit

from spanpost.model.errors import ConfigError
from spanpost.receivers.forward_transports import (
    GrpcTransport,
    HttpTransport,
    OtlpOutcome,
    OtlpTransport,
)

#: Modules of the extras `forward` and `forward-grpc`.
_LIBRARIES = {"http": ("requests",), "grpc": ("grpc",)}
_ENCODERS = (
    "opentelemetry.exporter.otlp.proto.common._log_encoder",
    "opentelemetry.exporter.otlp.proto.common.trace_encoder",
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
        """Raise `ConfigError` if a library is missing or a certificate cannot be read.

        Opens no connection.
        """
        for module in (*_LIBRARIES[self.protocol], *_ENCODERS):
            try:
                import_module(module)
            except ImportError as error:
                extra = "forward" if self.protocol == "http" else "forward-grpc"
                raise ConfigError(
                    f"forward: what sends OTLP over {self.protocol} is missing ({error.name}); "
                    f"install it with: pip install 'spanpost[{extra}]'"
                ) from error
        records = import_module("opentelemetry.proto.logs.v1.logs_pb2").LogRecord
        if "event_name" not in records.DESCRIPTOR.fields_by_name:
            raise ConfigError(
                "forward: this opentelemetry-proto has no event names, by which live records are known; "
                "upgrade it: pip install 'spanpost[forward]'"
            )
        for path in (self.certificate, self.client_certificate, self.client_key):
            try:
                _read(path)
            except OSError as error:
                raise ConfigError(
                    f"forward: {path}: cannot be read: {error.strerror or error}; mend the path"
                ) from error

    def open(self, signal: str) -> OtlpTransport:
        """Return the transport for a signal, ``logs`` or ``traces``. The first request opens the connection."""
        if self.protocol == "http":
            pair = (self.client_certificate, self.client_key)
            return HttpTransport(
                signal,
                f"{self.endpoint}/v1/{signal}",
                self.headers,
                self.timeout,
                self.certificate,
                (pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None,
            )
        import grpc

        credentials = None
        if self.endpoint.startswith("https://"):
            credentials = grpc.ssl_channel_credentials(
                *map(_read, (self.certificate, self.client_key, self.client_certificate))
            )
        address = urlsplit(self.endpoint).netloc or self.endpoint  # a Unix socket keeps its scheme
        return GrpcTransport(signal, address, self.headers, self.timeout, credentials)


def try_out(target: Target, signal: str) -> str:
    """Send an empty request; return why it failed, empty: it was accepted."""
    transport = None
    try:
        transport = target.open(signal)
        answer = transport.send(b"")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if transport is not None:
            transport.close()
    return "" if answer.outcome is OtlpOutcome.ACCEPTED else answer.why


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def protocol_of(endpoint: str) -> str:
    """Return the likely protocol of an address: ``grpc`` for port 4317 and Unix sockets, else ``http``."""
    return "grpc" if endpoint.startswith("unix:") or urlsplit(endpoint).port == 4317 else "http"
