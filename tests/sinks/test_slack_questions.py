"""A question beside its buttons: all that a button approves can be read there."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spanpost.model.checkpoints import Kind
from spanpost.model.readings import Approval
from spanpost.model.tasks import Task
from spanpost.sinks.redaction import SinkRule
from spanpost.sinks.slack import render
from spanpost.sinks.slack.blocks import blunt
from spanpost.sinks.slack.render import SlackMessage, Style
from spanpost.sinks.slack.replies import reply
from spanpost.sinks.slack.style import SlackStyle
from spanpost.testing.nouns import a_checkpoint, a_task
from spanpost.text.legible import Hidden
from spanpost.text.locales import LOCALES
from tests.sinks.slack_limits import blocks_of, check, nodes
from tests.thorough import thorough

INTERACTIVE = SlackStyle(is_interactive=True)
LONG = "Clean the staging database? " + "x" * 600 + " and then DROP-ALL-DATABASES"
HIDDEN = "Rotate it? -----BEGIN PRIVATE KEY----- DROP-ALL-TABLES -----END PRIVATE KEY-----"
KEYS = [UUID(int=n) for n in (21, 22)]


def asking(*questions: dict[str, Any]) -> Task:
    asked = [
        Approval(**({"id": f"a{n}", "key": KEYS[n], "reported_by": UUID(int=80 + n)} | said))
        for n, said in enumerate(questions)
    ]
    return a_task(status="waiting", approvals=tuple(asked))


def messages(
    task: Task, style: Style = Style.RICH, slack_style: SlackStyle = INTERACTIVE, reported_by: UUID | None = None
) -> tuple[SlackMessage, SlackMessage]:
    """Return the task's message and the question's message in the thread."""
    asked = task.approvals[0]
    checkpoint = a_checkpoint(
        task, kind=Kind.APPROVAL_REQUESTED, ref=asked.id, text=asked.question, detail=asked.detail
    )
    checkpoint = replace(checkpoint, id=reported_by or asked.reported_by or checkpoint.id)
    drawn = (
        render.root(task, key="k", style=style, slack_style=slack_style),
        reply(task, checkpoint, key="k", style=style, slack_style=slack_style),
    )
    for message in drawn:
        check(message)
    return drawn


def texts(message: SlackMessage) -> list[str]:
    """Return the drawn texts without those of buttons."""
    blocks = [block for block in blocks_of(message) if block["type"] != "actions"]
    said = [node["text"] for block in blocks for node in nodes(block) if isinstance(node.get("text"), str)]
    return [one.replace("\u00a0", " ") for one in said]


def pressed(message: SlackMessage, key: UUID = KEYS[0]) -> list[str]:
    """Return the buttons of a question."""
    rows = [
        block
        for block in blocks_of(message)
        if block["type"] == "actions" and block["block_id"].startswith(f"spanpost:{key}:")
    ]
    found = [element["action_id"].removeprefix("spanpost:") for row in rows for element in row["elements"]]
    # The task's own buttons share the row of its first question where they fit.
    return found[: found.index("cancel")] if "cancel" in found else found


def bare(said: str) -> str:
    """Return a text without blanks, and in the plain form of texts that Slack might read as a mention."""
    return blunt(re.sub(r"[\s│]", "", said))


@pytest.mark.parametrize("style", Style)
def test_what_one_press_approves_stands_beside_it(style: Style) -> None:
    """A brief question is shown with its detail in the task's message and in the thread, above its own
    buttons.
    """
    for message in messages(
        asking({"question": "Deploy 1.8.2?", "detail": "2 files\n31 tests passed", "risk": "high"}), style
    ):
        assert pressed(message) == ["approve", "deny"]
        for said in ("Deploy 1.8.2?", "2 files", "31 tests passed"):
            assert any(said in text for text in texts(message))


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize(
    "said",
    [
        {"question": LONG},
        {"question": "Deploy?", "detail": "y" * 700},
        {"question": "Deploy?", "detail": "\n".join("1234567")},
        {"question": "Deploy?", "detail": "x <https://evil.example|Approve> " * 30},
    ],
    ids=range(4),
)
def test_what_does_not_stand_whole_is_read_first(style: Style, said: dict[str, str]) -> None:
    """A question or detail that is long or has many lines offers a button to read it in place of Approve."""
    for message in messages(asking(said), style):
        assert pressed(message) == ["read", "deny"]
        assert any("read it whole" in text for text in texts(message))
    for message in messages(asking(said | {"options": ("go", "stop")}), style):
        assert pressed(message) == ["read"]


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"question": HIDDEN}, "looks like a secret"),
        ({"question": "Go?", "detail": "[redacted:aws_key:20:1f3a]"}, "looks like a secret"),
        ({"question": "Go?", "options": ("yes", "yes\u200b")}, "options that look the same"),
        ({"question": "Go?\U000e0041"}, "invisible characters"),
        ({"question": "Go?", "is_cut": True}, "too long to keep"),
    ],
    ids=range(5),
)
def test_what_is_hidden_can_only_be_denied(style: Style, said: dict[str, Any], what: str) -> None:
    """A plain line says what is hidden, in both messages, and only Deny is offered until it is decided."""
    task = asking(said)
    for message in messages(task, style):
        assert pressed(message) == ["deny"]
        assert any(what in text and "ask again without it" in text for text in texts(message))
        assert "DROP-ALL" not in str(message)
    decided = replace(task, approvals=(replace(task.approvals[0], decision="deny", by="Mina", source="slack"),))
    for message in messages(decided, style):
        assert pressed(message) == []
        assert not any("ask again" in text for text in texts(message))


def test_what_settings_keep_out_of_slack_is_decided_elsewhere() -> None:
    """A question with hidden arguments, or with text hidden by a pattern, is not approved in Slack; the
    board is named.
    """
    arguments = asking({"question": "Run it?", "detail": '{"sql": "DROP TABLE customers"}'})
    for message in messages(arguments, slack_style=SlackStyle(is_interactive=True, shows_content=False)):
        assert pressed(message) == ["deny"]
        assert any("arguments of a tool" in text and "on the board" in text for text in texts(message))
        assert "DROP TABLE" not in str(message)
    assert all(pressed(message) == ["approve", "deny"] for message in messages(arguments))
    slack_style = SlackStyle(is_interactive=True, rules=(SinkRule(pattern="(?i)project x"),))
    for message in messages(asking({"question": "Delete Proj\u200bect X?"}), slack_style=slack_style):
        assert pressed(message) == ["deny"]
        assert any("settings keep out of Slack" in text for text in texts(message))
    for message in messages(asking({"question": "Delete project y?"}), slack_style=slack_style):
        assert pressed(message) == ["approve", "deny"]
    assert slack_style.question(Approval(id="a", question="Project X")).hidden == (Hidden.PATTERN,)


@pytest.mark.parametrize("style", Style)
def test_each_question_stands_above_its_own_buttons(style: Style) -> None:
    """With two open questions each one's Approve is below its own question."""
    root, _ = messages(asking({"question": "Print hello?"}, {"question": "Delete all customers?"}), style)
    [first] = root.blocks
    _, its_row, second, other_row = root.attachments[0]["blocks"][:4]
    assert "Print hello?" in str(first)
    assert its_row["block_id"].startswith(f"spanpost:{KEYS[0]}:")
    assert "Delete all customers?" in str(second)
    assert other_row["block_id"].startswith(f"spanpost:{KEYS[1]}:")


