"""Settings of the routing table, and of what is still news."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from spanpost.settings.room import Duration, Room


class RouteSettings(Room):
    """Where news of some tasks goes: the first route of a sink whose conditions are all met. Not given: takes any."""

    sink: str = Field(min_length=1, description="Sink that it leads to, e.g. `console` or `slack`.")
    address: str = Field(default="", description="Where in the sink, e.g. `#deploys`; empty: the sink's own default.")
    tenant: str | None = Field(default=None, description="Takes tasks of this tenant.")
    agent: str | None = Field(default=None, description="Takes tasks of the agent with this name.")
    topic: str | None = Field(default=None, description="Takes tasks with this `agent.topic`.")
    environment: str | None = Field(default=None, description="Takes tasks of this `deployment.environment.name`.")
    status: str | None = Field(default=None, description="Takes tasks in this status, beside other routes.")
    verbosity: Literal["live", "milestones", "final", "mute"] | None = Field(
        default=None, description="How much is let through; not given: as the sink's own settings say."
    )


class NewsSettings(Room):
    """What is still news."""

    max_age: Duration = Field(
        default=timedelta(minutes=15),
        gt=timedelta(0),
        description="News older than this is recorded and not posted. Seconds, or ISO 8601 (`PT15M`).",
    )
