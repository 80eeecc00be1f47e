"""Placement and counting: whose a span is, and what counts once.

Rules.
1. Every span has a cell; the first child that names a parent makes the parent's cell as a placeholder.
2. A *boundary* owns what lies below it down to the next boundary: a box (agent, workflow, task), the top of a trace, and
   every span of which it is not yet known that it is no box (not seen, or started and still without a role).
3. A span that turns out to be no box hands what it owned to the boundary above. A box keeps it.
4. Cells pass sums upward. A change adds the difference to the parent, and on, until the difference is nothing or a boundary
   is reached. A boundary passes nothing up.

Theory. A cell's sums are a function of its children's, its role and its own figures, never of the order in which they were
learned; a boundary's facts are a merge of the facts below it. Both are therefore the same for every order of arrival.
"""

from __future__ import annotations

from typing import NamedTuple

from spanpost.domain.readings import Role
from spanpost.fold.flow import ZERO, Flow, minus, plus
from spanpost.fold.records import (
    DEPTH,
    Cell,
    Claimant,
    Kid,
    Kids,
    Slot,
    Unit,
    cell_key,
    kids_key,
    unit_key,
)
from spanpost.fold.work import Key, Work

Tools = dict[str, tuple[int, int]]
_NO_TOOLS: Tools = {}


class Amount(NamedTuple):
    """What lies below: model calls that an outer call covers (`slotted`: those that hold a response id), what a tool call
    bars from that, and tool calls by name."""

    plain: Flow
    slotted: Flow
    barred: Flow
    tools: Tools

    def minus(self, other: Amount) -> Amount:
        """Return the difference."""
        return Amount(
            minus(self.plain, other.plain),
            minus(self.slotted, other.slotted),
            minus(self.barred, other.barred),
            tools_minus(self.tools, other.tools),
        )

    @property
    def is_nothing(self) -> bool:
        """True when there is nothing in it."""
        return self.plain is ZERO and self.slotted is ZERO and self.barred is ZERO and not self.tools


NOTHING = Amount(ZERO, ZERO, ZERO, _NO_TOOLS)
#: Spans that may carry one response id; more is no honest telemetry, and they count by themselves.
CLAIMANT_CAP = 64


def passes(cell: Cell) -> Amount:
    """Return what a cell hands to its parent."""
    return NOTHING if cell.is_boundary else hands(cell)


def hands(cell: Cell) -> Amount:
    """Return what a cell amounts to with all below it, were it not a boundary.

    A model call covers the calls within it. A copy that lost its response id to another span counts nothing and still
    covers those within, but not the holders of response ids: one of them may be the copy that won.
    """
    role, own = cell.role, cell.own
    if role is Role.TOOL:
        # A tool call inside one of the same name, or without a name, is the same call told by another layer.
        tools = {n: t for n, t in cell.tools.items() if n and n != cell.tool_name}
        inner = cell.tools.get(cell.tool_name, (0, 0))[1] or cell.tools.get("", (0, 0))[1]
        tools[cell.tool_name] = (1, 1 if cell.failed or inner else 0)
        return Amount(ZERO, ZERO, plus(plus(cell.plain, cell.slotted), cell.barred), tools)
    if role is Role.LLM and own is not None:
        if not cell.wins:
            return Amount(ZERO, cell.slotted, cell.barred, cell.tools)
        if own[1] or own[3] or not (cell.plain[0] or cell.slotted[0]):
            return Amount(ZERO, own, cell.barred, cell.tools) if cell.slot else Amount(own, ZERO, cell.barred, cell.tools)
    return Amount(cell.plain, cell.slotted, cell.barred, cell.tools)


def total(cell: Cell) -> tuple[Flow, Tools]:
    """Return the figures of the unit that this boundary cell heads."""
    if cell.is_box or cell.is_open_question:
        return plus(plus(cell.plain, cell.slotted), cell.barred), cell.tools
    top = hands(cell)  # the top of a trace that is no box counts itself
    return plus(plus(top.plain, top.slotted), top.barred), top.tools


def tools_minus(a: Tools, b: Tools) -> Tools:
    """Return the difference by name, without names that did not change."""
    if a is b or a == b:
        return _NO_TOOLS
    out: Tools = {}
    for name in a.keys() | b.keys():
        x, y = a.get(name, (0, 0)), b.get(name, (0, 0))
        if x != y:
            out[name] = (x[0] - y[0], x[1] - y[1])
    return out


def tools_plus(a: Tools, delta: Tools) -> Tools:
    """Return the sum by name, without names that came to nothing."""
    if not delta:
        return a
    out = dict(a)
    for name, (calls, failed) in delta.items():
        known = out.get(name, (0, 0))
        total = (known[0] + calls, known[1] + failed)
        if total == (0, 0):
            out.pop(name, None)
        else:
            out[name] = total
    return out


