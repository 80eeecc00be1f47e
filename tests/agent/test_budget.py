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
from spanpost.agent.control import ControlUnavailable, budget, budget_sync
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
    assert pipeline.force_flush(5.0)
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
