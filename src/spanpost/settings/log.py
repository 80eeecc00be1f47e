"""Settings of the section `log`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from spanpost.settings.section import Section


class LogSettings(Section):
    """spanpost's own log on stderr."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest level that is written. `DEBUG` has a line for each HTTP request."
    )
    json_lines: bool = Field(
        default=False, description="Write JSON lines instead of text, with [fields](../how-to/run-the-gateway.md#log)."
    )

    @field_validator("level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value
