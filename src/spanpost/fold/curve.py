"""How full a task's context was, call after call: what the board draws. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from spanpost.domain.observations import Observation
from spanpost.fold.moments import moment
from spanpost.fold.read import read


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What one call was given, or what the agent said of itself. `model` is as it was sent; None where nobody said."""

    at: datetime
    used_tokens: int
    model: str | None = None


def curve(observations: Iterable[Observation]) -> list[Point]:
    """Return how full the context was, in order of time. What the agent says of its use stands above what its calls say."""
    said: list[tuple[int, Point]] = []
    called: list[tuple[int, Point]] = []
    for one in observations:
        found = read(one)
        at = moment(one.at_ns)
        if at is None:
            continue
        if found.context_used is not None:
            said.append((one.at_ns, Point(at=at, used_tokens=found.context_used, model=found.model)))
        elif found.usage is not None and found.usage.input is not None:
            called.append((one.at_ns, Point(at=at, used_tokens=found.usage.input, model=found.model)))
    return [point for _, point in sorted(said or called, key=lambda pair: pair[0])]
