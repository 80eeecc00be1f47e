"""A small day on a simulated clock: the store, dispatchers and Slack's limits, through outage and restart."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

#: A minute is more than a question waits, if Slack can be reached and gateways run.
_WAITS = 60.0


@pytest.fixture(scope="module")
def day() -> ModuleType:
    """The program `bench/day.py`."""
    folder = str(Path(__file__).parents[2] / "bench")
    sys.path.insert(0, folder)
    try:
        import day as program
    finally:
        sys.path.remove(folder)
    return program


@pytest.mark.proves("one-message", "slack-down", "slack-answer-lost")
@pytest.mark.proves("delivered", "slack-down", "rolling-restart")
@pytest.mark.proves("urgent-first", "slack-down")
@pytest.mark.proves("late-is-quiet")
@pytest.mark.parametrize(("seed", "channels"), [(1, 20), (2, 1)])
def test_a_day_loses_nothing_and_shows_each_end(day: ModuleType, seed: int, channels: int) -> None:
    """Of a day's tasks each has one message with its last state, and each line stands once, in many channels and in
    one; a question waits for seconds beside the hour of the outage, and no call is refused as too many.
    """
    world, figures = day.simulate(tasks=100, channels=channels, seed=seed, most=2 * day.HOUR)
    assert {name: count for name, count in figures["faults"].items() if count} == {}
    assert "429" not in figures["calls"]
    assert figures["calls"]["refused connections"] > 10
    assert figures["deliveries"] > 8 * figures["tasks"]
    asked = [
        age
        for (kind, hour), ages in world.seen.ages.items()
        for age in ages
        if kind == "line: approval_requested" and hour not in (11, 13)
    ]
    assert asked
    assert max(asked) < _WAITS


@pytest.mark.proves("urgent-first")
def test_a_full_workspace_shows_questions_first_and_every_end_at_last(day: ModuleType) -> None:
    """With a hundredth of ten thousand tasks and of the rates, questions go before progress; later all is shown."""
    world, figures = day.simulate(tasks=10_000, channels=20, seed=3, most=12 * day.HOUR, share=0.01)
    assert {name: count for name, count in figures["faults"].items() if count} == {}
    assert "429" not in figures["calls"]
    worst = dict[str, float]()
    for (kind, _), ages in world.seen.ages.items():
        worst[kind] = max(worst.get(kind, 0.0), *ages)
    assert worst["line: approval_requested"] < worst["line: checkpoint"] / 4
