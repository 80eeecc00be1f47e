"""Buttons that fit the state of a task, and of a question.

`action_id` is ``spanpost:<verb>`` (``spanpost:choose:<n>`` for the n-th option, from 0), the value an opaque key; an entry of a menu or
of a list has ``<verb>:<key>``, ``choose:<n>:<key>``. What a button may do is decided where it is heard, never here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from spanpost.model.interventions import Verb
from spanpost.model.readings import Approval
from spanpost.model.tasks import Task
from spanpost.sinks import labels as words
from spanpost.sinks.slack.blocks import MAX_LABEL, Element, button, confirm, menu, select
from spanpost.text.legible import ShownText
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import cut, line

PREFIX: Final = "spanpost:"
#: Of a menu, and of what shows more: no act of a person on a task.
MENU, VIEW = "menu", "view"
#: Of what opens the dialogue in which a question stands whole.
READ: Final = "read"
#: Options shown as buttons: more of them are a list to choose from.
OPTIONS: Final = 5
#: Of that list.
CHOICE: Final = "choice"


def of_question(approval: Approval, shown: ShownText, locale: Locale = ENGLISH) -> list[Element]:
    """Return the answers that a question has; none where nobody can answer it through spanpost.

    What stands whole beside them is answered by one press, what is longer in a dialogue in which it stands whole, and what nobody
    can read whole can only be denied.
    """
    if approval.key is None or not approval.is_open:
        return []
    key = str(approval.key)
    deny = button(f"{PREFIX}{Verb.DENY}", locale.say("button.deny"), key, style="danger")
    if not shown.is_whole:
        return [deny]
    if not shown.is_brief:
        read = button(f"{PREFIX}{READ}", locale.say("button.read"), key, style="primary")
        return [read] if shown.options else [read, deny]
    if not shown.options:
        return [button(f"{PREFIX}{Verb.APPROVE}", locale.say("button.approve"), key, style="primary"), deny]
    labels = _labels(shown.options, locale)
    if len(labels) <= OPTIONS:
        # In no colour: an agent's options are no advice of ours.
        return [button(f"{PREFIX}{Verb.CHOOSE}:{n}", label, key) for n, label in enumerate(labels)]
    # What is chosen from a list counts at once: whoever slips is asked first.
    asked = confirm(
        locale.say("button.answer_title"),
        locale.say("button.answer_text"),
        locale.say("button.answer"),
        locale.say("button.back"),
        style="primary",
    )
    entries = [(label, f"{Verb.CHOOSE}:{n}:{key}") for n, label in enumerate(labels)]
    return [select(f"{PREFIX}{CHOICE}", locale.say("button.choose"), entries, asked)]


def _labels(options: Sequence[str], locale: Locale) -> list[str]:
    """Return how options are shown: all by their numbers too, where two would look the same."""
    labels = [line(option, MAX_LABEL) or locale.say("button.option", index=n) for n, option in enumerate(options, 1)]
    if len({unicodedata.normalize("NFKC", label).casefold() for label in labels}) == len(labels):
        return labels
    return [cut(f"{n}. {label}", MAX_LABEL) for n, label in enumerate(labels, 1)]


def of_task(task: Task, locale: Locale = ENGLISH, *, offers_retry: bool = True) -> list[Element]:
    """Return what may be asked of a task as it is. Retry only where something could start it again."""
    key = str(task.uid)
    entries: list[tuple[str, str]] = [(locale.say("button.more"), f"{VIEW}:{key}")]
    made: list[Element] = []
    if not words.is_final(task):
        if not task.cancel_by:
            asked = confirm(
                locale.say("button.cancel_title"),
                locale.say("button.cancel_text", task=words.title(task, 200, locale)),
                locale.say("button.cancel_yes"),
                locale.say("button.cancel_no"),
            )
            made.append(button(f"{PREFIX}{Verb.CANCEL}", locale.say("button.cancel"), key, confirm=asked))
        if task.paused_by:
            made.insert(0, button(f"{PREFIX}{Verb.RESUME}", locale.say("button.resume"), key, style="primary"))
        entries.append(
            (
                locale.say("button.unmute" if task.is_muted else "button.mute"),
                f"{Verb.UNMUTE if task.is_muted else Verb.MUTE}:{key}",
            )
        )
    elif task.status in ("error", "cancelled"):
        made += [button(f"{PREFIX}{Verb.RETRY}", locale.say("button.retry"), key)] * offers_retry
    else:
        return []  # well done: nothing to ask, and a row less
    return [*made, menu(f"{PREFIX}{MENU}", entries)]
