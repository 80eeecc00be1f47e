"""Task cards: the steps and sub-agents in Slack's `plan` block, while a task runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spanpost.model.tasks import Task
from spanpost.sinks import labels
from spanpost.sinks.headline import is_asking, words
from spanpost.sinks.slack.blocks import Block, card
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import line

#: Cards of a message.
CARDS: Final = 10
#: Items that share a card are named up to this number and length; else they are counted.
_NAMED, _NAMES = 8, 90


def title_of(task: Task, children: Sequence[Task], locale: Locale = ENGLISH) -> str:
    """Return the title of a plan: the step under way, else how many agents are done."""
    if name := _step_name(task, locale):
        return name
    done = sum(labels.is_final(child) for child in children)
    return (
        locale.say("root.agents_done", done=done, all=len(children), n=len(children))
        if children
        else locale.say("root.steps")
    )


def cards_of(task: Task, children: Sequence[Task], most: int, locale: Locale = ENGLISH) -> list[Block]:
    """Return cards: a card for each agent that waits or failed; what is done and what is at work share one each."""
    if labels.is_final(task):
        return []
    cards = _steps(task, locale)
    needy = [c for c in children if _needs_a_person(c)]
    others = [c for c in children if not _needs_a_person(c)]
    kept = max(most - len(cards) - 2, 0)
    cards += [_child(child, locale) for child in needy[:kept]]
    if left := len(needy) - len(needy[:kept]):
        cards.append(card("more", locale.say("root.more", n=left), "in_progress"))
    at_work = [labels.title(c, 90, locale) for c in others if not labels.is_final(c)]
    cards += _fold("agents-now", at_work, "in_progress", "root.under_way", locale)
    ended = [labels.title(c, 90, locale) for c in others if labels.is_final(c)]
    cards += _fold("agents-done", ended, "complete", "figure.agents_done", locale)
    return cards if most else []


def _needs_a_person(child: Task) -> bool:
    return is_asking(child) or child.status in ("error", "stalled")


def _fold(task_id: str, names: Sequence[str], status: str, counted: str, locale: Locale) -> list[Block]:
    """Return one card for several items: their names if they fit, else their number."""
    if not names:
        return []
    said = ", ".join(disarmed(line(name, 90)) or "?" for name in names[:_NAMED])
    if len(names) > _NAMED or len(said) > _NAMES:
        said = locale.say(counted, n=len(names))
    return [card(task_id, said, status)]


def _child(child: Task, locale: Locale) -> Block:
    """Return the card of an agent that waits or failed, with its question or its error."""
    title = disarmed(labels.title(child, 90, locale))
    if child.status == "error":
        return card(f"t-{child.uid.hex}", title, "error", disarmed(line(labels.failure_line(child, locale), 200)))
    asked = next(iter(child.open_approvals), None)
    details = line(asked.question, 200) if asked is not None else words(child, 200, locale)
    return card(f"t-{child.uid.hex}", f"{labels.task_label(child).emoji} {title}", "in_progress", disarmed(details))


def _steps(task: Task, locale: Locale) -> list[Block]:
    """Return the card of the completed steps, and that of the current one.

    A single step has no card, and neither have steps that were made of tool calls: they are no plan.
    """
    now = _step_name(task, locale)
    if not now or len(task.steps) < 2:
        return []
    done = [
        locale.translate(step.message, step.name)
        for step in task.steps
        if not (step.name == task.step_name and step.index == task.step_index)
    ]
    return [*_fold("steps-done", done, "complete", "root.steps_done", locale), card("s-now", now, "in_progress")]


def _step_name(task: Task, locale: Locale) -> str:
    if task.step_name is None and task.step_index is None:
        return ""
    name = line(locale.translate(task.messages.get("step_name"), task.step_name or ""), 90)
    return disarmed(name) or (locale.say("root.step", index=task.step_index) if task.step_index else "")
