"""How full a task's context was, call after call: the line that the board draws. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from spanpost.model.observations import Observation
from spanpost.model.readings import Reading
from spanpost.readers import read
from spanpost.tasks.times import moment


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Use of the context in one call, or as the agent reports it.

    `model` is as it was sent; None where it is not stated.
    """

    at: datetime
    used_tokens: int
    model: str | None = None


class CurveUse(msgspec.Struct, frozen=True, gc=False):
    """Context use that one observation states. `is_said`: the agent reports its own use."""

    at_ns: int
    used_tokens: int
    model: str | None
    is_said: bool


def use_of(reading: Reading, at_ns: int) -> CurveUse | None:
    """Return the context use that an observation states; None where it states none."""
    if reading.context_used is not None:
        return CurveUse(at_ns, reading.context_used, reading.model, True)
    if reading.usage is not None and reading.usage.input is not None:
        return CurveUse(at_ns, reading.usage.input, reading.model, False)
    return None


def curve(observations: Iterable[Observation]) -> list[Point]:
    """Return how full the context was, in order of time."""
    return drawn(use for one in observations if (use := use_of(read(one), one.at_ns)) is not None)


def drawn(uses: Iterable[CurveUse]) -> list[Point]:
    """Return the points of the line, in order of time.

    Use that the agent reports itself stands above that of its calls.
    """
    found = sorted(uses, key=lambda use: use.at_ns)
    is_said = any(use.is_said for use in found)
    return [
        Point(at=at, used_tokens=use.used_tokens, model=use.model)
        for use in found
        if use.is_said is is_said and (at := moment(use.at_ns)) is not None
    ]
