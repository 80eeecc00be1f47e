"""What all rooms' settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from spanpost.plugins import Duration as Duration


class Room(BaseModel):
    """A room's settings. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
