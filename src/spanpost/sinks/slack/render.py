"""How a task looks in Slack. Pure: no clock, so that an unchanged task renders to equal bytes and is not sent again.

The root message, top to bottom:

- rich text: status (emoji and word), name, progress bar and step. Always there.
- `plan`: sub-agents and steps as task cards, where there are any.
- one attachment, for the colour that only attachments have: what it is doing, the open question, the failure, artifacts
  and links, and one line of small print with the figures.

`Style.PLAIN` says the same in plain sections, for a workspace that answers `invalid_blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.tasks import Task
from spanpost.fold.redact import cut, line, link, paragraph
from spanpost.sinks import words
from spanpost.sinks.slack.blocks import (
    BUDGET,
    Block,
    Element,
    card,
    context,
    escape,
    plain,
    plan,
    preformatted,
    quote,
    rich,
    section,
    size,
    text,
)

#: Slack's own attachment colours, as Grafana OnCall uses them, and a blue.
COLOURS = {"red": "#a30200", "green": "#2eb886", "yellow": "#daa038", "blue": "#1d9bd1", "grey": "#dddddd"}
CARDS, ARTIFACTS, LINKS = 14, 5, 4
#: A log tail longer than this belongs into a file; OnCall caps there too.
TAIL = 2_000
EVENT_TYPE = "spanpost_message"


class Style(StrEnum):
    """RICH is what we like; PLAIN is what every workspace takes."""

    RICH = "rich"
    PLAIN = "plain"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A rendered message: what `chat.postMessage` and `chat.update` have in common."""

    text: str
    blocks: list[Block]
    attachments: list[dict[str, Any]] = []
    metadata: dict[str, Any] = {}
    style: Style = Style.RICH

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the call, channel and place left out."""
        return {"text": self.text, "blocks": self.blocks, "attachments": self.attachments, "metadata": self.metadata}


def root(task: Task, children: Sequence[Task] = (), *, key: str, generation: int = 0, style: Style = Style.RICH) -> Message:
    """Render a task's root message. `key` is the delivery's: with the generation it marks the message, so that it can be found again."""
    draw = _root_rich if style is Style.RICH else _root_plain
    # What fits is shown; what does not is left out from the bottom of a stated list, never cut in the middle of a block.
    for most in (1.0, 0.5, 0.25, 0.0):
        blocks, attachments = draw(task, children, most)
        if size([blocks, attachments]) <= BUDGET:
            break
    return Message(
        text=escape(cut(words.sentence(task), 700)),
        blocks=blocks,
        attachments=attachments,
        metadata=marker(key, generation),
        style=style,
    )


def reply(task: Task, checkpoint: Checkpoint, *, key: str, is_root: bool = True, style: Style = Style.RICH) -> Message:
    """Render a checkpoint as a reply in its task's thread."""
    look = words.news_look(checkpoint)
    said = words.news_text(checkpoint, 600)
    who = "" if is_root else f"{words.title(task, 80)}: "
    head = f"{look.emoji} {who}{said}"
    below = paragraph(checkpoint.detail, TAIL, keep="tail" if checkpoint.kind in (Kind.ERROR, Kind.END) else "head")
    facts = _facts(task, checkpoint)
    blocks: list[Block]
    if style is Style.PLAIN:
        blocks = [plain("\n".join(filter(None, (head, below, "  ·  ".join(facts)))))]
    else:
        loud = checkpoint.kind in (Kind.END, Kind.APPROVAL_REQUESTED, Kind.ERROR)
        parts: list[Element] = [section(text(f"{look.emoji} "), text(who, "bold"), text(said, *(("bold",) if loud else ())))]
        if below:
            parts.append(quote(below) if checkpoint.kind is Kind.APPROVAL_REQUESTED else preformatted(below))
        if checkpoint.kind is Kind.ARTIFACT and (safe := link(checkpoint.ref, 500)):
            parts.append(section(text(words.host(safe), link=safe)))
        blocks = [rich(*parts)]
        if facts:
            blocks.append(context("  ·  ".join(facts)))
    return Message(
        text=escape(cut(f"{head} ({words.title(task, 80)})" if is_root else head, 900)),
        blocks=blocks,
        metadata=marker(key),
        style=style,
    )


