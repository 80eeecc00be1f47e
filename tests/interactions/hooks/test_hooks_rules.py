"""Permission hooks that no person answers: a standing approval allows a call, a used-up budget denies it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from spanpost.metrics.recorder import Metrics
from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import InterventionState, Verb
from spanpost.model.standing_approvals import Scope
from spanpost.testing.exercise_budgets import spending
from spanpost.testing.exercise_limits import PAUSE, a_call, a_start
from spanpost.testing.exercise_people import an_act
from spanpost.testing.exercise_store import ROUTED_RULES, drain
from tests.interactions.hooks.harness import ALLOW, Station, denied

WHY = "budget: Budget calls is 100 % spent: 2 of 2 model calls."


async def asked(station: Station) -> int:
    """Deliver what is due; return how many questions people got."""
    delivered = await drain(station.store)
    return sum(d.checkpoint is not None and d.checkpoint.kind is Kind.APPROVAL_REQUESTED for d in delivered)


async def test_a_standing_approval_answers_at_once() -> None:
    """A tool that a person allowed in this task is allowed again: people are not asked, and the row has the rule."""
    station = Station(rules=ROUTED_RULES, ask_after=timedelta(0))
    call = station.call()
    [first] = await station.open()
    assert await asked(station) == 1
    verdict = await station.decide(scope=Scope.TASK)
    assert await call.answer() == (200, ALLOW)
    assert await station.call(tool_input={"command": "make"}).answer() == (200, ALLOW)
    assert await asked(station) == 0
    [row] = [row for row in await station.questions() if row.key != first.key]
    assert (row.state, row.decision, row.by, row.source, row.rule) == (
        *(InterventionState.DECIDED, "approve", "alice", "rule", str(verdict.rule)),
    )


@pytest.mark.parametrize(
    "other",
    [
        {"tool_name": "Write"},
        {"tool_input": {"command": "rm -rf /"}},
        {"session_id": "s2"},
        {"tenant": "acme"},
    ],
    ids=str,
)
async def test_a_standing_approval_holds_for_its_like_alone(other: dict[str, str]) -> None:
    """Another tool, a riskier command, another session or tenant is asked of a person."""
    station = Station()
    call = station.call()
    await station.decide(scope=Scope.TASK)
    assert await call.answer() == (200, ALLOW)
    assert await station.call(query="wait=0", **other).answer() == (200, {})


async def test_a_revoked_standing_approval_allows_nothing() -> None:
    """After a standing approval is revoked, the next call is asked of a person."""
    station = Station()
    call = station.call()
    verdict = await station.decide(scope=Scope.TASK)
    await call.answer()
    assert verdict.rule is not None
    await station.store.interventions.intervene(an_act(Verb.REVOKE, verdict.rule))
    assert await station.call(query="wait=0", tool_input={"command": "make"}).answer() == (200, {})


async def spent(at_limit: str = "pause") -> Station:
    """Return a station whose tenant has used up its budget."""
    station = Station(rules=spending(replace(PAUSE, at_limit=at_limit)))
    await station.store.record([a_start(1), a_call(1, 2), a_call(1, 3)])
    return station


@pytest.mark.parametrize("at_limit", ["ask", "pause", "cancel"])
async def test_a_used_up_budget_denies_calls(at_limit: str) -> None:
    """Both hooks of a call are denied with the reason, also in a session that is not known; no person is asked."""
    station = await spent(at_limit)
    before = len(await station.questions())
    [prompt, tool] = [
        (await station.call(hook_event_name=name).answer())[1]["hookSpecificOutput"]
        for name in ("PermissionRequest", "PreToolUse")
    ]
    assert prompt["decision"]["behavior"] == tool["permissionDecision"] == "deny"
    assert prompt["decision"]["message"] == tool["permissionDecisionReason"]
    assert tool["permissionDecisionReason"].startswith(WHY)
    assert len(await station.questions()) == before


async def test_a_used_up_budget_lets_work_be_saved() -> None:
    """`git commit` is left to the program's own rules, and its prompt is a question: nothing is allowed by itself."""
    station = await spent()
    saving = {"tool_input": {"command": "git commit -m 'so far'"}}
    assert await station.call(hook_event_name="PreToolUse", **saving).answer() == (200, {})
    call = station.call(**saving)
    await station.decide(Verb.DENY)
    assert await call.answer() == (200, denied("denied by alice"))


async def test_a_budget_that_only_warns_refuses_nothing() -> None:
    """Without an act at its limit a used-up budget leaves calls alone."""
    station = await spent("warn")
    assert await station.call(hook_event_name="PreToolUse").answer() == (200, {})
    assert station.recorded == []


async def test_refusals_are_counted() -> None:
    """Each refused call is an act of the budget in `spanpost_budget_acts_total`."""
    station = await spent()
    for program, name in (("claude-code", "PreToolUse"), ("codex", "PermissionRequest"), ("gemini-cli", "BeforeTool")):
        assert "deny" in str(await station.call(program=program, hook_event_name=name).answer())
    metrics = Metrics()
    for recorded in station.recorded:
        metrics.recorded(recorded)
    counted = metrics.registry.get_sample_value(
        "spanpost_budget_acts_total", {"budget": "calls", "act": "refuse", "tenant": "default"}
    )
    assert counted == 3
