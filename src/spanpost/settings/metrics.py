"""Settings of the room `metrics`."""

from __future__ import annotations

from pydantic import Field

from spanpost.settings.room import Room


class MetricsSettings(Room):
    """Prometheus metrics over HTTP. Off in `attach()` unless set; on in `run` and `demo`."""

    enabled: bool = Field(default=True, description="Serve them; a room that is named at all is on.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9464, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
