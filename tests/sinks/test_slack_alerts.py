"""Alerts in Slack: whole, within every limit, literal, and up to date."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid5

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Kind
from spanpost.sinks.redaction import SinkRule
from spanpost.sinks.slack import alert_blocks
from spanpost.sinks.slack.flow import known_of
from spanpost.sinks.slack.render import COLOURS, SlackMessage, Style
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.style import SlackStyle
from spanpost.sinks.slack.transport import WebApi
from spanpost.testing.exercise_sink import HOSTILE
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task
from spanpost.testing.strategies import texts
from tests.sinks.slack_limits import blocks_of, check, nodes
from tests.thorough import thorough

FULL = Alert(
    id=uuid5(a_task().uid, "alert"),
    tenant="default",
    source="alertmanager",
    fingerprint="f",
    starts_at=NOON,
    name="DiskFull",
    severity="critical",
    summary="The disk of db1 is full",
    description="Delete old backups, or enlarge the volume.",
    links={"Runbook": "https://example.org/runbook", "Dashboard": "https://grafana.example/d/1"},
    labels={"alertname": "DiskFull", "severity": "critical", "instance": "db1", "team": "storage", "task_id": "t-1"},
)
OVER = msgspec.structs.replace(FULL, ends_at=NOON + timedelta(minutes=12, seconds=7))
maps = st.dictionaries(
    st.text(max_size=9) | st.sampled_from(HOSTILE), st.text(max_size=9) | st.sampled_from(HOSTILE), max_size=12
)
many = st.builds(
    Alert,
    id=st.just(FULL.id),
    tenant=st.just("default"),
    source=st.just("grafana"),
    fingerprint=texts,
    starts_at=st.just(NOON),
    ends_at=st.sampled_from([None, NOON]),
    name=texts,
    severity=st.sampled_from(["", "critical", "warning", "info"]) | texts,
    summary=texts,
    description=texts | st.just("\n".join(HOSTILE)),
    links=st.dictionaries(st.sampled_from(["Runbook", "Query"]), st.just("https://x.example/") | texts),
    labels=maps,
)
IDS = ("U012AB3CD", "S0GROUP1")
slack_styles = st.builds(
    SlackStyle,
    prefix=st.sampled_from(["", "[prod]"]),
    mention=st.sampled_from([(), IDS]),
    rules=st.sampled_from([(), (SinkRule(pattern="[a-m]{1,9}the[a-m]{0,9}"), SinkRule(pattern="abc"))]),
)


def shown(message: SlackMessage) -> str:
    """Return all the text that a reader sees."""
    return "".join(n["text"] for b in blocks_of(message) for n in nodes(b) if isinstance(n.get("text"), str))


@thorough(80)
@given(many, st.booleans(), st.sampled_from(Style), slack_styles)
def test_any_alert_is_valid_within_limits_and_literal(alert, is_root, style, slack_style):
    """Any alert, in both styles and any Slack style: Slack's own types, every limit kept, nothing parsed."""
    task = a_task()
    check(
        alert_blocks.root(
            alert, task, tuple(a_task(f"child-{n}") for n in range(12)), key="k", style=style, slack_style=slack_style
        ),
        slack_style.mention,
    )
    check(
        alert_blocks.reply(alert, task, key="k", is_root=is_root, style=style, slack_style=slack_style),
        slack_style.mention,
    )


@pytest.mark.parametrize("style", Style)
def test_an_alert_says_what_is_wrong_and_what_to_do(style: Style) -> None:
    """A firing alert has name, severity, summary, remedy, links and labels; a resolved one its duration."""
    message = alert_blocks.root(FULL, a_task(), key="k", style=style)
    said = shown(message)
    for part in (
        "DiskFull",
        "critical",
        "The disk of db1 is full",
        "Delete old backups",
        "Runbook",
        "instance=db1",
        "team=storage",
    ):
        assert part in said
    assert "task_id" not in said
    assert message.attachments[0]["color"] == COLOURS["red"]
    over = alert_blocks.root(OVER, a_task(), key="k", style=style)
    assert over.attachments[0]["color"] == COLOURS["green"]
    assert "after 12 min 07 s" in shown(over)
    assert "Delete old backups" not in shown(over)
    assert over.text == "✅ Resolved · DiskFull: The disk of db1 is full"


