"""Settings of the room `oidc`: how people log in to the gateway's pages and API."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import Field, SecretStr, field_validator

from spanpost.http.urls import http_url
from spanpost.settings.interactions import ApiRole, Word
from spanpost.settings.section import Duration, Section

#: Bytes of a secret that signs: shorter ones can be guessed by whoever has something that it signed.
_LEAST: Final = 32


class OidcSettings(Section):
    """People log in at an OpenID Connect provider (`/api/login`). Register `<public_url>/api/login/callback` there."""

    issuer: str = Field(description="The provider, as its `/.well-known/openid-configuration` says: `https://login.example.com`.")
    client_id: Word = Field(description="As registered at the provider.")
    client_secret: SecretStr | None = Field(default=None, description="Likewise, where it gave one. Never printed.")
    session_secret: SecretStr | None = Field(
        default=None,
        description="Signs the sessions, beside a secret that is made at random and kept in the database: 32 bytes at least "
        "(`openssl rand -base64 32`), the same in all gateways. With it, a copy of the database forges no session. Another one ends "
        "all sessions. Never printed.",
    )
    public_url: str = Field(description="Where people reach the gateway: `https://agents.example.com`.")
    tenant: Word | None = Field(default=None, description="Whose tasks people see; not given: `intake.tenant`.")
    tenant_claim: str = Field(default="", description="The claim that says whose tasks somebody sees, in place of `tenant`.")
    roles_claim: str = Field(default="groups", description="The claim whose words `roles` are given for.")
    roles: dict[str, tuple[ApiRole, ...]] = Field(
        default={}, description='Which roles whom of that claim has: `{"sre": ["operator", "approver"], "audit": ["auditor"]}`.'
    )
    default_roles: tuple[ApiRole, ...] = Field(
        default=(), description="Roles of everybody who can log in. Who has none may nothing."
    )
    scopes: tuple[Word, ...] = Field(default=("openid", "email", "profile"), description="What the provider is asked for.")
    session: Duration = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        le=timedelta(hours=24),
        description="After how long the provider is asked anew who somebody is, and which roles they have: so long a role that was taken "
        "away there holds. Logging out ends a session at once, at other gateways within five seconds.",
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
                f"must have {_LEAST} bytes at least: `openssl rand -base64 32` makes one; or leave it out, and one in the database is used"
            )
        return value

    @field_validator("scopes")
    @classmethod
    def _are_of_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("must have openid")
        return value
