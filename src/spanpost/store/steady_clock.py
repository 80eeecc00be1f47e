"""Clocks of this process that never jump: the time of day may be set while it runs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

#: A clock that goes on while the machine sleeps: of Linux, and of macOS, whose `time.monotonic` stands still then.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def uptime() -> float:
    """Return seconds of a clock that never goes back.

    It includes the time that the machine slept, where the system knows it.
    """
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


_BEGAN = datetime.now(UTC) - timedelta(seconds=uptime())


def steady_now() -> datetime:
    """Return the time of day as it was when this process began, and what has passed since.

    For moments that are compared in this process: the wait until a retry is as long as it was decided.
    """
    return _BEGAN + timedelta(seconds=uptime())
