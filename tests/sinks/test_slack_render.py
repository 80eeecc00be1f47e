"""Slack's messages: whole, within every limit, literal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block
from tests.thorough import thorough

from spanpost.conventions import STATUSES
from spanpost.domain.checkpoints import Kind
from spanpost.domain.readings import Approval, Artifact, Failure
from spanpost.domain.tasks import Step
from spanpost.sinks.slack import blocks as kit
from spanpost.sinks.slack import render
from spanpost.sinks.slack.render import Message, Style
from spanpost.testing.exercise_sink import HOSTILE, a_hostile_task
from spanpost.testing.nouns import NOON, a_checkpoint, a_task
from spanpost.testing.strategies import checkpoints, tasks


def blocks_of(message: Message) -> Iterator[dict[str, Any]]:
    yield from message.blocks
    for attachment in message.attachments:
        yield from attachment["blocks"]


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a payload."""
    if isinstance(value, dict):
        yield value
        for v in value.values():
            yield from nodes(v)
    elif isinstance(value, list):
        for v in value:
            yield from nodes(v)


def shown(message: Message) -> str:
    """All the text that a reader sees."""
    return "".join(n["text"] for b in blocks_of(message) for n in nodes(b) if isinstance(n.get("text"), str)) + "".join(
        n["title"] for b in blocks_of(message) for n in nodes(b) if isinstance(n.get("title"), str)
    )


def check(message: Message) -> None:
    """Hold a message to Slack's limits and to ours."""
    every = list(blocks_of(message))
    assert len(message.blocks) >= 1
    assert len(every) <= kit.MAX_BLOCKS
    assert kit.size([message.blocks, message.attachments]) <= kit.BUDGET
    assert 0 < len(message.text) <= kit.MAX_TEXT
    unescaped = message.text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert not set(unescaped) & set("<>&")
    json.dumps(message.arguments(), allow_nan=False).encode()
    for node in nodes([every, message.attachments]):
        match node.get("type"):
            case "section":
                assert node["text"]["type"] == "plain_text"
                assert 0 < len(node["text"]["text"]) <= kit.MAX_SECTION
            case "context":
                assert 0 < len(node["elements"]) <= kit.MAX_CONTEXT_ELEMENTS
            case "plain_text":
                assert "<!" not in node["text"]
                assert "<@" not in node["text"]
                assert node["text"].strip()
            case "mrkdwn":
                pytest.fail("nothing that agents write goes where Slack parses")
            case "rich_text" | "rich_text_section" | "rich_text_preformatted" | "rich_text_quote":
                assert node["elements"], "Slack refuses empty rich text"
            case "text" | "link":
                assert node["text"], "Slack refuses an empty text element"
                assert node.get("url", "https://").startswith(("http://", "https://"))
            case "plan":
                assert 0 < len(node["tasks"]) <= 50
                assert len({c["task_id"] for c in node["tasks"]}) == len(node["tasks"])
            case "task_card":
                assert node["status"] in ("pending", "in_progress", "complete", "error")
                assert 0 < len(node["title"]) <= 256
                assert "<!" not in node["title"]
            case "broadcast" | "user" | "usergroup" | "channel":
                pytest.fail("an agent's text became a mention")
    assert message.metadata["event_type"] == "spanpost_message"


@thorough(80)
@given(tasks, st.lists(tasks, max_size=25, unique_by=lambda t: t.uid), st.sampled_from(Style))
def test_any_root_is_within_limits_and_literal(task, children, style):
    """Any task with any children, in both styles: every limit kept, nothing parsed, JSON without NaN."""
    check(render.root(task, children, key="k", style=style))


@thorough(80)
@given(tasks, checkpoints, st.booleans(), st.sampled_from(Style))
def test_any_reply_is_within_limits_and_literal(task, checkpoint, is_root, style):
    """Any news of any task, in both styles: every limit kept, nothing parsed."""
    check(render.reply(task, checkpoint, key="k", is_root=is_root, style=style))


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_everywhere(text, style):
    """The same hostile text in every field at once, with many children and steps, still fits."""
    task = a_hostile_task(text)
    check(render.root(task, [a_task(f"c{i}", name=text, action=text) for i in range(40)], key="k", style=style))
    for kind in Kind:
        check(render.reply(task, a_checkpoint(task, kind=kind, text=text, detail=text, ref=text), key="k", style=style))


@pytest.mark.parametrize("status", STATUSES)
def test_slack_sdks_own_models_take_it(status):
    """slack_sdk's models, which check some limits and types themselves, parse every block and give it back whole."""
    task = a_task(
        status=status,
        progress=40.0,
        action="reading",
        steps=(Step(name="Plan", index=1), Step(name="Fetch", index=2)),
        step_name="Fetch",
        step_index=2,
        artifacts=(Artifact(name="a.md", uri="https://e.example/a.md"),),
        error=Failure(type="E", message="m", log_tail="l1\nl2"),
    )
    for block in blocks_of(render.root(task, [a_task("c")], key="k")):
        parsed = Block.parse(block)
        assert parsed is not None
        parsed.validate_json()
        assert parsed.to_dict()["type"] == block["type"]


