"""How full the context of a task is.

Each model is measured by itself, in its newest conversation; of several the fullest is shown. Use that the agent
reports itself takes precedence over the use of its calls.
"""

from __future__ import annotations

from typing import NamedTuple

from spanpost.model.context import Forecast
from spanpost.model.readings import Role
from tests.tasks.oracle.facts import POINTS, Facts, has_failed
from tests.tasks.oracle.rules import Point, Rules

#: The model name for use that the agent reports itself.
_AGENT = "agent"


class Use(NamedTuple):
    """Tokens in use, the window (tokens and source), the model, and the calls by which it grew."""

    used: int | None = None
    window: tuple[int, str] | None = None
    model: str | None = None
    calls: tuple[Point, ...] = ()

    @property
    def tokens(self) -> int | None:
        return self.window[0] if self.window is not None else None

    def ahead(self, rules: Rules) -> Forecast | None:
        """Return when it will be full."""
        return rules.forecast(self.used, self.tokens, self.calls) if self.used is not None else None

    def is_warned_of(self, rules: Rules) -> bool:
        return self.used is not None and rules.is_full(self.used, self.tokens)


class _Measured(NamedTuple):
    """The input of one call, or the use that the agent reported."""

    at: int
    key: bytes
    start: int
    used: int
    model: str
    conversation: str
    parent: bytes


def use_of(facts: Facts, rules: Rules) -> Use:
    """Return how full the context is, of the model whose context is fullest."""
    said, said_window = facts.newest("context_used"), facts.newest("context_window")
    points = _points(facts, rules)
    if said is None and not points:
        return Use() if said_window is None else Use(window=rules.window(facts.model, said_window, 0))
    found: list[Use] = []
    of_kind = [p for p in points if (p.model == _AGENT) == (said is not None)]
    for model in dict.fromkeys(p.model for p in of_kind):
        own = [p for p in of_kind if p.model == model]
        named = facts.model if model == _AGENT else model
        talk = next((p.conversation for p in reversed(own) if p.conversation), "")
        calls = [(p.at, p.start, p.used) for p in own if p.conversation in ("", talk) and p.at > facts.compacted_ns]
        window = rules.window(named, said_window, _accepted(facts, rules, model))
        found.append(Use(own[-1].used if said is None else said, window, named, tuple(calls)))
    if not found:
        return Use(said, rules.window(facts.model, said_window, 0), facts.model)
    return max(reversed(found), key=lambda use: use.used / use.tokens if use.used is not None and use.tokens else -1.0)


def _points(facts: Facts, rules: Rules) -> list[_Measured]:
    """Return the newest measures, each once."""
    found = set()
    for n, role, _ in facts.reported:
        r, talk = n.r, n.r.conversation_id or ""
        usage = r.usage
        if (
            n.is_end
            and role is Role.LLM
            and not r.is_metered
            and not r.is_aside
            and usage is not None
            and usage.input is not None
        ):
            model = rules.canonical(r.model or "model")
            found.add(_Measured(n.at, n.key[:8], n.o.start_ns or n.at, usage.input, model, talk, n.o.parent_id))
        if r.context_used is not None:
            found.add(_Measured(n.at, n.key[:8], n.at, r.context_used, _AGENT, talk, b""))
    newest = sorted(found)[-POINTS:]
    tools = [said.value for said in facts.tool_steps.values() if said.value[2]]
    return [p for p in newest if not _is_sum(p, newest, tools)]


def _is_sum(p: _Measured, points: list[_Measured], tools: list[tuple[str, int, int, bytes, bool]]) -> bool:
    """Return whether a measure is of a span around other calls: one below it, and not beside, lies within it."""
    within = [(began, ended, parent) for _, began, ended, parent, _ in tools]
    within += [(q.start, q.at, q.parent) for q in points if q.used != p.used]
    return any(p.start <= began and ended <= p.at and parent not in (b"", p.parent) for began, ended, parent in within)


def _accepted(facts: Facts, rules: Rules, model: str) -> int:
    """Return the largest input that a model took without failing."""
    took = [
        n.r.usage.input
        for n, role, _ in facts.ended
        if role is Role.LLM
        and not n.r.is_metered
        and not n.r.is_aside
        and not has_failed(n, role)
        and n.r.usage is not None
        and n.r.usage.input is not None
        and rules.canonical(n.r.model or "model") == model
    ]
    return max(took, default=0)
