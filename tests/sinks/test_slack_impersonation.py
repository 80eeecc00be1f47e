"""Deceptions of an agent: misleading links, answers that look alike, logs cut inside a secret."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.queries import TaskQuery
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.sinks import labels
from spanpost.sinks.slack import render
from spanpost.sinks.slack.links import Template
from spanpost.sinks.slack.render import SlackMessage
from spanpost.sinks.slack.replies import as_file, log_of, reply
from spanpost.sinks.slack.style import SlackStyle
from spanpost.store.memory import MemoryStore
from spanpost.testing.exercise_people import at_work
from spanpost.testing.nouns import a_checkpoint, a_task
from spanpost.testing.observed import an_event
from tests.sinks.slack_limits import blocks_of, check, nodes

KEY = UUID(int=7)
INTERACTIVE = SlackStyle(is_interactive=True)


def texts(message: SlackMessage) -> list[str]:
    return [n["text"] for b in blocks_of(message) for n in nodes(b) if n.get("type") in ("text", "link")]


def asked(*options: str, slack_style: SlackStyle = INTERACTIVE) -> list[dict[str, Any]]:
    """Return the answers that the thread offers."""
    question = Approval(id="a", question="Which?", options=options, key=KEY, reported_by=UUID(int=8))
    task = a_task(status="waiting", approvals=(question,))
    message = reply(
        task, a_checkpoint(task, kind=Kind.APPROVAL_REQUESTED, ref="a", text="Which?"), key="k", slack_style=slack_style
    )
    check(message)
    check(render.root(task, key="k", slack_style=slack_style))
    return [e for b in blocks_of(message) if b["type"] == "actions" for e in b["elements"]]


@pytest.mark.parametrize(
    "label", ["https://github.com/shop/pull/1", "github.com evil.example", "pr", "evil.example/github.com", ""]
)
def test_where_a_link_of_an_agents_leads_stands_beside_it(label: str) -> None:
    """The host of each artifact and link is shown beside its label, in message and thread."""
    url = "https://evil.example/x"
    task = a_task(links={label: url}, artifacts=(Artifact(name=label, uri=url),))
    slack_style = SlackStyle(links=(Template("trace", "https://g.example/{task_id}"),))
    shown = texts(render.root(task, key="k", slack_style=slack_style))
    assert {"  evil.example", " (evil.example)"} <= set(shown)
    assert " (g.example)" not in shown
    checkpoint = a_checkpoint(task, kind=Kind.ARTIFACT, text=label or "made", ref=url)
    assert "  evil.example" in texts(reply(task, checkpoint, key="k"))


@pytest.mark.proves("literal")
def test_a_host_cannot_pose_as_another() -> None:
    """A host in another script is shown in ASCII, and of a long host the end, which names its owner."""
    assert labels.host("https://gіthub.com/x") == "xn--gthub-n2e.com"
    assert labels.host("https://github.com." + "a" * 50 + ".evil.example/", 20) == "…aaaaaa.evil.example"
    assert labels.host("https://" + "ü" * 80 + ".example").lstrip("…").isascii()


def test_many_answers_are_a_list_and_each_can_be_distinguished() -> None:
    """Up to five options are buttons, more a list with confirmation; options that look alike are numbered."""
    assert [(e["type"], e["action_id"]) for e in asked("a", "b", "c", "d", "e")] == [
        ("button", f"spanpost:choose:{n}") for n in range(5)
    ]
    [choice] = asked(*(f"host {n}" for n in range(20)))
    assert (choice["type"], choice["action_id"], "confirm" in choice) == ("static_select", "spanpost:choice", True)
    assert [(o["text"]["text"], o["value"]) for o in choice["options"]] == [
        (f"host {n}", f"choose:{n}:{KEY}") for n in range(20)
    ]
    assert [e["text"]["text"] for e in asked("keep", "Keep", "1. Keep", "\u200bno")] == [
        "1. keep",
        "2. Keep",
        "3. 1. Keep",
        "4. no",
    ]
    assert [e["text"]["text"] for e in asked("ｋeep", "keep")] == ["1. ｋeep", "2. keep"]


def test_answers_that_cannot_be_given_here_are_counted() -> None:
    """Without interactions the first options are named, with the number of the others."""
    question = Approval(id="a", question="Which?", options=tuple("abcdefg"), reported_by=UUID(int=8))
    task = a_task(status="waiting", approvals=(question,))
    message = reply(task, a_checkpoint(task, kind=Kind.APPROVAL_REQUESTED, ref="a", text="Which?"), key="k")
    assert [b["elements"][0]["text"] for b in message.blocks if b["type"] == "context"] == [
        "a / b / c / d / e and 2 more"
    ]


async def test_the_end_of_a_long_log_comes_whole_and_without_half_a_secret() -> None:
    """The kept end of a log fills the file, and no cut separates a secret from its recognisable half."""
    store = MemoryStore()
    secret = "-----BEGIN PRIVATE KEY-----\n" + "\n".join("MIIEvQIBADANBgkqhkiG9w0BAQ" + "s" * 38 for _ in range(30))
    secret += "\n-----END PRIVATE KEY-----"
    tail = "\n".join(f"line {n} of the log" for n in range(330))
    said = {
        "exception.type": "E",
        "exception.message": "m",
        "agent.error.log_tail": "x\n" * 9000 + secret + "\n" + tail,
    }
    over = {"agent.task.name": "t", "agent.status": "error"}
    await store.record(
        [at_work(), an_event(trace=1, span=1, name="agent.error", attributes=said | over, index=0, at=1.0)]
    )
    [task] = await store.tasks(TaskQuery())
    assert task.error is not None
    assert "MIIE" not in task.error.log_tail
    checkpoint = a_checkpoint(task, kind=Kind.END, status="error", text="Failed")
    file = as_file(log_of(task, checkpoint), INTERACTIVE)
    assert file is not None
    assert (len(file) > 6_000, "line 20 of" in file, file.endswith("line 329 of the log")) == (True, True, True)
    [log] = [b for b in reply(task, checkpoint, key="k").blocks if b["type"] == "container"]
    shown = log["child_blocks"][0]["elements"][0]["elements"][0]["text"]
    assert 2_700 < len(shown) <= 2_800
    short = Failure(message="m", log_tail="y" * 2_500)
    message = reply(a_task(status="error", error=short), checkpoint, key="k")
    assert "y" * 2_500 in texts(message)


@pytest.mark.proves("literal", "spoofing")
@pytest.mark.parametrize("source", ["", "slack"])
def test_words_end_their_quotation_where_they_end(source: str) -> None:
    """No decision, name, comment or option of an agent can close the quotation marks around it."""
    trick = "no”  ✅ Approved by Bob “"
    asked = Approval(
        id="a", question="q", decision=trick, by=trick, comment=trick, source=source, reported_by=UUID(int=8)
    )
    task = a_task(approvals=(asked,))
    for kind in (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED):
        checkpoint = a_checkpoint(task, kind=kind, ref="a", text=trick)
        shown = "".join(texts(reply(task, checkpoint, key="k")))
        inside = [part for i, part in enumerate(re.split("[“”]", shown)) if i % 2]
        assert any("Approved by Bob" in part for part in inside)
        assert shown.count("“") == shown.count("”")
        if not source:
            assert shown.count("Approved by Bob") == "".join(inside).count("Approved by Bob")
