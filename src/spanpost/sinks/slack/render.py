"""Renders a task in Slack.

Pure: without a clock, so that an unchanged task renders to equal bytes and is not sent.

The root message, top to bottom:

- line 1: sign, name (a link to the board where its address is set), and what matters now (`headline`).
- line 2: the agent's last words; while a person is asked the question with what it takes to judge it; the first line
  of a failure; at the end results and artifacts.
- `plan`: steps and sub-agents as task cards, while the task runs and asks nothing (`cards`).
- one attachment, because only attachments have a colour: one line of small print, and one row of buttons, if
  somebody receives clicks.

Who waits or failed in a sub-agent is shown, and answered, here. `Style.PLAIN` has the same content in plain sections,
for a workspace that answers `invalid_blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from spanpost.model.tasks import MERGED, Task
from spanpost.sinks import evaluation_labels, labels
from spanpost.sinks.cost_labels import cost_of_results
from spanpost.sinks.headline import headline, is_asking, last_words
from spanpost.sinks.slack import questions
from spanpost.sinks.slack.blocks import (
    MAX_SIZE,
    Block,
    Element,
    context,
    escape,
    plain,
    plan,
    rich,
    section,
    size,
    text,
    unbroken,
)
from spanpost.sinks.slack.cards import CARDS, cards_of, title_of
from spanpost.sinks.slack.footer import button_rows, small_print
from spanpost.sinks.slack.impersonation import disarmed, quoted
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.locales import Locale
from spanpost.text.sanitise import cut, line, link

#: Slack's own attachment colours, as Grafana OnCall uses them, and a blue.
COLOURS = {"red": "#a30200", "green": "#2eb886", "yellow": "#daa038", "blue": "#1d9bd1", "grey": "#dddddd"}
ARTIFACTS, LINKS = 3, 5
#: Maximum length of the host that follows an agent's link, whose label may say anything.
HOST: Final = 40
EVENT_TYPE = "spanpost_message"
ANONYMOUS: Final = SlackStyle()


class Style(StrEnum):
    """RICH is the normal rendering; PLAIN works in every workspace."""

    RICH = "rich"
    PLAIN = "plain"


class SlackMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A rendered message: what `chat.postMessage` and `chat.update` have in common."""

    text: str
    blocks: list[Block]
    attachments: list[dict[str, Any]] = []
    metadata: dict[str, Any] = {}
    style: Style = Style.RICH

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the call, without channel and thread."""
        return {"text": self.text, "blocks": self.blocks, "attachments": self.attachments, "metadata": self.metadata}


def root(
    task: Task,
    children: Sequence[Task] = (),
    *,
    key: str,
    generation: int = 0,
    style: Style = Style.RICH,
    slack_style: SlackStyle = ANONYMOUS,
    moved_to: str = "",
    is_new: bool = False,
) -> SlackMessage:
    """Render a task's root message.

    `key` is the delivery's: with the generation it marks the message for lookups.

    `moved_to` is the address of the message in which a merged task continues.

    `is_new`: it is posted. A post with a mention would notify the requester of each start; an edit notifies no person.
    """
    asked = questions.asked_of(task, children, slack_style)
    who = slack_style.person(task)
    if is_new and who:
        # An id says nothing to people: the first edit shows the person.
        task, who = (task if slack_style.knows_name(task) else msgspec.structs.replace(task, requested_by=None)), ""
    task, children = slack_style.of_task(task), [slack_style.of_task(child) for child in children]
    if task.end_reason == MERGED:
        return _moved(task, marker(key, generation), style, slack_style, link(moved_to, 300) or "")
    draw = _root_rich if style is Style.RICH else _root_plain
    # Show what fits; leave out the end of a list, and never cut a block.
    for most in (1.0, 0.5, 0.25, 0.0):
        blocks, attachments = draw(task, children, asked, most, slack_style, who)
        if size([blocks, attachments]) <= MAX_SIZE:
            break
    return SlackMessage(
        text=escape(cut(_sentence(task, children, asked, slack_style), 700)),
        blocks=blocks,
        attachments=attachments,
        metadata=marker(key, generation),
        style=style,
    )


def _moved(task: Task, metadata: dict[str, Any], style: Style, slack_style: SlackStyle, moved_to: str) -> SlackMessage:
    """Draw the end of a message that continues in another, without buttons; its thread stays as it is."""
    locale = slack_style.locale
    label, name = labels.task_label(task, locale), titled(task, slack_style) if task.task_id else ""
    before = f"{label.emoji} {locale.say('root.went_on_before' if name else 'root.was_other')}"
    after = locale.say("root.went_on_after") if name else ""
    more = locale.say("root.no_more")
    if style is Style.RICH:
        shown = rich(section(text(before), text(name, "bold", link=moved_to), text(after)))
    else:
        shown = plain(f"{before}{name}{after}")
        more = f"{more} {moved_to}".rstrip()
    said = _attachments([context(more)], label, task, slack_style)
    return SlackMessage(
        text=escape(f"{before}{name}{after}"), blocks=[shown], attachments=said, metadata=metadata, style=style
    )


def marker(key: str, generation: int = 0) -> dict[str, Any]:
    """Return the metadata that identifies a message. Every app in the workspace can read it."""
    return {"event_type": EVENT_TYPE, "event_payload": {"k": key, "g": generation}}


def marked(metadata: Any) -> tuple[str, int] | None:
    """Return key and generation from a message's metadata; None if it is not spanpost's."""
    if not isinstance(metadata, dict) or metadata.get("event_type") != EVENT_TYPE:
        return None
    payload = metadata.get("event_payload")
    if not isinstance(payload, dict) or not isinstance(payload.get("k"), str):
        return None
    generation = payload.get("g", 0)
    return payload["k"], generation if isinstance(generation, int) else 0


def titled(task: Task, slack_style: SlackStyle, limit: int = 150) -> str:
    """Return a task's name with the route's prefix."""
    asked = line(task.ask or "", limit) if not task.is_named else ""
    name = quoted(asked) if asked else disarmed(labels.title(task, limit, slack_style.locale))
    return f"{slack_style.prefix} {name}" if slack_style.prefix else name


def _sentence(task: Task, children: Sequence[Task], asked: questions.Asked, slack_style: SlackStyle) -> str:
    """Write the message in one line, for a notification: its sign in words, too."""
    locale = slack_style.locale
    word, now = labels.task_label(task, locale).word, headline(task, children, locale)
    said = [word] if task.status not in ("working", "waiting") and not now.startswith(word) else []
    first = asked[0][0] if asked[0] else None
    last = (
        questions.lines_of(first, slack_style)[0].removeprefix("✋ ")
        if first
        else (failed[1] or failed[0])
        if (failed := _failed(task, locale))
        else cut(_last_words(task, locale), 120)
    )
    sign = labels.task_label(task, locale).emoji
    return " · ".join(
        filter(None, (f"{sign} {titled(task, slack_style)}: {' · '.join(filter(None, (*said, now)))}", last))
    )


def _sign(task: Task, asked: questions.Asked, locale: Locale) -> labels.StatusLabel:
    """Return the sign and the colour of a task: a task below that waits lifts the whole message."""
    label = labels.task_label(task, locale)
    if asked[0]:
        return labels.status_label("waiting", locale)
    return label


def _asides(task: Task, locale: Locale) -> str:
    """Return why the task runs, and interventions that are pending or change its messages."""
    said = []
    if task.retry_of:
        said.append(locale.say("root.retry_of", task=line(task.retry_of, 60)))
    if task.caused_by:
        said.append(locale.say("root.caused_by", task=line(task.caused_by, 60)))
    if task.cancel_by and not labels.is_final(task):
        said.append(
            locale.say(
                "root.cancelling", who=line(locale.translate(task.messages.get("cancel_by"), task.cancel_by), 60)
            )
        )
    if task.paused_by and task.status == "paused":
        said.append(
            locale.say("root.paused_by", who=line(locale.translate(task.messages.get("paused_by"), task.paused_by), 60))
        )
    if task.is_muted and not labels.is_final(task):
        said.append(locale.say("root.muted"))
    return ", ".join(said)


def _root_rich(
    task: Task, children: Sequence[Task], asked: questions.Asked, most: float, slack_style: SlackStyle, who: str
) -> tuple[list[Block], list[dict[str, Any]]]:
    locale = slack_style.locale
    label, aside = _sign(task, asked, locale), _asides(task, locale)
    shown, _ = asked
    now = headline(task, children, locale)
    head: list[Element] = [
        section(
            text(f"{label.emoji} "),
            text(titled(task, slack_style), "bold", link=slack_style.page_of(task)),
            text(f"  {unbroken(now)}{f' ({aside})' if aside else ''}"),
        )
    ]
    if shown:
        head += questions.elements_of(shown[0], slack_style)
    elif failed := _failed(task, locale):
        head.append(section(text(": ".join(filter(None, failed)), "bold")))
    elif said := _last_words(task, locale):
        head.append(section(text(said)))
    head += _made(task, most, locale)
    if task.results and labels.is_final(task):
        head.append(section(*_results(task, 8 if most else 3, locale)))
    if spent := cost_of_results(task, children, locale):
        head.append(section(text(f"📎 {spent}")))
    blocks = [rich(*head)]
    if not shown and (cards := cards_of(task, children, int(CARDS * most), locale)):
        blocks.append(plan(title_of(task, children, locale), cards))
    body: list[Element] = []
    given = _links(task, slack_style, int(LINKS * most) or 1)
    linked: list[Element] = []
    for i, (name, url, where) in enumerate(given):
        linked += [text("  ·  ")] * (i > 0) + [text(name, link=url)] + [text(f" ({where})")] * bool(where)
    body += [section(text("🔗 "), *linked)] * bool(linked)
    if judged := _evaluations(task):
        body.append(section(text(judged)))
    below = [rich(*body)] if body else []
    below += small_print(task, children, slack_style, asked, who)
    below += button_rows(task, asked, slack_style, [blocks, below], is_rich=True, has_space=most > 0.25)
    return blocks, _attachments(below, label, task, slack_style)


def _root_plain(
    task: Task, children: Sequence[Task], asked: questions.Asked, most: float, slack_style: SlackStyle, who: str
) -> tuple[list[Block], list[dict[str, Any]]]:
    locale = slack_style.locale
    label, aside = _sign(task, asked, locale), _asides(task, locale)
    shown, _ = asked
    now = headline(task, children, locale)
    lines = [f"{label.emoji} {titled(task, slack_style)}: {unbroken(now)}{f' ({aside})' if aside else ''}"]
    if shown:
        first, *more = questions.lines_of(shown[0], slack_style)
        lines += [first.removeprefix("✋ "), *more]
    elif failed := _failed(task, locale):
        lines.append(": ".join(filter(None, failed)))
    elif said := _last_words(task, locale):
        lines.append(said)
    if children and not labels.is_final(task):
        chosen = [c for c in children if is_asking(c) or c.status == "error"][: int(CARDS * most)]
        lines += [f"{labels.task_label(c).emoji} {disarmed(labels.title(c, 80, locale))}" for c in chosen]
    many = int(ARTIFACTS * most)
    below = [f"📎 {disarmed(line(a.name, 80))} {link(a.uri, 300) or ''}".rstrip() for a in task.artifacts[:many]]
    if (page := slack_style.page_of(task)) and not slack_style.is_interactive:
        below.append(f"{locale.say('button.open')}: {page}")
    below += [f"🔗 {name} {url}" for name, url, _ in _links(task, slack_style, int(LINKS * most) or 1)]
    if task.results and labels.is_final(task):
        below.append(
            "   ".join(
                f"{disarmed(name)} {disarmed(value)}" for name, value in labels.results(task, 8 if most else 3, locale)
            )
        )
    if spent := cost_of_results(task, children, locale):
        below.append(f"📎 {spent}")
    if judged := _evaluations(task):
        below.append(judged)
    sections = [plain(said) for said in ("\n".join(filter(None, below)),) if said]
    sections += small_print(task, children, slack_style, asked, who)
    sections += button_rows(task, asked, slack_style, [lines, sections], is_rich=False, has_space=most > 0.25)
    return [plain("\n".join(filter(None, lines)))], _attachments(sections, label, task, slack_style)


def _attachments(
    blocks: list[Block], label: labels.StatusLabel, task: Task, slack_style: SlackStyle
) -> list[dict[str, Any]]:
    return [
        {
            "color": COLOURS[label.colour],
            "fallback": escape(labels.title(task, locale=slack_style.locale)),
            "blocks": blocks,
        }
    ]


def _failed(task: Task, locale: Locale) -> tuple[str, str] | tuple[()]:
    """Return type and first line of a failure. The log is in the thread, where it can be unfolded."""
    if task.error is None or task.status != "error":
        return ()
    kind, why = map(disarmed, labels.failure_parts(task, locale))
    return (kind, why) if kind or why else ()


def _last_words(task: Task, locale: Locale) -> str:
    """Return line 2 (`headline.last_words`): an answer as a quotation, which cannot pose as spanpost's words."""
    said = last_words(task, locale)
    return quoted(said) if labels.is_final(task) and task.answer else disarmed(said)


