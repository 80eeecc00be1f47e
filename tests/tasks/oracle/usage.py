"""What a task used: the sum of its calls, else its data points, else the totals that the agent reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from tests.tasks.oracle.counting import cost_of, counts
from tests.tasks.oracle.tree import Span

_TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")
_NANO = 10**9


@dataclass
class Usage:
    """Sums. A figure that no call reported is missing, not 0."""

    calls: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    #: Calls of which the cost is known, and their cost in nano-dollars.
    priced: int = 0
    cost: int = 0

    @property
    def unpriced(self) -> int:
        return max(0, self.calls - self.priced)

    @property
    def cost_usd(self) -> Decimal | None:
        return (Decimal(self.cost) / _NANO).normalize() if self.priced else None


def summed(calls: Iterable[Span]) -> Usage:
    """Return what calls used."""
    out = Usage()
    for call in calls:
        assert call.best is not None
        out.calls += counts(call)
        usage = call.best.r.usage
        for name in _TOKENS:
            value = getattr(usage, name) if usage is not None else None
            if value is not None:
                out.tokens[name] = out.tokens.get(name, 0) + min(value, 10**15)
        cost = call.lent or cost_of(call)
        if cost is not None:
            out.priced, out.cost = out.priced + 1, out.cost + cost
    return out


def whole(calls: Usage, metered: Usage, said_cost: int | None) -> Usage:
    """Return the one figure of a task."""
    out = Usage(calls.calls, dict(calls.tokens), calls.priced, calls.cost)
    if not (calls.tokens.keys() & {"input", "output"}) and metered.tokens:
        out.tokens = dict(metered.tokens)
    if not calls.priced and metered.priced:
        out.priced, out.cost = max(metered.priced, calls.calls), metered.cost
    if said_cost is not None:
        out.priced, out.cost = max(out.calls, 1), said_cost
    return out
