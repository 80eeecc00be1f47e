"""The tenant of a request: one decision for every receiver. Pure.

What may name a tenant: a token, a client certificate, a header that a trusted proxy sets, and an attribute of a
resource. The rules:

1. A credential that is wrong is refused, whatever comes with it.
2. A header of an address that is no trusted proxy is refused. It is never ignored: its sender would otherwise write
   to another tenant than it believes.
3. A header or an attribute chooses among the tenants of the token and certificate, where there is one. It gives
   nothing that they do not give.
4. Two credentials of different tenants are refused.
5. Without any of them there is no tenant, unless nothing is required at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from spanpost.http.guard import Network
from spanpost.http.hosts import address_of
from spanpost.http.stored_tokens import TokenRefused

#: Header in which a routing gateway names the tenant of a request to a cell (`forwarded_tenant`). The guard
#: counts it among the headers of proxies by its name.
FORWARDED_TENANT: Final = "spanpost-forwarded-tenant"
#: Most characters of a tenant's name.
LONGEST: Final = 200
#: Names of the client's certificate in a request's scope, as the server sets them.
CERTIFICATE: Final = "spanpost.certificate"
#: Kinds of names in a certificate that may be listed, as Python's ssl calls them.
_NAMES: Final = ("DNS", "URI", "email")


class TenantRefused(TokenRefused):
    """What a request says about its tenant is contradictory, or comes from an address that may not say it."""

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(status, "tenant", message)


class TenantGrant(msgspec.Struct, frozen=True):
    """The tenant of a credential, and the others that a header or attribute may name beside it."""

    tenant: str
    others: frozenset[str] = frozenset()

    def may_use(self, tenant: str) -> bool:
        """Whether it may name this tenant."""
        return tenant == self.tenant or tenant in self.others


class RequestClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a request brings. Nothing of it is verified yet."""

    #: The Authorization header; None: absent; empty: several.
    authorization: str | None = None
    #: The tenant that a routing gateway names; None: absent; empty: several.
    forwarded: str | None = None
    #: Values of the header `TenantSources.header`.
    named: Sequence[str] = ()
    #: Address of the connection's other end, never that of a forwarded header.
    peer: str = ""
    #: Names in the client's certificate, which TLS has verified.
    certificate: Sequence[str] = ()


class TenantSources(msgspec.Struct, frozen=True, kw_only=True):
    """What may name a tenant besides tokens, by the settings."""

    #: In lower case; empty: no header.
    header: str = ""
    #: Attribute of a resource; empty: none.
    attribute: str = ""
    trusted_proxies: Sequence[Network] = ()
    #: By name in the certificate.
    certificates: Mapping[str, TenantGrant] = MappingProxyType({})
    #: Other tenants that a token may name, by its hash in hex.
    others: Mapping[str, frozenset[str]] = MappingProxyType({})

    @property
    def is_closed(self) -> bool:
        """Whether a request must prove its tenant even where no tokens exist."""
        return bool(self.header or self.certificates)

    def certified(self, names: Iterable[str]) -> TenantGrant | None:
        """Return the grant of a certificate; None: none is listed. Raises `TenantRefused` for several."""
        found = {self.certificates[name] for name in names if name in self.certificates}
        if len(found) > 1:
            raise TenantRefused("the client certificate has names of several tenants; use one for each tenant")
        return next(iter(found), None)

    def named(self, claims: RequestClaims) -> str | None:
        """Return the tenant that a trusted proxy names; None: none. Raises `TenantRefused`."""
        if not self.header or not claims.named:
            return None
        peer = address_of(claims.peer)
        if peer is None or not any(peer in network for network in self.trusted_proxies):
            raise TenantRefused(
                f"the header {self.header} is accepted from gateway.trusted_proxies alone; leave it out"
            )
        values = set(claims.named)
        # A proxy that adds to a sender's header, in place of replacing it, joins both by a comma.
        tenant = tenant_of_header(values.pop()) if len(values) == 1 and "," not in claims.named[0] else None
        if tenant is None:
            raise TenantRefused(f"the header {self.header} names no tenant, or several; the proxy must set one", 400)
        return tenant


def decide(*credentials: TenantGrant | None, named: str | None = None) -> TenantGrant | None:
    """Return the tenant of a request from its verified credentials and the tenant that it names; None: there is
    neither. Raises `TenantRefused` for a contradiction.
    """
    found = [one for one in credentials if one is not None]
    if named is not None:
        if not all(one.may_use(named) for one in found):
            raise TenantRefused(f"the tenant {named!r} was named, which the token or certificate may not use")
        return TenantGrant(named)
    if len({one.tenant for one in found}) > 1:
        raise TenantRefused("the token and the client certificate are of different tenants; send one of them")
    if not found:
        return None
    return TenantGrant(found[0].tenant, frozenset.intersection(*(one.others for one in found)))


def is_tenant(name: str) -> bool:
    """Whether a text can be the name of a tenant."""
    return 0 < len(name) <= LONGEST and name.isprintable() and "\ufffd" not in name


def tenant_of_header(value: str) -> str | None:
    """Return the tenant of a header's value, percent-encoded UTF-8; None: malformed."""
    tenant = unquote(value, errors="replace")
    return tenant if value.isascii() and is_tenant(tenant) else None


def names_of(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the names in a certificate as Python's ssl describes it: the alternative names, or else the common one."""
    found = certificate or {}
    names = tuple(value for kind, value in found.get("subjectAltName", ()) if kind in _NAMES)
    common = tuple(value for part in found.get("subject", ()) for kind, value in part if kind == "commonName")
    return names or common
