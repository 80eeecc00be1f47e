"""Settings of the section `sealing`: the log that shows whether audit rows were changed."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from spanpost.settings.section import Duration, Section, expanded

_ORIGIN: Final = re.compile(r"[A-Za-z0-9._~:/-]{1,200}")
_KEY: Final = 32
#: Settings by which checkpoints leave.
_WAYS: Final = ("file", "webhook", "slack_webhook", "timestamp_url")
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


class SealingSettings(Section):
    """The sealed log of the audit rows. See docs/how-to/audit-log.md."""

    enabled: bool = Field(
        default=False,
        description="Seal audit rows and acts: each becomes a leaf of its tenant's log, whose checkpoints are signed. "
        "Off by default, because a log needs a key that is kept, and about 310 bytes a row.",
    )
    origin: str = Field(
        default="spanpost",
        description="Name of this installation in its checkpoints, unique among those that you verify: "
        "`audit.example.com`. A tenant's log is `<origin>/<tenant>`. A log keeps the name that it began with.",
    )
    key: SecretStr | None = Field(
        default=None,
        description="Private Ed25519 key that signs checkpoints, base64 of 32 bytes (`openssl rand -base64 32`). All "
        "gateways need the same. Not given: the key in `key_file`.",
    )
    key_file: Path | None = Field(
        default=None,
        description="File with that key, mode 0600; it is made if there is none. Default: beside `database.data_dir`.",
    )
    interval: Duration = Field(
        default=timedelta(seconds=5),
        ge=timedelta(milliseconds=100),
        description="Pause while no row waits to be sealed.",
    )
    sign_every: Duration = Field(
        default=timedelta(minutes=1), ge=timedelta(0), description="Shortest time between two checkpoints of a log."
    )
    publish_every: Duration = Field(
        default=timedelta(hours=1),
        ge=timedelta(seconds=1),
        description="Shortest time after which a newer checkpoint leaves by the same way.",
    )
    file: Path | None = Field(
        default=None,
        description="File to which checkpoints are appended, on a disk that the database's administrator cannot write "
        "(a mount, a bucket with object lock).",
    )
    webhook: str | None = Field(
        default=None, description="URL that receives checkpoints by POST, as JSON: `origin`, `size`, `root`, `note`."
    )
    webhook_token: SecretStr | None = Field(default=None, description="Bearer token for `webhook`.")
    slack_webhook: SecretStr | None = Field(
        default=None, description="Incoming webhook of a Slack channel to which checkpoints are posted."
    )
    timestamp_url: str | None = Field(
        default=None,
        description="URL of a time stamp authority (RFC 3161), which signs when a checkpoint existed. Needs the extra "
        "`timestamp`.",
    )
    timestamp_roots: Path | None = Field(
        default=None, description="Root certificates of that authority, PEM. Required with `timestamp_url`."
    )

    _expand = field_validator("key_file", "file", "timestamp_roots")(expanded)

    @field_validator("origin")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _ORIGIN.fullmatch(value):
            raise ValueError(f"{value!r} is no name of a log: letters, digits and `.-_~:/`, at most 200")
        return value

    @field_validator("key")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                raw = base64.b64decode(value.get_secret_value(), validate=True)
            except (binascii.Error, ValueError):
                raw = b""
            if len(raw) != _KEY:
                raise ValueError("the key is not base64 of 32 bytes; make one with `openssl rand -base64 32`")
        return value

    @field_validator("webhook", "timestamp_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise ValueError("this is no http(s) URL without a user name: https://example.com/checkpoints")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> SealingSettings:
        if self.webhook_token is not None:
            parts = urlsplit(self.webhook or "")
            if not self.webhook:
                raise ValueError("webhook_token needs webhook")
            if parts.scheme != "https" and parts.hostname not in _LOCAL:
                raise ValueError("webhook: a token is sent over https alone, except on this machine")
        if self.timestamp_url is not None and self.timestamp_roots is None:
            raise ValueError("timestamp_url needs timestamp_roots: a time stamp that is not verified proves nothing")
        return self

    @property
    def ways(self) -> tuple[str, ...]:
        """Ways by which checkpoints leave the premises, by the names of their settings."""
        return tuple(way for way in _WAYS if getattr(self, way) is not None)
