"""The spans of one trace: which copy of each counts, where it hangs, and which spans own the spans below them.

An *owner* owns what lies below it, down to the next owner: a root span (agent, workflow, task), the top of a
trace, and a span that may still turn out to be a root span (only its children are known, or it has not ended and
has no role yet).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from spanpost.model.observations import Status
from spanpost.model.readings import Role
from tests.tasks.oracle.ids import domain
from tests.tasks.oracle.notes import UNDECIDED, Note

if TYPE_CHECKING:
    from tests.tasks.oracle.counting import Amount
    from tests.tasks.oracle.placement import Run

_TRANSPARENT = (Role.OTHER, Role.PLUMBING)


class Span:
    """One span; without copies it is known by its children, or by its events, alone."""

    def __init__(self, trace: Trace, id: bytes, copies: list[Note]) -> None:
        self.trace, self.id = trace, id
        self.copies = sorted(copies, key=lambda n: n.rank, reverse=True)
        self.best = self.copies[0] if copies else None
        self.role = self.best.r.role if self.best is not None else Role.OTHER
        self.has_ended = self.best is not None and self.best.is_end
        self.parent_id = next((n.o.parent_id for n in self.copies if n.o.parent_id not in (b"", id)), b"")
        self.parent: Span | None = None
        self.children: list[Span] = []
        #: Its edge was cut because it closed a circle.
        self.is_cut = False
        #: The nearest owner at or above it; of an owner the next one above, and whether a tool call lies between.
        self.owner: Span = self
        self.above: Span | None = None
        self.is_below_tool = False
        #: Of an owner: what was noted in its area, and the run in which it is shown (`placement`).
        self.notes: list[Note] = []
        self.root_span_above: Span | None = None
        self.is_root_span_below_tool = False
        self.within = 0
        self.run: Run | None = None
        #: Whether its call counts, what it costs by another copy of it, and what it hands up (`counting`).
        self.wins, self.lent = True, 0
        self.amount: Amount | None = None

    @property
    def key(self) -> bytes:
        return self.trace.domain + b"u" + self.id

    @property
    def is_root_span(self) -> bool:
        return self.role.is_root_span

    @property
    def is_open(self) -> bool:
        """True while it may still turn out to be a root span."""
        return self.best is None or (not self.has_ended and self.role in UNDECIDED)

    @property
    def owns_subtree(self) -> bool:
        return self.parent is None or self.is_root_span or self.is_open

    @property
    def agent_name(self) -> str:
        return self._said("agent_name")

    @property
    def task_id(self) -> str:
        return self._said("task_id")

    def _said(self, field: str) -> str:
        """Return the field of the highest-ranked copy that is a root span and has it."""
        return next((v for n in self.copies if n.r.role.is_root_span and (v := getattr(n.r, field))), "")

    @property
    def start_ns(self) -> int:
        return min((n.o.start_ns for n in self.copies if n.r.role.is_root_span and n.o.start_ns), default=0)

    @property
    def closed(self) -> tuple[int, bytes, str, str, str, int] | None:
        """How the top of a trace that is no root span ended: the end of what lies below it."""
        n = self.best
        if n is None or not n.is_end or self.parent_id or self.is_root_span:
            return None
        outcome = {Status.ERROR: "error", Status.OK: "ok"}.get(n.o.status, "unset")
        kind, message = (n.r.failure.type, n.r.failure.message) if n.r.failure is not None else ("", n.o.status_message)
        return n.o.at_ns, n.key, outcome, kind[:200], message[:2000], 0

    @property
    def link(self) -> bytes:
        """The one other trace to which it links; empty for several."""
        links = next((n.o.links for n in self.copies if n.o.links), ())
        others = {trace_id for trace_id, _ in links} - {self.trace.id}
        return domain(self.trace.tenant, others.pop()) if len(others) == 1 else b""


class Trace:
    """One trace, its spans from the top down."""

    def __init__(self, tenant: str, id: bytes, notes: list[Note]) -> None:
        self.tenant, self.id, self.domain = tenant, id, domain(tenant, id)
        self.spans = self._spans(notes)
        self._hang()
        self.order = self._top_down()
        for span in self.order:
            self._bound(span)
        for n in notes:
            span = self.spans.get(n.o.span_id)
            if span is not None and _teaches(n, span):
                span.owner.notes.append(n)

    def _spans(self, notes: list[Note]) -> dict[bytes, Span]:
        copies: dict[bytes, list[Note]] = defaultdict(list)
        for n in notes:
            if n.is_span and n.o.span_id:
                copies[n.o.span_id].append(n)
        spans = {id: Span(self, id, of_it) for id, of_it in copies.items()}
        for span in list(spans.values()):
            if span.parent_id and span.parent_id not in spans:
                spans[span.parent_id] = Span(self, span.parent_id, [])
        for n in notes:
            if not n.is_span and n.o.span_id not in spans and _says_something(n):
                spans[n.o.span_id] = Span(self, n.o.span_id, [])
        return spans

    def _hang(self) -> None:
        """Hang each span below its parent; cut a circle above its smallest root span, or its smallest span."""
        for span in self.spans.values():
            span.parent = self.spans.get(span.parent_id)
        done: set[bytes] = set()
        for span in self.spans.values():
            way: dict[bytes, None] = {}
            at: Span | None = span
            while at is not None and at.id not in done and at.id not in way:
                way[at.id] = None
                at = at.parent
            if at is not None and at.id in way:
                circle = list(way)[list(way).index(at.id) :]
                cut = min((self.spans[id] for id in circle), key=lambda s: (not s.is_root_span, s.id))
                cut.parent, cut.is_cut = None, True
            done.update(way)
        for span in self.spans.values():
            if span.parent is not None:
                span.parent.children.append(span)

    def _top_down(self) -> list[Span]:
        order = [span for span in self.spans.values() if span.parent is None]
        for span in order:  # grows while it is walked
            order += span.children
        return order

    @staticmethod
    def _bound(span: Span) -> None:
        at = span.parent
        if at is None:
            return
        if not span.owns_subtree:
            span.owner = at.owner
            return
        span.is_below_tool = at.role is Role.TOOL
        while not at.owns_subtree:
            assert at.parent is not None
            at = at.parent
            span.is_below_tool = span.is_below_tool or at.role is Role.TOOL
        span.above = at


def _says_something(n: Note) -> bool:
    return n.r.is_of_agent and not n.r.open_roots and bool(n.o.span_id or n.r.task_id)


def _teaches(n: Note, span: Span) -> bool:
    """Return whether a note is of an agent: a copy of a span by its own role, an event also by its span."""
    if n.r.open_roots or not (n.o.span_id or n.r.task_id):
        return False
    return n.r.is_of_agent or (not n.is_span and (span.role not in _TRANSPARENT or span.best is None))


def traces_of(notes: Iterable[Note]) -> list[Trace]:
    """Return the traces of a history."""
    found: dict[tuple[str, bytes], list[Note]] = defaultdict(list)
    for n in notes:
        found[n.o.tenant, n.o.trace_id].append(n)
    return [Trace(tenant, id, of_it) for (tenant, id), of_it in sorted(found.items())]
