"""How much of a context window is too much: shares of the window, and caps in tokens."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from spanpost.model.context import Forecast
from spanpost.model.messages import LocaleMessage
from spanpost.tasks.context import Window
from spanpost.tasks.folded import FoldRules
from spanpost.text.wording import message, worded


class Limit(NamedTuple):
    """A limit in tokens, and what names it: below `FIRST_CAP` a share per mille, else a cap in tokens."""

    tokens: int
    name: int


#: Caps are at least so many tokens, so that a number says which sort of limit it is.
FIRST_CAP = 1_000


def limits(window: Window | None, rules: FoldRules) -> tuple[Limit, ...]:
    """Return the limits that hold, ascending."""
    return _limits(window.tokens if window is not None else 0, rules.warn_at, rules.warn_tokens)[0]


def alarm(used: int, window: Window | None, rules: FoldRules) -> Limit | None:
    """Return the limit that a forecast looks at: the largest share, or a cap that comes before it; None once all are passed."""
    for limit in _limits(window.tokens if window is not None else 0, rules.warn_at, rules.warn_tokens)[1]:
        if limit.tokens > used:
            return limit
    return None


@lru_cache(maxsize=256)
def _limits(window: int, warn_at: tuple[int, ...], warn_tokens: tuple[int, ...]) -> tuple[tuple[Limit, ...], tuple[Limit, ...]]:
    """Return all limits, and those that are worth a forecast, ascending."""
    caps = [Limit(cap, cap) for cap in warn_tokens]
    # The least use of which a share is reached: rounded up.
    shares = [Limit(-(-window * share // FIRST_CAP), share) for share in warn_at] if window else []
    return tuple(sorted(caps + shares)), tuple(sorted(caps + shares[-1:]))


def limit_of(told: Forecast) -> LocaleMessage:
    """Return the limit of a forecast: "85 %" or "150,000 tokens"."""
    if told.percent is not None:
        return message("limit.percent", percent=told.percent)
    return message("limit.tokens", tokens=told.tokens)


def named(told: Forecast, limit: Limit) -> Forecast:
    """Return a forecast with its limit in words."""
    told = msgspec.structs.replace(told, percent=limit.name / 10 if limit.name < FIRST_CAP else None)
    return msgspec.structs.replace(told, limit=worded(limit_of(told))[0])


def is_near(told: Forecast, rules: FoldRules) -> bool:
    """Tell whether a forecast is to be warned of."""
    return told.calls <= rules.ahead_calls or (rules.ahead_seconds > 0 and told.seconds <= rules.ahead_seconds)
