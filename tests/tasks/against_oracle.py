"""The real fold beside the oracle: both take the same notes, and every field of every row is compared."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.context import Forecast
from spanpost.model.tasks import Step, Task
from spanpost.tasks.context import Window, canonical_model, resolve, window_of
from spanpost.tasks.context_limits import is_near, limits
from spanpost.tasks.context_use import ContextUse, ahead
from spanpost.tasks.folded import FoldRules as FoldRules
from spanpost.tasks.folded import Placed
from tests.tasks import oracle
from tests.tasks.histories import Twin, feed

#: Fields of a row that the oracle does not model, and why.
NOT_MODELLED = {
    "message_uid": "which message carries a task depends on which was posted first, and so on the order of arrival",
    "loop": "tests/tasks/test_loop_properties.py holds it in any order",
    "message": "the key and values behind `text`, which is compared; tests/tongues holds the two equal",
    "messages": "the keys and values behind a task's texts, which are compared",
}


def rules_of(rules: FoldRules) -> oracle.Rules:
    """Return the rules of the oracle: the same settings, and the formulas that have tables of their own."""

    def window(model: str | None, said: int | None, accepted: int) -> tuple[int, str] | None:
        return resolve(model, rules.known_windows, said=said, accepted=accepted)

    def forecast(used: int, tokens: int | None, calls: Iterable[oracle.Point]) -> Forecast | None:
        return ahead(ContextUse(used, Window(tokens, "") if tokens is not None else None, None, tuple(calls)), rules)

    def is_full(used: int, tokens: int | None) -> bool:
        return any(
            used >= limit.tokens for limit in limits(Window(tokens, "") if tokens is not None else None, rules)[:1]
        )

    return oracle.Rules(
        canonical=canonical_model,
        window=window,
        most_output=lambda model: window_of(model, rules.outputs) if rules.outputs else None,
        forecast=forecast,
        is_full=is_full,
        is_near=lambda one: is_near(one, rules),
        attributes=rules.attributes,
    )


def notes_of(history: Iterable[Placed]) -> list[oracle.Note]:
    """Return a history as the oracle takes it."""
    return [oracle.Note(p.observation, p.reading, p.content_hash, p.event_id) for p in history]


def differences(twin: Twin, outcome: oracle.Outcome) -> list[str]:
    """Return the differences between the real fold and the oracle, a line for each field."""
    found = []
    folded = {task.uid: task for task in twin.tasks.values()}
    expected = {task.uid: task for task in outcome.tasks}
    for uid in expected.keys() | folded.keys():
        found += _compared(f"task {uid}", folded.get(uid), expected.get(uid))
    reported = {c.id: c for c in twin.checkpoints.values() if c.is_reported}
    to_report = {c.id: c for c in outcome.checkpoints}
    for id in to_report.keys() | reported.keys():
        found += _compared(f"checkpoint {id}", reported.get(id), to_report.get(id))
    return sorted(found)


def _compared(which: str, is_: Task | Checkpoint | None, expected: Task | Checkpoint | None) -> list[str]:
    if is_ is None or expected is None:
        return [f"{which}: {'missing' if is_ is None else 'too much'}: {is_ or expected}"]
    return [
        f"{which}: {field} is {getattr(is_, field)!r}, expected {getattr(expected, field)!r}"
        for field in expected.__struct_fields__
        if field not in NOT_MODELLED
        if _bare(getattr(is_, field)) != _bare(getattr(expected, field))
    ]


def _bare(value: Any) -> Any:
    """Return a value without the messages behind the texts of its steps."""
    if isinstance(value, tuple) and value and isinstance(value[0], Step):
        return tuple(msgspec.structs.replace(step, message=None) for step in value)
    return value


def outcome_of(history: Iterable[Placed], rules: FoldRules) -> oracle.Outcome:
    """Return the outcome of the oracle for a history."""
    return oracle.fold(notes_of(history), rules_of(rules))


def compared(history: list[Placed], order: Random, rules: FoldRules | None = None) -> list[str]:
    """Fold a history in order, then shuffled, repeated and in batches; return where either differs."""
    whole, mixed = feed(history, None, Twin(rules)), feed(history, order, Twin(rules))
    expected = outcome_of(history, whole.rules)
    return [f"in order: {line}" for line in differences(whole, expected)] + [
        f"mixed: {line}" for line in differences(mixed, expected)
    ]
