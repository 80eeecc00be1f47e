"""Evaluations as facts: each is kept once, however often and in whatever form it was reported."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from spanpost.model.evaluations import Evaluation
from spanpost.model.ids import named, uuid_of
from spanpost.model.observations import MAX_NS, Observation
from spanpost.model.recorded import Evaluated
from spanpost.model.tasks import Task
from spanpost.tasks.fact_values import KeptEvaluation
from spanpost.tasks.facts import Facts
from spanpost.tasks.folded import Folded
from spanpost.tasks.times import moment

#: First character of the entry of a person's rating, and of telemetry. A bounded map keeps the entries that
#: sort first, so telemetry never displaces a person's rating.
_PERSON, _TELEMETRY = "!", "~"


def entry_of(o: Observation, evaluation: Evaluation, at: int) -> tuple[str, KeptEvaluation]:
    """Return an evaluation as the entry of a map: the newest sorts first."""
    subject = evaluation.subject or f"{o.trace_id.hex()}-{o.span_id.hex()}"
    who = _PERSON if evaluation.is_person else _TELEMETRY
    entry = "\0".join((f"{who}{MAX_NS - at:019d}", evaluation.by_id or evaluation.name, subject))
    kept = KeptEvaluation(
        evaluation.name,
        evaluation.score,
        evaluation.label,
        evaluation.explanation,
        evaluation.by,
        evaluation.by_id,
        subject,
    )
    return entry, kept


def enter(facts: Facts, o: Observation, evaluation: Evaluation, at: int, key: bytes) -> None:
    """Add an evaluation to the facts."""
    entry, kept = entry_of(o, evaluation, at)
    facts.enter("evaluations", entry, 0, at, key, kept)


def evaluations(facts: Facts, tenant: str) -> tuple[Evaluation, ...]:
    """Return the evaluations of a task, the newest first."""
    found = [
        Evaluation(
            name=fact.value.name,
            score=fact.value.score,
            label=fact.value.label,
            explanation=fact.value.explanation,
            is_person=entry[0] == _PERSON,
            by=fact.value.by,
            by_id=fact.value.by_id,
            subject=fact.value.subject,
            id=uuid_of(named(f"{tenant}\0evaluation\0{entry}")),
            at=moment(fact.at_ns),
        )
        for entry, fact in facts.evaluations.items()
    ]
    return tuple(sorted(found, key=lambda one: (-(one.at.timestamp() if one.at is not None else 0.0), str(one.id))))


def evaluated(tasks: Iterable[Task]) -> dict[UUID, Evaluated]:
    """Return the evaluations of tasks by their ids."""
    return {
        one.id: Evaluated(task_uid=task.uid, tenant=task.tenant, evaluation=one)
        for task in tasks
        for one in task.evaluations
        if one.id is not None and one.at is not None
    }


def any_evaluated(folded: Folded) -> bool:
    """Return whether a changed task has evaluations."""
    return any(task.evaluations for task in folded.tasks)
