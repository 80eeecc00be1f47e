"""Settings of the section `oidc`: how people log in to the gateway's pages and API."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import Field, SecretStr, field_validator

from spanpost.http.urls import http_url
from spanpost.interactions.api.oidc_terms import OidcTerms
from spanpost.interactions.authorization import CallerRole
from spanpost.settings.interactions import Word
from spanpost.settings.section import Duration, Section

#: Minimum bytes of a signing secret: a shorter one can be guessed from a signed value.
_LEAST: Final = 32


class OidcSettings(Section, OidcTerms):
    """People log in at an OpenID Connect provider (`/api/login`). Register
    `<public_url>/api/login/callback` there.
    """

    issuer: str = Field(
        description="Issuer of the provider, as in its `/.well-known/openid-configuration`: "
        "`https://login.example.com`."
    )
    client_id: Word = Field(description="Client id registered at the provider.")
    client_secret: SecretStr | None = Field(
        default=None, description="Client secret, if the provider gave one. Never printed."
    )
    session_secret: SecretStr | None = Field(
        default=None,
        description="Signs the sessions, together with a random secret in the database: at least 32 bytes (`openssl "
        "rand -base64 32`), the same in all gateways. With it, a copy of the database is not enough to forge a "
        "session. A new value ends all sessions. Never printed.",
    )
    public_url: str = Field(description="Address of the gateway in browsers: `https://agents.example.com`.")
    tenant: Word | None = Field(default=None, description="Tenant whose tasks people see; not given: `intake.tenant`.")
    tenant_claim: str = Field(
        default="", description="Claim that holds the tenant, in place of `tenant`; a path as in `roles_claim`."
    )
    roles_claim: str = Field(
        default="groups",
        description="Claim whose values `roles` maps: a text or a list. A path with dots goes through objects: "
        "`realm_access.roles`.",
    )
    roles: dict[str, tuple[CallerRole, ...]] = Field(
        default={},
        description='Roles by value of that claim: `{"sre": ["operator", "approver"], "audit": ["auditor"]}`.',
    )
    default_roles: tuple[CallerRole, ...] = Field(
        default=(), description="Roles of everybody who can log in. A person without any role may do nothing."
    )
    scopes: tuple[Word, ...] = Field(default=OidcTerms.scopes, description="Scopes requested from the provider.")
    session: Duration = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        le=timedelta(hours=24),
        description="Length of a session; then the provider is asked for identity and roles again. A role that was "
        "removed there stays valid for this long at most. Logging out ends a session at once, at other "
        "gateways within five seconds.",
    )

    @field_validator("issuer", "public_url")
    @classmethod
    def _are_urls(cls, value: str) -> str:
        return http_url(value, is_bare=True, is_secure=True)

    @field_validator("session_secret")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < _LEAST:
            raise ValueError(
                f"must have {_LEAST} bytes at least: `openssl rand -base64 32` makes one; or leave it out, and "
                "one in the database is used"
            )
        return value

    @field_validator("scopes")
    @classmethod
    def _are_of_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("must have openid")
        return value
