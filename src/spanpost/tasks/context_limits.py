"""Limits of a context window: shares of the window, and caps in tokens."""

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
    """A limit in tokens, and its name: below `FIRST_CAP` a share per mille, else a cap in tokens."""

    tokens: int
    name: int


#: Smallest cap in tokens, so that a number shows which sort of limit it is.
FIRST_CAP = 1_000


def limits(window: Window | None, rules: FoldRules) -> tuple[Limit, ...]:
    """Return the limits of a window, ascending."""
    return _limits(window.tokens if window is not None else 0, rules.context.warn_at, rules.context.warn_tokens)[0]


def alarm(used: int, window: Window | None, rules: FoldRules) -> Limit | None:
    """Return the limit to forecast: the largest share, or a cap before it; None once all are passed."""
    for limit in _limits(window.tokens if window is not None else 0, rules.context.warn_at, rules.context.warn_tokens)[
        1
    ]:
        if limit.tokens > used:
            return limit
    return None


@lru_cache(maxsize=256)
def _limits(
    window: int, warn_at: tuple[float, ...], warn_tokens: tuple[int, ...]
) -> tuple[tuple[Limit, ...], tuple[Limit, ...]]:
    """Return all limits, and those that get a forecast, ascending."""
    caps = [Limit(cap, cap) for cap in warn_tokens]
    # The least use that reaches the share: rounded up.
    mille = [round(share * FIRST_CAP) for share in warn_at] if window else []
    shares = [Limit(-(-window * share // FIRST_CAP), share) for share in mille]
    return tuple(sorted(caps + shares)), tuple(sorted(caps + shares[-1:]))


def limit_of(prediction: Forecast) -> LocaleMessage:
    """Return the limit of a forecast: "85 %" or "150,000 tokens"."""
    if prediction.percent is not None:
        return message("limit.percent", percent=prediction.percent)
    return message("limit.tokens", tokens=prediction.tokens)


def named(prediction: Forecast, limit: Limit) -> Forecast:
    """Return a forecast with its limit in words."""
    prediction = msgspec.structs.replace(prediction, percent=limit.name / 10 if limit.name < FIRST_CAP else None)
    return msgspec.structs.replace(prediction, limit=worded(limit_of(prediction))[0])


def is_near(prediction: Forecast, rules: FoldRules) -> bool:
    """Return whether a forecast is near enough for a warning."""
    ahead = rules.context.ahead.total_seconds()
    return prediction.calls <= rules.context.ahead_calls or (ahead > 0 and prediction.seconds <= ahead)
