"""What the settings of all plugins have in common, whatever they plug into."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _seconds(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


#: Seconds as a number, or ISO 8601 (``PT15M``).
Duration = Annotated[timedelta, BeforeValidator(_seconds)]


class PluginSettings(BaseModel):
    """What a plugin can be told. Unknown names are refused.

    Secrets are `pydantic.SecretStr`; a validator's message holds no part of the value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)
