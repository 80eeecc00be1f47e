"""A checkpoint as a notification: a title and a few lines. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from spanpost import Checkpoint, Task
from spanpost.model.checkpoints import Kind
from spanpost.sinks import labels
from spanpost.text.sanitise import line

# "@everyone", "<!channel>": some services notify everyone for them. A zero-width space separates the characters.
_MENTION = re.compile(r"(?<!\w)@(?=\w)|<(?=[!@#])")


class Notification(NamedTuple):
    """A notification; `type` is ``info``, ``success``, ``warning`` or ``failure``."""

    title: str
    body: str
    type: str


def notification(task: Task, checkpoint: Checkpoint) -> Notification:
    """Return a checkpoint as people read it. Text from agents is cut and scrubbed, and notifies no one by a mention."""
    label = (
        labels.task_label(task)
        if checkpoint.kind is Kind.END and checkpoint.status == task.status
        else labels.checkpoint_label(checkpoint)
    )
    lines = [labels.checkpoint_text(checkpoint)]
    if checkpoint.detail and (detail := line(checkpoint.detail, 500)):
        lines.append(detail)
    if checkpoint.kind is Kind.END:
        if task.error is not None and (why := line(task.error.message or task.error.type, 300)) and why not in lines:
            lines.append(why)
        lines += [f"{name}: {value}" for name, value in labels.results(task)]
    lines += [f"{label}: {url}" for label, url in labels.links(task, 3)]
    if about := " · ".join([*labels.byline(task), *labels.figures(task, context=False)]):
        lines.append(about)
    return Notification(
        _harmless(f"{label.emoji} {labels.title(task, 100)}: {label.word}"),
        _harmless("\n".join(lines)),
        _type(checkpoint),
    )


def _type(checkpoint: Checkpoint) -> str:
    match checkpoint.kind:
        case Kind.END:
            return {"complete": "success", "error": "failure"}.get(checkpoint.status, "warning")
        case Kind.ERROR:
            return "failure"
        case Kind.APPROVAL_REQUESTED | Kind.STALLED | Kind.CONTEXT_WARNING:
            return "warning"
        case _:
            return "info"


def _harmless(text: str) -> str:
    return _MENTION.sub(lambda found: found[0] + "\u200b", text)
