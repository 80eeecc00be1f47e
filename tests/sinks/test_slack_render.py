"""Slack's messages: whole, within every limit, literal."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from spanpost.model.checkpoints import Kind
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.model.tasks import MERGED, Step
from spanpost.semconv import STATUSES
from spanpost.sinks.redaction import SinkRule
from spanpost.sinks.slack import render
from spanpost.sinks.slack.blocks import unbroken
from spanpost.sinks.slack.cards import CARDS
from spanpost.sinks.slack.links import Template
from spanpost.sinks.slack.render import SlackMessage, Style
from spanpost.sinks.slack.replies import reply
from spanpost.sinks.slack.style import SlackStyle
from spanpost.testing.exercise_sink import HOSTILE, a_hostile_task
from spanpost.testing.nouns import NOON, a_checkpoint, a_task
from spanpost.testing.strategies import checkpoints, tasks
from spanpost.text.locales import LOCALES
from tests.sinks.slack_limits import blocks_of, check, nodes
from tests.thorough import thorough


def shown(message: SlackMessage) -> str:
    """Return all the text that a reader sees, without the distinction of spaces that do not break."""
    texts = [n["text"] for b in blocks_of(message) for n in nodes(b) if isinstance(n.get("text"), str)]
    titles = [n["title"] for b in blocks_of(message) for n in nodes(b) if isinstance(n.get("title"), str)]
    return "".join((*texts, *titles)).replace("\u00a0", " ")


IDS = ("U012AB3CD", "S0GROUP1")
#: Every Slack style that settings and routes can make.
slack_styles = st.builds(
    SlackStyle,
    prefix=st.sampled_from(["", "[prod]", "p" * 40]),
    mention=st.sampled_from([(), IDS]),
    shows_content=st.booleans(),
    shows_logs=st.booleans(),
    is_interactive=st.booleans(),
    links=st.sampled_from(
        [
            (),
            (Template("trace", "https://g.example/t/{trace_id}"), Template("logs", "https://l.example/?q={task_name}")),
        ]
    ),
    note=st.sampled_from(["", "meant for #deploys (not_in_channel)"]),
    rules=st.sampled_from([(), (SinkRule(pattern="[a-m]{1,9}the[a-m]{0,9}"), SinkRule(pattern="abc"))]),
    locale=st.sampled_from(list(LOCALES.values())),
)


@pytest.mark.slow
@pytest.mark.proves("literal", "mrkdwn", "bidi", "long-text")
@thorough(80)
@given(tasks, st.lists(tasks, max_size=25, unique_by=lambda t: t.uid), st.sampled_from(Style), slack_styles)
def test_any_root_is_valid_within_limits_and_literal(task, children, style, slack_style):
    """Any task with any children, in both styles, is valid by Slack's types and limits, with text as text."""
    check(render.root(task, children, key="k", style=style, slack_style=slack_style), slack_style.mention)


@pytest.mark.slow
@pytest.mark.proves("literal", "mrkdwn", "bidi", "long-text")
@thorough(80)
@given(tasks, checkpoints, st.booleans(), st.sampled_from(Style), slack_styles, st.integers(1, 10**6), st.booleans())
def test_any_reply_is_valid_within_limits_and_literal(task, checkpoint, is_root, style, slack_style, count, is_asked):
    """Any checkpoint of any task, in both styles and any Slack style: Slack's types and limits, nothing
    parsed.
    """
    if is_asked and task.approvals:
        checkpoint = msgspec.structs.replace(checkpoint, kind=Kind.APPROVAL_REQUESTED, ref=task.approvals[0].id)
    figures = ("checkout p99 840 → 310 ms",) if checkpoint.kind is Kind.END else ()
    check(
        reply(
            task,
            checkpoint,
            key="k",
            is_root=is_root,
            style=style,
            slack_style=slack_style,
            count=count,
            figures=figures,
        ),
        slack_style.mention,
    )


@pytest.mark.slow
@pytest.mark.proves("literal", "mrkdwn", "long-text")
@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_everywhere(text, style):
    """The same hostile text in every field at once, with many children and steps, still fits."""
    task = a_hostile_task(text)
    check(render.root(task, [a_task(f"c{i}", name=text, action=text) for i in range(40)], key="k", style=style))
    for kind in Kind:
        check(reply(task, a_checkpoint(task, kind=kind, text=text, detail=text, ref=text), key="k", style=style))


