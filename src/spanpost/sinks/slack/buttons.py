"""Buttons that fit the state of a task, and of a question.

`action_id` is ``spanpost:<verb>`` (``spanpost:choose:<n>`` for the n-th option, from 0), the value an opaque key; an entry of a menu or
of a list has ``<verb>:<key>``, ``choose:<n>:<key>``. What a button may do is decided where it is heard, never here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from spanpost.domain.interventions import Verb
from spanpost.domain.readings import Approval
from spanpost.domain.tasks import Task
from spanpost.fold.redact import cut, line
from spanpost.sinks import words
from spanpost.sinks.slack.blocks import MAX_LABEL, Element, button, confirm, menu, select

PREFIX: Final = "spanpost:"
#: Of a menu, and of what shows more: no act of a person on a task.
MENU, VIEW = "menu", "view"
#: Options shown as buttons: more of them are a list to choose from.
OPTIONS: Final = 5
#: Of that list.
CHOICE: Final = "choice"


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
    labels = _labels(approval.options)
    if len(labels) <= OPTIONS:
        # In no colour: an agent's options are no advice of ours.
        return [button(f"{PREFIX}{Verb.CHOOSE}:{n}", label, key) for n, label in enumerate(labels)]
    # What is chosen from a list counts at once: whoever slips is asked first.
    asked = confirm("Answer with this?", "The agent goes on with it.", "Answer", "Back", style="primary")
    entries = [(label, f"{Verb.CHOOSE}:{n}:{key}") for n, label in enumerate(labels)]
    return [select(f"{PREFIX}{CHOICE}", "Choose an answer", entries, asked)]


def _labels(options: Sequence[str]) -> list[str]:
    """Return how options are shown; those that would look the same, by their numbers too."""
    labels = [line(option, MAX_LABEL) or f"Option {n}" for n, option in enumerate(options, 1)]
    often = Counter(label.casefold() for label in labels)
    return [label if often[label.casefold()] == 1 else cut(f"{n}. {label}", MAX_LABEL) for n, label in enumerate(labels, 1)]


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