def test_the_root_says_it_all():
    """One message shows status, name, bar, step, agents, action, context, tokens, cost, time, artifact, link."""
    task = a_task(
        progress=60.0,
        step_name="Fetch data",
        step_index=3,
        step_count=5,
        action="reading 12 pages",
        context_used_tokens=144_000,
        context_window_tokens=200_000,
        context_window_source="table",
        tool_calls=7,
        tool_errors=1,
        links={"trace": "https://g.example/t"},
        artifacts=(Artifact(name="outline.md", uri="https://f.example/o.md", kind="file"),),
    )
    message = render.root(task, (a_task("c", name="Check sources", status="complete"), a_task("d", name="Collect")), key="k")
    text = shown(message)
    for part in (
        "⚙️ Quarterly report  working",
        "██████░░░░ 60 %   3/5 Fetch data",
        "1 of 2 agents at work",
        "Check sources",
        "Collect",
        "reading 12 pages",
        "📎 outline.md",
        "🔗 trace",
        "🟡 context 72 % of 200k (table)",
        "18.4k in · 1.2k out",
        "$0.04",
        "7 tool calls (1 failed)",
        "1m 14s",
    ):
        assert part in text, part
    assert message.attachments[0]["color"] == render.COLOURS["green"]
    assert message.text == "⚙️ Quarterly report: working · 60 % · reading 12 pages"
    assert message.metadata == {"event_type": "spanpost_message", "event_payload": {"k": "k", "g": 0}}


def test_the_plain_style_uses_nothing_new():
    """The fallback consists of sections and context of plain text, which every workspace takes, and says the same in short."""
    task = a_task(progress=60.0, action="reading", steps=(Step(name="a"), Step(name="b")))
    message = render.root(task, (a_task("c", name="Check sources"),), key="k", style=Style.PLAIN)
    assert {b["type"] for b in blocks_of(message)} <= {"section", "context"}
    for part in ("⚙️ Quarterly report: working", "60 %", "Check sources", "reading"):
        assert part in shown(message)


def test_equal_tasks_render_equally():
    """No clock: an unchanged task is an unchanged message."""
    assert render.root(a_task(), key="k") == render.root(a_task(), key="k")


def test_steps_become_cards():
    """Steps that are done, under way and failed have the card's status for it."""
    steps = tuple(Step(name=n, index=i) for i, n in enumerate(("Plan", "Fetch", "Write"), 1))
    working = render.root(a_task(steps=steps, step_name="Write", step_index=3), key="k").blocks[1]
    failed = render.root(a_task(steps=steps, status="error"), key="k").blocks[1]
    assert [c["status"] for c in working["tasks"]] == ["complete", "complete", "in_progress"]
    assert [c["status"] for c in failed["tasks"]] == ["complete", "complete", "error"]


def test_of_many_agents_the_ones_at_work_are_shown():
    """When not all cards fit, those under way and failed are kept before those that are done."""
    children = [a_task(f"c{i}", name=f"agent {i}", status="complete") for i in range(40)]
    children[3] = a_task("c3", name="agent 3", status="error")
    children[7] = a_task("c7", name="agent 7")
    plan = render.root(a_task(), children, key="k").blocks[1]
    assert len(plan["tasks"]) == render.CARDS
    assert {"agent 3", "agent 7"} <= {c["title"] for c in plan["tasks"]}


def test_a_failure_shows_the_end_of_its_log_scrubbed():
    """The log's last lines, without the token that it holds."""
    error = Failure(
        type="TimeoutError",
        message="gave up",
        log_tail="\n".join(f"line {i}" for i in range(900)) + "\nxoxb-123456789012-abcdefghijkl",
    )
    text = shown(render.root(a_task(status="error", error=error), key="k"))
    assert "TimeoutError: gave up" in text
    assert "line 899\n[redacted]" in text
    assert "line 1\n" not in text


def test_an_end_says_its_figures():
    """The last reply carries tokens, cost, time and the results that the agent gave."""
    task = a_task(status="complete", ended_at=NOON + timedelta(seconds=90), results={"accuracy": "0.97"})
    text = shown(render.reply(task, a_checkpoint(task, kind=Kind.END, status="complete", text="written"), key="k"))
    assert text == "✅ written18.4k in · 1.2k out  ·  $0.04  ·  1m 30s  ·  accuracy: 0.97"


def test_a_question_names_its_risk_and_options():
    """An approval's reply shows the question, what is behind it, the risk and the options."""
    asked = Approval(id="a1", question="Publish?", options=("approve", "deny"), risk="high")
    task = a_task(status="waiting", approvals=(asked,))
    checkpoint = a_checkpoint(task, kind=Kind.APPROVAL_REQUESTED, ref="a1", text="Publish?", detail="to the board")
    assert shown(render.reply(task, checkpoint, key="k")) == "✋ Publish?to the boardrisk high  ·  approve / deny"
