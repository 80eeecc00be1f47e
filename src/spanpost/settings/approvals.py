"""Settings of the rooms `approvals` and `control`: what holds for questions to people, and how agents wait for answers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from spanpost.settings.section import Duration, Section


class ApprovalsSettings(Section):
    """What holds for questions to people that do not say it themselves."""

    expire_after: Duration | None = Field(
        default=None,
        gt=timedelta(0),
        description="How long a question is open that names no `agent.approval.expires_at`. Not given: until it is answered.",
    )
    at_expiry: Literal["wait", "deny", "escalate", "expire"] = Field(
        default="expire",
        description="What happens when nobody answered in time. `expire`: the agent is told so, and nothing was decided. `deny`: it "
        "counts as denied, and is marked as expired. `escalate`: it is told once more, urgently, and expires after as long again. "
        "`wait`: it stays open.",
    )


class ControlSettings(Section):
    """Where an agent's process reaches the gateway to wait for people's answers (`spanpost.agent.control`)."""

    endpoint: str | None = Field(
        default=None,
        description="HTTP address of the gateway, `http://gateway:4318`. Not given: that of `forward`, else of "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`.",
    )
    token: SecretStr | None = Field(
        default=None, description="Bearer token of the tenant. Not given: that of `forward`, else of `OTEL_EXPORTER_OTLP_HEADERS`."
    )
    certificate: Path | None = Field(default=None, description="CA certificates by which the gateway is known, a PEM file.")

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value or None
