"""Settings of the section `stall`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from spanpost.settings.section import Duration, Section
from spanpost.tasks.stall import StallRules


class StallSettings(Section, StallRules):
    """When a task counts as stalled or interrupted."""

    stall_after: Duration = Field(
        default=StallRules.stall_after,
        gt=timedelta(0),
        description="A task without activity for this long is shown as stalled. A heartbeat is not activity.",
    )
    interrupt_after: Duration = Field(
        default=StallRules.interrupt_after,
        gt=timedelta(0),
        description="A process without heartbeats for this long (and three of its intervals) counts as gone: its open "
        "tasks are interrupted until telemetry of them arrives again.",
    )
    unanswered_after: Duration = Field(
        default=StallRules.unanswered_after,
        gt=timedelta(0),
        description="A run that ended on a request for a tool which was never called counts as "
        "waiting for a person after this long without telemetry of it. A failed run whose root never ends fails then.",
    )
    open_call_after: Duration = Field(
        default=StallRules.open_call_after,
        gt=timedelta(0),
        description="How long an open tool or model call keeps its task from being stalled.",
    )
