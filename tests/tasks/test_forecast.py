"""When a context window will be full."""

from __future__ import annotations

from itertools import accumulate
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spanpost.model.context import Forecast
from spanpost.tasks.context_checkpoints import forecast as in_words
from spanpost.tasks.forecast import FARTHEST, Call, climb_of, forecast, may_reach
from spanpost.text.wording import worded
from tests.thorough import thorough

SECOND = 10**9


def calls(*used: int, every: float = 10.0) -> list[Call]:
    """Return a conversation's calls, one every so many seconds, each a second long."""
    return [(int(i * every * SECOND) + SECOND, int(i * every * SECOND), n) for i, n in enumerate(used)]


def test_steady_growth_is_forecast_exactly() -> None:
    """Equal steps at equal times give the crossing to the call and the second, in a narrow range."""
    found = forecast(calls(10_000, 20_000, 30_000, 40_000, 50_000), 85_000)
    assert found is not None
    assert (found.calls, found.seconds) == (4, 40.0)
    assert found.calls_low >= 3
    assert found.calls_high <= 5


def test_uneven_growth_is_forecast_with_a_wider_range() -> None:
    """The same growth with steps that differ has the same middle and a wider range."""
    steady = forecast(calls(10_000, 20_000, 30_000, 40_000, 50_000, 60_000), 150_000)
    uneven = forecast(calls(10_000, 14_000, 30_000, 36_000, 49_000, 60_000), 150_000)
    assert steady is not None
    assert uneven is not None
    assert uneven.calls == steady.calls
    assert uneven.calls_high - uneven.calls_low > steady.calls_high - steady.calls_low


def test_one_large_jump_does_not_mislead() -> None:
    """After one large file the forecast expects the growth from before it."""
    found = forecast(calls(10_000, 12_000, 14_000, 16_000, 96_000, 98_000, 100_000), 120_000)
    assert found is not None
    assert 8 <= found.calls <= 10


@pytest.mark.parametrize(
    "used",
    [
        (),
        (50_000,),
        (40_000, 50_000),
        (50_000,) * 6,
        (90_000, 80_000, 75_000, 70_000),
        (100, 110, 120, 130),
        (1, 99_000, 99_001, 99_002),
    ],
)
def test_there_is_no_forecast_without_growth_towards_a_near_limit(used: tuple[int, ...]) -> None:
    """Fewer than two steps, no growth, or a far limit give no forecast."""
    assert forecast(climb_of(calls(*used)), 170_000) is None


def test_what_is_reached_is_no_forecast() -> None:
    """A limit that is reached or passed is not forecast."""
    for limit in (40_000, 39_000, 0, -1):
        assert forecast(calls(10_000, 20_000, 30_000, 40_000), limit) is None


def test_a_climb_begins_after_a_compaction() -> None:
    """Growth before a confirmed drop is not part of the climb; a lone small call between is left out."""
    assert [used for _, _, used in climb_of(calls(80, 90, 100, 30, 40, 50))] == [30, 40, 50]
    assert [used for _, _, used in climb_of(calls(80, 90, 20, 100, 110))] == [80, 90, 100, 110]
    assert [used for _, _, used in climb_of(calls(80, 90, 20))] == [80, 90]


def test_layers_of_one_call_are_one_step() -> None:
    """A call that two layers report, one within the other, is one."""
    layers = [
        layer for at, start, used in calls(10, 20, 30, 40) for layer in ((at, start, used), (at + 1, start - 1, used))
    ]
    assert [used for _, _, used in climb_of(layers)] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ((3, 2, 4, 40.0, 25.0, 70.0), "85 % in about 3 calls, 40 s (2 to 4 calls, 25 s to 1 min 10 s)"),
        ((1, 1, 1, 0.2, 0.1, 0.3), "85 % in about 1 call"),
        ((2, 2, 2, 8.0, 8.0, 8.0), "85 % in about 2 calls, 8 s"),
    ],
)
def test_a_forecast_in_words(figures: tuple[int, int, int, float, float, float], text: str) -> None:
    """The text gives calls and seconds, and their range where there is one."""
    n, low, high, seconds, least, most = figures
    shown = Forecast(
        tokens=1,
        limit="85 %",
        percent=85.0,
        calls=n,
        calls_low=low,
        calls_high=high,
        seconds=seconds,
        seconds_low=least,
        seconds_high=most,
    )
    assert worded(in_words(shown))[0] == f"Context: {text}"


conversations = st.lists(st.tuples(st.integers(0, 2 * 10**6), st.integers(0, 600)), max_size=12).map(
    lambda steps: [
        (end * SECOND + i + 1, end * SECOND + i, used)
        for i, (used, end) in enumerate(zip((u for u, _ in steps), accumulate(t for _, t in steps), strict=True))
    ]
)


@pytest.mark.slow
@thorough(2000)
@given(conversations, st.integers(-10, 3 * 10**6))
@example([(1, 0, 0), (2, 1, 214), (3, 2, 0), (4, 3, 594), (5, 4, 0)], 595)
@example([(1, 0, 0), (2, 1, 2), (3, 2, 4), (4, 3, 0)], 5)  # the newest call is a drop that nothing has confirmed
def test_whatever_is_said_holds_together(conversation: list[Call], limit: int) -> None:
    """Low, middle and high are in order, no figure is negative, and none is beyond the farthest."""
    climb = climb_of(conversation)
    assert all(call in conversation for call in climb)
    found = forecast(climb, limit)
    if found is not None:
        assert climb[-1][2] < limit
        assert 1 <= found.calls_low <= found.calls <= found.calls_high
        assert found.calls <= FARTHEST
        assert 0 <= found.seconds_low <= found.seconds_high
        assert found.tokens == limit
        assert may_reach(conversation, limit)


@thorough(400)
@given(st.integers(1_000, 20_000), st.floats(0.05, 0.9), st.integers(0, 2**32), st.integers(1, 10))
def test_scale_makes_no_difference(step: int, spread: float, seed: int, scale: int) -> None:
    """The same climb in a unit that is a power of two larger gives the same numbers of calls."""
    random = Random(seed)
    used = list(accumulate([max(1, int(step * (1 + random.uniform(-spread, spread)))) for _ in range(8)]))
    limit = used[-1] + 5 * step
    small, large = forecast(calls(*used), limit), forecast(calls(*(n << scale for n in used)), limit << scale)
    assert (small and (small.calls, small.calls_low, small.calls_high)) == (
        large and (large.calls, large.calls_low, large.calls_high)
    )
