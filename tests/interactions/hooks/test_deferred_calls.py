"""Calls of headless runs at the endpoint: deferred while people are asked, run or refused when resumed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import InterventionState, Verb
from spanpost.model.launch_orders import Order, OrderQuery
from spanpost.model.standing_approvals import Scope
from spanpost.routing.launch_orders import Launches
from spanpost.tasks.approval_rules import ApprovalRules
from spanpost.tasks.folded import FoldRules
from tests.interactions.hooks.harness import PROMPT, Station

RESUMES = FoldRules(launches=Launches(named={"go-on": {}}), resume="go-on")
CALL: dict[str, Any] = {**PROMPT, "hook_event_name": "PreToolUse", "tool_use_id": "toolu_1"}


async def before(station: Station, **more: Any) -> tuple[str, str]:
    """Ask about a call as a headless run; return the decision and its reason."""
    status, answer = await station.call(CALL, query="defer=true", **more).answer()
    said = answer["hookSpecificOutput"]
    assert (status, said["hookEventName"]) == (200, "PreToolUse")
    return said["permissionDecision"], said["permissionDecisionReason"]


async def orders(station: Station) -> list[Order]:
    return [row.order for row in await station.store.launch_orders.listed(OrderQuery())]


@pytest.mark.parametrize(
    ("verb", "answer"), [(Verb.APPROVE, ("allow", "allowed by alice")), (Verb.DENY, ("deny", "denied by alice: no"))]
)
async def test_a_decision_resumes_the_run(verb: Verb, answer: tuple[str, str]) -> None:
    """A call is put off until a person decides; the decision places one order, and the resumed call gets it."""
    station = Station(rules=RESUMES, resume="go-on")
    assert await before(station) == ("defer", "people are asked; after their decision launcher go-on resumes it")
    [row] = await station.open()
    assert (row.question, row.is_asked, row.expires_at) == ("Claude Code asks to use Bash in shop", True, None)
    assert row.detail.splitlines()[-1] == "afterwards: claude -p --resume s1"
    assert (await before(station, prompt_id="p2"))[0] == "defer"  # resumed too early
    assert (await before(station, hook_event_name="PreToolUse"))[0] == "defer"
    assert await orders(station) == []
    verdict = await station.decide(verb, "no" if verb is Verb.DENY else "")
    [order] = await orders(station)
    assert (order.carrier, order.parameters) == ("launch:go-on", {"session": "s1", "cwd": "/home/me/shop"})
    assert (order.by, order.source, order.id) == ("alice", "slack", verdict.order_id)
    for prompt in ("p1", "p2"):
        assert await before(station, prompt_id=prompt) == answer
    assert (len(await station.questions()), len(await orders(station))) == (1, 1)


async def test_a_decision_is_for_its_call_alone() -> None:
    """Another input, another call of the same words, another session and another tenant are asked anew."""
    station = Station(rules=RESUMES)
    await before(station)
    await station.decide()
    others: list[dict[str, Any]] = [
        {"tool_input": {"command": "touch made.txt "}},
        {"tool_use_id": "toolu_2"},
        {"session_id": "s2"},
        {"tool_name": "Write"},
        {"cwd": "/home/me/else"},
        {"tenant": "acme"},
    ]
    for n, more in enumerate(others, 2):
        assert (await before(station, **more))[0] == "defer", more
        assert len(await station.questions()) == n
    assert (await before(station))[0] == "allow"
    assert len(await orders(station)) == 1


async def test_without_a_launcher_nothing_is_started() -> None:
    """Without the setting a decision starts nothing, and the run's output says how to go on."""
    station = Station()
    decision, reason = await before(station)
    assert (decision, reason) == ("defer", "people are asked; after their decision go on with claude -p --resume s1")
    assert (await station.decide()).order_id is None
    assert await orders(station) == []


async def test_a_question_that_expires_refuses() -> None:
    """`approvals.expire_after` is the deadline: then the resumed call is refused, and nothing was started."""
    rules = FoldRules(
        launches=RESUMES.launches, resume="go-on", approvals=ApprovalRules(expire_after=timedelta(days=2))
    )
    station = Station(rules=rules)
    await before(station)
    await station.pass_time(86_400)
    assert (await before(station))[0] == "defer"
    await station.pass_time(2 * 86_400)
    assert await before(station) == ("deny", "nobody answered in time")
    assert [row.state for row in await station.questions()] == [InterventionState.EXPIRED]
    assert await orders(station) == []


async def test_a_closed_question_refuses() -> None:
    """A question that was withdrawn grants nothing, and the end of the session withdraws none."""
    station = Station(rules=RESUMES)
    await before(station)
    for name in ("Stop", "SessionEnd", "PostToolUse"):
        await station.call(CALL, hook_event_name=name).answer()
    [row] = await station.open()
    await station.store.interventions.withdraw(row.key, "given up")
    assert await before(station) == ("deny", "its question was closed without an approval")


async def test_a_standing_approval_allows_at_once() -> None:
    """A tool allowed in the task is not asked about again: its next call runs, and no order is placed for it."""
    station = Station(rules=RESUMES)
    await before(station)
    await station.decide(scope=Scope.TASK)
    assert (await before(station, tool_use_id="toolu_2"))[0] == "allow"
    assert len(await orders(station)) == 1


async def test_an_error_refuses() -> None:
    """Without a store, without a call id, and with a session that a command would misread, the call is refused."""
    station = Station()
    assert (await before(station, tool_use_id=""))[0] == "deny"
    for session in ("--dangerous", "a b", "a/../b", "s1\n"):
        assert (await before(station, session_id=session))[0] == "deny"
    assert await station.questions() == []

    async def fails(*_: object) -> None:
        raise StoreUnavailable("away")

    station.answers.ask_all = fails  # type: ignore[method-assign]
    assert await before(station) == ("deny", "spanpost cannot record its question now")


async def test_a_directory_that_a_command_would_misread_is_left_out() -> None:
    """The order names a directory only if it is an absolute path of plain characters."""
    for cwd in ("relative", "/a\nb", "/" + "x" * 2000, ""):
        station = Station(rules=RESUMES)
        await before(station, cwd=cwd)
        await station.decide()
        assert [order.parameters for order in await orders(station)] == [{"session": "s1"}]


async def test_only_claude_code_defers() -> None:
    """The programs that cannot end a run at a call get an error, and no question is recorded."""
    station = Station()
    for program in ("codex", "gemini-cli"):
        assert (await station.call(CALL, program, query="defer=true").answer())[0] == 400
    assert (await station.call(CALL, query="defer=maybe").answer())[0] == 400
    assert await station.call(CALL, query="defer=false").answer() == (200, {})
    assert await station.questions() == []
