"""Renders a task for a terminal. Pure: tasks and checkpoints in, something to print out.

A card has a bar in the status's colour at its left, as a Slack message has, and no right edge: an emoji is
one column wide in some terminals and two in others, and an edge that jumps is worse than none. Text from
agents only becomes `rich.text.Text`, never markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Delivery, Mode
from spanpost.model.tasks import Task
from spanpost.sinks import labels
from spanpost.sinks.headline import agents, family, headline, last_words
from spanpost.sinks.loop_label import loop
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import line, link, paragraph

#: Slack's own attachment colours, as Grafana OnCall uses them, a little brighter for dark terminals.
COLOURS = {"red": "#e5534b", "green": "#2eb886", "yellow": "#daa038", "blue": "#4d9de0", "grey": "#8b949e"}
CHILDREN, ARTIFACTS, CHECKPOINT, TAIL = 8, 5, 8, 6
BAR = 20


class CheckpointLine(msgspec.Struct, frozen=True):
    """A line of a thread. `who` names the sub-agent that reported it."""

    checkpoint: Checkpoint
    who: str = ""


class Barred:
    """Content with a coloured bar at its left."""

    def __init__(self, inner: RenderableType, colour: str) -> None:
        self.inner = inner
        self.style = Style(color=colour)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        edge = Segment("┃ ", self.style)
        for row in console.render_lines(self.inner, options.update(width=max(options.max_width - 2, 10)), pad=False):
            yield edge
            yield from row
            yield Segment.line()


def card(
    task: Task,
    children: Sequence[Task] = (),
    thread: Sequence[CheckpointLine] = (),
    *,
    now: datetime | None = None,
    hidden: int = 0,
    zone: tzinfo = UTC,
    roomy: bool = True,
    locale: Locale = ENGLISH,
) -> RenderableType:
    """Draw a task's message with its thread below. `hidden` counts older checkpoints that are left out."""
    shown = labels.task_label(task, locale)
    colour = COLOURS[shown.colour]
    rows: list[RenderableType] = [_head(task, children, shown, colour, now, locale)]
    if progress := _progress(task, colour, locale):
        rows.append(progress)
    if not task.open_approvals and not task.child_question and (said := _second(task, locale)):
        rows.append(_line(("▸ ", "dim"), (said, "italic")))
    if task.child_question and not task.open_approvals:
        rows.append(_question(task.child_question, (), "", locale))
    rows += [_question(a.question, a.options, a.risk, locale) for a in task.open_approvals[:3]]
    if facts := _facts(family(task, children), locale):
        rows.append(facts)
    if task.error and task.status == "error":
        rows += _failure(task, locale)
    if roomy:
        rows += _children(task, children, now, locale)
        rows += [_artifact(a.name, a.uri, a.kind) for a in task.artifacts[:ARTIFACTS]]
        if len(task.artifacts) > ARTIFACTS:
            rows.append(_line((f"   {locale.say('root.more', n=len(task.artifacts) - ARTIFACTS)}", "dim")))
        rows += [
            _line(("🔗 ", ""), (f"{name} ", "dim"), (url, f"underline link {url}"))
            for name, url in labels.links(task, 4)
        ]
        if task.results and labels.is_final(task):
            rows.append(_line(*_joined([(f"{k} ", "dim", v, "bold") for k, v in labels.results(task, locale=locale)])))
    message = Barred(Group(*rows), colour)
    return Group(message, *_thread(thread, hidden, zone, locale)) if thread else message


def _second(task: Task, locale: Locale) -> str:
    """Return line 2; empty where the failure says it."""
    return "" if task.error and task.status == "error" else last_words(task, locale)


def _head(
    task: Task,
    children: Sequence[Task],
    shown: labels.StatusLabel,
    colour: str,
    now: datetime | None,
    locale: Locale,
) -> RenderableType:
    left = _line((f"{shown.emoji} ", ""), (labels.title(task, locale=locale), "bold"))
    for part in labels.byline(task, locale=locale):
        left.append(f"  {part}", "dim")
    right = Text(headline(task, children, locale), style=f"bold {colour}")
    if not labels.is_final(task) and (span := labels.age(task, now)) is not None:
        right.append(f"  {labels.elapsed(span, locale)}", "not bold default")
    grid = Table.grid(expand=True, padding=0)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    # A margin for terminals that draw an emoji wider than rich counts it.
    grid.add_row(left, right + Text("  "))
    return grid


