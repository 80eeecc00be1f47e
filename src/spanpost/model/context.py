"""How full a context window is, and when it will be."""

from __future__ import annotations

import msgspec


class Forecast(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """In how many calls, and in how many seconds, a limit of the context window will be reached, with a range that holds four of five."""

    #: The limit: tokens, and in words ("85 %", "150,000 tokens").
    tokens: int
    limit: str = ""
    #: The share of the window that the limit is, percent; None for a cap in tokens.
    percent: float | None = None
    calls: int
    calls_low: int
    calls_high: int
    seconds: float
    seconds_low: float
    seconds_high: float