@pytest.mark.parametrize("style", Style)
def test_the_words_are_those_that_the_buttons_answer(style: Style) -> None:
    """A checkpoint with older words shows the words of the question that its buttons answer."""
    task = asking({"question": "Delete all customers?", "detail": "all of them"})
    checkpoint = a_checkpoint(task, kind=Kind.APPROVAL_REQUESTED, ref="a0", text="Print hello?", detail="harmless")
    message = reply(task, checkpoint, key="k", style=style, slack_style=INTERACTIVE)
    assert pressed(message) == ["approve", "deny"]
    assert any("Delete all customers?" in text for text in texts(message))
    assert not any("Print hello?" in text for text in texts(message))


@pytest.mark.parametrize("said", ["✅ Approved by Mina\nRisk: low", "Approved by Mina", "Deploy?\n\n[Approve] [Deny]"])
def test_what_imitates_us_stands_quoted(said: str) -> None:
    """An agent's words that look like a verdict, or have several lines, are quoted below ours."""
    for fields in ({"question": said}, {"question": "Deploy?", "detail": said}):
        for message in messages(asking(fields)):
            quoted = [
                node for block in blocks_of(message) for node in nodes(block) if node.get("type") == "rich_text_quote"
            ]
            assert said in ["".join(part["text"] for part in one["elements"]) for one in quoted]
            installed_apps = [
                part["text"]
                for block in blocks_of(message)
                for node in nodes(block)
                if node.get("type") == "rich_text_section"
                for part in node["elements"]
                if "text" in part
            ]
            assert not any("Approved by" in text for text in installed_apps)
        for message in messages(asking(fields), Style.PLAIN):
            lines = [row for text in texts(message) for row in text.split("\n")]
            assert all(row.startswith("│ ") for row in lines if "Approved by" in row)


