"""Agents that ask for their remaining budget before they spend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.control import BudgetRefused, ControlUnavailable, budget, budget_reserved, budget_sync
from spanpost.model.errors import ConfigError
from spanpost.runtime.pipeline import Pipeline
from spanpost.settings import load

BUDGETS = [
    {"name": "team", "limit_usd": 2, "per": ["team"], "period": "month"},
    {"name": "robots", "limit_tokens": 1000, "agent": "robot-*"},
]


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider(resource=Resource({"agent.team": "red"}))


@pytest.fixture
def pipeline(provider: TracerProvider, clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    monkeypatch.setenv("SPANPOST_BUDGETS", json.dumps(BUDGETS))
    pipeline = spanpost.attach(tracer_provider=provider)
    yield pipeline
    pipeline.shutdown()


async def test_the_remaining_budget_is_returned(provider: TracerProvider, pipeline: Pipeline) -> None:
    """A task spends the budgets of its team and agent, and another task of the team sees what is left."""
    tracer: Any = provider.get_tracer("test")
    async with agent_task("dig", tracer=tracer):
        before = await budget()
        with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat", "agent.cost_usd": 1.5}):
            pass
    assert pipeline.force_flush(60.0)
    assert ([b.name for b in before.budgets], before.left_usd, before.left_tokens, bool(before)) == (
        ["team"],
        2,
        None,
        True,
    )
    with agent_task("dig on", tracer=tracer):
        after = budget_sync()
    assert (after.left_usd, after.allows(usd=0.5), after.allows(usd=0.51)) == (Decimal("0.5"), True, False)
    assert after.budgets[0].scope == {"agent.team": "red"}


def test_without_a_budget_nothing_is_limited(provider: TracerProvider, clean_environment: Path) -> None:
    """Without a budget everything is allowed."""
    pipeline = spanpost.attach(tracer_provider=provider)
    try:
        allowance = budget_sync()
        assert (allowance.budgets, allowance.allows(usd=10**6, tokens=10**9)) == ((), True)
    finally:
        pipeline.shutdown()


def test_nobody_to_ask(clean_environment: Path) -> None:
    """Without an attached spanpost and without a gateway the error says so."""
    with pytest.raises(ControlUnavailable, match="SPANPOST_CONTROL__ENDPOINT"):
        budget_sync()


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        ([{"name": "x"}], "budget 'x' has no limit: set limit_usd or limit_tokens"),
        ([{"name": "x", "limit_usd": 1}, {"name": "x", "limit_usd": 2}], "two budgets are called 'x'"),
        ([{"name": "x", "limit_usd": 1, "per": ["tenant"]}], "leave `tenant` out"),
        ([{"name": "x", "limit_calls": 1, "period": "day", "rolling": "1h"}], "leave one of them out"),
        ([{"name": "x", "limit_calls": 1, "rolling": "1s"}], "5 minutes to 366 days"),
        ([{"name": "x", "limit_calls": 1, "period": "hour", "timezone": "UTC"}], "no days to begin"),
        ([{"name": "x", "limit_calls": 1, "period": "task", "per": ["agent"]}], "leave per out"),
        ([{"name": "x", "limit_calls": 1, "saving_tools": ["Read"]}], "leave saving_tools out"),
        ([{"name": "x", "limit_calls": 1, "at_limit": "ask", "saving_commands": ["git; ls"]}], "saving_commands"),
        ([{"name": "x", "limit_time": "0s"}], "limit_time"),
        ([{"name": "x", "limit_usd": 1, "warn_at": [1, 0.5]}], "must be ascending"),
    ],
)
def test_what_makes_no_sense_is_refused(
    budgets: list[Any], said: str, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget without a limit, or one that cannot be counted, is refused at the start with a next step."""
    monkeypatch.setenv("SPANPOST_BUDGETS", json.dumps(budgets))
    with pytest.raises(ConfigError, match=said):
        load()


def test_an_unknown_time_zone(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time zone that is no IANA name is refused."""
    monkeypatch.setenv("SPANPOST_BUDGETS", json.dumps([{"name": "x", "limit_usd": 1, "timezone": "Middle/Earth"}]))
    with pytest.raises(ConfigError, match="no time zone known here"):
        load()


async def test_what_is_reserved_is_held_for_a_block(provider: TracerProvider, pipeline: Pipeline) -> None:
    """Two blocks reserve what is left together, a third is refused with what is left, and all is given back."""
    tracer: Any = provider.get_tracer("test")
    async with agent_task("dig", tracer=tracer):
        async with budget_reserved(usd=1.5):
            with budget_reserved(usd=0.5) as allowance:
                assert (allowance.left_usd, (await budget()).left_usd) == (Decimal("0.5"), 0)
            with pytest.raises(BudgetRefused, match=r"\$1.50|\$2.00") as refused:
                async with budget_reserved(usd=0.01):
                    raise AssertionError("entered without a reservation")
        assert refused.value.allowance.left_usd == 0


def test_a_reservation_needs_a_gateway(clean_environment: Path) -> None:
    """Without an attached spanpost and without a gateway the block is not entered."""
    entered = False
    with pytest.raises(ControlUnavailable), budget_reserved():
        entered = True
    assert not entered


@pytest.mark.parametrize("given", [{"calls": -1}, {"usd": float("nan")}, {"tokens": -5}, {"usd": -1}])
def test_a_reservation_is_not_negative(given: dict[str, Any]) -> None:
    """A reservation that would give something to others is refused before anybody is asked."""
    with pytest.raises(ValueError, match="0 or more"):
        budget_reserved(**given)