@pytest.mark.parametrize("status", STATUSES)
def test_slack_sdks_own_models_take_it(status):
    """slack_sdk's models, which check some limits and types themselves, parse every block and return it
    whole.
    """
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
    """One message shows all facts of a task: status, progress, action, context, tokens, cost, time, links."""
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
        links={"run": "https://g.example/t"},
        artifacts=(Artifact(name="outline.md", uri="https://f.example/o.md", kind="file"),),
    )
    slack_style = SlackStyle(prefix="[prod]", links=(Template("trace", "https://g.example/{task_id}"),))
    children = (a_task("c", name="Check sources", status="complete"), a_task("d", name="Collect"))
    message = render.root(task, children, key="k", slack_style=slack_style)
    text = shown(message)
    for part in (
        "⚙️ [prod] Quarterly report  1 of 2 agents at work · step 3 of 5 · 60 %\nreading 12 pages",
        "📎 outline.md",
        "🔗 trace  ·  run",
        "Fetch data",
        "Check sources",
        "Collect",
        "started <!date^1772452800^{time} ({ago})|12:00:00 UTC>",
        "$0.12",
        "🟡 context 72 % of 200k",
    ):
        assert part in text, part
    for part in ("18.4k", "tool call", "█", "claude"):
        assert part not in text, part
    assert message.attachments[0]["color"] == render.COLOURS["green"]
    assert message.text == ("⚙️ [prod] Quarterly report: 1 of 2 agents at work · step 3 of 5 · 60 % · reading 12 pages")
    assert message.metadata == {"event_type": "spanpost_message", "event_payload": {"k": "k", "g": 0}}


def test_a_plain_message_says_a_thing_once():
    """A plain message has one sign before a question, and the board's address only where no button opens it."""
    task = a_task(status="waiting", approvals=(Approval(id="a", question="Deploy?"),))
    for is_interactive in (True, False):
        style = SlackStyle(public_url="https://agents.example", is_interactive=is_interactive)
        said = shown(render.root(task, key="k", style=Style.PLAIN, slack_style=style))
        assert said.count("✋") == 1
        assert said.count("https://agents.example") == (not is_interactive)


def test_a_line_ends_between_two_facts():
    """On a telephone `step 3 of 5` is on one line: a short fact of line 1 has no space that breaks, a long one has."""
    task = a_task(step_index=3, step_count=5, progress=60.0)
    said = "".join(n["text"] for n in nodes(render.root(task, key="k").blocks) if n.get("type") == "text")
    assert said.startswith("⚙️ Quarterly report  step\u00a03\u00a0of\u00a05 · 60\u00a0%")
    assert unbroken("failed in step 2 of 3, the canary of Oslo · 54 s").count("\u00a0") == 1


def test_a_task_that_ended_is_short():
    """An ended task has no plan and no action: what came of it, the time it took, the cost, and its figures."""
    steps = (Step(name="Plan", index=1), Step(name="Fetch", index=2))
    task = a_task(
        status="complete",
        progress=100.0,
        action="x",
        steps=steps,
        ended_at=NOON + timedelta(seconds=54),
        results={"p99_before": 840, "p99_after": 310},
    )
    message = render.root(task, (a_task("c"),), key="k", slack_style=SlackStyle(is_interactive=True))
    assert [b["type"] for b in blocks_of(message)] == ["rich_text", "context", "actions"]
    assert shown(message).startswith("✅ Quarterly report  54 s · $0.08\np99 840 → 310reporter")
    assert "ended" in shown(message)


def test_the_board_and_links_of_the_settings_are_buttons_and_an_agents_link_is_none():
    """The name and *Open* lead to the board, a link of the settings is a button; an agent's names its host."""
    slack_style = SlackStyle(
        is_interactive=True,
        public_url="https://agents.example",
        links=(Template("trace", "https://g.example/{task_id}"),),
    )
    task = a_task(links={"Approve": "https://evil.example/x"})
    message = render.root(task, key="k", slack_style=slack_style)
    check(message)
    page = f"https://agents.example/board/tasks/{task.uid}"
    [row] = [b for b in blocks_of(message) if b["type"] == "actions"]
    assert [(e.get("url"), e.get("text", {}).get("text")) for e in row["elements"]][:3] == [
        (page, "Open"),
        ("https://g.example/task-1", "trace"),
        (None, "Stop"),
    ]
    linked = [n for b in blocks_of(message) for n in nodes(b) if n.get("type") == "link"]
    assert [(n["url"], n["text"]) for n in linked] == [
        (page, "Quarterly report"),
        ("https://evil.example/x", "“Approve”"),
    ]
    assert "(evil.example)" in shown(message)