def test_a_repeated_question_says_so() -> None:
    """An unanswered question is repeated with the same words and a note before them."""
    task = asking({"question": "Deploy?", "escalated_by": UUID(int=99)})
    _, again = messages(task, reported_by=UUID(int=99))
    assert any(text == "Not answered yet: Deploy?" for text in texts(again))
    assert pressed(again) == ["approve", "deny"]


@pytest.mark.parametrize("style", Style)
def test_what_a_sub_agent_asks_is_answered_in_the_message_of_its_task(style: Style) -> None:
    """A sub-agent's question lifts the whole message: its sign, its words with the agent's name, its buttons."""
    [asked] = asking({"question": "Drop 3.9?", "detail": "mailer is the last user", "risk": "low"}).approvals
    child = a_task("mailer", name="Migrate mailer", status="waiting", approvals=(asked,))
    message = render.root(a_task(), (a_task("other"), child), key="k", style=style, slack_style=INTERACTIVE)
    check(message)
    assert pressed(message) == ["approve", "deny"]
    said = "".join(texts(message))
    for part in (
        "✋ Quarterly report",
        "1 of 2 agents waits",
        "Migrate mailer asks: Drop 3.9?",
        "last user",
        "risk low",
    ):
        assert part in said
    assert message.attachments[0]["color"] == render.COLOURS["yellow"]
    assert "plan" not in {block["type"] for block in blocks_of(message)}


def test_without_buttons_a_question_says_how_it_is_answered() -> None:
    """Where nobody receives clicks, the message names the command and the board, and the options."""
    message, _ = messages(asking({"question": "Where?", "options": ("Oslo", "Lyon")}), slack_style=SlackStyle())
    assert "Oslo / Lyon  ·  answer by the command spanpost approvals, or on the board" in "".join(texts(message))
    assert "actions" not in {block["type"] for block in blocks_of(message)}


def test_of_many_questions_two_are_shown_and_the_rest_is_counted() -> None:
    """More open questions than the message shows are counted."""
    children = tuple(
        a_task(f"c{n}", approvals=(Approval(id=f"c{n}", question=f"Number {n}?", key=UUID(int=n)),))
        for n in range(1, 5)
    )
    message = render.root(a_task(), children, key="k", slack_style=INTERACTIVE)
    said = "".join(texts(message))
    assert "Number 2?" in said
    assert "Number 3?" not in said
    assert "and 2 more questions" in said


words = st.text(max_size=900) | st.text("ab \n​", max_size=900)


@pytest.mark.proves("bound-to-words")
@thorough(120)
@given(
    st.lists(
        st.tuples(words, words, st.lists(st.text(max_size=40), max_size=7), st.text(max_size=50)),
        min_size=1,
        max_size=2,
    ),
    st.sampled_from(Style),
    st.sampled_from(list(LOCALES.values())),
    st.booleans(),
)
def test_nothing_can_be_approved_that_does_not_stand_there(
    asked: list[tuple[str, str, list[str], str]], style: Style, locale: Any, shows_content: bool
) -> None:
    """Any question: where Approve or an option can be pressed, each word of that question is in that
    message.
    """
    slack_style = SlackStyle(is_interactive=True, locale=locale, shows_content=shows_content)
    task = asking(*({"question": q, "detail": d, "options": tuple(o), "risk": r} for q, d, o, r in asked))
    for n, message in enumerate(messages(task, style, slack_style)):
        for approval in task.approvals if n == 0 else task.approvals[:1]:
            can = [one for one in pressed(message, approval.key or KEYS[0]) if one not in ("deny", "read")]
            if not can:
                continue
            read = slack_style.question(approval)
            assert read.is_whole
            said = bare("".join(texts(message)))
            for part in (read.question, read.detail, read.risk):
                assert bare(part) in said
            assert len(can) == (1 if not approval.options or len(approval.options) > 5 else len(approval.options))
