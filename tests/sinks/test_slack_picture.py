"""The picture of a message: its content, literal, without anything that a browser would run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.demo.gallery import gallery
from spanpost.semconv import STATUSES
from spanpost.sinks.slack.picture import ShownImage, page
from spanpost.sinks.slack.render import SlackMessage, Style, root
from spanpost.sinks.slack.replies import reply
from spanpost.testing.exercise_sink import a_hostile_task
from spanpost.testing.strategies import checkpoints, tasks
from tests.sinks.slack_limits import nodes
from tests.thorough import thorough

_KNOWN = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "section",
        "article",
        "div",
        "p",
        "h2",
        "h3",
        "span",
        "b",
        "i",
        "s",
    ),
    *("code", "pre", "blockquote", "ol", "ul", "li", "a", "hr"),
}
_ATTRIBUTES = {
    "lang",
    "charset",
    "name",
    "content",
    "class",
    "aria-hidden",
    "aria-label",
    "role",
    "style",
    "href",
    "rel",
}


class Seen(HTMLParser):
    """A browser's view of a page: its tags, its attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _KNOWN
        for name, value in attrs:
            assert name in _ATTRIBUTES
            assert name != "href" or (value or "").startswith(("https://", "http://"))
        if tag not in ("meta", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data


_DATE = re.compile(r"<!date\^\d+\^[^<>|]*\|[^<>|]*>")


def _says(message: SlackMessage) -> list[str]:
    every = [message.blocks, *(attachment["blocks"] for attachment in message.attachments)]
    texts = [(n, n[key]) for n in nodes(every) for key in ("text", "title") if isinstance(n.get(key), str)]
    # A date that Slack parses shows the reader's own clock: the text around it is unchanged.
    return [said for n, text in texts for said in (_DATE.split(text) if n.get("type") == "mrkdwn" else [text])]


def _plain(text: str) -> str:
    # Browsers read every line end as a line feed; NUL is not in HTML.
    return text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.slow
@thorough(60)
@given(tasks, st.lists(tasks, max_size=6, unique_by=lambda t: t.uid), checkpoints, st.sampled_from(Style))
def test_a_picture_says_what_the_message_says_and_runs_nothing(
    task: Any, children: Any, checkpoint: Any, style: Style
) -> None:
    """For any task the page contains each text verbatim; tags, attributes and links are only ours."""
    message, answer = root(task, children, key="k", style=style), reply(task, checkpoint, key="n", style=style)
    seen = _plain(Seen(page([ShownImage(message=message, replies=[answer], caption=task.name)])).text)
    for said in _says(message) + _says(answer):
        assert _plain(said) in seen


def test_a_hostile_task_is_drawn_literally() -> None:
    """Markup in each field of a task is text in the picture."""
    task = a_hostile_task("<script>alert(1)</script><img src=x onerror=alert(1)>")
    drawn = page([ShownImage(message=root(task, key="k"))])
    assert "alert(1)" in Seen(drawn).text
    assert "<script" not in drawn
    assert "<img" not in drawn


def test_buttons_colours_and_unknown_blocks() -> None:
    """A button is drawn, an invalid colour is left out, an unknown block is named."""
    button = {"type": "button", "text": {"type": "plain_text", "text": "Approve"}, "style": "primary"}
    blocks = [{"type": "actions", "elements": [button]}, {"type": "hologram<"}]
    drawn = page(
        [ShownImage(message=SlackMessage(text="x", blocks=blocks, attachments=[{"color": "red;}", "blocks": []}]))]
    )
    assert '<span class="button primary" role="button">Approve</span>' in drawn
    assert "[hologram<]" in Seen(drawn).text
    assert "red;}" not in drawn


def test_the_gallery_has_every_status() -> None:
    """The gallery has a message in each status."""
    assert {piece.task.status for piece in gallery()} == set(STATUSES)
