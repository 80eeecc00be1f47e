"""The guards of the HTTP ports, made from the settings; and validators of hosts, origins and networks."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spanpost.http.guard import Credential, Guard
from spanpost.http.hosts import Host, HttpOrigin, host_of, is_loopback, origin_of
from spanpost.http.tenancy import TenantGrant, TenantSources

if TYPE_CHECKING:
    from spanpost.settings.gateway import GatewaySettings
    from spanpost.settings.metrics import MetricsSettings
    from spanpost.settings.root import Settings


def are_hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return host names in the form in which they are compared. Raises ValueError."""
    found = tuple(one.strip().lower() for one in value)
    for number, one in enumerate(found, 1):
        if host_of(one.removeprefix(".")) is None:
            raise ValueError(
                f"number {number} is no host; write it as in `agents.example.com`, `agents.example.com:8443` or `.svc`"
            )
    return found


def are_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return origins of web pages in the form in which they are compared. Raises ValueError."""
    found = tuple(one.strip().lower().rstrip("/") for one in value)
    for number, one in enumerate(found, 1):
        if origin_of(one) is None:
            raise ValueError(f"number {number} is no origin; write it as in `https://shop.example.com`")
    return found


def are_networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses and networks unchanged. Raises ValueError for other texts."""
    for number, one in enumerate(value, 1):
        try:
            ip_network(one.strip(), strict=False)
        except ValueError:
            raise ValueError(
                f"number {number} is no address and no network; write it as in `10.0.0.7` or `10.0.0.0/8`"
            ) from None
    return tuple(one.strip() for one in value)


def gateway_guard(settings: Settings, section: GatewaySettings) -> Guard:
    """Return the guard of the gateway's HTTP port."""
    required = {Credential.SIGNATURE}
    if section.asks_token or section.client_ca is not None:
        required |= {Credential.TOKEN, Credential.OPERATOR}
    elif section.operator_tokens:
        required.add(Credential.OPERATOR)
    logins = (settings.oidc, settings.slack_oauth)
    cells = settings.cells.named.values() if settings.cells is not None else ()
    public = [one.public_url for one in (*logins, *cells) if one is not None and one.public_url]
    return Guard(
        hosts=_hosts((*section.hosts, *(urlsplit(url).netloc for url in public))),
        own_origins=_origins(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in public),
        allowed_origins=_origins(section.allowed_origins),
        trusted_proxies=tuple(ip_network(one, strict=False) for one in section.trusted_proxies),
        is_beyond_loopback=not is_loopback(section.host),
        required=frozenset(required),
    )


def tenant_rules(section: GatewaySettings) -> TenantSources:
    """Return what may name a tenant besides tokens."""
    certificates = {
        name: TenantGrant(one.tenant, frozenset(one.tenants)) for one in section.certificates for name in one.names
    }
    return TenantSources(
        header=section.tenant_header,
        attribute=section.tenant_attribute,
        trusted_proxies=tuple(ip_network(one, strict=False) for one in section.trusted_proxies),
        certificates=certificates,
        others={digest: frozenset(token.tenants) for token in section.tokens for digest in token.sha256},
    )


def metrics_guard(section: MetricsSettings) -> Guard:
    """Return the guard of the metrics port."""
    return Guard(
        hosts=_hosts(section.hosts),
        is_beyond_loopback=not is_loopback(section.host),
        required=frozenset({Credential.OPERATOR} if section.tokens else ()),
        hosts_setting="metrics.hosts",
        tokens_setting="metrics.tokens",
    )


def _hosts(names: Iterable[str]) -> frozenset[Host]:
    found = set()
    for one in names:
        host = host_of(one.lower().removeprefix("."))
        if host is not None:
            found.add(host._replace(name=f".{host.name}") if one.startswith(".") else host)
    return frozenset(found)


def _origins(names: Iterable[str]) -> frozenset[HttpOrigin]:
    return frozenset(origin for one in names if (origin := origin_of(one)) is not None)