def test_the_person_for_whom_it_runs_is_named_once_and_mentioned_at_the_end_and_in_a_question():
    """A requester whom the settings or an id resolve is mentioned; another one is plain text."""
    slack_style = SlackStyle(people={"mina": "U012AB3CD"})
    task = a_task(requested_by="Mina", status="complete", ended_at=NOON + timedelta(minutes=2))
    assert "for <@U012AB3CD>" in shown(render.root(task, key="k", slack_style=slack_style))
    assert "for Mina" in shown(render.root(task, key="k"))
    new = render.root(task, key="k", slack_style=slack_style, is_new=True)
    assert "for Mina" in shown(new)
    assert "<@" not in shown(new)
    by_id = msgspec.structs.replace(task, requested_by="U012AB3CD")
    assert "U012AB3CD" not in shown(render.root(by_id, key="k", is_new=True))
    assert "for <@U012AB3CD>" in shown(render.root(by_id, key="k"))
    end = a_checkpoint(task, kind=Kind.END, status="complete", text="Complete in 2 min")
    closing = reply(task, end, key="k", slack_style=slack_style)
    assert [n["user_id"] for b in closing.blocks for n in nodes(b) if n.get("type") == "user"] == ["U012AB3CD"]
    muted = reply(msgspec.structs.replace(task, is_muted=True), end, key="k", slack_style=slack_style)
    assert not [n for b in muted.blocks for n in nodes(b) if n.get("type") == "user"]


def test_the_plain_style_uses_nothing_new():
    """The plain style is sections and context of plain text, and says the same briefly."""
    task = a_task(progress=60.0, action="reading", steps=(Step(name="a"), Step(name="b")))
    message = render.root(task, (a_task("c", name="Check sources"),), key="k", style=Style.PLAIN)
    assert {b["type"] for b in blocks_of(message)} <= {"section", "context"}
    for part in ("⚙️ Quarterly report: 1 of 1 agent at work", "60 %", "reading"):
        assert part in shown(message)


def test_equal_tasks_render_equally():
    """An unchanged task is an unchanged message: rendering uses no clock."""
    assert render.root(a_task(), key="k") == render.root(a_task(), key="k")


def test_steps_that_are_done_are_one_card():
    """Finished steps are folded into one card; the plan is called like the current step, which has its own."""
    steps = tuple(Step(name=n, index=i) for i, n in enumerate(("Plan", "Fetch", "Write"), 1))
    plan = render.root(
        a_task(steps=steps, step_name="Write", step_index=3, step_count=4, action="typing"), key="k"
    ).blocks[1]
    assert [(c["title"], c["status"]) for c in plan["tasks"]] == [("Plan, Fetch", "complete"), ("Write", "in_progress")]
    assert plan["title"] == "Write"
    many = tuple(Step(name=f"step {i}", index=i) for i in range(1, 60))
    plan = render.root(a_task(steps=many, step_name="step 59", step_index=59), key="k").blocks[1]
    assert [c["title"] for c in plan["tasks"]] == ["58 steps done", "step 59"]


def test_tool_calls_are_no_plan():
    """Steps that were made of tool calls have no cards."""
    task = a_task(steps=tuple(Step(name="read_file") for _ in range(5)))
    assert [b["type"] for b in render.root(task, key="k").blocks] == ["rich_text"]


