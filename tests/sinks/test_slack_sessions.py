"""Sessions of an app that is declared an agent: they follow their task, need few calls, and never delay the
message.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from spanpost.model.deliveries import Receipt
from spanpost.model.tasks import BETWEEN_PROMPTS
from spanpost.runtime.assembly import open_sinks
from spanpost.settings import load
from spanpost.sinks.slack import sessions
from spanpost.sinks.slack.sink import SlackSink
from spanpost.testing.fake_slack import FakeSlack, Fault
from spanpost.testing.nouns import a_delivery, a_task

pytestmark = pytest.mark.usefixtures("clean_environment")
AT = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
METHOD = "agents.sessions.setStatus"


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as slack:
        slack.workspace.sessions = {}
        yield slack


def opened(slack: FakeSlack, **more: object) -> SlackSink:
    given = {"base_url": slack.url, "token": slack.token, "stop_button": True, "interactive": True}
    sink = open_sinks(load(slack=given | more))["slack"]
    assert isinstance(sink, SlackSink)
    return sink


class Run:
    """One task, recorded again and again."""

    def __init__(self, slack: FakeSlack, sink: SlackSink) -> None:
        self.slack, self.sink = slack, sink
        self.receipt: Receipt | None = None
        self.count = 0

    async def tell(self, status: str, after: float = 0.0) -> str | None:
        """Record the task in a status, so many minutes after the beginning; return the session's status
        then.
        """
        self.count += 1
        task = replace(a_task("run"), status=status, action=f"step {self.count}")
        at = AT + timedelta(minutes=after)
        self.receipt = await self.sink.deliver(
            a_delivery(task, sink="slack", message_receipt=self.receipt, claimed_at=at)
        )
        sessions = self.slack.workspace.sessions
        assert sessions is not None
        return sessions.get((self.receipt.ref["channel"], self.receipt.ref["ts"]))


async def test_a_session_follows_its_task(slack: FakeSlack) -> None:
    """A session works, waits and rests with its task, one call a change and half hour; none for ended tasks."""
    sink = opened(slack)
    run = Run(slack, sink)
    steps = [
        ("working", 0),
        ("working", 1),
        ("waiting", 2),
        ("working", 3),
        ("working", 34),
        ("paused", 35),
        ("complete", 36),
        ("complete", 99),
    ]
    assert [await run.tell(status, after) for status, after in steps] == [
        *["processing"] * 2, "suspended", "processing", "processing", "suspended", "active", "active",
    ]  # fmt: skip
    assert [call.arguments["status"] for call in slack.calls(METHOD)] == [
        "processing", "suspended", "processing", "processing", "suspended", "active",
    ]  # fmt: skip
    assert await Run(slack, sink).tell("complete") is None
    await sink.close()


async def test_a_coding_session_between_prompts_is_idle() -> None:
    """Who waits for a prompt, and for no answer, is not suspended: there is nothing to stop."""
    assert sessions.wanted(a_task(status="waiting")) == "suspended"
    assert sessions.wanted(a_task(status="waiting", rule=BETWEEN_PROMPTS)) == "active"


async def test_what_goes_wrong_costs_the_button_alone(slack: FakeSlack, caplog: pytest.LogCaptureFixture) -> None:
    """A failed session call is retried with the next edit; a final refusal is logged once, the message stays."""
    sink = opened(slack)
    run = Run(slack, sink)
    slack.faults.script(METHOD, [Fault.RESET_BEFORE, Fault.ERROR_AFTER])
    assert await run.tell("working") is None
    await run.tell("working")
    assert run.receipt is not None
    assert "session" not in run.receipt.ref
    assert await run.tell("working") == "processing"
    slack.workspace.sessions = None
    slack.asked.clear()
    other = Run(slack, sink)
    for _ in range(3):
        task = replace(a_task("other"), action=f"step {_}")
        other.receipt = await sink.deliver(a_delivery(task, sink="slack", message_receipt=other.receipt))
    assert [call.became for call in slack.calls(METHOD)] == ["not_authorized"]
    assert len(slack.calls("chat.update")) == 2
    assert caplog.text.count("declare the app an agent") == 1
    await sink.close()


async def test_where_nobody_would_hear_it_there_is_none(slack: FakeSlack, caplog: pytest.LogCaptureFixture) -> None:
    """Without the setting, or without interactions, there is no call. Without the event Slack warns, and so
    do we.
    """
    for more in ({"stop_button": False}, {"interactive": False}):
        sink = opened(slack, **more)
        assert await Run(slack, sink).tell("working") is None
        await sink.close()
    assert slack.calls(METHOD) == []
    slack.workspace.hears_stop = False
    sink = opened(slack)
    with caplog.at_level(logging.WARNING):
        await Run(slack, sink).tell("working")
    assert "agent_session_stopped" in caplog.text
    await sink.close()
