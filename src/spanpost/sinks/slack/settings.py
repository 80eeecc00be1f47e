"""Slack's settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from spanpost.sinks.plugin import Duration, SinkSettings
from spanpost.sinks.slack.budgets import Rates

_RATES = Rates()


class SlackSettings(SinkSettings):
    """Messages in Slack. Without a token nothing is posted: what would be is written to `preview_file`, else to stderr."""

    token: SecretStr | None = Field(default=None, description="The app's bot token (`xoxb-...`). Never printed.")
    channel: str = Field(
        default="#agents",
        description="Channel where no route names another: its id (`C...`), or its name. The app must be in it. "
        "With an id, doubtful messages can be looked up without the scope `channels:read`.",
    )
    preview_file: Path | None = Field(
        default=None, description="Without a token: write what would be posted here, as JSON lines, instead of to stderr."
    )
    base_url: str = Field(
        default="https://slack.com/api/", description="Where the Web API is; of an emulator or a proxy, where one is used."
    )
    timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(seconds=12), description="For one call of the Web API."
    )
    settle: Duration | None = Field(
        default=None,
        ge=timedelta(0),
        description="How long a doubtful message is looked for before it is posted again. By default twice `timeout` and 30 s, "
        "within which Slack's history shows what was posted.",
    )
    edits_per_minute: float = Field(
        default=_RATES.edits, gt=0, description="Edits (`chat.update`) in the workspace. Slack allows 50 and more (Tier 3)."
    )
    posts_per_minute: float = Field(
        default=_RATES.posts, gt=0, description='Posts (`chat.postMessage`) in the workspace. Slack allows "several hundred".'
    )
    posts_per_channel_per_minute: float = Field(
        default=_RATES.posts_per_channel, gt=0, description="Posts in one channel. Slack allows about one a second."
    )
    looks_per_minute: float = Field(
        default=_RATES.looks, gt=0, description="Looks for doubtful messages (`conversations.history`). Slack allows 50 (Tier 3)."
    )

    @field_validator("token")
    @classmethod
    def _is_a_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value().strip():
            return None
        text = value.get_secret_value().strip()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("must be one word of ASCII, as Slack shows it")
        if text.startswith("xapp-"):
            raise ValueError("is an app-level token (xapp-...); set the bot token (xoxb-...)")
        return SecretStr(text)

    @field_validator("channel")
    @classmethod
    def _is_named(cls, value: str) -> str:
        return value.strip() or "#agents"

    @field_validator("base_url")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  (raises for a port that is none)
        except ValueError:
            raise ValueError("is not a URL") from None
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError("must begin with https:// (or http:// for an emulator) and name a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must hold no user or password")
        return value if value.endswith("/") else f"{value}/"

    @property
    def rates(self) -> Rates:
        """How fast Slack may be called."""
        return Rates(
            edits=self.edits_per_minute,
            posts=self.posts_per_minute,
            posts_per_channel=self.posts_per_channel_per_minute,
            looks=self.looks_per_minute,
        )

    @property
    def patience(self) -> timedelta:
        """How long a doubtful message is looked for."""
        return 2 * self.timeout + timedelta(seconds=30) if self.settle is None else self.settle
