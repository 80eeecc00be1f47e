"""Runs: a root span of its own with all that is shown within it, and the spans below no known root span."""

from __future__ import annotations

from collections.abc import Iterator

from spanpost.model.readings import Role
from tests.tasks.oracle.ids import named
from tests.tasks.oracle.notes import Note
from tests.tasks.oracle.tree import Span, Trace

#: How many root spans a root span may be shown within.
DEPTH = 64


class Run:
    """One run. A *loose* one has no root: its spans, of a trace or of an explicit task, lie below no root span."""

    def __init__(self, key: bytes, tenant: str, trace: Trace, root: Span | None, task_id: str) -> None:
        self.key, self.tenant, self.trace, self.root, self.task_id = key, tenant, trace, root, task_id
        #: The owners that are shown in it.
        self.owners: list[Span] = []

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
        """The root span above it."""
        return self.root.root_span_above if self.root is not None else None

    @property
    def notes(self) -> list[Note]:
        return [n for owner in self.owners for n in owner.notes]

    @property
    def own_notes(self) -> list[Note]:
        return self.root.notes if self.root is not None else self.notes

    @property
    def inner_notes(self) -> list[Note]:
        """What was noted below owners that are shown within its root."""
        return [n for owner in self.owners if owner is not self.root for n in owner.notes] if self.root else []


class Runs:
    """The runs of a history."""

    def __init__(self, traces: list[Trace]) -> None:
        self.traces = traces
        self.by_key: dict[bytes, Run] = {}
        for trace in traces:
            owners = [span for span in trace.order if span.owns_subtree]
            for span in owners:
                _find_root_span(span)
            for span in owners:
                span.run = self._place(span)
            known = {id(span) for span in owners if span.notes}
            for span in reversed(owners):
                if id(span) not in known:
                    continue  # nothing of an agent lies in it or below it
                if span.above is not None:
                    known.add(id(span.above))
            for span in owners:
                if id(span) in known and span.run is not None:
                    span.run = self.by_key.setdefault(span.run.key, span.run)
                    span.run.owners.append(span)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.by_key.values())

    def _place(self, span: Span) -> Run:
        trace, root_span = span.trace, span.root_span_above
        if not span.is_root_span:
            if root_span is not None:
                assert root_span.run is not None
                return root_span.run
            run = Run(b"", trace.tenant, trace, None, _hint(span))
            run.key = run.own_task
            return self.by_key.get(run.key, run)
        if root_span is not None and _is_within(span, root_span):
            span.within = min(root_span.within + 1, DEPTH)
            if span.within < DEPTH:
                assert root_span.run is not None
                return root_span.run
        return Run(span.key, trace.tenant, trace, span, span.task_id)


def _find_root_span(span: Span) -> None:
    """Find the nearest root span above an owner, and whether a tool call lies between."""
    above = span.above
    span.is_root_span_below_tool = span.is_below_tool
    if above is None:
        return
    if above.is_root_span:
        span.root_span_above = above
    else:
        span.root_span_above, span.is_root_span_below_tool = (
            above.root_span_above,
            span.is_below_tool or above.is_root_span_below_tool,
        )


def _is_within(span: Span, root_span: Span) -> bool:
    """Return whether a root span is shown within the root span above it."""
    if span.task_id:
        return span.task_id == root_span.task_id
    if span.is_root_span_below_tool:
        return False
    if span.role is Role.WORKFLOW or not span.agent_name or span.agent_name == root_span.agent_name:
        return True
    return not root_span.agent_name and len(agents_below(root_span)) <= 1


def agents_below(root_span: Span) -> set[str]:
    """Return the names of the agents directly below a root span: through other owners, not through tools."""
    return {
        span.agent_name
        for span in root_span.trace.order
        if span.is_root_span
        and span.root_span_above is root_span
        and not span.is_root_span_below_tool
        and span.role is not Role.WORKFLOW
    }


def _hint(span: Span) -> str:
    """Return the task id that is reported in an owner below no root span, or above it."""
    at: Span | None = span
    for _ in range(DEPTH):
        if at is None:
            break
        if said := [n.r.task_id for n in at.notes if n.r.task_id]:
            return min(said)
        at = at.above
    return ""
