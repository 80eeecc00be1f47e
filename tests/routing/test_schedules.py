"""Times of schedules."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from spanpost.model.errors import ConfigError
from spanpost.routing.schedules import Schedule
from spanpost.settings import load


def when(text: str) -> datetime:
    """Return a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        # In Berlin it is 07:30 at 05:30 UTC in summer, and at 06:30 UTC in winter; 24 October 2026 is a Saturday.
        ("2026-10-23 05:29", "2026-10-22 16:00"),
        ("2026-10-23 05:30", "2026-10-23 05:30"),
        ("2026-10-25 12:00", "2026-10-23 16:00"),
        ("2026-10-26 06:29", "2026-10-23 16:00"),
        ("2026-10-26 06:30", "2026-10-26 06:30"),
    ],
)
def test_times_of_day(now: str, expected: str) -> None:
    """The last time is found by the wall clock of the zone, over weekends and a change of the clocks."""
    weekdays = ("monday", "tuesday", "wednesday", "thursday", "friday")
    schedule = Schedule(name="s", start=("a",), at=(time(7, 30), time(18)), days=weekdays, timezone="Europe/Berlin")
    assert schedule.last(when(now)) == when(expected)


def test_multiples() -> None:
    """The multiples of an interval begin at midnight UTC."""
    schedule = Schedule(name="s", start=("a",), every=timedelta(hours=6))
    assert schedule.last(when("2026-10-23 05:59")) == when("2026-10-23 00:00")
    assert schedule.last(when("2026-10-23 23:59")) == when("2026-10-23 18:00")


def test_a_repeated_hour_counts_once() -> None:
    """A time of day that the clocks repeat has one time, and one that they skip is not lost."""
    schedule = Schedule(name="s", start=("a",), at=(time(2, 30),), timezone="Europe/Berlin")
    autumn = {schedule.last(when("2026-10-24 12:00") + timedelta(minutes=n)) for n in range(1440)}
    assert autumn == {when("2026-10-24 00:30"), when("2026-10-25 00:30")}
    spring = {schedule.last(when("2026-03-28 12:00") + timedelta(minutes=n)) for n in range(1440)}
    assert len(spring) == 2


@pytest.mark.parametrize(
    ("kind", "said", "named"),
    [
        ("schedules", {"every": "7m"}, "a day must hold it"),
        ("schedules", {}, "either `every` or `at`"),
        ("schedules", {"every": "1h", "at": ["07:30"]}, "either `every` or `at`"),
        ("schedules", {"at": ["7:30"]}, "HH:MM"),
        ("schedules", {"every": "1h", "start": ["b"]}, "no launcher 'b'"),
        ("rules", {"after_all": ["a", "b"], "agent": "a"}, "leave `agent` out"),
        ("rules", {"after_all": ["a", "b"], "per": "repo"}, "per"),
    ],
)
def test_mistakes_are_refused(kind: str, said: dict[str, object], named: str) -> None:
    """A schedule without times, or with ones that do not repeat each day, is refused, and so is a rule that
    names agents twice or shares another field.
    """
    launchers = {
        "named": {"a": {"kind": "command", "command": ["true"]}},
        kind: [{"name": "s", "start": ["a"], **said}],
    }
    with pytest.raises(ConfigError, match=named):
        load(launchers=launchers)


def test_a_time_span_has_a_unit() -> None:
    """A time span is a number of seconds, a number with a unit, or ISO 8601; another text is refused."""
    for said, seconds in (("90", 90), (90, 90), ("30s", 30), ("1.5 m", 90), ("15m", 900), ("6h", 21_600), ("PT1M", 60)):
        assert load(notifications={"max_age": said}).notifications.max_age.total_seconds() == seconds
    for wrong in ("15 minutes", "m", "-5m", "1h30"):
        with pytest.raises(ConfigError, match="max_age"):
            load(notifications={"max_age": wrong})
