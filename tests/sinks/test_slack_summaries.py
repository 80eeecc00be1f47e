"""Digests and boards in Slack: within every limit, text as text, one message each through restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.errors import DeliveryUncertain
from spanpost.model.outcomes import Arrived
from spanpost.model.readings import Failure
from spanpost.model.summaries import Board, Digest, Summary
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route, Routes
from spanpost.runtime.summaries import Summaries
from spanpost.semconv import STATUSES
from spanpost.sinks.slack.links import Template
from spanpost.sinks.slack.rates import Rates
from spanpost.sinks.slack.render import Style
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.style import SlackStyle
from spanpost.sinks.slack.summaries import draw
from spanpost.sinks.slack.transport import WebApi
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_orders import done
from spanpost.testing.exercise_sink import HOSTILE, a_hostile_task
from spanpost.testing.exercise_summaries import CARRIER, at_work
from spanpost.testing.fake_slack import FakeSlack, Fault
from spanpost.testing.nouns import NOON, a_task
from spanpost.testing.strategies import tasks
from spanpost.text.locales import KOREAN
from tests.locales.test_messages import known, left_in, spoken
from tests.sinks.slack_limits import check
from tests.sinks.test_slack_render import shown, slack_styles
from tests.thorough import thorough

counts = st.dictionaries(st.sampled_from(STATUSES), st.integers(0, 10**6))
few = st.lists(tasks, max_size=4, unique_by=lambda t: t.uid)


def a_digest(failed: list[Task], needy: list[Task], ended: dict[str, int], living: dict[str, int]) -> Digest:
    return Digest(
        route="r", began_at=NOON, ends_at=NOON, ended=ended, living=living, input_tokens=10**6,
        cost_usd=Decimal("1.5"), unpriced=3, failed=tuple(failed), needy=tuple(needy),
    )  # fmt: skip


def of(content: Digest | Board) -> Summary:
    return Summary(id=UUID(int=1), key="summary|1", content=content)


@pytest.mark.slow
@thorough(20)
@given(few, few, counts, counts, st.sampled_from(Style), slack_styles)
def test_any_summary_is_valid_within_limits_and_literal(
    some: list[Task],
    others: list[Task],
    ended: dict[str, int],
    living: dict[str, int],
    style: Style,
    slack_style: SlackStyle,
) -> None:
    """Any summary in both styles and languages is valid by Slack's types and limits, with text as text."""
    check(draw(of(a_digest(some, others, ended, living)), key="k", style=style, slack_style=slack_style))
    check(
        draw(
            of(Board(route="r", tasks=tuple(some), more=3, living=living)),
            key="k",
            style=style,
            slack_style=slack_style,
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_in_every_line(text: str) -> None:
    """Twenty tasks of the same hostile text still fit."""
    made = [a_hostile_task(text)] * 20
    for style in Style:
        check(draw(of(a_digest(made[:10], made[:10], {"error": 99}, {"waiting": 99})), key="k", style=style))
        check(draw(of(Board(route="r", tasks=tuple(made), more=9, living={"working": 29})), key="k", style=style))


@pytest.mark.slow
@thorough(20)
@given(few, few, counts, counts, st.sampled_from(Style))
def test_no_english_is_left_in_a_summary(
    some: list[Task], others: list[Task], ended: dict[str, int], living: dict[str, int], style: Style
) -> None:
    """A digest and a board in Korean have no English word of ours."""
    some, others = [known(task) for task in some], [known(task) for task in others]
    for summary in (a_digest(some, others, ended, living), Board(route="r", tasks=tuple(some), more=3, living=living)):
        message = draw(of(summary), key="k", style=style, slack_style=SlackStyle(locale=KOREAN))
        assert [word for said in spoken(message) for word in left_in(said)] == []


def test_a_digest_says_what_is_to_be_known() -> None:
    """A digest has ends by outcome, usage, failures with reason and link, tasks that need a person, and
    running ones.
    """
    failed = a_task(
        "f", name="Nightly", status="error", error=Failure(type="E", message="no disk"), trace_id=b"\1" * 16
    )
    needy = a_task("w", name="Deploy", status="stalled")
    summary = a_digest([failed], [needy], {"complete": 41, "error": 3}, {"working": 2, "stalled": 1})
    slack_style = SlackStyle(prefix="[prod]", links=(Template("trace", "https://g.example/{trace_id}"),))
    message = draw(of(summary), key="k", slack_style=slack_style)
    text = shown(message)
    for part in (
        "[prod] 44 tasks ended",
        "✅ complete 41",
        "❌ failed 3",
        "1M in",
        "$1.50 + 3 calls unpriced",
        "Nightly",
        "no disk",
        "and 2 more",
        "Deploy",
        "3 tasks go on",
    ):
        assert part in text, part
    assert "https://g.example/" + "01" * 16 in str(message.blocks) + str(message.attachments)


class Channel:
    """A store, the maker of summaries, and the channel in which they are shown."""

    def __init__(self, slack: FakeSlack, store: MemoryStore | None = None) -> None:
        self.routes = (Route(sink="slack", board=True, digest="hourly", language="ko"),)
        table = Routes(sinks=("slack",), routes=self.routes)
        self.store = store or MemoryStore(FoldRules(routes=table))
        rates = Rates(edits_per_minute=6e4, posts_per_minute=6e4, posts_per_channel_per_minute=6e4)
        self.sink = SlackSink(transport=WebApi(slack.token, base_url=slack.url), rates=rates)
        self.sink.routed(self.routes)
        self.summaries = Summaries(
            self.store.reader, self.store.launch_orders, {"slack": self.sink}, lambda: table, "default", lambda: None
        )

    async def carry(self) -> list[Any]:
        carrier, outcomes = self.summaries.carriers[CARRIER], []
        while claimed := await self.store.outbox.claim([CARRIER], 10):
            for delivery in claimed:
                outcome: Any
                try:
                    outcome = await carrier.deliver(delivery)
                except DeliveryUncertain:
                    outcome = Arrived(receipt=(await carrier.reconcile([delivery]))[delivery.id])  # type: ignore[arg-type]
                outcomes.append(outcome)
                await self.store.outbox.finish(delivery, outcome)
        return outcomes


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as made:
        yield made


async def test_a_board_whose_first_post_was_cut_off_is_found_and_edited(slack: FakeSlack) -> None:
    """After a lost answer another process finds the posted board and edits it; there is never a second."""
    first, now = Channel(slack), datetime.now(UTC)
    now = now.replace(minute=min(now.minute, 50))  # no digest of an hour is due a minute later
    await first.store.record([at_work("writer", 1)])
    slack.faults.script("chat.postMessage", [Fault.RESET_AFTER])
    assert await first.summaries.scan(now) == 1
    [found] = await first.carry()
    assert isinstance(found, Arrived)
    await first.sink.close()
    second = Channel(slack, first.store)
    await second.store.record([done("writer", trace=1), at_work("editor", 2), at_work("painter", 3)])
    assert await second.summaries.scan(now + timedelta(minutes=1)) == 1
    await second.carry()
    [message] = slack.messages()
    assert message["text"] == "📋 진행 중인 작업 2건"
    assert message["edits"] == 1
    await second.sink.close()


async def test_a_digest_whose_post_was_cut_off_is_posted_once(slack: FakeSlack) -> None:
    """A digest whose post's answer was lost is found by its key, and not posted again."""
    channel, now = Channel(slack), datetime.now(UTC)
    await channel.store.record([done("writer", trace=1), done("editor", trace=2, status="error")])
    slack.faults.script("chat.postMessage", [Fault.RESET_AFTER])
    await channel.summaries.scan(now.replace(minute=0, second=31) + timedelta(hours=1))
    assert any(isinstance(outcome, Arrived) for outcome in await channel.carry())
    [message] = slack.messages()
    assert message["text"] == "📰 종료된 작업 2건"
    await channel.sink.close()


async def test_a_board_that_somebody_deleted_stays_deleted(slack: FakeSlack) -> None:
    """No other board is posted in place of one that a person deleted."""
    channel, now = Channel(slack), datetime.now(UTC)
    await channel.store.record([at_work("writer", 1)])
    await channel.summaries.scan(now)
    await channel.carry()
    slack.delete(slack.messages()[0]["ts"])
    for n in (2, 3):
        await channel.store.record([at_work(f"editor {n}", n)])
        await channel.summaries.scan(now + n * timedelta(minutes=1))
        await channel.carry()
    assert slack.messages() == []
    await channel.sink.close()
