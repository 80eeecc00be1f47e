"""Times of senders' clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds_of(at: datetime | None) -> int:
    """Return a time as Unix nanoseconds, in whole microseconds; 0 for None."""
    return (at - EPOCH) // timedelta(microseconds=1) * 1000 if at is not None else 0


def moment(ns: int) -> datetime | None:
    """Return a time of the sender's clock; None for 0 and for what no calendar holds."""
    if ns <= 0:
        return None
    try:
        return EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return None
