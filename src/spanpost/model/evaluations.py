"""Evaluations of a task's work: people's ratings, and results that telemetry reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

#: `gen_ai.evaluation.name` of a person's rating, and its score by the rating.
PERSON_RATING: Final = "person_rating"
SCORES: Final = {"up": 1.0, "down": 0.0}


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One evaluation: a person's rating through spanpost, or a result that telemetry reports."""

    name: str
    #: The score, by the evaluator's own scale; None: it gave none.
    score: float | None = None
    label: str = ""
    #: A person's comment, or the evaluator's explanation: untrusted text.
    explanation: str = ""
    #: A person gave it through spanpost. Telemetry is never a person's rating, whatever it says.
    is_person: bool = False
    #: That person: the name, and the identity by provider, team and id.
    by: str = ""
    by_id: str = ""
    #: What was evaluated: the id of a model's response, else trace and span (hex, with a dash between).
    subject: str = ""

    # --- of a task's evaluations, not of a reading ----------------------------------------------------------------
    id: UUID | None = None
    at: datetime | None = None


def newest(evaluations: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    """Return the evaluations that stand: of each person the newest, and of each evaluator and subject the newest.

    `evaluations` are in order, the newest first.
    """
    found: dict[tuple[bool, str, str], Evaluation] = {}
    for one in evaluations:
        key = (True, one.by_id, "") if one.is_person else (False, one.name, one.subject)
        found.setdefault(key, one)
    return tuple(found.values())


def scores(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """Return the mean score of each name among evaluations that stand; a name without scores is left out.

    `PERSON_RATING` is of people alone: telemetry of that name does not count.
    """
    known: dict[str, list[float]] = {}
    for one in newest(evaluations):
        if one.score is not None and one.is_person is (one.name == PERSON_RATING):
            known.setdefault(one.name, []).append(one.score)
    return {name: sum(values) / len(values) for name, values in known.items()}
