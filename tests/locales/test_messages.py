"""Whole messages in Korean: each word that is not an agent's comes from the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from html import unescape
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from spanpost.demo.gallery import gallery
from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Approval
from spanpost.model.tasks import MERGED, Task
from spanpost.sinks import labels
from spanpost.sinks.console import render as terminal
from spanpost.sinks.slack import alert_blocks, render
from spanpost.sinks.slack.render import SlackMessage, Style
from spanpost.sinks.slack.replies import reply
from spanpost.sinks.slack.style import SlackStyle
from spanpost.testing.nouns import NOON, a_checkpoint, a_task
from spanpost.testing.strategies import checkpoints, tasks
from spanpost.text import wording
from spanpost.text.locales import KOREAN
from tests.sinks.slack_limits import blocks_of, check, nodes
from tests.thorough import thorough

#: Values of ours that code reads; agents write everything else.
OURS = {"status", "end_reason", "rule", "context_window_source", "source", "decision"}
SPOKEN = SlackStyle(locale=KOREAN, is_interactive=True)


def hangul(value: Any, name: str = "") -> Any:
    """Return a value as an agent that writes only Korean would have made it."""
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return value if name in OURS else re.sub(r"[^\x00-@\[-`{-~가-힣]", "가", value)
    if isinstance(value, tuple):
        return tuple(hangul(one, name) for one in value)
    if isinstance(value, dict):
        return {hangul(k): hangul(v) for k, v in value.items()}
    if isinstance(value, LocaleMessage):
        return LocaleMessage(value.key, {one: hangul(said) for one, said in value.values.items()})
    if isinstance(value, list):
        return [hangul(one) for one in value]
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{one: hangul(getattr(value, one), one) for one in value.__struct_fields__}
        )
    return value


def spoken(message: SlackMessage) -> Iterator[str]:
    """Return all that a reader sees except times, which Slack renders itself."""
    yield unescape(message.text)
    for block in blocks_of(message):
        for node in nodes(block):
            for name in ("text", "title"):
                if isinstance(node.get(name), str):
                    yield re.sub(r"<!date\^[^>]*>", "", node[name])


def left_in(said: str) -> list[str]:
    """Return Latin words that are no figures with a suffix: 12.4k, 1.2M, US$, UTC."""
    said = re.sub(r"xn--[\w.-]*", "", said)  # a host is shown in ASCII
    return [
        word
        for word in re.findall(r"[A-Za-z]{2,}|(?<![\d.])[A-Za-z]", said)
        if word not in ("UTC", "US", "nan", "inf", "e")
    ]


#: Decisions are ours or an agent's words: these two are known as both.
decisions = st.sampled_from(["", "approve", "deny"])


def known(task: Task) -> Task:
    """Return a task of an agent that writes Korean. Decisions that it reports, and its options, are its words."""

    def own(one: Approval) -> bool:
        return one.decision in ("approve", "deny") and bool(one.source) and not one.options

    asked = tuple(
        msgspec.structs.replace(one, decision=one.decision if own(one) else "") for one in hangul(task.approvals)
    )
    source = (
        task.context_window_source
        if task.context_window_source in ("given", "said", "observed", "table", "default")
        else ""
    )
    status = task.status if task.status != "odd" else "working"
    return msgspec.structs.replace(hangul(task), approvals=asked, context_window_source=source, status=status)


@pytest.mark.slow
@thorough(20)
@given(tasks, st.lists(tasks, max_size=2, unique_by=lambda t: t.uid), st.sampled_from(Style), st.booleans())
def test_no_english_is_left_in_a_tasks_message(task: Task, children: list[Task], style: Style, is_moved: bool) -> None:
    """A task's message has no English word of ours: any children, both styles, moved or not."""
    task = msgspec.structs.replace(known(task), end_reason=MERGED if is_moved else None)
    message = render.root(task, [known(child) for child in children], key="k", style=style, slack_style=SPOKEN)
    check(message)
    assert [word for said in spoken(message) for word in left_in(said)] == []


