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

from spanpost.domain.readings import Role
from spanpost.fold.flow import ZERO, Flow, minus, plus
from spanpost.fold.records import (
    DEPTH,
    PLACEHOLDER,
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
#: Spans that may carry one response id; more is no honest telemetry, and they count by themselves.
CLAIMANT_CAP = 64


def passes(cell: Cell) -> tuple[Flow, Flow, Tools]:
    """Return what a cell hands to its parent: coverable, barred, tool calls."""
    if cell.is_boundary:
        return ZERO, ZERO, _NO_TOOLS
    return hands(cell)


def hands(cell: Cell) -> tuple[Flow, Flow, Tools]:
    """Return what a cell amounts to with all below it, were it not a boundary."""
    role = cell.role
    if role is Role.TOOL:
        tools = {n: t for n, t in cell.tools.items() if n != cell.tool_name}
        inner = cell.tools.get(cell.tool_name, (0, 0))
        tools[cell.tool_name] = (1, 1 if cell.failed or inner[1] else 0)
        return ZERO, plus(cell.coverable, cell.barred), tools
    if role is Role.LLM and cell.own is not None:
        if cell.own[1] or cell.own[3]:  # it says its tokens: it covers the calls within
            return (cell.own if cell.wins else ZERO), cell.barred, cell.tools
        if cell.coverable[0] == 0:  # nothing within either: one call, tokens unknown
            return (cell.own if cell.wins else ZERO), cell.barred, cell.tools
    return cell.coverable, cell.barred, cell.tools


def amount(cell: Cell) -> tuple[Flow, Tools]:
    """Return the figures of the unit that this boundary cell heads."""
    if cell.is_box or cell.state == PLACEHOLDER or cell.is_open_question:
        return plus(cell.coverable, cell.barred), cell.tools
    coverable, barred, tools = hands(cell)  # the top of a trace that is no box counts itself
    return plus(coverable, barred), tools


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

    def push(self, span_id: bytes, flow_c: Flow, flow_b: Flow, tools: Tools) -> None:
        """Add a difference to a cell's sums and carry what changes upward."""
        for _ in range(DEPTH):
            cell = self.cell(span_id)
            if cell is None:  # every parent has its placeholder
                return
            is_boundary = cell.is_boundary
            before = amount(cell) if is_boundary else (ZERO, _NO_TOOLS)
            old = passes(cell)
            cell.coverable = plus(cell.coverable, flow_c)
            cell.barred = plus(cell.barred, flow_b)
            cell.tools = tools_plus(cell.tools, tools)
            self.put_cell(span_id, cell)
            if is_boundary:
                self._note_change(span_id, before, amount(cell))
                return
            new = passes(cell)
            flow_c, flow_b, tools = minus(new[0], old[0]), minus(new[1], old[1]), tools_minus(new[2], old[2])
            if flow_c is ZERO and flow_b is ZERO and not tools:
                return
            span_id = cell.parent

    def recast(self, span_id: bytes, cell: Cell, old: tuple[Flow, Flow, Tools], before: tuple[Flow, Tools] | None) -> None:
        """After a cell changed: carry the difference of what it passes up. `old` and `before` are of the time before."""
        self.put_cell(span_id, cell)
        if cell.is_boundary or before is not None:
            now = amount(cell) if cell.is_boundary else (ZERO, _NO_TOOLS)
            self._note_change(span_id, before or (ZERO, _NO_TOOLS), now)
        new = passes(cell)
        flow_c, flow_b, tools = minus(new[0], old[0]), minus(new[1], old[1]), tools_minus(new[2], old[2])
        if cell.parent and not cell.is_cut and not (flow_c is ZERO and flow_b is ZERO and not tools):
            self.push(cell.parent, flow_c, flow_b, tools)

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

