"""Slack's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from spanpost.sinks.plugin import SinkSettings


class SlackSettings(SinkSettings):
    """Messages in Slack. Posting for real is not built yet: what would be posted is written to `preview_file`, else to stderr."""

    token: SecretStr | None = Field(default=None, description="Bot token (`xoxb-...`). Never printed.")
    channel: str = Field(default="", description="Channel where no route names another, e.g. `#agents`.")
    preview_file: Path | None = Field(default=None, description="Write payloads here as JSON lines instead of posting.")
