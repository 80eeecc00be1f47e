"""Settings of the section `slack_oauth`: installation of the Slack app in more workspaces."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from spanpost.encryption import is_key
from spanpost.http.urls import http_url
from spanpost.model.installations import InstallTerms
from spanpost.settings.interactions import Word
from spanpost.settings.section import Section

_ENTERPRISE = re.compile(r"^E[A-Z0-9]{2,30}$")
_SCOPE = re.compile(r"^[a-z_]+(:[a-z_.]+)*$")
#: The scopes of `docs/slack/app-manifest-oauth.yaml`.
SCOPES = (
    "chat:write", "channels:history", "groups:history", "channels:read", "groups:read", "users:read",
    "users:read.email", "files:write", "usergroups:read", "commands", "app_mentions:read", "links:read", "links:write",
)  # fmt: skip


class SlackOauthSettings(Section, InstallTerms):
    """People install the app in more workspaces at the gateway's `/slack/install`: in those with a `team`
    in `slack`, or as `allow` says.
    """

    enabled: bool = Field(
        default=True, description="`false`: the app cannot be installed, and existing installations are not used."
    )
    client_id: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]{0,100}$", description="The app's *Client ID* (Basic Information)."
    )
    client_secret: SecretStr | None = Field(default=None, description="Its *Client Secret*. Never printed.")
    key: SecretStr | None = Field(
        default=None,
        description="Key that encrypts the tokens of installed workspaces, as `spanpost slack key` prints it; the same "
        "in all processes that post. Never printed. Without it, the app cannot be installed.",
    )
    old_keys: tuple[SecretStr, ...] = Field(
        default=(), description="Previous keys, until `spanpost slack reencrypt` has run. Never printed."
    )
    public_url: str = Field(
        default="",
        description="Address of the gateway in browsers: `https://agents.example.com`. Register "
        "`<public_url>/slack/oauth_redirect` as a redirect URL of the app.",
    )
    allow: Literal["listed", "any"] = Field(
        default="listed",
        description="Which workspaces may install the app. `listed`: those with their `team` in the section `slack`, "
        "or in an organisation of `enterprises`; `any`: all. A workspace that is not listed has its id as its name in "
        "routes (`T0222BBBB/#agents`) and as its tenant.",
    )
    enterprises: tuple[str, ...] = Field(
        default=(), description="Ids of organisations (`E...`) whose workspaces may all install the app."
    )
    scopes: tuple[Word, ...] = Field(default=SCOPES, min_length=1, description="Scopes that the app requests.")

    @field_validator("client_secret", "key")
    @classmethod
    def _is_a_word(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value().strip() if value is not None else ""
        if not text:
            return None
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("must be one word of ASCII")
        return SecretStr(text)

    @field_validator("key", "old_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr | tuple[SecretStr, ...] | None) -> SecretStr | tuple[SecretStr, ...] | None:
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None and not is_key(one.get_secret_value()):
                raise ValueError("is no key: 32 bytes in URL-safe base64; `spanpost slack key` makes one")
        return value

    @field_validator("public_url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        return http_url(value, is_bare=True, is_secure=True) if value.strip() else ""

    @field_validator("enterprises")
    @classmethod
    def _are_organisations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, one in enumerate(value, 1):
            if not _ENTERPRISE.match(one):
                raise ValueError(f"number {number} is no organisation's id (E...)")
        return value

    @field_validator("scopes")
    @classmethod
    def _are_scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, one in enumerate(value, 1):
            if not _SCOPE.match(one):
                raise ValueError(f"number {number} is no scope, as chat:write is one")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> SlackOauthSettings:
        if self.enabled:
            lacks = [name for name in ("client_id", "client_secret", "public_url") if not getattr(self, name)]
            if lacks:
                raise ValueError(f"needs {', '.join(lacks)}")
        if self.old_keys and self.key is None:
            raise ValueError("old_keys need key: set that first")
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """Encryption key, then older keys that still decrypt. Empty: installation is off."""
        given = (self.key, *self.old_keys) if self.key is not None else ()
        return tuple(one.get_secret_value() for one in given if one is not None)

    @property
    def install_url(self) -> str:
        """Page at which people install the app."""
        return f"{self.public_url}/slack/install"