def _progress(task: Task, colour: str, locale: Locale) -> Text | None:
    done, step = labels.percent(task), labels.step(task, locale=locale)
    if done is None:
        return _line((step, "")) if step else None
    drawn = labels.bar(done / 100, BAR)
    full = drawn.count("█")
    text = _line((drawn[:full], colour), (drawn[full:], "bright_black"), (f" {done:3.0f} %", "bold"))
    if step and not labels.is_final(task):
        text.append(f"   {step}")
    return text


def _facts(task: Task, locale: Locale) -> Text | None:
    text = Text()
    share = task.context_share
    if share is not None and task.context_window_tokens:
        heat = COLOURS["red" if share >= labels.HOT else "yellow" if share >= labels.WARM else "green"]
        drawn = labels.bar(share, 10, full="▰", empty="▱")
        full = drawn.rstrip("▱")
        before, _, after = labels.context_bar(task, locale=locale).partition(drawn)
        text.append(before, "dim")
        text.append(full, heat)
        text.append(drawn[len(full) :], "bright_black")
        text.append(after, heat)
        if said := labels.forecast(task, locale):
            text.append(f"   {said}", heat)
    if said := loop(task, locale):
        text.append(f"{'   ' if text else ''}{said}", COLOURS["yellow"])
    figures = [labels.tokens(task, locale)]
    if task.cost_usd is not None and not labels.is_final(task):  # line 1 says it at the end
        figures.append(labels.cost(task, locale))
    if task.tool_calls:
        said = locale.say("figure.tool_calls", n=task.tool_calls)
        figures.append(
            locale.say("figure.some_failed_too", what=said, n=task.tool_errors) if task.tool_errors else said
        )
    for figure in filter(None, figures):
        text.append("   " if text else "")
        text.append(figure, "dim")
    return text or None


def _failure(task: Task, locale: Locale) -> list[RenderableType]:
    assert task.error is not None
    rows: list[RenderableType] = []
    kind, why = labels.failure_parts(task, locale)
    if kind or why:
        rows.append(_line((kind, f"bold {COLOURS['red']}"), (": " if kind and why else "", "dim"), (why, "")))
    tail = paragraph(task.error.log_tail, 1200, keep="tail")
    rows += [_line(("  │ ", "dim"), (part, "dim")) for part in tail.splitlines()[-TAIL:]]
    return rows


def _question(question: str, options: Sequence[str], risk: str, locale: Locale) -> RenderableType:
    text = _line(("✋ ", ""), (line(question, 300) or locale.say("root.must_decide"), f"bold {COLOURS['yellow']}"))
    if said := line(risk, 40):
        text.append(f"  {locale.say('reply.risk', risk=said)}", "dim")
    for option in options[:5]:
        text.append(f"  [{line(option, 40)}]", "bold")
    return text


def _children(task: Task, children: Sequence[Task], now: datetime | None, locale: Locale) -> list[RenderableType]:
    if not children:
        return []
    said = agents(task, children, locale)
    rows: list[RenderableType] = [_line((said, "dim"))] * (said not in headline(task, children, locale))
    shown = children[:CHILDREN]
    for i, child in enumerate(shown):
        label = labels.task_label(child, locale)
        last = i == len(shown) - 1 and len(children) <= CHILDREN
        text = _line(
            ("└ " if last else "├ ", "bright_black"), (f"{label.emoji} ", ""), (labels.title(child, 60, locale), "")
        )
        doing = labels.doing(child, 80, locale) or labels.step(child, 60, locale)
        done = labels.percent(child)
        if labels.is_final(child):
            text.append(f"  {label.word}", COLOURS[label.colour])
        else:
            text.append(f"  {labels.share(done, locale) if done is not None else label.word}", COLOURS[label.colour])
            if doing:
                text.append(f"  {doing}", "italic dim")
        if (span := labels.age(child, now)) is not None:
            text.append(f"  {labels.elapsed(span, locale)}", "dim")
        rows.append(text)
    if len(children) > CHILDREN:
        rows.append(_line(("└ ", "bright_black"), (locale.say("root.more", n=len(children) - CHILDREN), "dim")))
    return rows


def _artifact(name: str, uri: str, kind: str) -> Text:
    text = _line(("📎 ", ""), (line(name, 80) or line(uri, 80), ""))
    if said := line(kind, 20):
        text.append(f"  {said}", "dim")
    if uri and (safe := link(uri)):
        text.append("  ").append(safe, f"underline dim link {safe}")
    elif uri and uri != name:
        text.append(f"  {line(uri, 120)}", "dim")
    return text


