"""Buttons that fit the state of a task, and of a question.

`action_id` is ``spanpost:<verb>`` (``spanpost:choose:<n>`` for the n-th option, from 0), the value an opaque key; a menu's entry
has ``<verb>:<key>``. What a button may do is decided where it is heard, never here.
"""

from __future__ import annotations

from typing import Final

from spanpost.domain.interventions import Verb
from spanpost.domain.readings import Approval
from spanpost.domain.tasks import Task
from spanpost.fold.redact import line
from spanpost.sinks import words
from spanpost.sinks.slack.blocks import MAX_LABEL, Element, button, confirm, menu

PREFIX: Final = "spanpost:"
#: Of a menu, and of what shows more: no act of a person on a task.
MENU, VIEW = "menu", "view"
#: Options shown as buttons; Slack takes more, a reader does not.
OPTIONS: Final = 5


def of_question(approval: Approval) -> list[Element]:
    """Return the answers that a question has; none where nobody can answer it through spanpost."""
    if approval.key is None or not approval.is_open:
        return []
    key = str(approval.key)
    if not approval.options:
        return [
            button(f"{PREFIX}{Verb.APPROVE}", "Approve", key, style="primary"),
            button(f"{PREFIX}{Verb.DENY}", "Deny", key, style="danger"),
        ]
    return [
        # In no colour: an agent's options are no advice of ours.
        button(f"{PREFIX}{Verb.CHOOSE}:{n}", line(option, MAX_LABEL) or f"Option {n + 1}", key)
        for n, option in enumerate(approval.options[:OPTIONS])
    ]


def of_task(task: Task, *, offers_retry: bool = True) -> list[Element]:
    """Return what may be asked of a task as it is. Retry only where something could start it again."""
    key = str(task.uid)
    entries: list[tuple[str, str]] = [("Show more", f"{VIEW}:{key}")]
    made: list[Element] = []
    if not words.is_final(task):
        if not task.cancel_by:
            asked = confirm("Cancel this task?", f"{words.title(task, 200)} is asked to stop.", "Cancel it", "Let it run")
            made.append(button(f"{PREFIX}{Verb.CANCEL}", "Cancel", key, confirm=asked))
        if task.paused_by:
            made.insert(0, button(f"{PREFIX}{Verb.RESUME}", "Resume", key, style="primary"))
        entries.append(("Unmute" if task.is_muted else "Mute", f"{Verb.UNMUTE if task.is_muted else Verb.MUTE}:{key}"))
    elif task.status in ("error", "cancelled"):
        made += [button(f"{PREFIX}{Verb.RETRY}", "Retry", key)] * offers_retry
    else:
        return []  # well done: nothing to ask, and a row less
    return [*made, menu(f"{PREFIX}{MENU}", entries)]
