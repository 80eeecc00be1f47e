"""How full a task's context is, from its facts: what its row shows.

Rules. Each model is a lane of its own, and of a lane the newest conversation counts. Of several lanes the fullest is shown:
a small call to a small model in between does not hide that the large one fills. Lanes that none of the newest calls
(`facts.POINT_CAP`) belongs to are out of sight. What the agent says of its use itself stands above what its calls say.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanpost.domain.context import Forecast
from spanpost.fold.absorb import AGENT_LANE
from spanpost.fold.batch import Rules
from spanpost.fold.context import Window, resolve
from spanpost.fold.facts import Facts, Point
from spanpost.fold.forecast import Call, climb_of, forecast, may_reach
from spanpost.fold.limits import alarm, named


class Use(msgspec.Struct, frozen=True, gc=False):
    """How full the context is."""

    used: int | None = None
    window: Window | None = None
    model: str | None = None
    calls: tuple[Call, ...] = ()

    @property
    def share(self) -> float:
        """Used share of the window; negative when unknown."""
        return self.used / self.window.tokens if self.used is not None and self.window is not None else -1.0


NO_USE = Use()


def use_of(facts: Facts, rules: Rules) -> Use:
    """Return how full a task's context is, in its fullest lane."""
    said_used, said_window = facts.value("context_used"), facts.value("context_window")
    if said_used is None and not facts.points:
        if said_window is None:
            return NO_USE
        return Use(window=resolve(facts.value("model"), rules.known_windows, said=said_window))
    lanes: dict[str, list[Point]] = {}
    for point in facts.points:
        if (point[4] == AGENT_LANE) == (said_used is not None):
            lanes.setdefault(point[4], []).append(point)
    compacted = facts.at("compacted")
    found: Use | None = None
    for model, points in lanes.items():
        named = facts.value("model") if model == AGENT_LANE else model
        use = Use(
            points[-1][3] if said_used is None else said_used,
            resolve(named, rules.known_windows, said=said_window, accepted=_accepted(facts.accepted, model)),
            named,
            tuple(_conversation(points, compacted)),
        )
        if found is None or use.share >= found.share:
            found = use
    return found or Use(said_used, resolve(facts.value("model"), rules.known_windows, said=said_window), facts.value("model"))


def _accepted(accepted: Mapping[str, int], model: str) -> int:
    return accepted.get(model, 0)


def _conversation(points: list[Point], compacted: int) -> list[Call]:
    """Return the calls of a lane's newest conversation since a compaction."""
    current = next((point[5] for point in reversed(points) if point[5]), 0)
    return [(at, start, used) for at, _, start, used, _, said in points if (said == current or not said) and at > compacted]


def ahead(use: Use, rules: Rules) -> Forecast | None:
    """Return when the context will be as full as is warned of; None when there is nothing to say."""
    if use.used is None or len(use.calls) < 3:
        return None
    limit = alarm(use.used, use.window, rules)
    if limit is None or not may_reach(use.calls, limit.tokens):
        return None
    told = forecast(climb_of(use.calls), limit.tokens)
    return None if told is None else named(told, limit)
