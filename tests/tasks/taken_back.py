"""What was said of tasks after each part of their telemetry, and what a later part took back.

Rules. What is said counts from when its task has a message. A later part may add to it, and may change what is marked
as inferred: an end or a status by a rule that concludes it, a compaction or a context that was inferred. A new run of a
task may change the task's status, and its end is another than that of the run before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import msgspec

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.observations import Observation, Part, Status
from spanpost.model.tasks import Task
from spanpost.tasks.folded import Folded, Placed
from tests.tasks.histories import Twin

#: Figures that only grow, and facts that stay once they are known.
GROWING = (
    "llm_calls", "tool_calls", "tool_errors", "error_count", "input_tokens", "output_tokens", "cost_usd",
)  # fmt: skip
STAYING = ("tenant", "requested_by", "retry_of", "session_id")
#: Statuses of a run at work, which does not go back to its start.
_AT_WORK = (c.WORKING, c.CONTEXT_WARNING)

#: Names of attributes that are not known when a span starts.
_KNOWN_LATE = re.compile(r"usage|token|cost|output|result|response|finish|error|exception|success|duration|status|stop")


def live(seen: Iterable[Observation]) -> list[Observation]:
    """Return a run's telemetry as it arrives live, in order of time: each span's start, what happened, its end."""
    seen = list(seen)
    starts = [
        msgspec.structs.replace(
            o, part=Part.STARTED, end_ns=0, at_ns=o.start_ns, status=Status.UNSET, status_message="", exceptions=0,
            thrown=(), attributes={name: value for name, value in o.attributes.items() if not _KNOWN_LATE.search(name)},
        )
        for o in seen
        if o.part is Part.ENDED and o.start_ns
    ]  # fmt: skip
    return sorted([*starts, *seen], key=lambda o: (o.at_ns, o.part is Part.ENDED, o.part))


class Said:
    """A store that remembers what was said, and lists what was taken back."""

    def __init__(self, twin: Twin | None = None) -> None:
        self.twin = twin or Twin()
        self.checkpoints: dict[UUID, Checkpoint] = {}
        self.tasks: dict[UUID, Task] = {}
        self.figures: dict[str, Any] = dict.fromkeys(GROWING, 0)
        self.taken_back: list[str] = []

    def take(self, batch: list[Placed]) -> None:
        """Fold a batch, and compare what is said with what was said before."""
        self._compare(self.twin.record(batch), batch[-1].observation.name)

    def elapse(self) -> None:
        """Let all timers elapse: nothing comes for a long time."""
        self._compare(self.twin.elapse(), "time")

    def _compare(self, folded: Folded, what: str) -> None:
        self.taken_back += [f"{what}: {line}" for line in self._changes(folded)]
        self.tasks = {uid: t for uid, t in self.twin.tasks.items() if t.is_announced}
        self.checkpoints = {one.id: one for one in self.twin.checkpoints.values() if self._is_said(one)}

    def _sum(self, figure: str) -> Any:
        """Return the figure of all tasks: work that turns out to be another agent's moves to that agent's task."""
        return sum(getattr(task, figure) or 0 for task in self.twin.tasks.values() if task.is_announced)

    def _is_said(self, one: Checkpoint) -> bool:
        task = self.tasks.get(one.task_uid)
        if task is None:
            return False
        return one.kind is not Kind.END or not task.is_inferred

    def _changes(self, folded: Folded) -> Iterator[str]:
        for id, before in self.checkpoints.items():
            now = self.twin.checkpoints.get(id)
            if now is None:
                same = (one for one in self.twin.checkpoints.values() if one.kind is before.kind is Kind.ERROR)
                if any(one.span_id == before.span_id and one.trace_id == before.trace_id for one in same):
                    continue  # the end of its span says the same
                yield f"{before.kind} {before.text!r} is retracted"
            elif before.kind is Kind.END and not (now.status == before.status and now.text.startswith(before.text)):
                yield f"end {before.text!r} became {now.text!r}"
            elif before.kind is Kind.ERROR and len(now.text) > len(before.text):
                continue  # another report of the failure says more
            elif before.kind is not Kind.START and not now.text.startswith(before.text):
                yield f"{before.kind} {before.text!r} became {now.text!r}"
        for figure, before in self.figures.items():
            if (now_figure := self._sum(figure)) < before:
                yield f"{figure} fell from {before} to {now_figure}"
            self.figures[figure] = now_figure
        for uid, was in self.tasks.items():
            task = self.twin.tasks.get(uid)
            if task is None:
                successor = dict(folded.gone).get(uid)
                if successor is None or successor in self.tasks:  # else the successor has its message
                    yield f"{was.name} is gone"
                continue
            if self._root(task) != self._root(was) and was.root_uid in self.twin.tasks:
                yield f"{task.name}: its message is another's"
            for fact in STAYING:
                if getattr(was, fact) not in (None, "", getattr(task, fact)):
                    yield f"{task.name}: {fact} was {getattr(was, fact)}, is {getattr(task, fact)}"
            if task.runs > was.runs:
                continue
            if (
                was.ended_at is not None
                and not was.is_inferred
                and (task.status, task.end_reason, task.ended_at) != (was.status, was.end_reason, was.ended_at)
            ):
                yield f"{task.name}: was {was.status} {was.end_reason}, is {task.status} {task.end_reason}"
            if task.status == c.STARTING and was.status in _AT_WORK:
                yield f"{task.name}: went back to its start"
        decided = {a.key: a.decision for task in self.twin.tasks.values() for a in task.approvals}
        for was in self.tasks.values():
            for a in was.approvals:
                if a.decision and decided.get(a.key) != a.decision:
                    yield f"{was.name}: {a.id} was {a.decision}, is {decided.get(a.key)}"

    @staticmethod
    def _root(task: Task) -> UUID:
        return task.root_uid or task.uid
