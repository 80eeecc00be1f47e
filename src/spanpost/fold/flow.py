"""What model calls used, as sums that can be added and taken away.

A `Flow` is a tuple of 13 integers: calls, then pairs (how many calls said it, the sum) for input, output, cache read,
cache write, reasoning, cost in nano-dollars. Counting who said it keeps "unknown" apart from 0.
"""

from __future__ import annotations

from decimal import Decimal
from operator import add, neg, sub
from typing import NamedTuple

import msgspec

from spanpost.domain.usage import Usage

Flow = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]

#: Tool calls by name: (calls, failed).
Tools = dict[str, tuple[int, int]]

ZERO: Flow = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
ONE_CALL: Flow = (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_NANO = Decimal(10) ** 9
NO_TOOLS: Tools = {}
#: Sums stay far inside 64 bits for any honest telemetry; a hostile figure is cut here.
_CAP = 10**15


def nano(usd: Decimal) -> int:
    """Return dollars as nano-dollars."""
    return min(round(usd * _NANO), _CAP)


def dollars(nanos: int) -> Decimal:
    """Return nano-dollars as dollars."""
    return (Decimal(nanos) / _NANO).normalize()


def of_call(usage: Usage | None) -> Flow:
    """Return the flow of one model call."""
    if usage is None:
        return ONE_CALL
    flow = [1]
    for value in (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning):
        flow += (0, 0) if value is None else (1, min(value, _CAP))
    flow += (0, 0) if usage.cost_usd is None else (1, nano(usage.cost_usd))
    return tuple(flow)  # type: ignore[return-value]  # 13 by construction


def plus(a: Flow, b: Flow) -> Flow:
    """Return the sum."""
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    return tuple(map(add, a, b))


def minus(a: Flow, b: Flow) -> Flow:
    """Return the difference; ZERO itself when nothing is left."""
    if b is ZERO:
        return a
    if a is b or a == b:
        return ZERO
    if a is ZERO:
        return tuple(map(neg, b))  # type: ignore[return-value]
    difference: Flow = tuple(map(sub, a, b))
    return difference


def as_usage(flow: Flow) -> Usage:
    """Return the sums with None for what no call has said."""
    _, n_in, s_in, n_out, s_out, n_cr, s_cr, n_cw, s_cw, n_rs, s_rs, n_cost, s_cost = flow
    return Usage(
        input=s_in if n_in else None,
        output=s_out if n_out else None,
        cache_read=s_cr if n_cr else None,
        cache_write=s_cw if n_cw else None,
        reasoning=s_rs if n_rs else None,
        cost_usd=dollars(s_cost) if n_cost else None,
    )


def shown_usage(flow: Flow, metered: Flow) -> Usage:
    """Return what a task used: as its calls tell, and where they tell nothing as its data points do."""
    usage = as_usage(flow)
    if metered == ZERO:
        return usage
    other = as_usage(metered)
    if not usage.is_known:
        return other if usage.cost_usd is None else msgspec.structs.replace(other, cost_usd=usage.cost_usd)
    return usage if usage.cost_usd is not None else msgspec.structs.replace(usage, cost_usd=other.cost_usd)


def tools_minus(a: Tools, b: Tools) -> Tools:
    """Return the difference by name, without names that did not change."""
    if a is b or a == b:
        return NO_TOOLS
    out: Tools = {}
    for name in a.keys() | b.keys():
        x, y = a.get(name, (0, 0)), b.get(name, (0, 0))
        if x != y:
            out[name] = (x[0] - y[0], x[1] - y[1])
    return out


def tools_plus(a: Tools, delta: Tools) -> Tools:
    """Return the sum by name, without names that came to nothing."""
    if not delta:
        return a
    out = dict(a)
    for name, (calls, failed) in delta.items():
        known = out.get(name, (0, 0))
        total = (known[0] + calls, known[1] + failed)
        if total == (0, 0):
            out.pop(name, None)
        else:
            out[name] = total
    return out


#: A named tuple's own constructor is a Python function, and sums are made by the dozen.
_tuple = tuple.__new__


class Amount(NamedTuple):
    """What lies below a span: model calls that an outer call covers (`slotted`: those that hold a response id), those that
    a tool call bars from that, and tool calls by name."""

    plain: Flow
    slotted: Flow
    barred: Flow
    tools: Tools

    def minus(self, other: Amount) -> Amount:
        """Return the difference."""
        if other is NOTHING:
            return self
        plain, slotted, barred, tools = self
        o_plain, o_slotted, o_barred, o_tools = other
        return _tuple(
            Amount,
            (
                plain if o_plain is ZERO else minus(plain, o_plain),
                slotted if o_slotted is ZERO else minus(slotted, o_slotted),
                barred if o_barred is ZERO else minus(barred, o_barred),
                tools_minus(tools, o_tools),
            ),
        )

    def plus(self, other: Amount) -> Amount:
        """Return the sum."""
        plain, slotted, barred, tools = self
        o_plain, o_slotted, o_barred, o_tools = other
        return _tuple(
            Amount,
            (
                plain if o_plain is ZERO else plus(plain, o_plain),
                slotted if o_slotted is ZERO else plus(slotted, o_slotted),
                barred if o_barred is ZERO else plus(barred, o_barred),
                tools_plus(tools, o_tools) if o_tools else tools,
            ),
        )

    @property
    def calls(self) -> Flow:
        """All model calls in it."""
        plain, slotted, barred, _ = self
        if slotted is not ZERO:
            plain = plus(plain, slotted)
        return plain if barred is ZERO else plus(plain, barred)

    @property
    def is_nothing(self) -> bool:
        """True when there is nothing in it."""
        plain, slotted, barred, tools = self
        return plain is ZERO and slotted is ZERO and barred is ZERO and not tools


NOTHING = Amount(ZERO, ZERO, ZERO, NO_TOOLS)
