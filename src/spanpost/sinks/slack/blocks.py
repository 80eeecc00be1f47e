"""Block Kit, as far as it is used: small functions from texts to blocks.

Agents' text goes where Slack takes it literally: into `rich_text` elements, which know only explicit
mentions, and into plain text. Slack parses mrkdwn in the top-level `text`, which is escaped, and in two
forms that hold only ids and numbers: dates and, in a plain message, mentions.

Limits: docs.slack.dev/reference/block-kit (2026-08). The limit of all blocks together is undocumented; it
was measured at about 13,200 characters (slackapi/bolt-js #2509).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

Block = dict[str, Any]
Element = dict[str, Any]

MAX_BLOCKS = 50
MAX_SECTION = 3_000
MAX_CONTEXT_ELEMENTS = 10
#: Maximum length of a container's title.
MAX_TITLE = 150
#: `chat.update` refuses a longer `text` (postMessage accepts ten times as much).
MAX_TEXT = 4_000
#: Maximum length of a label of a button or menu entry. Slack shows about 30 characters of a button's.
MAX_LABEL = 75
MAX_BUTTONS = 25
#: Maximum length of all blocks and attachments as JSON: below the measured limit, with room for buttons.
MAX_SIZE = 11_000


def escape(text: str) -> str:
    """Escape for mrkdwn: the result cannot mention, link or disguise. (docs: "Escaping text")"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def blunt(text: str) -> str:
    """Disarm ``<!channel>`` and mentions for plain_text fields, in case Slack ever parses them."""
    return text.replace("<!", "‹!").replace("<@", "‹@").replace("<#", "‹#")


def unbroken(said: str, most: int = 30) -> str:
    """Return facts between `` · `` so that a line ends between two of them, not within a short one."""
    return " · ".join(one.replace(" ", "\u00a0") if len(one) <= most else one for one in said.split(" · "))


def text(value: str, *styles: str, link: str = "") -> Element:
    """Return a rich text element: literal, with styles (bold, italic, strike, code)."""
    element: Element = {"type": "link", "url": link, "text": value} if link else {"type": "text", "text": value}
    if styles:
        element["style"] = dict.fromkeys(styles, True)
    return element


def section(*elements: Element) -> Element:
    """Return a line of rich text."""
    return {
        "type": "rich_text_section",
        "elements": [e for e in elements if e["type"] not in ("text", "link") or e.get("text")],
    }


def preformatted(value: str) -> Element:
    """Return preformatted text. A fence inside does not close it."""
    return {"type": "rich_text_preformatted", "elements": [text(value)]}


def quote(value: str) -> Element:
    """Return quoted text."""
    return {"type": "rich_text_quote", "elements": [text(value)]}


def rich(*parts: Element) -> Block:
    """Return a block of rich text, each section on its own line; empty parts are left out."""
    merged: list[Element] = []
    for part in parts:
        if not part["elements"]:
            continue
        if merged and part["type"] == merged[-1]["type"] == "rich_text_section":
            # One section with line feeds, as Slack's own composer writes it.
            merged[-1] = {
                "type": "rich_text_section",
                "elements": [*merged[-1]["elements"], text("\n"), *part["elements"]],
            }
        else:
            merged.append(part)
    return {"type": "rich_text", "elements": merged}


def plain(value: str) -> Block:
    """Return a plain section, which every workspace accepts: the rendering when rich blocks are refused."""
    return {"type": "section", "text": {"type": "plain_text", "text": blunt(value)[:MAX_SECTION], "emoji": False}}


def context(*values: str | Element) -> Block:
    """Return a line of small print: texts and elements."""
    elements = [small(v) if isinstance(v, str) else v for v in values if v]
    return {"type": "context", "elements": elements[:MAX_CONTEXT_ELEMENTS]}


def small(value: str) -> Element:
    """Return a text for small print."""
    return {"type": "plain_text", "text": blunt(value), "emoji": False}


def date(at: datetime, form: str = "{time_secs}") -> Element:
    """Return a time as rich text, shown in the reader's time zone."""
    return {"type": "date", "timestamp": seconds(at), "format": form, "fallback": clock(at)}


def dated(at: datetime, form: str = "{time_secs}") -> str:
    """Return a time for `small_parsed`, shown in the reader's time zone and language."""
    return f"<!date^{seconds(at)}^{form}|{clock(at)}>"


