"""Task cards: the steps and sub-agents in Slack's `plan` block, while a task runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spanpost.model.tasks import Task
from spanpost.sinks import labels
from spanpost.sinks.slack.blocks import Block, card
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.sanitise import line

#: Cards of a message.
CARDS: Final = 10
#: Completed items are named on one card up to this number and length; else they are counted.
_NAMED, _NAMES = 8, 90
_CARD: dict[str, str] = {"error": "error", "cancelled": "error", "complete": "complete"}


def cards_of(task: Task, children: Sequence[Task], most: int, locale: Locale = ENGLISH) -> list[Block]:
    """Return cards for open and failed items; completed ones share one card."""
    if labels.is_final(task):
        return []
    done, now = _steps(task, locale)
    at_work = [c for c in children if c.status != "complete"]
    finished = [c for c in children if c.status == "complete"]
    cards = [*_fold(done, "step", locale), *now, *(_child(child, locale) for child in at_work[:most])]
    cards += _fold([labels.title(c, 90, locale) for c in finished], "agent", locale)
    left = max(len(at_work) - most, 0)
    if len(cards) + left <= most:
        return cards
    kept = cards[: max(most - 1, 0)]
    return (
        [*kept, card("more", locale.say("root.more", n=len(cards) + left - len(kept)), "in_progress")] if most else []
    )


def _fold(done: Sequence[str], what: str, locale: Locale) -> list[Block]:
    """Return one card for completed items: their names if they fit."""
    if not done:
        return []
    names = ", ".join(disarmed(line(name, 90)) or "?" for name in done[:_NAMED])
    if len(done) > _NAMED or len(names) > _NAMES:
        names = locale.say("root.steps_done" if what == "step" else "figure.agents_done", n=len(done))
    return [card(f"done-{what}", names, "complete")]


def _child(child: Task, locale: Locale) -> Block:
    status = _CARD.get(child.status, "in_progress")
    label = labels.task_label(child)
    title = disarmed(labels.title(child, 90, locale))
    if child.status in ("cancelled", "waiting", "stalled", "paused"):
        title = f"{label.emoji} {title}"
    doing = (
        "" if labels.is_final(child) else disarmed(labels.doing(child, 100, locale) or labels.step(child, 80, locale))
    )
    return card(f"t-{child.uid.hex}", title, status, doing)


def _steps(task: Task, locale: Locale) -> tuple[list[str], list[Block]]:
    """Return the names of the completed steps, and the card of the current one.

    A single step has no card, because the head already names it.
    """
    if len(task.steps) < 2:
        return [], []
    is_now = [step.name == task.step_name and step.index == task.step_index for step in task.steps]
    done = [
        locale.translate(step.message, step.name) for step, is_it in zip(task.steps, is_now, strict=True) if not is_it
    ]
    now = max((i for i, is_it in enumerate(is_now) if is_it), default=None)
    if now is None:
        return done, []
    step = task.steps[now]
    name = disarmed(line(locale.translate(step.message, step.name), 90)) or locale.say(
        "root.step", index=step.index or now + 1
    )
    return done, [card("s-now", name, "in_progress", disarmed(labels.doing(task, 200, locale)))]
