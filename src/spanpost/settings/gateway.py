"""Settings of the room `gateway`: where it listens, who may send, and how much."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from spanpost.http.hosts import is_loopback
from spanpost.model.errors import ConfigError
from spanpost.settings.guards import are_hosts, are_networks, are_origins
from spanpost.settings.section import Section

_MIB = 1024 * 1024
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


def digests(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return hashes of tokens as they are compared; raises ValueError for what is none."""
    found = tuple(one.strip().lower() for one in value)
    if not all(_DIGEST.match(one) for one in found):
        # Never the value: it may be the token itself.
        raise ValueError("each must be the SHA-256 of a token in hex, 64 digits, as `spanpost token new` prints it")
    return found


class TokenSettings(Section):
    """The tokens of one tenant."""

    tenant: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    sha256: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]

    _digests = field_validator("sha256")(digests)


class GatewaySettings(Section):
    """The OTLP receiver of `spanpost run`, which turns it on with these defaults. `attach()` takes no notice of it."""

    enabled: bool = Field(default=True, description="`false`: `spanpost run` receives nothing; it delivers and serves metrics.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. Beyond loopback, tokens or client certificates are required.",
    )
    http_port: int = Field(default=4318, ge=-1, le=65_535, description="Port of OTLP/HTTP; 0 takes a free one, -1 turns it off.")
    grpc_port: int = Field(default=4317, ge=-1, le=65_535, description="Port of OTLP/gRPC; 0 takes a free one, -1 turns it off.")
    share_ports: bool = Field(
        default=False,
        description="Other gateways on this machine that say the same may listen on the same ports, and the kernel deals connections "
        "out among them (SO_REUSEPORT; on Linux evenly): one for each core. Each needs a `metrics.port` and a `grpc_socket` of its own.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that receive, behind the same ports, metrics and health pages: one for each core (Linux).",
    )
    grpc_socket: Path | None = Field(
        default=None, description="Unix socket of OTLP/gRPC beside the port; who may open the file may send."
    )
    tokens: tuple[TokenSettings, ...] = Field(
        default=(),
        description="Who may send, and as which tenant: a list of `tenant` and `sha256`, a list of one hash or, while a token is "
        "replaced, two (`spanpost token new` makes them). Without any, everybody is `intake.tenant`.",
    )
    operator_tokens: tuple[str, ...] = Field(
        default=(),
        description="Hashes of the tokens that `/metrics` and `/health/detailed` ask for. Where `tokens` are set and these are "
        "not, nobody reads them here; `metrics.port` serves metrics too.",
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names under which the HTTP port is reached, beside loopback and each `public_url`: "
        '`["agents.example.com", ".svc.cluster.local"]` (after a dot: all below it), with a port for that port alone. Beyond loopback '
        "addresses and names without a dot are known, too. A request that names another is refused (403) where no token is asked for.",
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(),
        description='Web pages that may send telemetry to `/v1` from a browser: `["https://shop.example.com"]`. No other page of another '
        "origin may send anything.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description='Addresses or networks of proxies in front of the HTTP port: `["10.0.0.0/8"]`. `X-Forwarded-For`, `-Proto` and `-Host` '
        "are believed of these alone; they must set all three themselves.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="Certificate and its chain, PEM. A renewed file is taken within a minute, at SIGHUP at once."
    )
    tls_key: Path | None = Field(default=None, description="Private key of the certificate, PEM.")
    client_ca: Path | None = Field(
        default=None, description="Who must have signed the certificates of clients, PEM: mutual TLS. Needs `tls_certificate`."
    )
    allow_insecure: bool = Field(
        default=False,
        description="Listen beyond loopback although neither tokens nor client certificates are asked for: anybody who reaches "
        "the port may write.",
    )
    max_body: int = Field(
        default=64 * _MIB, ge=1024, le=1024 * _MIB, description="Bytes of one request after decompression; beyond it 413."
    )
    max_in_flight: int = Field(
        default=64 * _MIB,
        ge=1024,
        description="Bytes of the requests under way of one sender that is alone, `max_body` at least; beyond its share a sender is asked "
        "to come back (503). All senders together have at most twice as many, shared by tenant and address.",
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Connections at once, of HTTP and of gRPC each. Where all are taken, a new one of HTTP takes that of the address with "
        "most of them, an idle one first. Fewer where the system lets fewer files be open.",
    )
    max_waiters: int = Field(
        default=1000,
        ge=0,
        le=100_000,
        description="Agents that wait for a person's answer at once (`/control/v1`), beside `max_connections`, shared by tenant and "
        "address; 0: none may.",
    )
    group_size: int = Field(default=2048, ge=1, le=10_000, description="Spans that are committed together at most.")
    writers: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Transactions under way at once, of which each but the first has half a `group_size` at least. More than two help "
        "where a commit takes milliseconds (a slow disk, a database far away); not more than `database.pool_size`.",
    )

    journal_bytes: int = Field(
        default=1024 * _MIB,
        ge=0,
        description="Bytes that may wait in the journal, the table `journal`: what cannot be recorded at once is written there, answered 200 and "
        "recorded later. One tenant alone may fill half of it; beyond its share a sender is asked to come back (503). 0: nothing is written to "
        "it; a sender waits until its telemetry is recorded.",
    )

    _digests = field_validator("operator_tokens")(digests)
    _hosts = field_validator("hosts")(are_hosts)
    _origins = field_validator("allowed_origins")(are_origins)
    _networks = field_validator("trusted_proxies")(are_networks)

    @field_validator("grpc_socket", "tls_certificate", "tls_key", "client_ca")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None

    @model_validator(mode="after")
    def _whole(self) -> GatewaySettings:
        if self.workers > 1 and not sys.platform.startswith("linux"):
            raise ValueError("workers: more than one needs Linux; start several gateways with ports of their own")
        if self.share_ports and not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError("share_ports: this system has no SO_REUSEPORT; give each gateway ports of its own")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: set both or neither")
        if self.client_ca is not None and self.tls_certificate is None:
            raise ValueError("client_ca needs tls_certificate and tls_key")
        seen: dict[str, str] = {}
        for token in self.tokens:
            for digest in token.sha256:
                if seen.setdefault(digest, token.tenant) != token.tenant:
                    raise ValueError(f"tenants {seen[digest]!r} and {token.tenant!r} have the same token: give each its own")
        return self

    @property
    def is_exposed(self) -> bool:
        """True where strangers could write: beyond loopback, and nothing is asked of them."""
        return not is_loopback(self.host) and not self.tokens and self.client_ca is None

    def refuse_exposure(self) -> None:
        """Raise `ConfigError` for a gateway that anybody could write to, unless that was said in plain words."""
        if self.is_exposed and not self.allow_insecure:
            raise ConfigError(
                f"gateway.host: {self.host} is reached from other machines, and neither tokens nor client certificates are asked "
                'for. Set gateway.tokens (`spanpost token new` makes one), or gateway.client_ca, or host = "127.0.0.1"; '
                "`allow_insecure = true` lets anybody write"
            )
