"""Settings of the sections `approvals` and `control`: expiry of questions to people, and where agents wait
for answers.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from spanpost.semconv import NEEDS_LIMIT, TO_LIMIT
from spanpost.settings.conditions import ConditionSettings, Words
from spanpost.settings.section import Duration, Section
from spanpost.tasks.approval_rules import ApprovalRules, QuestionRule


class QuestionRuleSettings(ConditionSettings, QuestionRule):
    """Who must approve the questions that meet the conditions, and who is asked. All rules that match count: the
    largest `needs`, and every place of `to`. What a question says itself can ask for more people, never for fewer.
    """

    tool: Words | None = Field(default=None, description="Matches questions with this `agent.approval.tool`.")
    risk: Words | None = Field(default=None, description="Matches questions with this `agent.approval.risk`.")
    needs: int = Field(
        default=1,
        ge=1,
        le=NEEDS_LIMIT,
        description="Number of different people who must approve. From 2 on, the person for whom the task runs may "
        "not.",
    )
    to: tuple[str, ...] = Field(
        default=(),
        max_length=TO_LIMIT,
        description="Places that are asked besides the routes, one after the other: `@owner` (the person for whom the "
        "task runs, see `interactions.people`), a Slack user id (`U...`) or a Slack channel (`#leads`).",
    )
    to_after: Duration = Field(
        default=timedelta(minutes=15), gt=timedelta(0), description="How long each place has before the next is asked."
    )


class ApprovalsSettings(Section, ApprovalRules):
    """Defaults for questions to people."""

    rules: tuple[QuestionRuleSettings, ...] = Field(
        default=(),
        description="How many people must approve, and who is asked; each is a `[[approvals.rules]]` (below).",
    )
    places: tuple[str, ...] = Field(
        default=("@owner",),
        description="Places that a question may name itself in `agent.approval.to`, as in `to` of a rule. Others are "
        "ignored: telemetry chooses no channel.",
    )
    task_for: Duration = Field(
        default=timedelta(days=7), gt=timedelta(0), description="How long a tool stays allowed in one task."
    )
    always_for: Duration = Field(
        default=timedelta(days=90),
        gt=timedelta(0),
        description="How long a tool stays allowed that a person always allows for an agent.",
    )

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
    otlp: bool = Field(
        default=False,
        description="Emit each question and its answer to the process's OpenTelemetry logger provider, as "
        "`gen_ai.agent.paused` (with the deadline), `gen_ai.agent.pause.resolved` and `gen_ai.agent.resumed`, without "
        "their words. The names are proposals of the GenAI conventions.",
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
