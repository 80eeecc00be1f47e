"""Settings of the section `forward`."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from spanpost.http.urls import split
from spanpost.settings.section import Duration, Section

#: Header names that both HTTP and gRPC accept.
_HEADER: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class ForwardSettings(Section):
    """Send telemetry to a gateway over OTLP, live, instead of recording it in the agent's process."""

    endpoint: str = Field(
        description="Where to send it, a Collector or `spanpost run`: `http://collector:4318`, `https://…`, "
        "`unix:///run/otlp.sock`. If set, the process has no database, sinks or metrics of its own.",
    )
    protocol: Literal["http", "grpc"] | None = Field(
        default=None, description="OTLP's transport. Not given: `grpc` for port 4317 and Unix sockets, else `http`."
    )
    token: SecretStr | None = Field(default=None, description="Bearer token, sent as `Authorization: Bearer …`.")
    headers: dict[str, SecretStr] = Field(
        default={},
        description='More headers, as JSON: `{"x-tenant": "acme"}`. The headers of '
        "`OTEL_EXPORTER_OTLP_HEADERS` are not "
        "sent.",
    )
    timeout: Duration = Field(default=timedelta(seconds=10), gt=timedelta(0), description="Time limit of one request.")
    retry_timeout: Duration = Field(
        default=timedelta(minutes=10),
        gt=timedelta(0),
        description="How long a request is tried while the receiver is down or busy. After that it is dropped, and "
        "counted as `unsent`.",
    )
    max_request_bytes: int = Field(
        default=3 * 1024 * 1024,
        ge=64 * 1024,
        le=64 * 1024 * 1024,
        description="Maximum size of one request before compression. Most gRPC receivers refuse more than 4 MiB. "
        "Content of a span that is larger alone is cut.",
    )
    max_waiting_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=64 * 1024,
        description="Maximum bytes of telemetry that waits in memory for the receiver. Live records take at most half "
        "of it. More is dropped, and counted as `queue_full`.",
    )
    spans: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Which finished spans are sent too. `auto`: those that no OTLP exporter of the application sends "
        "to the same host (and port, or the standard ports 4317 and 4318).",
    )
    certificate: Path | None = Field(default=None, description="CA certificates that verify the receiver, a PEM file.")
    client_certificate: Path | None = Field(
        default=None, description="Client certificate for the receiver, a PEM file."
    )
    client_key: Path | None = Field(default=None, description="Private key of the client certificate, a PEM file.")

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = split(value)
        has_host = bool(parts.hostname) and parts.port != 0
        if parts.username or parts.password:
            raise ValueError("must not hold a user or password; give a token or headers")
        if not (parts.scheme in ("http", "https") and has_host) and not (parts.scheme == "unix" and parts.path):
            raise ValueError("must be http://host:port, https://host:port or unix:///path")
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, content in value.items():
            if not _HEADER.match(name):
                raise ValueError(f"{name!r} is no name of a header")
            if not content.get_secret_value().isprintable() or not content.get_secret_value().isascii():
                raise ValueError(f"the value of {name} must be plain ASCII on one line")
        return value

    @field_validator("token")
    @classmethod
    def _is_token(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else ""
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("must be plain ASCII without spaces (without the word Bearer)")
        return value if text else None

    @model_validator(mode="after")
    def _fits(self) -> ForwardSettings:
        if self.endpoint.startswith("unix:") and self.protocol == "http":
            raise ValueError("a Unix socket speaks gRPC here; leave protocol out, or give an http:// endpoint")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together; give both or neither")
        if self.max_waiting_bytes < 2 * self.max_request_bytes:
            raise ValueError("max_waiting_bytes must be at least twice max_request_bytes")
        return self
