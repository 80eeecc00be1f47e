"""Settings of the room `metrics`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from spanpost.settings.room import Duration, Room


class MetricsSettings(Room):
    """Prometheus metrics over HTTP. Off in `attach()` unless set; on in `run` and `demo`."""

    enabled: bool = Field(default=True, description="Serve them; a room that is named at all is on.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9464, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    max_values: int = Field(
        default=200,
        ge=1,
        description="Values of a label that are told apart (agents, models, …); what is beyond is counted under `other`.",
    )
    max_series: int = Field(
        default=2_000,
        ge=1,
        description="Combinations of such labels in one metric; what is beyond is counted under `other`.",
    )
    expire_after: Duration = Field(
        default=timedelta(hours=48),
        gt=timedelta(0),
        description="Series under which nothing was counted for this long go; when they come again they begin at 0.",
    )
    otlp: bool = Field(
        default=False,
        description="Tell the same to this process's OpenTelemetry meter provider too, under the names of the `gen_ai.*` conventions "
        "where they have one. Leave it off where an instrumentation does so already: each call would count twice.",
    )
