"""How one message for many tasks looks in Slack: a digest of a period, a board of what is under way.

Head, figures, then lists: a line for each task, with its sign, its name as a link where the settings make one, and why. All of it is
rich text: what agents wrote stands there literally.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from spanpost.domain.summaries import Board, Digest, Summary
from spanpost.domain.tasks import Task
from spanpost.fold.redact import cut, line
from spanpost.sinks import words
from spanpost.sinks.slack.blocks import (
    BUDGET,
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
from spanpost.sinks.slack.guise import disarmed
from spanpost.sinks.slack.manner import Manner
from spanpost.sinks.slack.render import ANONYMOUS, COLOURS, Message, Style, marker
from spanpost.tongues import Tongue

_NOBODY: Final = UUID(int=0)
#: Counts stand in this order.
_ORDER: Final = ("complete", "error", "cancelled", "waiting", "stalled", "context_warning", "starting", "working", "paused")
_MOMENT: Final = "{date_short_pretty} {time}"


def draw(summary: Summary, *, key: str, generation: int = 0, style: Style = Style.RICH, manner: Manner = ANONYMOUS) -> Message:
    """Render a digest or a board."""
    told = summary.told
    for most in (20, 10, 5, 2, 0):
        head, body = _digest(told, most, manner) if isinstance(told, Digest) else _board(told, most, manner)
        blocks = _blocks(head, body, style)
        if size(blocks) <= BUDGET - 500:
            break
    colour = _colour(told)
    foot = [context(manner.note, small_parsed(_foot(told, manner.tongue)))] if isinstance(told, Digest) else []
    if isinstance(told, Board) and manner.note:
        foot = [context(manner.note)]
    attachments = [{"color": COLOURS[colour], "fallback": escape(cut(head, 200)), "blocks": [*blocks[1:], *foot]}]
    if not attachments[0]["blocks"]:
        attachments = []
    return Message(
        text=escape(cut(head, 700)), blocks=blocks[:1], attachments=attachments, metadata=marker(key, generation), style=style
    )


def _blocks(head: str, body: Sequence[Sequence[Element]], style: Style) -> list[Block]:
    if style is Style.RICH:
        return [rich(section(text(head, "bold"))), *([rich(*(section(*one) for one in body))] if body else [])]
    lines = ["".join(str(e.get("text") or e.get("fallback") or "") for e in one) for one in body]
    return [plain(head), *([plain(cut("\n".join(lines), 3_000))] if lines else [])]


def _digest(told: Digest, most: int, manner: Manner) -> tuple[str, list[list[Element]]]:
    tongue = manner.tongue
    n = sum(told.ended.values())
    head = _headed(tongue.say("digest.head", n=n), "📰", manner)
    body: list[list[Element]] = []
    if counts := _counts(told.ended, tongue):
        body.append([text(counts)])
    if figures := _figures(told, tongue):
        body.append([text(figures)])
    for title, tasks, all_ in (
        ("digest.failed", told.failed, told.ended.get("error", 0)),
        ("digest.needy", told.needy, told.living.get("waiting", 0) + told.living.get("stalled", 0)),
    ):
        body += _listed(tongue.say(title), tasks, all_, most, manner)
    going = sum(told.living.values())
    if going:
        body.append([text(tongue.say("digest.going", n=going))])
    return head, body


def _foot(told: Digest, tongue: Tongue) -> str:
    return tongue.say("digest.period", since=dated(told.began_at, _MOMENT), until=dated(told.ends_at, _MOMENT))


def _board(told: Board, most: int, manner: Manner) -> tuple[str, list[list[Element]]]:
    tongue = manner.tongue
    n = sum(told.living.values())
    head = _headed(tongue.say("board.head", n=n) if n else tongue.say("board.nothing"), "📋", manner)
    body: list[list[Element]] = []
    if counts := _counts(told.living, tongue):
        body.append([text(counts)])
    return head, [*body, *_listed("", told.tasks, n, most, manner)]


def _headed(said: str, sign: str, manner: Manner) -> str:
    return f"{sign} {f'{manner.prefix} ' if manner.prefix else ''}{said}"


def _counts(by: dict[str, int], tongue: Tongue) -> str:
    """Return how many there are of each status, in the order of the statuses."""
    found = [(words.look(status, tongue), by[status]) for status in _ORDER if by.get(status)]
    return "   ".join(f"{look.emoji} {look.word} {n}" for look, n in found)


def _figures(told: Digest, tongue: Tongue) -> str:
    sums = Task(
        uid=_NOBODY,
        tenant="",
        task_id="",
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        cost_usd=told.cost_usd,
        unpriced_calls=told.unpriced,
    )
    return " · ".join(part for part in (words.tokens(sums, tongue), words.cost(sums, tongue)) if part)


def _listed(title: str, tasks: Sequence[Task], all_: int, most: int, manner: Manner) -> list[list[Element]]:
    """Return a title and a line for each task; of more than are listed the number."""
    shown = [manner.of_task(task) for task in tasks[:most]]
    lines: list[list[Element]] = [[text(title, "bold")]] if title and tasks else []
    lines += [_line(task, manner) for task in shown]
    if all_ > len(shown) and tasks:
        lines.append([text(manner.tongue.say("digest.more", n=all_ - len(shown)))])
    return lines


def _line(task: Task, manner: Manner) -> list[Element]:
    tongue = manner.tongue
    look = words.task_look(task, tongue)
    link = next((url for one in manner.links if (url := one.filled(task)) is not None), "")
    link = link or next((url for _, url in words.links(task, 1)), "")
    name = text(disarmed(words.title(task, 100, tongue)), "bold", link=link)
    why = _why(task, tongue)
    agent = line(task.agent_name or "", 40)
    agent = "" if agent == words.title(task) else agent
    about = "".join(
        f" · {part}" for part in (disarmed(agent), look.word if not words.is_final(task) else "", disarmed(why)) if part
    )
    found = [text(f"{look.emoji} "), name, text(about)]
    if task.started_at is not None and not words.is_final(task):
        found += [text(f" · {tongue.say('command.since')} "), date(task.started_at, _MOMENT)]
    return found


def _why(task: Task, tongue: Tongue) -> str:
    """Return what is to be known of a task: what it asks, why it failed, else what it does."""
    if task.open_approvals:
        return line(task.open_approvals[0].question, 120)
    if words.is_final(task):
        return line(words.failure(task, tongue) or (task.error.type if task.error else ""), 120)
    return words.doing(task, 100, tongue) or words.step(task, 80, tongue)


def _colour(told: Digest | Board) -> str:
    if isinstance(told, Digest) and told.ended.get("error"):
        return "red"
    return "yellow" if told.living.get("waiting") or told.living.get("stalled") else "green"
