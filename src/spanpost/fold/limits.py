"""How much of a context window is too much: shares of the window, and caps in tokens."""

from __future__ import annotations

from typing import NamedTuple

from spanpost.domain.context import Forecast
from spanpost.fold.batch import Rules
from spanpost.fold.context import Window


class Limit(NamedTuple):
    """A limit in tokens, and what names it: below `FIRST_CAP` a share per mille, else a cap in tokens."""

    tokens: int
    name: int


#: Caps are at least so many tokens, so that a number says which sort of limit it is.
FIRST_CAP = 1_000


def limits(window: Window | None, rules: Rules) -> list[Limit]:
    """Return the limits that hold, ascending."""
    found = [Limit(cap, cap) for cap in rules.warn_tokens]
    if window is not None:
        # The least use of which the share is reached: rounded up.
        found += [Limit(-(-window.tokens * share // FIRST_CAP), share) for share in rules.warn_at]
    return sorted(found)


def alarm(used: int, window: Window | None, rules: Rules) -> Limit | None:
    """Return the limit that a forecast looks at: the largest share, or a cap that comes before it; None once all are passed."""
    wanted = [Limit(cap, cap) for cap in rules.warn_tokens if cap > used]
    if window is not None and rules.warn_at:
        share = rules.warn_at[-1]
        tokens = -(-window.tokens * share // FIRST_CAP)
        if tokens > used:
            wanted.append(Limit(tokens, share))
    return min(wanted, default=None)


def in_words(limit: Limit) -> str:
    """Return "85 %" or "150,000 tokens"."""
    return f"{limit.name / 10:g} %" if limit.name < FIRST_CAP else f"{limit.tokens:,} tokens"


def is_near(told: Forecast, rules: Rules) -> bool:
    """Tell whether a forecast is to be warned of."""
    return told.calls <= rules.ahead_calls or (rules.ahead_seconds > 0 and told.seconds <= rules.ahead_seconds)
