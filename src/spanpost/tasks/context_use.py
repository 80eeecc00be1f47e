"""How full a task's context is, from its facts: the figure that its row shows.

Rules. Each model has a context window of its own, and of each the newest conversation counts. Of several the
fullest is shown: a small call to a small model in between does not hide that the large one fills. Models of
which none of the newest calls (`facts.POINT_CAP`) is known are left out. Use that the agent reports itself
stands above that of its calls.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanpost.model.context import Forecast
from spanpost.tasks.absorb import AGENT_CONVERSATION
from spanpost.tasks.context import Window, resolve
from spanpost.tasks.context_limits import alarm, named
from spanpost.tasks.fact_values import UsePoint
from spanpost.tasks.facts import Facts, time_of, value_of
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.forecast import Call, climb_of, forecast, may_reach


class ContextUse(msgspec.Struct, frozen=True, gc=False):
    """How full the context is."""

    used: int | None = None
    window: Window | None = None
    model: str | None = None
    calls: tuple[Call, ...] = ()

    @property
    def share(self) -> float:
        """Used share of the window; negative when unknown."""
        return self.used / self.window.tokens if self.used is not None and self.window is not None else -1.0


NO_USE = ContextUse()


def use_of(facts: Facts, rules: FoldRules) -> ContextUse:
    """Return how full a task's context is: the fullest of its context windows."""
    said_used, said_window = value_of(facts.context_used), value_of(facts.context_window)
    points = [point for point in facts.points if not is_sum(point, facts)]
    if said_used is None and not points:
        if said_window is None:
            return NO_USE
        return ContextUse(window=resolve(value_of(facts.model), rules.known_windows, said=said_window))
    conversations: dict[str, list[UsePoint]] = {}
    for point in points:
        if (point.model == AGENT_CONVERSATION) == (said_used is not None):
            conversations.setdefault(point.model, []).append(point)
    compacted = time_of(facts.compacted)
    found: ContextUse | None = None
    for model, own in conversations.items():
        named = value_of(facts.model) if model == AGENT_CONVERSATION else model
        use = ContextUse(
            own[-1].tokens if said_used is None else said_used,
            resolve(named, rules.known_windows, said=said_window, accepted=_accepted(facts.accepted, model)),
            named,
            tuple(_conversation(own, compacted)),
        )
        if found is None or use.share >= found.share:
            found = use
    return found or ContextUse(
        said_used, resolve(value_of(facts.model), rules.known_windows, said=said_window), value_of(facts.model)
    )


def is_sum(point: UsePoint, facts: Facts) -> bool:
    """Tell whether a call spans others and so sums their inputs: tools or other calls lie within it, and not beside.

    A copy of one call lies within the other, too, and has the same input.
    """
    start, at, parent = point.start_ns, point.at_ns, point.parent
    return any(
        start <= act.value.began_ns and 0 < act.value.ended_ns <= at and act.value.parent not in (parent, b"")
        for act in facts.acts.values()
    ) or any(
        start <= other.start_ns
        and other.at_ns <= at
        and other.tokens != point.tokens
        and other.parent not in (parent, b"")
        for other in facts.points
    )


def _accepted(accepted: Mapping[str, int], model: str) -> int:
    return accepted.get(model, 0)


def _conversation(points: list[UsePoint], compacted: int) -> list[Call]:
    """Return the calls of a model's newest conversation since its last compaction."""
    current = next((point.conversation for point in reversed(points) if point.conversation), 0)
    return [
        (at, start, used)
        for at, _, start, used, _, said, _ in points
        if (said == current or not said) and at > compacted
    ]


def ahead(use: ContextUse, rules: FoldRules) -> Forecast | None:
    """Return when the context will reach the next limit; None when there is no forecast."""
    if use.used is None or len(use.calls) < 3:
        return None
    limit = alarm(use.used, use.window, rules)
    if limit is None or not may_reach(use.calls, limit.tokens):
        return None
    prediction = forecast(climb_of(use.calls), limit.tokens)
    return None if prediction is None else named(prediction, limit)
