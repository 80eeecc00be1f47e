"""Settings of a login at an OpenID Connect provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class OidcTerms:
    """Settings of a provider, and the meaning of its claims."""

    issuer: str
    client_id: str
    public_url: str
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    #: Tenant whose tasks people see; None: the gateway's own. Or the claim that holds it.
    tenant: str | None = None
    tenant_claim: str = ""
    roles_claim: str = "groups"
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_roles: tuple[str, ...] = ()