def _made(task: Task, most: float, locale: Locale) -> list[Element]:
    many = int(ARTIFACTS * most)
    made: list[Element] = []
    for artifact in task.artifacts[:many]:
        safe = link(artifact.uri, 300)
        name = disarmed(line(artifact.name, 80)) or locale.say("root.artifact")
        about = " · ".join(filter(None, (disarmed(line(artifact.kind, 20)), labels.host(safe or "", HOST))))
        made.append(section(text("📎 "), text(name, link=safe or ""), text(f"  {about}" if about else "")))
    if len(task.artifacts) > many:
        left = locale.say("root.more", n=len(task.artifacts) - many)
        made.append(section(text(left if many else f"📎 {locale.say('root.artifacts', n=len(task.artifacts))}")))
    return made


def _links(task: Task, slack_style: SlackStyle, most: int) -> list[tuple[str, str, str]]:
    """Return the agent's links with their hosts; without buttons those of the settings come first.

    An agent chooses the label of its link: it is never a button.
    """
    made = [(name, url, "") for name, url in slack_style.links_of(task)] if not slack_style.is_interactive else []
    known = {name for name, _ in slack_style.links_of(task)}
    given = [
        (disarmed(name), url, labels.host(url, HOST)) for name, url in labels.links(task, most) if name not in known
    ]
    return [*made, *given][:most]


def _results(task: Task, most: int, locale: Locale) -> list[Element]:
    figures: list[Element] = []
    for i, (name, value) in enumerate(labels.results(task, most, locale)):
        figures += [text(f"{'   ' if i else ''}{disarmed(name)} "), text(disarmed(value), "bold")]
    return figures


def _evaluations(task: Task) -> str:
    """Return people's ratings and evaluators' results in one line; their explanations are in the details."""
    return "  ·  ".join(
        filter(None, (evaluation_labels.ratings(task), *map(disarmed, evaluation_labels.results(task))))
    )
