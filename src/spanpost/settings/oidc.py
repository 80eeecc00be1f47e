"""Settings of the room `oidc`: how people log in to the gateway's pages and API."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr, field_validator, model_validator

from spanpost.settings.desk import ApiRole, Word
from spanpost.settings.room import Duration, Room
from spanpost.urls import http_url


class OidcSettings(Room):
    """People log in at an OpenID Connect provider (`/api/login`). Register `<public_url>/api/login/callback` there."""

    issuer: str = Field(description="The provider, as its `/.well-known/openid-configuration` says: `https://login.example.com`.")
    client_id: Word = Field(description="As registered at the provider.")
    client_secret: SecretStr | None = Field(default=None, description="Likewise, where it gave one. Never printed.")
    session_secret: SecretStr | None = Field(
        default=None,
        description="Signs the sessions; the same in all gateways. Not given: made of `client_secret`. Never printed.",
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
        default=timedelta(hours=8),
        gt=timedelta(0),
        le=timedelta(hours=24),
        description="After how long somebody logs in anew; so long roles that were taken away hold.",
    )

    @field_validator("issuer", "public_url")
    @classmethod
    def _are_urls(cls, value: str) -> str:
        return http_url(value, is_bare=True, is_secure=True)

    @model_validator(mode="after")
    def _has_a_secret(self) -> OidcSettings:
        if self.client_secret is None and self.session_secret is None:
            raise ValueError("needs client_secret, or session_secret where the provider gave none: sessions are signed with it")
        if "openid" not in self.scopes:
            raise ValueError("scopes must have openid")
        return self

    @property
    def secret(self) -> bytes:
        """What sessions are signed with."""
        secret = self.session_secret or self.client_secret
        assert secret is not None
        return secret.get_secret_value().encode()
