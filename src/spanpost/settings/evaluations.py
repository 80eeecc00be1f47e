"""Settings of the section `evaluations`."""

from __future__ import annotations

from pydantic import Field

from spanpost.settings.section import Section


class EvaluationsSettings(Section):
    """Ratings of people, as events for other programs."""

    otlp: bool = Field(
        default=False,
        description="Emit each rating that a person gives through this process to its OpenTelemetry logger provider, "
        "as `gen_ai.evaluation.result` on the task's root span. The comment is its explanation.",
    )
