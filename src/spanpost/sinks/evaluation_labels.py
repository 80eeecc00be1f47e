"""A task's evaluations in one line: people's ratings, then evaluators' results. All sinks share it."""

from __future__ import annotations

from typing import Final

from spanpost.model.evaluations import newest
from spanpost.model.tasks import Task
from spanpost.text.sanitise import line

#: Sign of each rating, in the order in which they are shown.
SIGNS: Final = {"up": "👍", "down": "👎"}
#: Evaluators' results that are shown.
_MOST: Final = 4


def ratings(task: Task) -> str:
    """Return how many people gave each rating: ``👍 2  👎 1``; empty without any."""
    given = [one.label for one in newest(task.evaluations) if one.is_person]
    return "  ".join(f"{sign} {given.count(word)}" for word, sign in SIGNS.items() if word in given)


def details(task: Task) -> list[str]:
    """Return a line for each rating that stands, with its comment, then evaluators' results without explanations."""
    given = [one for one in newest(task.evaluations) if one.is_person]
    lines = [
        f"{SIGNS.get(one.label, '')} {line(one.by, 60)}"
        + (f": {line(one.explanation, 300)}" if one.explanation else "")
        for one in given
    ]
    return [*lines, *results(task)]


def results(task: Task) -> list[str]:
    """Return evaluators' newest results: ``relevance 0.42 (pass)``. Names and labels are untrusted text."""
    found = []
    for one in newest(task.evaluations):
        if not one.is_person:
            score = f" {one.score:.6g}" if one.score is not None else ""
            label = (
                f" ({line(one.label, 40)})" if one.label and score else f" {line(one.label, 40)}" if one.label else ""
            )
            found.append(f"{line(one.name, 40)}{score}{label}")
    return found[:_MOST]
