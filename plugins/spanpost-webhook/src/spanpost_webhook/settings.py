"""Settings of the webhook."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator

from spanpost import LauncherSettings, SinkSettings
from spanpost.settings import Duration
from spanpost_webhook.signature import key_of


class Receiver(BaseModel):
    """Where signed messages are posted to."""

    url: SecretStr = Field(description="Where to post: https, or http to this machine. Treated as a secret.")
    secret: SecretStr = Field(description="Key of the signature: `whsec_` and 24 to 64 bytes in base64.")
    old_secret: SecretStr | None = Field(
        default=None,
        description="During a rotation, the key before: both sign, until every receiver knows the new one.",
    )
    token: SecretStr | None = Field(
        default=None, description="Sent as `Authorization: Bearer ...` where the receiver asks for it."
    )
    timeout: Duration = Field(
        default=timedelta(seconds=15),
        gt=timedelta(0),
        le=timedelta(seconds=25),
        description="For a whole call. Less than the dispatcher's own 30 s.",
    )

    @field_validator("url")
    @classmethod
    def _is_safe(cls, value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            parts.port  # noqa: B018  (raises for a port that is none)
        except ValueError:
            raise ValueError("is not a URL") from None
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("must begin with https:// and name a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must hold no user or password; use the token")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("must be https, or http to this machine (localhost, 127.0.0.1, ::1)")
        return value

    @field_validator("secret", "old_secret")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            key_of(value.get_secret_value())
        return value

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else ""
        if not (text.isascii() and text.isprintable()):
            raise ValueError("must be one line of ASCII")
        return value


class WebhookSettings(Receiver, SinkSettings):
    """Checkpoints as signed HTTP POSTs."""

    states: bool = Field(
        default=False,
        description="Post each change of a task too (`task.state`), for receivers that mirror tasks. Otherwise "
        "checkpoints alone.",
    )


class WebhookLauncherSettings(Receiver, LauncherSettings):
    """Launch orders as signed HTTP POSTs: the receiver starts the work."""


def is_loopback(host: str) -> bool:
    """Say whether the host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
