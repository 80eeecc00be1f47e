"""When a limit of the context window will be reached, if it goes on filling at the same rate.

Rules.
1. A *climb* is the use, call by call, since the last compaction. A call that falls to `DROP` of the one
   before or below is left out until the next call confirms it; then the climb begins there. Copies of one
   call (one within the other, or of no length, with equal use) are one.
2. Growth is the mean of the last `STEPS` steps. One step that is far above the rest is cut to the largest of
   the rest: a large file that was read once says nothing about the next call.
3. The range holds four of five crossings, if growth is independent from call to call: Fieller's interval with
   Student's quantiles, which knows both that steps differ and that few were seen.
4. There is no forecast when the use does not grow, from fewer than two steps, beyond `FARTHEST` calls, and
   when the range is too wide to be useful.

Theory. All of it is a function of a set of calls in order of time, so it is the same for any order of
arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil, sqrt

from spanpost.model.context import Forecast

#: A drop to this share of the former use, or below, may be a compaction.
DROP = 0.7
#: Newest steps that count, and the number of calls beyond which there is no forecast.
STEPS = 7
FARTHEST = 40
#: A step this many times the median of the others is a jump.
_JUMP = 6
#: Least spread, as a share of the mean: steps that never differed may still do so.
_LEAST_SPREAD = 0.1
#: Student's t for 80 %, by degrees of freedom.
_T = (3.08, 1.89, 1.64, 1.53, 1.48, 1.44, 1.41)
#: A range that ends beyond this many times the middle, plus two, is too wide.
_WIDEST = 4

#: A call: its end, its start (ns), and its input tokens.
Call = tuple[int, int, int]


def climb_of(calls: Iterable[Call]) -> list[Call]:
    """Return the calls of the newest call's climb. `calls` are one conversation's, in order of time."""
    climb: list[Call] = []
    drop: Call | None = None
    for call in calls:
        if climb and call[2] == climb[-1][2] and (call[1] <= climb[-1][1] or call[0] == call[1]):
            if call[1] < climb[-1][1]:
                climb[-1] = call
            continue
        if drop is not None:
            if call[2] <= climb[-1][2] * DROP:
                climb = [drop]
            drop = None
        elif climb and climb[-1][2] and call[2] <= climb[-1][2] * DROP:
            drop = call
            continue
        climb.append(call)
    return climb


def may_reach(calls: Sequence[Call], limit: int) -> bool:
    """Return whether `forecast` may find anything, at a tenth of the cost: most calls are far from any limit."""
    if len(calls) < 3:
        return False
    used = max(calls[-1][2], calls[-2][2])  # a drop that the next call has not confirmed ends no climb
    # From at least two steps, the mean is at most half of what was added.
    return (used - min([call[2] for call in calls])) * FARTHEST >= (limit - used) * 2


def forecast(climb: Sequence[Call], limit: int) -> Forecast | None:
    """Return when `limit` tokens will be reached; None when there is no forecast."""
    recent = climb[-STEPS - 1 :]
    steps = [b[2] - a[2] for a, b in pairwise(recent)]
    left = limit - recent[-1][2] if recent else 0
    if len(steps) < 2 or left <= 0:
        return None
    steps = _without_jump(steps)
    n = len(steps)
    mean = sum(steps) / n
    if mean <= 0 or left > mean * FARTHEST:
        return None
    spread = max(sqrt(sum((step - mean) ** 2 for step in steps) / (n - 1)), mean * _LEAST_SPREAD)
    low, high = _range(left, mean, spread * _T[min(n - 1, len(_T)) - 1], n)
    calls = ceil(left / mean)
    if high is None or high > _WIDEST * calls + 2:
        return None
    waits = sorted(max(b[0] - a[0], 0) for a, b in pairwise(recent))
    wait = (waits[(n - 1) // 2] + waits[n // 2]) / 2e9
    return Forecast(
        tokens=limit,
        calls=calls,
        calls_low=low,
        calls_high=high,
        seconds=calls * wait,
        seconds_low=low * waits[n // 4] / 1e9,
        seconds_high=high * waits[n - 1 - n // 4] / 1e9,
    )


def _without_jump(steps: list[int]) -> list[int]:
    """Return the steps; one that is far above all others is cut to the largest of the others."""
    if len(steps) < 3:
        return steps
    *others, largest = sorted(steps)
    middle = (others[(len(others) - 1) // 2] + others[len(others) // 2]) / 2
    if largest <= max(middle, 0) * _JUMP or others[-1] > largest / 2:
        return steps
    return [min(step, others[-1]) for step in steps]


def _range(left: int, mean: float, spread: float, n: int) -> tuple[int, int | None]:
    """Return the least and the greatest number of calls that add `left` tokens; None where there may be no
    greatest.

    After x calls x*mean tokens are expected, give or take spread*sqrt(x + x²/n): the calls themselves
    differ, and their mean is known from n of them.
    """
    a = mean * mean - spread * spread / n
    b = 2 * left * mean + spread * spread
    root = sqrt(max(b * b - 4 * a * left * left, 0.0))
    low = max(1, ceil(2 * left * left / (b + root)))  # the smaller root, in the form without cancellation
    if a <= 0:
        return low, None
    return low, max(low, ceil((b + root) / (2 * a)))
