"""Two messages of one task in Slack: the second links to the first, and is edited no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanpost.model.observations import Observation
from spanpost.routing.routes import Route, Routes
from spanpost.sinks.slack.rates import Rates
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.style import SlackStyle
from spanpost.sinks.slack.transport import WebApi
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.tasks.task_rules import TaskRules
from spanpost.testing.builders import SECOND, a_span
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.observed import an_event, ended, started

JOB: dict[str, Any] = {
    "agent.task.id": "job",
    "agent.task.name": "Nightly report",
    "gen_ai.operation.name": "invoke_agent",
}
CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.usage.output_tokens": 1,
}
TOOL: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
TALK: dict[str, Any] = {"gen_ai.conversation.id": "c-1"}
ROUTES = Routes(
    sinks=("slack",), routes=(Route(sink="slack"),), editing=frozenset({"slack"}), max_age=timedelta(days=36_500)
)


class Channel:
    """A store, its deliveries and the channel in which they are shown."""

    def __init__(self, slack: FakeSlack) -> None:
        self.slack = slack
        self.now = datetime.now(UTC)
        rules = FoldRules(routes=ROUTES, stall_rules=NO_STALL, tasks=TaskRules(conversations="a task a turn"))
        self._store = MemoryStore(rules, clock=lambda: self.now)
        api = WebApi(slack.token, base_url=slack.url)
        self.sink = SlackSink(
            transport=api,
            rates=Rates(edits_per_minute=6e4, posts_per_minute=6e4, posts_per_channel_per_minute=6e4),
            slack_style=SlackStyle(is_interactive=True),
        )

    async def hear(self, *observations: Observation, wait: float = 1) -> None:
        """Record observations, let time pass, and deliver everything."""
        self._store.record_now(list(observations))
        self.now += timedelta(seconds=wait)
        await self._store.elapse()
        while claimed := await self._store.outbox.claim(["slack"], 10):
            for delivery in claimed:
                await self._store.outbox.finish(delivery, await self.sink.deliver(delivery))

    def texts(self) -> list[str]:
        return [m["text"] for m in self.slack.messages()]

    def thread(self, number: int) -> list[str]:
        return [reply["text"] for reply in self.slack.thread(self.slack.messages()[number]["ts"])]

    def buttons(self, number: int) -> list[str]:
        message = self.slack.messages()[number]
        blocks = [*message["blocks"], *(b for a in message["attachments"] for b in a["blocks"])]
        return [element["action_id"] for block in blocks if block["type"] == "actions" for element in block["elements"]]

    def led_to(self, number: int) -> str:
        [link] = [
            e for e in self.slack.messages()[number]["blocks"][0]["elements"][0]["elements"] if e["type"] == "link"
        ]
        return str(link["url"])

    def link(self, number: int) -> str:
        return f"/p{self.slack.messages()[number]['ts'].replace('.', '')}"


@pytest.fixture
async def channel() -> AsyncIterator[Channel]:
    async with FakeSlack() as slack:
        made = Channel(slack)
        yield made
        await made.sink.close()


def _said(text: str, index: int) -> Observation:
    said = {"agent.checkpoint.message": text}
    return an_event(trace=5, span=2, name="agent.checkpoint", attributes=said, index=index, at=1.0 + index)


async def test_a_trace_whose_root_comes_late_links_to_the_task(channel: Channel) -> None:
    """Replies stay in the old thread, later ones go to the other; the old message is never edited again."""
    await channel.hear(started(trace=1, span=1, name="agent", attributes=JOB))
    calls = [ended(trace=5, span=s, parent=1, name="part", attributes=a) for s, a in ((2, CALL), (3, TOOL))]
    await channel.hear(*calls, _said("found it", 0), wait=15)
    assert len(channel.texts()) == 2
    assert channel.buttons(1)
    assert any("found it" in text for text in channel.thread(1))

    await channel.hear(started(trace=5, span=1, name="agent", attributes=JOB), _said("mended it", 1))
    job, other = channel.texts()
    assert other == "↪ This went on as part of Nightly report"
    assert channel.led_to(1).endswith(channel.link(0))
    assert (channel.buttons(1), bool(channel.buttons(0))) == ([], True)
    [attachment] = channel.slack.messages()[1]["attachments"]
    assert attachment["color"] == "#dddddd"
    assert "Nightly report" in job
    assert ["found it" in "".join(channel.thread(n)) for n in (0, 1)] == [False, True]
    assert ["mended it" in "".join(channel.thread(n)) for n in (0, 1)] == [True, False]

    edits = channel.slack.messages()[1]["edits"]
    await channel.hear(
        *calls, _said("told it", 2), ended(trace=5, span=1, name="agent", attributes=JOB, seconds=9.0), wait=90
    )
    assert channel.slack.messages()[1]["edits"] == edits
    assert "told it" in "".join(channel.thread(0))
    assert len(channel.texts()) == 2


async def test_a_run_that_is_found_to_go_on_with_another_is_ended(channel: Channel) -> None:
    """A run resumed before its predecessor's wait was known links to the first once they are joined."""

    def root_span(trace: int, start: int, end: int | None) -> Observation:
        said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann", **TALK}
        return a_span(trace=trace, start=start * SECOND, end=None if end is None else end * SECOND, attributes=said)

    def part(trace: int, span: int, start: int, operation: str, **said: Any) -> Observation:
        attributes = {"gen_ai.operation.name": operation, **TALK, **said}
        return a_span(
            trace=trace, span=span, parent=1, start=start * SECOND, end=start * SECOND + 1, attributes=attributes
        )

    await channel.hear(root_span(1, 0, None))
    tool = {"gen_ai.tool.name": "book", "gen_ai.tool.call.id": "call-1"}
    await channel.hear(root_span(2, 10, None), part(2, 3, 11, "execute_tool", **tool))
    assert len(channel.texts()) == 2
    asks = part(1, 2, 1, "chat", **{"gen_ai.response.finish_reasons": ["tool_calls"], "gen_ai.usage.input_tokens": 3})
    await channel.hear(asks, root_span(1, 0, 2))
    first, second = channel.texts()
    assert second == "↪ This went on as part of ann"
    assert "working" in first
    assert channel.led_to(1).endswith(channel.link(0))
    assert channel.buttons(1) == []
