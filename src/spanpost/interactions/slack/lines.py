"""Answers to commands as lines of rich text: text from agents is literal, without mentions and links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from spanpost.model.tasks import Task
from spanpost.sinks.slack.blocks import Element, escape, text
from spanpost.tasks.titles import title
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import cut, line

Line = Sequence[Element]
#: Characters of all lines: far below Slack's limit for one message.
_MOST: Final = 9_000
_FORM: Final = "{date_short_pretty} {time}"


class SlackAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. `text` is mrkdwn with foreign text escaped; without blocks it is the answer. Or a dialogue."""

    text: str = ""
    blocks: list[dict[str, Any]] = []
    view: dict[str, Any] | None = None


def since(at: datetime) -> Element:
    """Return a time, shown in the reader's time zone."""
    shown = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"type": "date", "timestamp": max(int(at.timestamp()), 0), "format": _FORM, "fallback": shown}


def rich_text(lines: Iterable[Line], locale: Locale = ENGLISH, buttons: Sequence[dict[str, Any]] = ()) -> SlackAnswer:
    """Return lines as an answer, with buttons below them."""
    kept: list[Element] = []
    said: list[str] = []
    space = _MOST
    for one in lines:
        elements = [element for element in one if element.get("text") or element.get("fallback")]
        literal = "".join(str(element.get("text") or element.get("fallback")) for element in elements)
        space -= len(literal) + 40 * len(elements)
        if space < 0:
            kept.append(text(f"\n{locale.say('command.cut')}"))
            said.append(locale.say("command.cut"))
            break
        kept += [text("\n"), *elements] if said else elements
        said.append(literal)
    section = {"type": "rich_text_section", "elements": kept or [text(locale.say("command.nothing"))]}
    blocks: list[dict[str, Any]] = [{"type": "rich_text", "elements": [section]}]
    blocks += [{"type": "actions", "elements": list(buttons)}] if buttons else []
    return SlackAnswer(text=escape(cut("\n".join(said), 3_000)), blocks=blocks)


def task(one: Task, link: str = "", locale: Locale = ENGLISH) -> Line:
    """Return a task as one line of a list."""
    what = "action" if one.action else "step_name"
    doing = line(locale.translate(one.messages.get(what), one.action or one.step_name or ""), 120)
    parts = [line(one.agent_name or "", 60), locale.word(f"status.{one.shown_status}", one.status), doing]
    known = [part for part in parts if part]
    name = title(one, 100)
    found = [
        text("• "),
        text(name, "bold", link=link),
        text(" · " + " · ".join(known)),
    ]
    if one.started_at is not None:
        found += [text(f" · {locale.say('command.since')} "), since(one.started_at)]
    return [*found, text(f" · {line(one.task_id, 100)}")]


def more(
    count: int, what: Literal["tasks", "questions"], locale: Locale = ENGLISH, *, is_open: bool = False
) -> list[Line]:
    """Return a line with the number of entries that are not listed; no line for none."""
    if not count:
        return [[text(locale.say(f"command.more_{what}_open"))]] if is_open else []
    return [[text(locale.say(f"command.more_{what}_or_more" if is_open else f"command.more_{what}", n=count))]]
