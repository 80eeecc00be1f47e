"""Runs: a box that is shown by itself with all that is shown within it, and what lies below no known box."""

from __future__ import annotations

from collections.abc import Iterator

from spanpost.domain.readings import Role
from tests.fold.oracle.ids import named
from tests.fold.oracle.notes import Note
from tests.fold.oracle.tree import Span, Trace

#: How many boxes a box may be shown within.
DEPTH = 64


class Run:
    """One run. A *loose* one has no root: it is what lies below no known box, of a trace or of an explicit task."""

    def __init__(self, key: bytes, tenant: str, trace: Trace, root: Span | None, task_id: str) -> None:
        self.key, self.tenant, self.trace, self.root, self.task_id = key, tenant, trace, root, task_id
        #: The boundaries that are shown in it.
        self.boundaries: list[Span] = []

    @property
    def is_loose(self) -> bool:
        return self.root is None

    @property
    def own_task(self) -> bytes:
        """The key of the task in which it is, when it goes on with no other run."""
        if self.task_id:
            return named(self.tenant, "task", self.task_id).bytes + b"g"
        return self.trace.domain + b"g" + (self.root.id if self.root is not None else b"")

    @property
    def start_ns(self) -> int:
        return self.root.start_ns if self.root is not None else 0

    @property
    def agent_name(self) -> str:
        return self.root.agent_name if self.root is not None else ""

    @property
    def above(self) -> Span | None:
        """The box above it."""
        return self.root.box_above if self.root is not None else None

    @property
    def notes(self) -> list[Note]:
        return [n for boundary in self.boundaries for n in boundary.notes]

    @property
    def own_notes(self) -> list[Note]:
        return self.root.notes if self.root is not None else self.notes

    @property
    def inner_notes(self) -> list[Note]:
        """What was noted below boundaries that are shown within its root."""
        return (
            [n for boundary in self.boundaries if boundary is not self.root for n in boundary.notes]
            if self.root
            else []
        )


class Runs:
    """The runs of a history."""

    def __init__(self, traces: list[Trace]) -> None:
        self.traces = traces
        self.by_key: dict[bytes, Run] = {}
        for trace in traces:
            boundaries = [span for span in trace.order if span.is_boundary]
            for span in boundaries:
                _find_box(span)
            for span in boundaries:
                span.run = self._place(span)
            known = {id(span) for span in boundaries if span.notes}
            for span in reversed(boundaries):
                if id(span) not in known:
                    continue  # nothing of an agent lies in it or below it
                if span.above is not None:
                    known.add(id(span.above))
            for span in boundaries:
                if id(span) in known and span.run is not None:
                    span.run = self.by_key.setdefault(span.run.key, span.run)
                    span.run.boundaries.append(span)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.by_key.values())

    def _place(self, span: Span) -> Run:
        trace, box = span.trace, span.box_above
        if not span.is_box:
            if box is not None:
                assert box.run is not None
                return box.run
            run = Run(b"", trace.tenant, trace, None, _hint(span))
            run.key = run.own_task
            return self.by_key.get(run.key, run)
        if box is not None and _is_within(span, box):
            span.within = min(box.within + 1, DEPTH)
            if span.within < DEPTH:
                assert box.run is not None
                return box.run
        return Run(span.key, trace.tenant, trace, span, span.task_id)


def _find_box(span: Span) -> None:
    """Find the nearest box above a boundary, and whether a tool call lies between."""
    above = span.above
    span.is_box_below_tool = span.is_below_tool
    if above is None:
        return
    if above.is_box:
        span.box_above = above
    else:
        span.box_above, span.is_box_below_tool = above.box_above, span.is_below_tool or above.is_box_below_tool


def _is_within(span: Span, box: Span) -> bool:
    """Tell whether a box is shown within the box above it."""
    if span.task_id:
        return span.task_id == box.task_id
    if span.is_box_below_tool:
        return False
    if span.role is Role.WORKFLOW or not span.agent_name or span.agent_name == box.agent_name:
        return True
    return not box.agent_name and len(_agents_below(box)) <= 1


def _agents_below(box: Span) -> set[str]:
    """Return the names of the agents directly below a box: through boundaries that are no boxes, not through tools."""
    return {
        span.agent_name
        for span in box.trace.order
        if span.is_box and span.box_above is box and not span.is_box_below_tool and span.role is not Role.WORKFLOW
    }


def _hint(span: Span) -> str:
    """Return the task that a boundary below no box belongs to by what is said in it, or above it."""
    at: Span | None = span
    for _ in range(DEPTH):
        if at is None:
            break
        if said := [n.r.task_id for n in at.notes if n.r.task_id]:
            return min(said)
        at = at.above
    return ""