@pytest.mark.slow
@thorough(20)
@given(tasks, checkpoints, st.sampled_from(Style), st.booleans(), st.integers(1, 3))
def test_no_english_is_left_in_a_reply(
    task: Task, checkpoint: Checkpoint, style: Style, is_root: bool, count: int
) -> None:
    """A reply has no English word of ours, for any checkpoint of any task."""
    status = checkpoint.status if checkpoint.status != "odd" else "working"
    reported = msgspec.structs.replace(hangul(checkpoint), status=status)
    message = reply(known(task), reported, key="k", is_root=is_root, style=style, slack_style=SPOKEN, count=count)
    check(message)
    assert [word for said in spoken(message) for word in left_in(said)] == []


def test_no_english_is_left_in_an_alert() -> None:
    """A firing and a resolved alert have no English word of ours, as message and reply; the rule's severity
    stays.
    """
    firing = Alert(
        id=a_task().uid,
        tenant="default",
        source="alertmanager",
        fingerprint="f",
        starts_at=NOON,
        name="오류율",
        summary="높음",
        labels={str(n): "값" for n in range(12)},
    )
    task = a_task(name="보고서", agent_name="작가", type="alert")
    for alert in (firing, msgspec.structs.replace(firing, ends_at=NOON)):
        for style in Style:
            for message in (
                alert_blocks.root(alert, task, [task], key="k", style=style, slack_style=SPOKEN),
                alert_blocks.reply(alert, task, key="k", style=style, slack_style=SPOKEN),
            ):
                check(message)
                assert [word for said in spoken(message) for word in left_in(said)] == []


def test_no_english_is_left_in_the_terminal() -> None:
    """In Korean, cards, threads and log lines of the gallery's tasks contain no English of ours."""
    for piece in gallery():
        console = Console(width=200, file=None, highlight=False)
        task, reported = known(piece.task), [terminal.CheckpointLine(hangul(one)) for one in piece.checkpoints]
        children = [known(child) for child in piece.children]
        with console.capture() as drawn:
            console.print(terminal.card(task, children, reported, hidden=2, locale=KOREAN))
        shown = drawn.get() + "".join(
            terminal.plain(one, labels.title(task, locale=KOREAN), locale=KOREAN) for one in reported
        )
        assert left_in(shown) == []


def test_an_agents_words_stand_as_they_are() -> None:
    """An agent's words are unchanged in a Korean message."""
    task = a_task(name="Quarterly report", action="reading 12 pages", requested_by="Mina")
    message = render.root(task, key="k", slack_style=SPOKEN)
    shown = "".join(spoken(message))
    assert all(said in shown for said in ("Quarterly report", "reading 12 pages", "요청자 Mina", "작업 중"))
    assert "Fetched 12 pages" in "".join(
        spoken(reply(task, a_checkpoint(task, kind=Kind.CHECKPOINT), key="k", slack_style=SPOKEN))
    )


def test_what_is_said_anew_poses_as_nothing() -> None:
    """Our end of a cancelled task has no quotation marks; an agent's verdict has them, in both languages."""
    task = a_task(status="cancelled")
    text, locale_message = wording.worded(wording.message("checkpoint.cancelled_in", time=401))
    ours = a_checkpoint(task, kind=Kind.END, status="cancelled", text=text, message=locale_message)
    assert "취소됨 (소요 시간 6분 41초)" in list(spoken(reply(task, ours, key="k", slack_style=SPOKEN)))
    for text in ("✅ 민아 님이 승인함", "Approved by @mina", "승인", "작업 취소"):
        theirs = a_checkpoint(task, kind=Kind.CHECKPOINT, text=text)
        assert f"“{text}”" in list(spoken(reply(task, theirs, key="k", slack_style=SPOKEN)))
    assert "승인 절차를 설명했습니다" in list(
        spoken(
            reply(
                task,
                a_checkpoint(task, kind=Kind.CHECKPOINT, text="승인 절차를 설명했습니다"),
                key="k",
                slack_style=SPOKEN,
            )
        )
    )
