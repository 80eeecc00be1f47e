"""Forecast of a context window's use."""

from __future__ import annotations

import msgspec


class Forecast(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Calls and seconds until a limit of the context window is reached, each with an 80 % range."""

    #: The limit: tokens, and in words ("85 %", "150,000 tokens").
    tokens: int
    limit: str = ""
    #: The limit as a share of the window, percent; None for a limit in tokens.
    percent: float | None = None
    calls: int
    calls_low: int
    calls_high: int
    seconds: float
    seconds_low: float
    seconds_high: float
