"""Block Kit, as much of it as we use: small functions from texts to blocks.

Text from agents goes where Slack takes it literally: into `rich_text` elements, which know no mentions but explicit ones,
and into plain text. The one place that is parsed as mrkdwn is the top-level `text`; there it is escaped.

Limits: docs.slack.dev/reference/block-kit (2026-08); the sum over all blocks is undocumented and was measured at about
13,200 characters (slackapi/bolt-js #2509).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

Block = dict[str, Any]
Element = dict[str, Any]

MAX_BLOCKS = 50
MAX_SECTION = 3_000
MAX_CONTEXT_ELEMENTS = 10
#: `chat.update` refuses a longer `text` (postMessage would take ten times that).
MAX_TEXT = 4_000
#: Characters of all blocks and attachments as JSON: under the measured ceiling, with room for buttons.
BUDGET = 11_000


def escape(text: str) -> str:
    """Escape for mrkdwn: what is left cannot mention, link or disguise. (docs: "Escaping text")"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def blunt(text: str) -> str:
    """Make a text for plain_text fields, where Slack should not parse ``<!channel>``: if it ever does, there is none."""
    return text.replace("<!", "‹!").replace("<@", "‹@").replace("<#", "‹#")


def text(value: str, *styles: str, link: str = "") -> Element:
    """Return a rich text element: literal, with styles (bold, italic, strike, code)."""
    element: Element = {"type": "link", "url": link, "text": value} if link else {"type": "text", "text": value}
    if styles:
        element["style"] = dict.fromkeys(styles, True)
    return element


def section(*elements: Element) -> Element:
    """Return a line of rich text."""
    return {"type": "rich_text_section", "elements": [e for e in elements if e.get("text")]}


def preformatted(value: str) -> Element:
    """Return a log tail. A fence inside it closes nothing."""
    return {"type": "rich_text_preformatted", "elements": [text(value)]}


def quote(value: str) -> Element:
    """Return quoted text."""
    return {"type": "rich_text_quote", "elements": [text(value)]}


def rich(*parts: Element) -> Block:
    """Return a block of rich text, each section on a line of its own; empty parts are left out."""
    merged: list[Element] = []
    for part in parts:
        if not part["elements"]:
            continue
        if merged and part["type"] == merged[-1]["type"] == "rich_text_section":
            # One section with line feeds, as Slack's own composer writes it.
            merged[-1] = {"type": "rich_text_section", "elements": [*merged[-1]["elements"], text("\n"), *part["elements"]]}
        else:
            merged.append(part)
    return {"type": "rich_text", "elements": merged}


def plain(value: str) -> Block:
    """Return a section that every Slack understands: the rendering when rich blocks are refused."""
    return {"type": "section", "text": {"type": "plain_text", "text": blunt(value)[:MAX_SECTION], "emoji": False}}


def context(*values: str) -> Block:
    """Return a line of small print."""
    elements = [{"type": "plain_text", "text": blunt(v), "emoji": False} for v in values if v]
    return {"type": "context", "elements": elements[:MAX_CONTEXT_ELEMENTS]}


def card(task_id: str, title: str, status: str, details: str = "") -> Block:
    """Return a card of a plan. `status` is pending, in_progress, complete or error: there is no cancelled."""
    block: Block = {"type": "task_card", "task_id": task_id, "title": blunt(title), "status": status}
    if details:
        block["details"] = rich(section(text(details)))
    return block


def plan(title: str, cards: Sequence[Block]) -> Block:
    """Return a plan of cards."""
    return {"type": "plan", "title": blunt(title), "tasks": list(cards)}


def size(value: Any) -> int:
    """Return the characters of blocks as JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
