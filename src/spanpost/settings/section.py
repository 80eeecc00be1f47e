"""Base model of all sections."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict

from spanpost.plugins import Duration as Duration


def _is_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{value!r} is no time zone known here; give an IANA name such as `Asia/Seoul`, or `UTC`"
        ) from None
    return value


#: IANA name of a time zone that this machine knows.
Zone = Annotated[str, AfterValidator(_is_zone)]


class Section(BaseModel):
    """Settings of a section. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