def _thread(thread: Sequence[CheckpointLine], hidden: int, zone: tzinfo, locale: Locale) -> list[RenderableType]:
    rows: list[RenderableType] = []
    if hidden:
        rows.append(_line(("  │ ", "bright_black"), (locale.say("console.earlier", n=hidden), "dim")))
    for i, entry in enumerate(thread):
        edge = "  ╰ " if i == len(thread) - 1 else "  │ "
        row = Table.grid(padding=0)
        # Fixed width: rich would shrink both columns where a line is too long for the terminal.
        row.add_column(no_wrap=True, min_width=len(edge))
        row.add_column(overflow="ellipsis", no_wrap=True)
        row.add_row(Text(edge, "bright_black"), checkpoint_line(entry, zone, locale))
        rows.append(row)
    return rows


def checkpoint_line(entry: CheckpointLine, zone: tzinfo = UTC, locale: Locale = ENGLISH) -> Text:
    """Draw one line of a thread: time, text, sub-agent."""
    checkpoint = entry.checkpoint
    label = labels.checkpoint_label(checkpoint, locale)
    text = _line((f"{checkpoint.at.astimezone(zone):%H:%M:%S} ", "dim"), (f"{label.emoji} ", ""))
    if who := line(entry.who, 40):
        text.append(f"{who}  ", "bold dim")
    loud = checkpoint.kind in (
        Kind.ERROR,
        Kind.APPROVAL_REQUESTED,
        Kind.CONTEXT_WARNING,
        Kind.CONTEXT_FORECAST,
        Kind.STALLED,
        Kind.LOOP,
        Kind.BUDGET_WARNING,
        Kind.ALERT,
        Kind.END,
    )
    text.append(labels.checkpoint_text(checkpoint, locale=locale), COLOURS[label.colour] if loud else "")
    if checkpoint.progress is not None:
        text.append(f"  {labels.share(checkpoint.progress, locale)}", "dim")
    return text


def plain(entry: CheckpointLine, title: str, zone: tzinfo = UTC, locale: Locale = ENGLISH) -> str:
    """Write a checkpoint as one line of a log: no colours, with the task's name."""
    named = f"{title} › {entry.who}" if entry.who else title
    label = labels.checkpoint_label(entry.checkpoint, locale)
    at = f"{entry.checkpoint.at.astimezone(zone):%H:%M:%S}"
    done = f" ({labels.share(entry.checkpoint.progress, locale)})" if entry.checkpoint.progress is not None else ""
    return f"{at} [{line(named, 80)}] {label.emoji} {labels.checkpoint_text(entry.checkpoint, locale=locale)}{done}"


def record(delivery: Delivery) -> dict[str, Any]:
    """Return a delivery as one JSON object of a log: public names, scrubbed texts."""
    task, checkpoint = delivery.task, delivery.checkpoint
    shown: dict[str, Any] = {
        "mode": str(delivery.mode),
        "ordering_key": delivery.ordering_key,
        "task": {
            "task_id": line(task.task_id, 200),
            "name": labels.title(task),
            "agent_name": line(task.agent_name or "", 80) or None,
            "status": task.status,
            "progress": labels.percent(task),
            "action": line(task.action or "", 200) or None,
            "step": labels.step(task) or None,
            "context_used_tokens": task.context_used_tokens,
            "context_window_tokens": task.context_window_tokens,
            "context_window_source": task.context_window_source or None,
            "input_tokens": task.input_tokens,
            "output_tokens": task.output_tokens,
            "cost_usd": None if task.cost_usd is None else float(task.cost_usd),
            "children": len(delivery.children) or task.child_count,
        },
    }
    if delivery.mode is Mode.CHECKPOINT and checkpoint is not None:
        shown["checkpoint"] = {
            "id": str(checkpoint.id),
            "kind": str(checkpoint.kind),
            "status": checkpoint.status,
            "text": line(checkpoint.text, 1000),
            "message": checkpoint.message.key if checkpoint.message is not None else None,
            "at": checkpoint.at.isoformat(),
        }
    return shown


def _line(*parts: tuple[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in parts:
        text.append(part, style)
    return text


def _joined(parts: Sequence[tuple[str, str, str, str]]) -> list[tuple[str, str]]:
    spread: list[tuple[str, str]] = []
    for name, dim, value, bold in parts:
        spread += [("   " if spread else "", ""), (name, dim), (value, bold)]
    return spread
