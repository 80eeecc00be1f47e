"""Conclusions from model calls, before they are put into words."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from spanpost.model.context import Forecast
from spanpost.tasks.context import Window


class CallTime(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When a model call began and ended."""

    start_ns: int
    at_ns: int


NO_CALL = CallTime(0, 0)


class Conclusion(IntEnum):
    """What a call shows. Part of ids: never renumber."""

    WARNING = 0
    COMPACTION = 1
    AHEAD = 2


class Judged(msgspec.Struct, frozen=True, gc=False):
    """A conclusion from one call. `limit` names a limit (`context_limits.Limit.name`), 0 for a compaction."""

    what: Conclusion
    climb: int
    used: int
    window: Window | None = None
    limit: int = 0
    before: int = 0
    forecast: Forecast | None = None
    #: The last call before a compaction, and the call that confirmed it.
    since: CallTime = NO_CALL
    confirmed: CallTime = NO_CALL
