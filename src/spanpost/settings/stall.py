"""Settings of the room `stall`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from spanpost.settings.section import Duration, Section


class StallSettings(Section):
    """How long silence is borne."""

    stall_after: Duration = Field(
        default=timedelta(minutes=5),
        gt=timedelta(0),
        description="A task of which nothing was heard for this long is shown as stalled.",
    )
    interrupt_after: Duration = Field(
        default=timedelta(minutes=1),
        gt=timedelta(0),
        description="A process whose heartbeats stopped for this long (and three of its intervals) is gone: its open tasks are "
        "interrupted, until something is heard of them again.",
    )
    open_call_after: Duration = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        description="How long a tool or model call that is known to be open explains a task's silence.",
    )
