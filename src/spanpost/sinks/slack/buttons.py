"""Buttons for the state of a task or a question.

`action_id` is ``spanpost:<verb>`` and the value an opaque key. ``spanpost:choose:<n>`` is the n-th option, from
0, ``spanpost:rate:<n>`` a rating by its index, and ``spanpost:approve:<scope>`` an approval that goes further.
An entry of a menu or list has ``<verb>:<key>``, ``choose:<n>:<key>`` or ``approve:<scope>:<key>``. Authorization
happens where clicks are received, never here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from spanpost.model.alerts import Alert
from spanpost.model.interventions import RATINGS, Verb
from spanpost.model.readings import Approval
from spanpost.model.standing_approvals import Scope
from spanpost.model.tasks import Task
from spanpost.sinks import labels as words
from spanpost.sinks.evaluation_labels import SIGNS
from spanpost.sinks.slack.blocks import MAX_LABEL, Element, button, confirm, link_button, menu, select
from spanpost.tasks import alert_acts
from spanpost.text.legible import ShownText
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import cut, line

PREFIX: Final = "spanpost:"
#: Actions of the menu and of *Show more*; they are not interventions.
MENU, VIEW = "menu", "view"
#: Action that opens the dialogue with the whole question.
READ: Final = "read"
#: Links that are buttons, at most.
LINKED: Final = 3
#: Maximum number of options that are buttons; more become a list.
OPTIONS: Final = 5
#: Action of that list.
CHOICE: Final = "choice"


def of_question(approval: Approval, shown: ShownText, locale: Locale = ENGLISH) -> list[Element]:
    """Return the answer buttons of a question; none if it cannot be answered through spanpost.

    A question that is shown whole is answered by one click. A longer one is answered in a dialogue that
    shows it whole. One that cannot be shown whole can only be denied.
    """
    if approval.rule and approval.decision == Verb.APPROVE:
        return [_revoke(approval.rule, locale)]
    if approval.key is None or not approval.is_open:
        return []
    key = str(approval.key)
    deny = button(f"{PREFIX}{Verb.DENY}", locale.say("button.deny"), key, style="danger")
    if not shown.is_whole:
        return [deny]
    if not shown.is_brief:
        read = button(f"{PREFIX}{READ}", locale.say("button.read"), key, style="primary")
        return [read] if shown.options else [read, deny]
    if not shown.options and approval.tool and approval.needs == 1:
        once = button(f"{PREFIX}{Verb.APPROVE}", locale.say("button.allow_once"), key, style="primary")
        task = button(f"{PREFIX}{Verb.APPROVE}:{Scope.TASK}", locale.say("button.allow_task"), key)
        further = [
            (locale.say(f"button.allow_{scope}"), f"{Verb.APPROVE}:{scope}:{key}")
            for scope in (Scope.HOUR, Scope.ALWAYS)
        ]
        return [once, task, deny, menu(f"{PREFIX}{MENU}", further)]
    if not shown.options:
        return [button(f"{PREFIX}{Verb.APPROVE}", locale.say("button.approve"), key, style="primary"), deny]
    labels = _labels(shown.options, locale)
    if len(labels) <= OPTIONS:
        # Without a colour: spanpost does not recommend an agent's option.
        return [button(f"{PREFIX}{Verb.CHOOSE}:{n}", label, key) for n, label in enumerate(labels)]
    # Choosing from a list counts at once, so a confirmation follows.
    asked = confirm(
        locale.say("button.answer_title"),
        locale.say("button.answer_text"),
        locale.say("button.answer"),
        locale.say("button.back"),
        style="primary",
    )
    entries = [(label, f"{Verb.CHOOSE}:{n}:{key}") for n, label in enumerate(labels)]
    return [select(f"{PREFIX}{CHOICE}", locale.say("button.choose"), entries, asked)]


def _revoke(rule: str, locale: Locale) -> Element:
    """Return the button that ends the standing approval that decided a question, or came of it."""
    asked = confirm(
        locale.say("button.revoke_title"),
        locale.say("button.revoke_text"),
        locale.say("button.revoke_yes"),
        locale.say("button.revoke_no"),
    )
    return button(f"{PREFIX}{Verb.REVOKE}", locale.say("button.revoke"), rule, confirm=asked)


def of_alert(alert: Alert, locale: Locale = ENGLISH, *, can_silence: bool) -> list[Element]:
    """Return the buttons of an alert."""
    return [
        button(f"{PREFIX}{verb}", locale.say(f"button.{verb}"), str(alert.id))
        for verb in alert_acts.possible(alert, can_silence=can_silence)
    ]


def _labels(options: Sequence[str], locale: Locale) -> list[str]:
    """Return the labels of options, with numbers if two would look the same."""
    labels = [line(option, MAX_LABEL) or locale.say("button.option", index=n) for n, option in enumerate(options, 1)]
    if len({unicodedata.normalize("NFKC", label).casefold() for label in labels}) == len(labels):
        return labels
    return [cut(f"{n}. {label}", MAX_LABEL) for n, label in enumerate(labels, 1)]


def of_loop(task: Task, locale: Locale = ENGLISH) -> list[Element]:
    """Return the buttons below a loop: none of a task that has ended.

    People stop the work as a whole, so *Pause* and *Cancel* concern the topmost task; a dismissal concerns
    the finding.
    """
    if words.is_final(task):
        return []
    top = str(task.root_uid or task.uid)
    asked = confirm(
        locale.say("button.cancel_title"),
        locale.say("button.cancel_whole"),
        locale.say("button.cancel_yes"),
        locale.say("button.cancel_no"),
    )
    return [
        button(f"{PREFIX}{Verb.PAUSE}", locale.say("button.pause"), top),
        button(f"{PREFIX}{Verb.CANCEL}", locale.say("button.cancel"), top, confirm=asked),
        button(f"{PREFIX}{Verb.DISMISS}", locale.say("button.dismiss"), str(task.uid)),
    ]


def of_task(
    task: Task,
    locale: Locale = ENGLISH,
    *,
    offers_retry: bool = True,
    links: Sequence[tuple[str, str]] = (),
    is_asking: bool = False,
) -> list[Element]:
    """Return the buttons of a task. Retry only where it can be started again.

    `links` of the settings are buttons, too. While the task asks, its other acts are in the menu.
    """
    key = str(task.uid)
    entries: list[tuple[str, str]] = [(locale.say("button.more"), f"{VIEW}:{key}")]
    made = [link_button(n, label, url) for n, (label, url) in enumerate(links[: 1 if is_asking else LINKED])]
    if not words.is_final(task):
        if task.paused_by:
            made.insert(0, button(f"{PREFIX}{Verb.RESUME}", locale.say("button.resume"), key, style="primary"))
        if not task.cancel_by:
            asked = confirm(
                locale.say("button.cancel_title"),
                locale.say("button.cancel_text", task=words.title(task, 200, locale)),
                locale.say("button.cancel_yes"),
                locale.say("button.cancel_no"),
            )
            made.append(button(f"{PREFIX}{Verb.CANCEL}", locale.say("button.cancel"), key, confirm=asked))
        if not task.paused_by and not task.cancel_by:
            entries.append((locale.say("button.pause"), f"{Verb.PAUSE}:{key}"))
        entries.append(
            (
                locale.say("button.unmute" if task.is_muted else "button.mute"),
                f"{Verb.UNMUTE if task.is_muted else Verb.MUTE}:{key}",
            )
        )
        return [*made, menu(f"{PREFIX}{MENU}", entries)]
    if task.is_alert:
        return []
    if task.status in ("error", "cancelled") and offers_retry:
        made.insert(0, button(f"{PREFIX}{Verb.RETRY}", locale.say("button.retry"), key))
    made += [button(f"{PREFIX}{Verb.RATE}:{RATINGS.index(word)}", sign, key) for word, sign in SIGNS.items()]
    return [*made, menu(f"{PREFIX}{MENU}", entries)]
