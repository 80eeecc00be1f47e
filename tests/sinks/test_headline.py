"""The line that says what matters of a task now."""

from __future__ import annotations

from spanpost.model.readings import Approval
from spanpost.sinks.headline import agents, headline
from spanpost.testing.nouns import a_task


def test_an_agent_that_failed_while_it_asked_has_failed() -> None:
    """A sub-agent that failed with its question open counts once, as failed, and none is less than nothing at work."""
    failed = a_task("a", status="error", approvals=(Approval(id="q", question="Deploy?"),))
    assert agents(a_task(), [failed]) == "its agent failed"
    assert agents(a_task(), [failed, a_task("b")]) == "1 of 2 agents failed · 1 at work"
    assert "-1" not in headline(a_task("root"), [failed])


def test_the_state_counts_the_agents_at_any_depth():
    """What the state counts stands in the message, though only some of the tasks below are at hand."""
    counted = a_task(working_children=5, waiting_children=1, done_children=2)
    assert agents(counted, [a_task("b")]) == "1 of 8 agents waits · 5 at work"