def _facts(task: Task, checkpoint: Checkpoint) -> list[str]:
    if checkpoint.kind is Kind.END:
        return words.figures(task) + [f"{k}: {v}" for k, v in words.results(task)]
    if checkpoint.kind in (Kind.CONTEXT_WARNING, Kind.CONTEXT_FORECAST):
        return words.figures(task)[:2]
    if checkpoint.kind is Kind.APPROVAL_REQUESTED:
        approval = next((a for a in task.approvals if a.id == checkpoint.ref), None)
        if approval is not None:
            risk = f"risk {line(approval.risk, 40)}" if approval.risk else ""
            options = " / ".join(line(o, 40) for o in approval.options[:5])
            return [f for f in (risk, options) if f]
    return [f"{checkpoint.progress:.0f} %"] if checkpoint.progress is not None else []


def marker(key: str, generation: int = 0) -> dict[str, Any]:
    """Return the metadata by which a message is found again. Every app in the workspace can read it."""
    return {"event_type": EVENT_TYPE, "event_payload": {"k": key, "g": generation}}


def marked(metadata: Any) -> tuple[str, int] | None:
    """Return key and generation of a message's metadata; None when it is not a marker of ours."""
    if not isinstance(metadata, dict) or metadata.get("event_type") != EVENT_TYPE:
        return None
    payload = metadata.get("event_payload")
    if not isinstance(payload, dict) or not isinstance(payload.get("k"), str):
        return None
    generation = payload.get("g", 0)
    return payload["k"], generation if isinstance(generation, int) else 0


def _progress(task: Task) -> str:
    done = words.percent(task)
    step = words.step(task)
    shown = [f"{words.bar(done / 100, 10)} {done:.0f} %"] if done is not None else []
    if step and not words.is_final(task):
        shown.append(step)
    return "   ".join(shown)


def _root_rich(task: Task, children: Sequence[Task], most: float) -> tuple[list[Block], list[dict[str, Any]]]:
    look = words.task_look(task)
    head: list[Element] = [section(text(f"{look.emoji} "), text(words.title(task), "bold"), text(f"  {look.word}"))]
    if progress := _progress(task):
        head[0]["elements"].append(text(f"\n{progress}"))
    blocks = [rich(*head)]
    if cards := _cards(task, children, int(CARDS * most)):
        blocks.append(plan(words.at_work(children) or "Steps", cards))

    body: list[Element] = []
    if (doing := line(task.action or "", 300)) and not words.is_final(task):
        body.append(section(text(doing, "italic")))
    for approval in task.open_approvals[:2]:
        body.append(section(text("✋ "), text(line(approval.question, 300) or "A person must decide.", "bold")))
    body += _failure(task, most)
    for artifact in task.artifacts[: int(ARTIFACTS * most)]:
        safe = link(artifact.uri, 300)
        name = line(artifact.name, 80) or words.host(safe or "") or "artifact"
        body.append(
            section(text("📎 "), text(name, link=safe or ""), text(f"  {line(artifact.kind, 20)}" if artifact.kind else ""))
        )
    if len(task.artifacts) > int(ARTIFACTS * most):
        body.append(section(text(f"and {len(task.artifacts) - int(ARTIFACTS * most)} more")))
    if shown := words.links(task, int(LINKS * most)):
        linked: list[Element] = [text("🔗 ")]
        for i, (name, url) in enumerate(shown):
            linked += [text("  ·  ")] * (i > 0) + [text(name, link=url)]
        body.append(section(*linked))
    if task.results and words.is_final(task):
        figures: list[Element] = []
        for i, (name, value) in enumerate(words.results(task, 8 if most else 3)):
            figures += [text(f"{'   ' if i else ''}{name} "), text(value, "bold")]
        body.append(section(*figures))
    below = [rich(*body)] if body else []
    if small := _small_print(task, children):
        below.append(context("  ·  ".join(small)))
    return blocks, _attachments(below, look, task)