@pytest.mark.parametrize(
    ("word", "colour", "calls"),
    [("page", "red", True), ("warning", "yellow", False), ("", "yellow", False), ("info", "blue", False)],
)
def test_severity_is_colour_and_call(word: str, colour: str, calls: bool) -> None:
    """A critical alert, in any word for it, is red and mentions the route's people; a resolved one mentions
    nobody.
    """
    slack_style = SlackStyle(mention=IDS)
    message = alert_blocks.reply(
        msgspec.structs.replace(FULL, severity=word), a_task(), key="k", slack_style=slack_style
    )
    assert message.attachments[0]["color"] == COLOURS[colour]
    assert (IDS[0] in repr(message.blocks)) == calls
    assert IDS[0] not in repr(alert_blocks.reply(OVER, a_task(), key="k", slack_style=slack_style).blocks)


async def test_an_alert_is_posted_once_and_edited() -> None:
    """An alert is one message of its own and one in a thread, each edited when it is resolved."""
    async with FakeSlack() as slack:
        sink = SlackSink(channel="#agents", transport=WebApi(slack.token, base_url=slack.url))
        own = msgspec.structs.replace(a_task("alert"), type="alert", agent_name=None, status="waiting")
        first: dict[str, Any] = {}
        for alert in (FULL, OVER):
            state = a_delivery(own, sink="slack", alert=alert, message_receipt=first.get("root"))
            root = first["root"] = await sink.deliver(state)
            reply_delivery = a_delivery(
                own,
                a_checkpoint(own, kind=Kind.ALERT, ref=str(FULL.id)),
                sink="slack",
                alert=alert,
                message_receipt=root,
                receipt=first.get("reply"),
            )
            first["reply"] = await sink.deliver(reply_delivery)
        await sink.close()
        [message] = slack.workspace.channel("agents").top()
        [reply] = slack.workspace.channel("agents").replies(message["ts"])
        assert [m["text"] for m in (message, reply)] == ["✅ Resolved · DiskFull: The disk of db1 is full"] * 2


async def test_an_alert_of_another_app_is_answered_in_its_thread() -> None:
    """An alert that is another app's message gets its replies below that message, which is never edited."""
    async with FakeSlack() as slack:
        transport = WebApi(slack.token, base_url=slack.url)
        channel = slack.workspace.channel("agents")
        other = SlackSink(channel="#agents", transport=transport)
        foreign = await other.deliver(a_delivery(a_task("foreign"), sink="slack"))
        before = [(message["ts"], message["text"]) for message in channel.top()]
        sink = SlackSink(channel="#elsewhere", transport=transport)
        own = msgspec.structs.replace(a_task("alert"), type="alert", agent_name=None, status="waiting")
        ref = foreign.ref
        alert = msgspec.structs.replace(FULL, source="slack", fingerprint=f"T1-{ref['channel']}-{ref['ts']}")
        root = await sink.deliver(a_delivery(own, sink="slack", alert=alert))
        start = a_checkpoint(own, kind=Kind.START)
        await sink.deliver(a_delivery(own, start, sink="slack", alert=alert, message_receipt=root))
        agents = msgspec.structs.replace(a_task("fix"), root_uid=own.uid, parent_uid=own.uid)
        verdict = a_checkpoint(agents, kind=Kind.CHECKPOINT, text="Verdict: old logs")
        await sink.deliver(a_delivery(agents, verdict, sink="slack", message_receipt=root))
        await sink.close()
        await other.close()
        assert [(message["ts"], message["text"]) for message in channel.top()] == before
        replies = channel.replies(str(ref["ts"]))
        assert len(replies) == 2
        assert "DiskFull" in replies[0]["text"]
        assert "Verdict: old logs" in replies[1]["text"]
        ts = str(ref["ts"])
        for address, is_there in (
            ("", True), (ref["channel"], True), ("T1/", True), ("T22/", False), ("#ops", False)
        ):  # fmt: skip
            known = known_of(a_delivery(own, sink="slack", alert=alert, address=address))
            assert (known.get("ts") == ts) is is_there, address