def small_parsed(said: str) -> Element:
    """Return small print that Slack parses: only spanpost's own words, with times in them."""
    return {"type": "mrkdwn", "text": said, "verbatim": True}


def seconds(at: datetime) -> int:
    """Return seconds since 1970; 0 for earlier times."""
    return max(int(at.timestamp()), 0)


def clock(at: datetime) -> str:
    """Return a time for a Slack that does not show dates."""
    return f"{at.astimezone(UTC):%H:%M:%S} UTC"


def mention(who: str) -> Element:
    """Return a mention of a person or group, by an id from the settings. The only function that makes one."""
    if who.startswith("S"):
        return {"type": "usergroup", "usergroup_id": who}
    return {"type": "user", "user_id": who}


def plain_mentions(who: Iterable[str]) -> Block:
    """Return mentions for a plain message, by ids from the settings."""
    said = " ".join(f"<!subteam^{one}>" if one.startswith("S") else f"<@{one}>" for one in who)
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": said}]}


def folded(title: str, *blocks: Block) -> Block:
    """Return blocks that the reader may unfold."""
    named = {"type": "plain_text", "text": blunt(title)[:MAX_TITLE], "emoji": False}
    return {
        "type": "container",
        "title": named,
        "is_collapsible": True,
        "default_collapsed": True,
        "child_blocks": list(blocks),
    }


def button(action: str, label: str, value: str, *, style: str = "", confirm: Block | None = None) -> Element:
    """Return a button. `style` is primary or danger."""
    made: Element = {"type": "button", "action_id": action, "text": small(label[:MAX_LABEL]), "value": value}
    if style:
        made["style"] = style
    if confirm is not None:
        made["confirm"] = confirm
    return made


def link_button(n: int, label: str, url: str) -> Element:
    """Return a button that opens an address of the settings. Its click has no meaning for spanpost."""
    return {"type": "button", "action_id": f"link:{n}", "text": small(label[:MAX_LABEL]), "url": url}


def confirm(title: str, said: str, yes: str, no: str, *, style: str = "danger") -> Block:
    """Return the confirmation dialogue of a button."""
    return {
        "title": small(title[:100]),
        "text": small(said[:300]),
        "confirm": small(yes[:30]),
        "deny": small(no[:30]),
        "style": style,
    }


def menu(action: str, entries: Sequence[tuple[str, str]]) -> Element:
    """Return a menu of up to five (label, value)."""
    options = [{"text": small(label[:MAX_LABEL]), "value": value} for label, value in entries[:5]]
    return {"type": "overflow", "action_id": action, "options": options}


def select(action: str, hint: str, entries: Sequence[tuple[str, str]], confirm: Block) -> Element:
    """Return a list of up to a hundred (label, value) to choose one from."""
    options = [{"text": small(label[:MAX_LABEL]), "value": value} for label, value in entries[:100]]
    return {
        "type": "static_select",
        "action_id": action,
        "placeholder": small(hint[:150]),
        "options": options,
        "confirm": confirm,
    }


def actions(block_id: str, elements: Sequence[Element]) -> Block:
    """Return a row of buttons and menus."""
    return {"type": "actions", "block_id": block_id, "elements": list(elements[:MAX_BUTTONS])}


def card(task_id: str, title: str, status: str, details: str = "") -> Block:
    """Return a card of a plan. `status` is pending, in_progress, complete or error; Slack has no cancelled."""
    block: Block = {"type": "task_card", "task_id": task_id, "title": blunt(title), "status": status}
    if details:
        block["details"] = rich(section(text(details)))
    return block


def plan(title: str, cards: Sequence[Block]) -> Block:
    """Return a plan of cards."""
    return {"type": "plan", "title": blunt(title), "tasks": list(cards)}


def size(value: Any) -> int:
    """Return the length of blocks as JSON, in characters."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def fingerprint(*shown: object) -> str:
    """Return a short hash of the shown content."""
    return blake2b(msgspec.json.encode(shown), digest_size=8).hexdigest()


def rows(*asked: tuple[str, Sequence[Element]], below: Iterable[object] = ()) -> list[Block]:
    """Return rows of buttons by their key. Slack needs a new block id whenever something above the row changes."""
    revision = fingerprint(*below)
    return [actions(f"spanpost:{key}:{revision}", row) for key, row in asked if row]