def _root_plain(task: Task, children: Sequence[Task], most: float) -> tuple[list[Block], list[dict[str, Any]]]:
    look = words.task_look(task)
    lines = [f"{look.emoji} {words.title(task)}: {look.word}", _progress(task)]
    if children:
        lines.append(words.at_work(children))
        lines += [f"{c_look.emoji} {words.title(c, 80)}" for c in children[: int(CARDS * most)] for c_look in (words.task_look(c),)]
    below = []
    if (doing := line(task.action or "", 300)) and not words.is_final(task):
        below.append(doing)
    below += [f"✋ {line(a.question, 300) or 'A person must decide.'}" for a in task.open_approvals[:2]]
    if task.error and task.status == "error":
        below.append(line(f"{task.error.type}: {task.error.message}".strip(": "), 500))
    below += [f"📎 {line(a.name, 80)} {link(a.uri, 300) or ''}".rstrip() for a in task.artifacts[: int(ARTIFACTS * most)]]
    below += [f"🔗 {name} {url}" for name, url in words.links(task, int(LINKS * most))]
    sections = [plain(said) for said in ("\n".join(filter(None, below)),) if said]
    if small := _small_print(task, children):
        sections.append(context("  ·  ".join(small)))
    return [plain("\n".join(filter(None, lines)))], _attachments(sections, look, task)


def _attachments(blocks: list[Block], look: words.Look, task: Task) -> list[dict[str, Any]]:
    if not blocks:
        return []
    return [{"color": COLOURS[look.colour], "fallback": escape(words.title(task)), "blocks": blocks}]


def _failure(task: Task, most: float) -> list[Element]:
    if task.error is None or task.status != "error":
        return []
    kind, why = line(task.error.type, 80), line(task.error.message, 500)
    parts = [section(text(kind, "bold"), text(": " if kind and why else ""), text(why))]
    if tail := paragraph(task.error.log_tail, int(TAIL * most), keep="tail"):
        parts.append(preformatted(tail))
    return parts


def _small_print(task: Task, children: Sequence[Task]) -> list[str]:
    share = task.context_share
    heat = "" if share is None else "🔴 " if share >= words.HOT else "🟡 " if share >= words.WARM else ""
    figures = words.figures(task)
    if heat:
        figures[0] = heat + figures[0]
    together = words.with_children(task, children)
    return words.byline(task) + figures + ([together] if together else [])


_CARD: dict[str, str] = {"error": "error", "cancelled": "error", "complete": "complete"}


def _cards(task: Task, children: Sequence[Task], most: int) -> list[Block]:
    cards = [_child(c) for c in children]
    cards += _steps(task)
    if len(cards) <= most:
        return cards
    # Too many: what is under way or failed is worth more than what is done or still to come.
    wanted = sorted(range(len(cards)), key=lambda i: (cards[i]["status"] == "complete", -i))[:most]
    return [cards[i] for i in sorted(wanted)]


def _child(child: Task) -> Block:
    status = _CARD.get(child.status, "in_progress")
    look = words.task_look(child)
    title = words.title(child, 90)
    if child.status in ("cancelled", "waiting", "stalled", "paused"):
        title = f"{look.emoji} {title}"
    doing = "" if words.is_final(child) else line(child.action or "", 100) or words.step(child, 80)
    return card(f"t-{child.uid.hex}", title, status, doing)


def _steps(task: Task) -> list[Block]:
    """Steps as cards, the one under way as such. A lone step says nothing that the head does not."""
    steps = task.steps
    if len(steps) < 2:
        return []
    ended = words.is_final(task)
    cards = []
    for i, step in enumerate(steps):
        is_now = not ended and (step.name == task.step_name and step.index == task.step_index)
        is_last = i == len(steps) - 1
        status = "in_progress" if is_now else "error" if is_last and task.status == "error" else "complete"
        cards.append(card(f"s-{i}", line(step.name, 90) or f"Step {step.index or i + 1}", status))
    return cards
