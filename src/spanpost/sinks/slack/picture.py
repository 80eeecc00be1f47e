"""Renders a Slack message as HTML: for people without Slack, for the docs and for visual checks.

It draws the blocks that `blocks` makes, with times in UTC; an unknown block is marked as such. Pure: texts
in, a text out. Messages hold text from agents: all of it is escaped, and only http and https become links.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import msgspec

from spanpost.sinks.slack.blocks import Block, Element
from spanpost.sinks.slack.picture_style import STYLE
from spanpost.sinks.slack.render import SlackMessage

_COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}")


class ShownImage(msgspec.Struct, frozen=True, kw_only=True):
    """A message and its thread, with an optional caption above."""

    message: SlackMessage
    replies: Sequence[SlackMessage] = ()
    caption: str = ""


def page(shown: Sequence[ShownImage], *, title: str = "spanpost in Slack") -> str:
    """Return a complete page without external resources, light or dark as the reader's system."""
    body = "\n".join(_shown(one) for one in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _shown(shown: ShownImage) -> str:
    caption = f"<h2>{escape(shown.caption)}</h2>" if shown.caption else ""
    thread = ""
    if shown.replies:
        count = len(shown.replies)
        replies = "".join(_message(reply) for reply in shown.replies)
        thread = (
            f'<div class="thread"><p class="count">{count} {"reply" if count == 1 else "replies"}</p>{replies}</div>'
        )
    return f'<section class="shown">{caption}{_message(shown.message)}{thread}</section>'


def _message(message: SlackMessage) -> str:
    parts = [_block(block) for block in message.blocks]
    for attachment in message.attachments:
        inner = "".join(_block(block) for block in attachment.get("blocks") or ())
        colour = str(attachment.get("color", ""))
        style = f' style="border-color:{colour}"' if _COLOUR.fullmatch(colour) else ""
        parts.append(f'<div class="attachment"{style}>{inner}</div>')
    said = "".join(parts) or f"<p>{escape(message.text)}</p>"
    return (
        '<article class="message"><div class="face" aria-hidden="true">sp</div><div class="said">'
        f'<p class="who"><b>spanpost</b> <span class="app">APP</span></p>{said}</div></article>'
    )


def _block(block: Block) -> str:
    draw = _BLOCKS.get(str(block.get("type")))
    return draw(block) if draw is not None else f'<p class="unknown">[{escape(str(block.get("type")))}]</p>'


def _rich_text(block: Block) -> str:
    return "".join(_part(part) for part in block.get("elements") or ())


def _part(part: Element) -> str:
    inner = "".join(_run(run) for run in part.get("elements") or ())
    match part.get("type"):
        case "rich_text_preformatted":
            return f"<pre>{inner}</pre>"
        case "rich_text_quote":
            return f"<blockquote>{inner}</blockquote>"
        case "rich_text_list":
            items = "".join(f"<li>{_part(item)}</li>" for item in part.get("elements") or ())
            return f"<ol>{items}</ol>" if part.get("style") == "ordered" else f"<ul>{items}</ul>"
    return f'<p class="rich">{inner}</p>'


_STYLES = {"bold": "b", "italic": "i", "strike": "s", "code": "code"}


def _run(run: Element) -> str:
    said = escape(str(run.get("text", "")))
    if run.get("type") == "link":
        url = str(run.get("url", ""))
        if url.startswith(("https://", "http://")):
            said = f'<a href="{escape(url)}" rel="noopener noreferrer">{said or escape(url)}</a>'
    elif run.get("type") == "date":
        said = escape(_moment(run.get("timestamp"), str(run.get("format", "")), str(run.get("fallback", ""))))
    elif run.get("type") == "user":
        said = f'<span class="mention">@{escape(str(run.get("user_id", "")))}</span>'
    elif run.get("type") == "usergroup":
        said = f'<span class="mention">@{escape(str(run.get("usergroup_id", "")))}</span>'
    for style, tag in _STYLES.items():
        if (run.get("style") or {}).get(style):
            said = f"<{tag}>{said}</{tag}>"
    return said


def _text_of(value: Any) -> str:
    if not isinstance(value, Mapping):
        return escape(str(value or ""))
    text = str(value.get("text", ""))
    return escape(text) if value.get("type") != "mrkdwn" else _mrkdwn(text)


_TOKEN = re.compile(r"<(!date|@|!subteam)\^?([^<>|^]{0,40})(?:\^([^<>|]{0,100}))?(?:\|([^<>|]{0,100}))?>")


def _mrkdwn(text: str) -> str:
    """Draw the mrkdwn that Slack parses: dates, and mentions of people and groups."""
    shown, at = "", 0
    for token in _TOKEN.finditer(text):
        shown += escape(text[at : token.start()])
        kind, what, form, fallback = token.groups()
        said = (
            escape(_moment(what, form or "", fallback or ""))
            if kind == "!date"
            else f'<span class="mention">@{escape(what)}</span>'
        )
        shown, at = shown + said, token.end()
    return shown + escape(text[at:])


def _moment(timestamp: Any, form: str, fallback: str) -> str:
    try:
        at = datetime.fromtimestamp(int(timestamp), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return fallback
    # A picture has no clock; Slack writes how long ago it was.
    form = form.replace("{ago}", "3 minutes ago")
    named = {"{time_secs}": "%H:%M:%S", "{time}": "%H:%M", "{date_short_pretty}": "%b %d", "{date_short}": "%b %d, %Y"}
    for token, pattern in named.items():
        form = form.replace(token, at.strftime(pattern))
    return form or fallback


def _section(block: Block) -> str:
    fields = "".join(f"<p>{_text_of(one)}</p>" for one in block.get("fields") or ())
    return (f'<p class="rich">{_text_of(block["text"])}</p>' if block.get("text") else "") + (
        f'<div class="fields">{fields}</div>' if fields else ""
    )


def _header(block: Block) -> str:
    return f"<h3>{_text_of(block.get('text'))}</h3>"


def _context(block: Block) -> str:
    return '<p class="context">' + " ".join(_text_of(one) for one in block.get("elements") or ()) + "</p>"


def _container(block: Block) -> str:
    inner = "".join(_block(one) for one in block.get("child_blocks") or ())
    sign = "▸" if block.get("default_collapsed") else "▾"
    shown = "folded" if block.get("default_collapsed") else "open"
    title = f'<p class="title">{sign} {_text_of(block.get("title"))}</p>'
    return f'<div class="container {shown}">{title}<div class="inner">{inner}</div></div>'


def _plan(block: Block) -> str:
    cards = "".join(_card(card) for card in block.get("tasks") or ())
    return f'<div class="plan"><p class="title">{_text_of(block.get("title"))}</p>{cards}</div>'


_SIGNS = {"pending": "○", "in_progress": "◐", "complete": "✓", "error": "✕"}


def _card(card: Block) -> str:
    status = str(card.get("status", ""))
    status = status if status in _SIGNS else "pending"
    details = _block(card["details"]) if isinstance(card.get("details"), Mapping) else ""
    return (
        f'<div class="card {status}">'
        f'<span class="sign" role="img" aria-label="{status.replace("_", " ")}">{_SIGNS[status]}</span>'
        f'<div><p class="title">{_text_of(card.get("title"))}</p>{details}</div></div>'
    )


def _actions(block: Block) -> str:
    buttons = []
    for one in block.get("elements") or ():
        if one.get("type") == "overflow":
            entries = ", ".join(_text_of(option.get("text")) for option in one.get("options") or ())
            buttons.append(f'<span class="button menu" role="button" aria-label="{entries}">⋯</span>')
            continue
        if one.get("type") == "static_select":
            entries = ", ".join(_text_of(option.get("text")) for option in one.get("options") or ())
            buttons.append(
                f'<span class="button list" role="listbox" aria-label="{entries}">'
                f"{_text_of(one.get('placeholder'))} ▾</span>"
            )
            continue
        style = one.get("style") if one.get("style") in ("primary", "danger") else ""
        buttons.append(f'<span class="button {style}" role="button">{_text_of(one.get("text"))}</span>')
    return f'<div class="actions">{"".join(buttons)}</div>'


def _divider(block: Block) -> str:
    return "<hr>"


_BLOCKS: dict[str, Callable[[Block], str]] = {
    "rich_text": _rich_text,
    "section": _section,
    "header": _header,
    "context": _context,
    "plan": _plan,
    "container": _container,
    "task_card": _card,
    "actions": _actions,
    "divider": _divider,
}
