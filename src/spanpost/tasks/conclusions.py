"""What is concluded from model calls, before it is put in words."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from spanpost.model.context import Forecast
from spanpost.tasks.context import Window


class Conclusion(IntEnum):
    """What is concluded from a call. Part of ids: never renumber."""

    WARNING = 0
    COMPACTION = 1
    AHEAD = 2


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What a call made us conclude. `limit` names a limit (`limits.Limit.name`), 0 for a compaction."""

    what: Conclusion
    climb: int
    used: int
    window: Window | None = None
    limit: int = 0
    before: int = 0
    forecast: Forecast | None = None
    #: Of a compaction: the last call before it (ns).
    since_ns: int = 0
