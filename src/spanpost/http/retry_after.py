"""The header `Retry-After`, as a client reads it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Longest wait that is understood, seconds.
_LONGEST: Final = 86_400.0


def retry_after_seconds(value: str, now: float) -> float | None:
    """Return a `Retry-After`, a number of seconds or a date (RFC 9110, 10.2.3), in seconds, a day at most; None if
    it is neither. `now`: Unix seconds.
    """
    text = value.strip()
    try:
        if text.isascii() and text.replace(".", "", 1).isdigit():
            return min(float(text), _LONGEST)
        at = parsedate_to_datetime(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return min(max((at - datetime.fromtimestamp(now, UTC)).total_seconds(), 0.0), _LONGEST)
    except (ValueError, OverflowError, TypeError):
        return None
