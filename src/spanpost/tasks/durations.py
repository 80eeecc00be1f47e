"""Durations: of steps and calls that ended, and of questions until their answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from spanpost.model.recorded import Timed, Waited
from spanpost.tasks.folded import Folded, Placed


def timed(placed: Sequence[Placed], folded: Folded) -> list[Timed]:
    """Return the steps and calls whose end this batch is the first to report."""
    found = []
    for position in folded.ended_spans:
        task_uid, _ = folded.recorded.get(position, (None, b""))
        o, r = placed[position].observation, placed[position].reading
        if task_uid is not None and 0 < o.start_ns <= o.end_ns:
            seconds = (o.end_ns - o.start_ns) / 1e9
            found.append(
                Timed(task_uid, r.role, seconds, r.failure is not None and not r.is_interrupt, r.model, o.trace_id)
            )
    return found


def waited(folded: Folded, new: Collection[UUID]) -> list[Waited]:
    """Return how long each new answer was waited for."""
    if not folded.waits:
        return []
    answers = [c for c in folded.checkpoints if c.id in new and c.id in folded.waits]
    return [Waited(c.task_uid, folded.waits[c.id], c.trace_id, c.id) for c in answers]