def test_of_many_agents_those_that_failed_have_a_card_each():
    """An agent that failed has a card with its error; those at work and those that are done share one each."""
    children = [a_task(f"c{i}", name=f"agent {i}", status="complete") for i in range(40)]
    children[3] = a_task("c3", name="agent 3", status="error", error=Failure(type="E", message="gone\nat line 7"))
    children[7] = a_task("c7", name="agent 7")
    message = render.root(a_task(), children, key="k")
    plan = message.blocks[1]
    assert [c["title"] for c in plan["tasks"]] == ["agent 3", "agent 7", "38 agents done"]
    assert plan["tasks"][0]["details"]["elements"][0]["elements"][0]["text"] == "E: gone"
    assert "1 of 40 agents failed · 1 at work" in shown(message)
    failed = [a_task(f"c{i}", name=f"agent {i}", status="error") for i in range(40)]
    plan = render.root(a_task(), failed, key="k").blocks[1]
    assert len(plan["tasks"]) < CARDS
    assert plan["tasks"][-1]["title"] == "and 32 more"


def test_a_failure_shows_the_end_of_its_log_scrubbed_and_folded():
    """A failure's last log lines are folded in the thread without their token; the root stays short."""
    tail = "\n".join(f"line {i}" for i in range(900)) + "\nxoxb-123456789012-abcdefghijkl"
    task = a_task(status="error", error=Failure(type="TimeoutError", message="gave up", log_tail=tail))
    text = shown(render.root(task, key="k"))
    assert "TimeoutError: gave up" in text
    assert "line" not in text
    checkpoint = a_checkpoint(task, kind=Kind.END, status="error", text="Failed")
    message = reply(task, checkpoint, key="k")
    [log] = [b for b in message.blocks if b["type"] == "container"]
    assert (log["is_collapsible"], log["default_collapsed"]) == (True, True)
    said = log["child_blocks"][0]["elements"][0]["elements"][0]["text"]
    assert said.endswith("line 899\n[redacted:slack-token]")
    assert len(said) <= 2_800
    assert [b["type"] for b in reply(task, checkpoint, key="k", slack_style=SlackStyle(shows_logs=False)).blocks] == [
        "rich_text"
    ]


def test_an_end_is_one_line_and_a_sub_agents_has_its_results():
    """The root message says what came of a task: its closing line has figures of Prometheus alone."""
    task = a_task(status="complete", ended_at=NOON + timedelta(seconds=90), results={"accuracy": "0.97"})
    end = a_checkpoint(task, kind=Kind.END, status="complete", text="written")
    assert shown(reply(task, end, key="k")) == "✅ written"
    assert shown(reply(task, end, key="k", figures=("p99 310 ms",))) == "✅ written\np99 310 ms"
    assert shown(reply(task, end, key="k", is_root=False)) == "✅ Quarterly report: written\naccuracy 0.97"


def test_a_question_names_its_risk_and_options():
    """An approval's reply shows the question, its detail, the risk and the options."""
    asked = Approval(id="a1", question="Publish?", detail="to the board", options=("approve", "deny"), risk="high")
    task = a_task(status="waiting", approvals=(asked,))
    checkpoint = a_checkpoint(task, kind=Kind.APPROVAL_REQUESTED, ref="a1", text="Publish?", detail="to the board")
    assert shown(reply(task, checkpoint, key="k")) == "✋ Publish?to the boardrisk high  ·  approve / deny"


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("name", ["the job", *HOSTILE], ids=range(len(HOSTILE) + 1))
def test_a_message_that_went_on_elsewhere_is_one_grey_line(style, name):
    """The message of a merged task names its successor, in grey, and has no buttons."""
    task = a_task(name=name, status="complete", end_reason=MERGED)
    message = render.root(task, key="k", style=style, slack_style=SlackStyle(is_interactive=True))
    check(message)
    assert shown(message).startswith("↪ This went on as part of ")
    assert [one["color"] for one in message.attachments] == [render.COLOURS["grey"]]
    assert "actions" not in {block["type"] for block in blocks_of(message)}


def test_a_failed_task_says_why_and_not_what_it_asked() -> None:
    """A failed task with open questions says why it failed, in the message and its notification, and asks nothing."""
    asked = tuple(Approval(id=f"q{n}", question="Deploy?") for n in range(4))
    task = a_task(status="error", ended_at=NOON, error=Failure(type="OutOfSeats", message="none left"), approvals=asked)
    message = render.root(task, (), key="k")
    assert message.text.endswith("none left")
    assert ("Deploy?" in shown(message), "question" in shown(message)) == (False, False)
