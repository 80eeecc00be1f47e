"""Budgets: periods, scopes, and shares that are passed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.budgets import BudgetFigures, Growth
from spanpost.model.tasks import Task
from spanpost.tasks.amounts import nano
from spanpost.tasks.budget_limits import reached
from spanpost.tasks.budgets import Budget, in_words, opened, period_of, scope_of
from spanpost.text.wording import worded

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
TASK = Task(
    uid=UUID(int=1),
    tenant="default",
    task_id="t",
    agent_name="miner",
    trace_id=b"\1" * 16,
    span_id=b"\1" * 8,
    attributes={"agent.team": "red"},
)


def growth(usd: Decimal) -> Growth:
    began, ends = period_of(Budget(name="b"), NOW)
    figures = BudgetFigures(1, 0, 0, nano(usd) if usd >= 0 else -nano(-usd))
    return Growth(budget="b", tenant="default", scope=(), began_at=began, ends_at=ends, figures=figures, task=TASK)


@pytest.mark.parametrize(
    ("period", "zone", "began", "ends"),
    [
        ("hour", "UTC", datetime(2026, 11, 21, 15, tzinfo=UTC), datetime(2026, 11, 21, 16, tzinfo=UTC)),
        ("week", "UTC", datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        ("day", "UTC", datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)),
        ("day", "Asia/Seoul", datetime(2026, 11, 21, 15, tzinfo=UTC), datetime(2026, 11, 22, 15, tzinfo=UTC)),
        ("month", "UTC", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("year", "America/New_York", datetime(2026, 1, 1, 5, tzinfo=UTC), datetime(2027, 1, 1, 5, tzinfo=UTC)),
    ],
)
def test_a_period_is_of_the_calendar(period: Any, zone: str, began: datetime, ends: datetime) -> None:
    """Days, weeks (on Mondays), months and years begin at midnight in the time zone of the budget."""
    assert period_of(Budget(name="b", period=period, timezone=zone), NOW) == (began, ends)


def test_a_day_may_be_shorter() -> None:
    """The day on which clocks go forward has 23 hours."""
    began, ends = period_of(Budget(name="b", timezone="Europe/Berlin"), datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert ends - began == timedelta(hours=23)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["hour", "day", "week", "month", "year"]),
    st.sampled_from(
        ["UTC", "Asia/Seoul", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]
    ),
)
def test_periods_follow_one_another(now: datetime, period: Any, zone: str) -> None:
    """Each moment is in one period; the next period begins where that one ends."""
    budget = Budget(name="b", period=period, timezone=zone)
    began, ends = period_of(budget, now)
    assert began <= now < ends
    assert period_of(budget, ends)[0] == ends
    assert period_of(budget, began) == (began, ends)


def test_a_task_without_the_scoped_value_spends_nothing() -> None:
    """A task has a scope where it has every attribute of the budget's `per`, and none otherwise."""
    assert scope_of(Budget(name="b", per=("agent.team", "agent.name")), TASK) == (
        ("agent.name", "miner"),
        ("agent.team", "red"),
    )
    assert scope_of(Budget(name="b", per=("agent.requested_by",)), TASK) is None


@given(st.lists(st.decimals(0, 20, places=2), max_size=30), st.integers(1, 50))
def test_each_share_is_warned_of_once(steps: list[Decimal], limit: int) -> None:
    """Each share has at most one warning, however figures climb and fall; the highest share has one."""
    budget = Budget(name="b", limit_usd=Decimal(limit), warn_at=(0.5, 0.8, 1.0))
    rows, warned, highest = [opened(budget, "default", (), NOW)], [], 0.0
    for number, step in enumerate(steps):
        found = reached(budget, rows, [growth(step if number % 3 else -min(step, rows[0].cost_usd))], NOW)
        rows = found.rows
        highest = max(highest, found.standing.share)
        if found.warning is not None:
            warned.append(found.warning.attributes["agent.budget.level"])
    assert warned == sorted(set(warned))
    assert max(warned, default=0.0) == max((level for level in budget.warn_at if level <= highest), default=0.0)


def test_a_raised_limit_is_climbed_again() -> None:
    """A share of a raised limit has a warning when it is passed, and none when it was passed already."""
    small, large = Budget(name="b", limit_usd=Decimal(10)), Budget(name="b", limit_usd=Decimal(20))
    first = reached(small, [], [growth(Decimal(10))], NOW)
    quiet = reached(large, first.rows, [growth(Decimal(1))], NOW)
    again = reached(large, quiet.rows, [growth(Decimal(5))], NOW)
    assert first.warning is not None
    assert quiet.warning is None
    assert again.warning is not None
    assert again.warning.attributes["agent.budget.level"] == 0.8
    assert worded(in_words(again.standing))[0] == "Budget b is 80 % spent: $16.00 of $20.00"
