"""Settings of the section `gateway`: where it listens, who may send, and how much."""

from __future__ import annotations

import re
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from spanpost.http.hosts import is_loopback
from spanpost.http.tenancy import FORWARDED_TENANT, LONGEST
from spanpost.model.errors import ConfigError
from spanpost.receivers.limits import AdmissionLimits
from spanpost.settings.guards import are_hosts, are_networks, are_origins
from spanpost.settings.section import Duration, Section, expanded

#: Fewest characters of a secret that a key is derived from.
_KEY = 32
_HEADER = re.compile(r"^[a-z0-9][a-z0-9_-]*$")
#: Headers that have a meaning of their own.
_TAKEN = frozenset({"authorization", "host", "origin", "cookie", "content-type", "content-length", FORWARDED_TENANT})
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


def digests(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return token hashes in the form in which they are compared. Raises ValueError for anything else."""
    found = tuple(one.strip().lower() for one in value)
    if not all(_DIGEST.match(one) for one in found):
        # Never the value: it may be the token itself.
        raise ValueError("each must be the SHA-256 of a token in hex, 64 digits, as `spanpost token new` prints it")
    return found


TenantName = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]


class TokenSettings(Section):
    """The tokens of one tenant. `tenants`: others that the header and the attribute may name with them."""

    tenant: TenantName
    sha256: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    tenants: tuple[TenantName, ...] = ()

    _digests = field_validator("sha256")(digests)


class CertificateSettings(Section):
    """The client certificates of one tenant, by names in them: DNS names, URIs and addresses of `subjectAltName`, or
    the common name where there are none. `tenants`: others that the header and the attribute may name with them.
    """

    tenant: TenantName
    names: Annotated[tuple[str, ...], Field(min_length=1)]
    tenants: tuple[TenantName, ...] = ()


class GatewaySettings(Section, AdmissionLimits):
    """The OTLP receiver of `spanpost run`, which turns it on with these defaults. `attach()` ignores this
    section.
    """

    enabled: bool = Field(
        default=True, description="`false`: `spanpost run` receives nothing; it delivers and serves metrics."
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. Beyond loopback, tokens or client certificates are required.",
    )
    http_port: int = Field(default=4318, ge=-1, le=65_535, description="Port of OTLP/HTTP; 0: a free one, -1: off.")
    grpc_port: int = Field(default=4317, ge=-1, le=65_535, description="Port of OTLP/gRPC; 0: a free one, -1: off.")
    share_ports: bool = Field(
        default=False,
        description="Other gateways on this machine with the same setting may listen on the same ports; the kernel "
        "spreads connections over them (SO_REUSEPORT; evenly on Linux). Run one for each core, each with its "
        "own `metrics.port` and `grpc_socket`.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of receiving processes behind the same ports, metrics and health pages. One for "
        "each core is useful (Linux only). Each trace is recorded by one of them.",
    )
    grpc_socket: Path | None = Field(
        default=None,
        description="Unix socket of OTLP/gRPC besides the port. Every user who can open the file may send.",
    )
    tokens: tuple[TokenSettings, ...] = Field(
        default=(),
        description="Who may send, and for which tenant: a list of `tenant` and `sha256`, a list of one hash, or of "
        "two while a token is replaced (`spanpost token new` makes them). Without any, all senders are "
        "`intake.tenant`.",
    )
    require_token: bool = Field(
        default=False,
        description="Require a token of every sender, also before there is any: those of `tokens`, and those of "
        "`spanpost token new --name` in the database. Once the database has had a sender's token, tokens are required "
        "in any case.",
    )
    trust_tokens: Duration = Field(
        default=timedelta(minutes=5),
        ge=timedelta(seconds=5),
        le=timedelta(hours=24),
        description="How long the database's tokens stay valid while the database cannot be read. After that they are "
        "answered 503 (try again). A longer time lets senders through a longer outage, where telemetry goes to Kafka "
        "first, and a token that is revoked meanwhile, too.",
    )
    certificates: tuple[CertificateSettings, ...] = Field(
        default=(),
        description="Tenants of client certificates: a list of `tenant` and `names`, as they stand in the certificate "
        "(DNS names, URIs or email addresses; the common name where it has none). Needs `client_ca`. With it a request "
        "needs a listed certificate, a token or `tenant_header`.",
    )
    tenant_header: str = Field(
        default="",
        max_length=100,
        description="Header in which `trusted_proxies` name the tenant of a request, for HTTP and gRPC: `x-tenant`. It "
        "replaces a token, or chooses among the token's `tenants`. From other addresses it is refused (403).",
    )
    tenant_attribute: str = Field(
        default="",
        max_length=200,
        description="Attribute of a resource that names its tenant: `tenant.id`. It chooses among the `tenants` of the "
        "sender's token or certificate; a resource that names another is rejected. Not given: attributes name none.",
    )
    operator_tokens: tuple[str, ...] = Field(
        default=(),
        description="Hashes of the tokens that `/metrics` and `/health/detailed` require. If `tokens` is set and this "
        "is not, the two pages are closed here; `metrics.port` serves metrics too.",
    )
    router_tokens: tuple[str, ...] = Field(
        default=(),
        max_length=4,
        description="In a cell: hashes of the tokens of the routing gateways in front of it (their "
        "`cells.named.<cell>.token`). The header `spanpost-forwarded-tenant` of a request with such "
        "a token names its tenant. With any other token that header is refused.",
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description='Host names of the HTTP port, besides loopback and each `public_url`: `["agents.example.com", '
        '".svc.cluster.local"]` (a leading dot: all names below it); with a port, for that port only. Beyond '
        "loopback, IP addresses and names without a dot are accepted, too. Where no token is required, a "
        "request for another host is refused (403).",
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(),
        description="Web pages that may send telemetry to `/v1` from a browser: "
        '`["https://shop.example.com"]`. Pages of '
        "other origins may send nothing.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description='Addresses or networks of proxies in front of the HTTP port: `["10.0.0.0/8"]`. `X-Forwarded-For`, '
        "`-Proto` and `-Host` are trusted from these only; each proxy must set all three.",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="Certificate with its chain, PEM. A renewed file is used within a minute, at SIGHUP at once.",
    )
    tls_key: Path | None = Field(default=None, description="Private key of the certificate, PEM.")
    client_ca: Path | None = Field(
        default=None, description="CA of client certificates, PEM: mutual TLS. Needs `tls_certificate`."
    )
    allow_insecure: bool = Field(
        default=False,
        description="Listen beyond loopback without requiring tokens or client certificates: every program that "
        "reaches the port may write.",
    )
    max_body: int = Field(
        default=AdmissionLimits.max_body,
        ge=1024,
        le=1024 * 1024 * 1024,
        description="Maximum bytes of one request after decompression; a larger one gets 413.",
    )
    max_in_flight: int = Field(
        default=AdmissionLimits.max_in_flight,
        ge=1024,
        description="Maximum bytes in flight of a sender that is alone, at least `max_body`. Beyond its share a sender "
        "gets 503 and retries. All senders together have at most twice as much, shared by tenant and address.",
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Maximum number of connections, for HTTP and gRPC each. When all are used, a new HTTP connection "
        "replaces one of the address with the most, an idle one first. Lower if the system allows fewer open files.",
    )
    max_waiters: int = Field(
        default=1000,
        ge=0,
        le=100_000,
        description="Maximum number of agents that wait for a person's answer (`/control/v1`), besides "
        "`max_connections`, shared by tenant and address; 0: none.",
    )
    group_size: int = Field(
        default=AdmissionLimits.group_size, ge=1, le=10_000, description="Maximum number of spans in one commit."
    )
    writers: int = Field(
        default=AdmissionLimits.writers,
        ge=1,
        le=16,
        description="Maximum number of parallel transactions; each after the first starts with at least half a "
        "`group_size`. More than two help if a commit takes milliseconds (a slow disk, a distant database); "
        "at most `database.pool_size`.",
    )

    journal_bytes: int = Field(
        default=AdmissionLimits.journal_bytes,
        ge=0,
        description="Maximum bytes in the journal, the table `journal`. Telemetry that cannot be recorded at once is "
        "written there, encrypted, answered with 200 and recorded later. One tenant may fill half of it; beyond "
        "its share a sender gets 503. 0: no journal; a sender waits until its telemetry is recorded.",
    )
    journal_keys: tuple[SecretStr, ...] = Field(
        default=(),
        description="Secrets that the keys of the journal are derived from; the same for all gateways of a database. "
        "The first, of 32 characters or more, encrypts; all decrypt. Default: the password of the database, which "
        "decrypts in any case; without one, the file `<database.data_dir>-journal-key`. Never printed.",
    )

    _digests = field_validator("operator_tokens", "router_tokens")(digests)
    _hosts = field_validator("hosts")(are_hosts)
    _origins = field_validator("allowed_origins")(are_origins)
    _networks = field_validator("trusted_proxies")(are_networks)

    @field_validator("tenant_header")
    @classmethod
    def _is_header(cls, value: str) -> str:
        name = value.strip().lower()
        if name and (not _HEADER.match(name) or name.endswith("-bin") or name in _TAKEN):
            raise ValueError(f"{name!r} cannot be it; name a header of your own, such as x-tenant")
        return name

    @field_validator("journal_keys")
    @classmethod
    def _are_long(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if value and len(value[0].get_secret_value()) < _KEY:
            raise ValueError(f"the first must have {_KEY} characters or more, as `spanpost token new` makes them")
        return value

    _expand = field_validator("grpc_socket", "tls_certificate", "tls_key", "client_ca")(expanded)

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
                    raise ValueError(
                        f"tenants {seen[digest]!r} and {token.tenant!r} have the same token: give each its own"
                    )
        if self.certificates and self.client_ca is None:
            raise ValueError("certificates: they need client_ca, whose certificates they are")
        named: dict[str, str] = {}
        for certificate in self.certificates:
            for name in certificate.names:
                if named.setdefault(name, certificate.tenant) != certificate.tenant:
                    raise ValueError(f"certificates: {name!r} is of two tenants; a name belongs to one")
        if self.tenant_header and not self.trusted_proxies:
            raise ValueError("tenant_header needs trusted_proxies: the addresses that may set it")
        if seen.keys() & {*self.router_tokens}:
            raise ValueError("router_tokens: one of them is a tenant's token, too: give each its own")
        return self

    @property
    def asks_token(self) -> bool:
        """True if senders need a token."""
        return bool(self.tokens or self.router_tokens or self.require_token)

    @property
    def is_exposed(self) -> bool:
        """True if other machines can write without a token or client certificate."""
        is_closed = self.asks_token or self.client_ca is not None or self.tenant_header
        return not is_loopback(self.host) and not is_closed

    def refuse_exposure(self) -> None:
        """Raise `ConfigError` for an exposed gateway, unless `allow_insecure` is set."""
        if self.is_exposed and not self.allow_insecure:
            raise ConfigError(
                f"gateway.host: {self.host} is reached from other machines, and neither tokens nor client "
                "certificates are asked for. Set gateway.tokens or gateway.require_token (`spanpost token new` makes "
                "tokens for both), or gateway.client_ca, or host = "
                '"127.0.0.1"; '
                "`allow_insecure = true` lets anybody write"
            )
