"""The line that says what matters of a task now."""

from __future__ import annotations

from spanpost.model.readings import Approval
from spanpost.sinks.headline import agents, headline
from spanpost.testing.nouns import a_task


def test_an_agent_that_failed_while_it_asked_has_failed() -> None:
    """A sub-agent that failed with its question open counts once, as failed, and none is less than nothing at work."""
    failed = a_task("a", status="error", approvals=(Approval(id="q", question="Deploy?"),))
    assert agents([failed]) == "its agent failed"
    assert agents([failed, a_task("b")]) == "1 of 2 agents failed · 1 at work"
    assert "-1" not in headline(a_task("root"), [failed])
