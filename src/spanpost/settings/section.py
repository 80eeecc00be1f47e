"""Base model of all sections."""

from __future__ import annotations

import re
from datetime import time
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator

from spanpost.plugins import Duration as Duration
from spanpost.plugins import PluginSettings


def _is_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{value!r} is no time zone known here; give an IANA name such as `Asia/Seoul`, or `UTC`"
        ) from None
    return value


def _is_time(value: object) -> object:
    if not isinstance(value, time) and not re.fullmatch(r"(?:[01]\d|2[0-3]):[0-5]\d", str(value)):
        raise ValueError(f"{value!r} is no time of a day: write HH:MM, such as `09:00`")
    return value


def expanded(value: Path | None) -> Path | None:
    """Return a path with its ``~`` expanded; None for an empty one."""
    return value.expanduser() if value else None


def are_ascending(value: tuple[float, ...]) -> tuple[float, ...]:
    """Return limits; raises ValueError if they do not ascend."""
    if list(value) != sorted(set(value)):
        raise ValueError("must be ascending, without repeats")
    return value


#: IANA name of a time zone that this machine knows.
Zone = Annotated[str, AfterValidator(_is_zone)]
#: ``HH:MM``.
TimeOfDay = Annotated[time, BeforeValidator(_is_time)]


class Section(PluginSettings):
    """Settings of a section. Unknown names are refused.

    A section that is a rule of pure code (`StallRules`, `Route`, `Budget`) derives from it and adds help and
    bounds: the section itself is handed over, and no field is copied.
    """
