"""What model calls used, as sums that can be added and taken away.

A `Flow` is a tuple of 13 integers: calls, then pairs (how many calls said it, the sum) for input, output, cache read,
cache write, reasoning, cost in nano-dollars. Counting who said it keeps "unknown" apart from 0.
"""

from __future__ import annotations

from decimal import Decimal

from spanpost.domain.usage import Usage

Flow = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]

ZERO: Flow = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
ONE_CALL: Flow = (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_NANO = Decimal(10) ** 9
#: Sums stay far inside 64 bits for any honest telemetry; a hostile figure is cut here.
_CAP = 10**15


def of_call(usage: Usage | None) -> Flow:
    """Return the flow of one model call."""
    if usage is None:
        return ONE_CALL
    flow = [1]
    for value in (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning):
        flow += (0, 0) if value is None else (1, min(value, _CAP))
    flow += (0, 0) if usage.cost_usd is None else (1, min(int(usage.cost_usd * _NANO), _CAP))
    return tuple(flow)  # type: ignore[return-value]  # 13 by construction


def plus(a: Flow, b: Flow) -> Flow:
    """Return the sum."""
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    return tuple(map(int.__add__, a, b))  # type: ignore[return-value]


def minus(a: Flow, b: Flow) -> Flow:
    """Return the difference; ZERO itself when nothing is left."""
    if b is ZERO:
        return a
    difference: Flow = tuple(map(int.__sub__, a, b))  # type: ignore[assignment]
    return difference if any(difference) else ZERO


def as_usage(flow: Flow) -> Usage:
    """Return the sums with None for what no call has said."""
    _, n_in, s_in, n_out, s_out, n_cr, s_cr, n_cw, s_cw, n_rs, s_rs, n_cost, s_cost = flow
    return Usage(
        input=s_in if n_in else None,
        output=s_out if n_out else None,
        cache_read=s_cr if n_cr else None,
        cache_write=s_cw if n_cw else None,
        reasoning=s_rs if n_rs else None,
        cost_usd=(Decimal(s_cost) / _NANO).normalize() if n_cost else None,
    )
