"""Readings of evaluations: a person's rating, and the GenAI conventions' `gen_ai.evaluation.result`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spanpost import semconv as c
from spanpost.model.evaluations import PERSON_RATING, SCORES, Evaluation
from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Act
from spanpost.readers import values as v

#: Characters kept of an evaluation's name and label, and of its explanation.
NAME: Final = 100
EXPLANATION: Final = 500


def rating(attributes: Mapping[str, Any], act: Act) -> Evaluation | None:
    """Return the rating in spanpost's own record of an act; None for a word that is none."""
    said = attributes.get(c.INTERVENTION_RATING)
    if said not in SCORES:
        return None
    return Evaluation(
        name=PERSON_RATING,
        score=SCORES[said],
        label=said,
        explanation=act.text[:EXPLANATION],
        is_person=True,
        by=act.by,
        by_id=v.text(attributes.get(c.INTERVENTION_BY_ID)) or act.by,
    )


def read_evaluation(o: Observation, said: dict[str, Any]) -> None:
    """Read an evaluation that telemetry reports. One without a name, or without score and label, is none.

    It belongs to the span that it is an event of; a record outside any span, to the model call with its
    response id.
    """
    a = o.attributes
    name = v.text(a.get(c.EVALUATION_NAME))
    score, label = v.number(a.get(c.EVALUATION_SCORE)), v.text(a.get(c.EVALUATION_LABEL)) or ""
    if (
        o.part is Part.INTERVENTION
        or o.origin.scope == c.SCOPE_FEEDBACK
        or name is None
        or (score is None and not label)
    ):
        return
    response = v.response(a.get(c.RESPONSE_ID))
    said["evaluation"] = Evaluation(
        name=name[:NAME],
        score=score,
        label=label[:NAME],
        explanation=(v.long_text(a.get(c.EVALUATION_EXPLANATION)) or "")[:EXPLANATION],
        subject=response or "",
    )
    if response is not None and not o.span_id:
        said["response_id"] = response
