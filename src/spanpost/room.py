"""What all rooms' settings have in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Room(BaseModel):
    """A room's settings. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _seconds(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


#: Seconds as a number, or ISO 8601 (``PT15M``).
Duration = Annotated[timedelta, BeforeValidator(_seconds)]