class Kin:
    """The kin of one trace domain: its cells and units, read and changed through the work.

    `on_flow(span_id, flow difference, tools difference)` is called for every boundary whose figures changed.
    """

    def __init__(self, work: Work, domain: bytes) -> None:
        self.work = work
        self.domain = domain
        #: Boundaries whose figures changed: (flow, tools) to add to the task that shows them.
        self.changed: dict[bytes, tuple[Flow, Tools]] = {}

    # --- records --------------------------------------------------------------------------------------------------

    def cell(self, span_id: bytes) -> Cell | None:
        return self.work.get(cell_key(self.domain, span_id), Cell)

    def put_cell(self, span_id: bytes, cell: Cell) -> None:
        self.work.put(cell_key(self.domain, span_id), cell)

    def unit(self, span_id: bytes) -> Unit | None:
        return self.work.get(unit_key(self.domain, span_id), Unit)

    def put_unit(self, span_id: bytes, unit: Unit) -> None:
        self.work.put(unit_key(self.domain, span_id), unit)

    def kids(self, span_id: bytes) -> Kids:
        return self.work.get(kids_key(self.domain, span_id), Kids) or Kids()

    def add_kid(self, up: bytes, span_id: bytes, kid: Kid) -> None:
        kids = self.kids(up)
        if kids.units.get(span_id) != kid:
            kids.units[span_id] = kid
            self.work.put(kids_key(self.domain, up), kids)

    def drop_kid(self, up: bytes, span_id: bytes) -> None:
        kids = self.kids(up)
        if kids.units.pop(span_id, None) is not None:
            if kids.units:
                self.work.put(kids_key(self.domain, up), kids)
            else:
                self.work.drop(kids_key(self.domain, up))

    # --- walking up -------------------------------------------------------------------------------------------------

    def boundary(self, span_id: bytes) -> bytes:
        """Return the nearest boundary at or above the span."""
        for _ in range(DEPTH):
            cell = self.cell(span_id)
            if cell is None or cell.is_boundary:
                return span_id
            span_id = cell.parent
        return span_id

    def above(self, cell: Cell) -> tuple[bytes, bool]:
        """Return the nearest boundary above a cell, and whether a tool call lies between; empty at a top."""
        if not cell.parent or cell.is_cut:
            return b"", False
        span_id, via_tool = cell.parent, False
        for _ in range(DEPTH):
            above = self.cell(span_id)
            if above is None or above.is_boundary:
                return span_id, via_tool or (above is not None and above.role is Role.TOOL)
            via_tool = via_tool or above.role is Role.TOOL
            span_id = above.parent
        return span_id, via_tool

    # --- sums -------------------------------------------------------------------------------------------------------

    def push(self, span_id: bytes, change: Amount) -> None:
        """Add a difference to a cell's sums and carry what changes upward."""
        for _ in range(DEPTH):
            cell = self.cell(span_id)
            if cell is None:  # every parent has its placeholder
                return
            is_boundary = cell.is_boundary
            before = total(cell) if is_boundary else None
            old = passes(cell)
            cell.plain = plus(cell.plain, change.plain)
            cell.slotted = plus(cell.slotted, change.slotted)
            cell.barred = plus(cell.barred, change.barred)
            cell.tools = tools_plus(cell.tools, change.tools)
            self.put_cell(span_id, cell)
            if before is not None:
                self._note_change(span_id, before, total(cell))
                return
            change = passes(cell).minus(old)
            if change.is_nothing:
                return
            span_id = cell.parent

    def recast(self, span_id: bytes, cell: Cell, old: Amount, before: tuple[Flow, Tools] | None) -> None:
        """After a cell changed: carry the difference of what it passes up. `old` and `before` are of the time before."""
        self.put_cell(span_id, cell)
        if cell.is_boundary or before is not None:
            now = total(cell) if cell.is_boundary else (ZERO, _NO_TOOLS)
            self._note_change(span_id, before or (ZERO, _NO_TOOLS), now)
        change = passes(cell).minus(old)
        if cell.parent and not cell.is_cut and not change.is_nothing:
            self.push(cell.parent, change)

    def _note_change(self, span_id: bytes, before: tuple[Flow, Tools], now: tuple[Flow, Tools]) -> None:
        flow, tools = minus(now[0], before[0]), tools_minus(now[1], before[1])
        if flow is ZERO and not tools:
            return
        known = self.changed.get(span_id)
        if known is not None:
            flow, tools = plus(known[0], flow), tools_plus(known[1], tools)
        self.changed[span_id] = (flow, tools)

    # --- circles ----------------------------------------------------------------------------------------------------

    def circle(self, span_id: bytes, parent: bytes) -> bytes:
        """Return the span whose edge must be cut if `span_id` under `parent` closes a circle; empty when it does not.

        The smallest span id of the circle is cut, so that every order of arrival cuts the same edge.
        """
        smallest, at = span_id, parent
        for _ in range(DEPTH):
            if at == span_id:
                return smallest
            cell = self.cell(at)
            if cell is None or not cell.parent or cell.is_cut:
                return b""
            smallest = min(smallest, at)
            at = cell.parent
        return b""


def claim(work: Work, slot_key: Key, cell_key: Key, claimant: Claimant | None) -> None:
    """Enter, change or withdraw (None) a span's claim to a response id."""
    slot = work.get(slot_key, Slot) or Slot()
    if claimant is None:
        slot.claimants.pop(cell_key, None)
    elif cell_key in slot.claimants or len(slot.claimants) < CLAIMANT_CAP:
        slot.claimants[cell_key] = claimant
    work.put(slot_key, slot)


def winners(slot: Slot) -> set[Key]:
    """Return the cells that count: of copies that overlap in time the greatest; copies apart in time are separate calls."""
    won: list[tuple[Key, Claimant]] = []
    for key, c in sorted(slot.claimants.items(), key=lambda item: item[1].rank, reverse=True):
        if not any(c.start_ns <= w.end_ns and w.start_ns <= c.end_ns for _, w in won):
            won.append((key, c))
    return {key for key, _ in won}
