"""Renders one Slack message for many tasks: a digest of a period, or a board of open tasks.

Head, figures, then lists: one line per task, with its sign, its name (a link where the settings have one)
and the reason. It is rich text: agents' text stands there literally.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from spanpost.model.summaries import Board, Digest, Summary
from spanpost.model.tasks import RESTING, Task
from spanpost.sinks import labels
from spanpost.sinks.slack.blocks import (
    MAX_SIZE,
    Block,
    Element,
    context,
    date,
    dated,
    escape,
    plain,
    rich,
    section,
    size,
    small_parsed,
    text,
)
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.sinks.slack.render import ANONYMOUS, COLOURS, SlackMessage, Style, marker
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.locales import Locale
from spanpost.text.sanitise import cut, line

_NOBODY: Final = UUID(int=0)
#: Order of the statuses in counts.
_ORDER: Final = (
    "complete",
    "error",
    "cancelled",
    "waiting",
    "stalled",
    "context_warning",
    "starting",
    "working",
    "paused",
    RESTING,
)
_MOMENT: Final = "{date_short_pretty} {time}"


def draw(
    summary: Summary, *, key: str, generation: int = 0, style: Style = Style.RICH, slack_style: SlackStyle = ANONYMOUS
) -> SlackMessage:
    """Render a digest or a board."""
    content = summary.content
    for most in (20, 10, 5, 2, 0):
        head, body = (
            _digest(content, most, slack_style) if isinstance(content, Digest) else _board(content, most, slack_style)
        )
        blocks = _blocks(head, body, style)
        if size(blocks) <= MAX_SIZE - 500:
            break
    colour = _colour(content)
    foot = (
        [context(slack_style.note, small_parsed(_foot(content, slack_style.locale)))]
        if isinstance(content, Digest)
        else []
    )
    if isinstance(content, Board) and slack_style.note:
        foot = [context(slack_style.note)]
    attachments = [{"color": COLOURS[colour], "fallback": escape(cut(head, 200)), "blocks": [*blocks[1:], *foot]}]
    if not attachments[0]["blocks"]:
        attachments = []
    return SlackMessage(
        text=escape(cut(head, 700)),
        blocks=blocks[:1],
        attachments=attachments,
        metadata=marker(key, generation),
        style=style,
    )


def _blocks(head: str, body: Sequence[Sequence[Element]], style: Style) -> list[Block]:
    if style is Style.RICH:
        return [rich(section(text(head, "bold"))), *([rich(*(section(*one) for one in body))] if body else [])]
    lines = ["".join(str(e.get("text") or e.get("fallback") or "") for e in one) for one in body]
    return [plain(head), *([plain(cut("\n".join(lines), 3_000))] if lines else [])]


def _digest(content: Digest, most: int, slack_style: SlackStyle) -> tuple[str, list[list[Element]]]:
    locale = slack_style.locale
    n = sum(content.ended.values())
    head = _headed(locale.say("digest.head", n=n), "📰", slack_style)
    body: list[list[Element]] = []
    if counts := _counts(content.ended, locale):
        body.append([text(counts)])
    if figures := _figures(content, locale):
        body.append([text(figures)])
    for title, tasks, all_ in (
        ("digest.failed", content.failed, content.ended.get("error", 0)),
        ("digest.needy", content.needy, content.living.get("waiting", 0) + content.living.get("stalled", 0)),
    ):
        body += _listed(locale.say(title), tasks, all_, most, slack_style)
    going = sum(content.living.values())
    if going:
        body.append([text(locale.say("digest.going", n=going))])
    return head, body


def _foot(content: Digest, locale: Locale) -> str:
    return locale.say("digest.period", since=dated(content.began_at, _MOMENT), until=dated(content.ends_at, _MOMENT))


def _board(content: Board, most: int, slack_style: SlackStyle) -> tuple[str, list[list[Element]]]:
    locale = slack_style.locale
    n = sum(content.living.values())
    head = _headed(locale.say("board.head", n=n) if n else locale.say("board.nothing"), "📋", slack_style)
    body: list[list[Element]] = []
    if counts := _counts(content.living, locale):
        body.append([text(counts)])
    return head, [*body, *_listed("", content.tasks, n, most, slack_style)]


def _headed(said: str, sign: str, slack_style: SlackStyle) -> str:
    return f"{sign} {f'{slack_style.prefix} ' if slack_style.prefix else ''}{said}"


def _counts(by: dict[str, int], locale: Locale) -> str:
    """Return the number of tasks per status, in the order of the statuses."""
    found = [(labels.status_label(status, locale), by[status]) for status in _ORDER if by.get(status)]
    return "   ".join(f"{label.emoji} {label.word} {n}" for label, n in found)


def _figures(content: Digest, locale: Locale) -> str:
    sums = Task(
        uid=_NOBODY,
        tenant="",
        task_id="",
        input_tokens=content.input_tokens,
        output_tokens=content.output_tokens,
        cost_usd=content.cost_usd,
        unpriced_calls=content.unpriced,
    )
    return " · ".join(part for part in (labels.tokens(sums, locale), labels.cost(sums, locale)) if part)


def _listed(title: str, tasks: Sequence[Task], all_: int, most: int, slack_style: SlackStyle) -> list[list[Element]]:
    """Return a title and a line per task; then the number of tasks that are not listed."""
    shown = [slack_style.of_task(task) for task in tasks[:most]]
    lines: list[list[Element]] = [[text(title, "bold")]] if title and tasks else []
    lines += [_line(task, slack_style) for task in shown]
    if all_ > len(shown) and tasks:
        lines.append([text(slack_style.locale.say("digest.more", n=all_ - len(shown)))])
    return lines


def _line(task: Task, slack_style: SlackStyle) -> list[Element]:
    locale = slack_style.locale
    label = labels.task_label(task, locale)
    link = next((url for one in slack_style.links if (url := one.filled(task)) is not None), "")
    link = link or next((url for _, url in labels.links(task, 1)), "")
    name = text(disarmed(labels.title(task, 100, locale)), "bold", link=link)
    why = _why(task, locale)
    agent = line(task.agent_name or "", 40)
    agent = "" if agent == labels.title(task) else agent
    about = "".join(
        f" · {part}"
        for part in (disarmed(agent), label.word if not labels.is_final(task) else "", disarmed(why))
        if part
    )
    found = [text(f"{label.emoji} "), name, text(about)]
    if task.started_at is not None and not labels.is_final(task):
        found += [text(f" · {locale.say('command.since')} "), date(task.started_at, _MOMENT)]
    return found


def _why(task: Task, locale: Locale) -> str:
    """Return what matters about a task: its question, its failure, else its action."""
    if task.open_approvals:
        return line(task.open_approvals[0].question, 120)
    if labels.is_final(task):
        return line(labels.failure_line(task, locale), 120)
    return labels.doing(task, 100, locale) or labels.step(task, 80, locale)


def _colour(content: Digest | Board) -> str:
    if isinstance(content, Digest) and content.ended.get("error"):
        return "red"
    return "yellow" if content.living.get("waiting") or content.living.get("stalled") else "green"
