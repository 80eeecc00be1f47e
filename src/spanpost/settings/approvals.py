"""Settings of the sections `approvals` and `control`: expiry of questions to people, and where agents wait
for answers.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from spanpost.settings.section import Duration, Section
from spanpost.tasks.approvals import Expiry


class ApprovalsSettings(Section, Expiry):
    """Defaults for questions to people."""

    expire_after: Duration | None = Field(
        default=None,
        gt=timedelta(0),
        description="How long a question without `agent.approval.expires_at` stays open. Not given: until it "
        "is answered.",
    )
    at_expiry: Literal["wait", "deny", "escalate", "expire"] = Field(
        default="expire",
        description="What happens when a question is not answered in time. `expire`: it ends without a decision, and "
        "the agent gets `expired`. `deny`: it counts as denied and is marked as expired. `escalate`: it is posted once "
        "more as urgent, and expires after the same time again. `wait`: it stays open.",
    )


class ControlSettings(Section):
    """Where an agent's process reaches the gateway to wait for people's answers (`spanpost.agent.control`)."""

    endpoint: str | None = Field(
        default=None,
        description="HTTP address of the gateway: `http://gateway:4318`. Not given: the endpoint of `forward`, else "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`.",
    )
    token: SecretStr | None = Field(
        default=None,
        description="Bearer token of the tenant. Not given: the token of `forward`, else of "
        "`OTEL_EXPORTER_OTLP_HEADERS`.",
    )
    certificate: Path | None = Field(default=None, description="CA certificates that verify the gateway, a PEM file.")

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value or None
