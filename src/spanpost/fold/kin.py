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

from collections.abc import Iterator

from spanpost.domain.readings import Role
from spanpost.fold.flow import (
    NO_MODELS,
    NO_OTHERS,
    NO_TOOLS,
    NOTHING,
    ZERO,
    Amount,
    Flow,
    Models,
    Tools,
    minus,
    models_minus,
    tools_minus,
)
from spanpost.fold.records import (
    DEPTH,
    Cell,
    Claimant,
    Kid,
    Kids,
    Slot,
    Unit,
)
from spanpost.fold.work import Key, Shelf, Work

#: Bound once: an enum's members are looked up slowly.
_LLM = Role.LLM
_TOOL = Role.TOOL

#: The name of a tool call that is a part of the one above it, and counts for itself nowhere.
SAME_CALL = "\0"
#: A named tuple's own constructor is a Python function.
_tuple = tuple.__new__
#: Figures of nothing.
_NO_FIGURES: tuple[Flow, Tools, Models] = (ZERO, NO_TOOLS, NO_MODELS)
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
    if cell.below is None and cell.wins:  # most cells: nothing lies below them
        if role is _TOOL:
            return _tuple(Amount, (ZERO, ZERO, ZERO, {cell.tool_name: (1, 1 if cell.failed else 0)}, "", NO_OTHERS))
        if role is _LLM and own is not None:
            plain, slotted = (ZERO, own) if cell.slot else (own, ZERO)
            return _tuple(Amount, (plain, slotted, ZERO, NO_TOOLS, cell.model, NO_OTHERS))
        return NOTHING
    below = below_of(cell)
    if role is _TOOL:
        # A tool call inside one of the same name, or without a name, is the same call told by another layer.
        if not cell.wins:  # told by another span, too
            return below
        name, failed = cell.tool_name, cell.failed
        if not below.tools:
            return Amount(ZERO, ZERO, below.calls, {name: (1, 1 if failed else 0)}, below.model, below.all_barred)
        tools = {n: t for n, t in below.tools.items() if n and n != name and n != SAME_CALL}
        inner = next((t[1] for n in (name, "", SAME_CALL) if (t := below.tools.get(n)) is not None and t[1]), 0)
        tools[name] = (1, 1 if failed or inner else 0)
        return Amount(ZERO, ZERO, below.calls, tools, below.model, below.all_barred)
    if role is _LLM and own is not None:
        if not cell.wins:
            others = {m: (ZERO, s, b) for m, (_, s, b) in below.others.items()} if below.others else NO_OTHERS
            return Amount(ZERO, below.slotted, below.barred, below.tools, below.model, others)
        if own[1] or own[3] or not (below.plain[0] or below.slotted[0]):
            barred, plain, slotted = below.barred, *((ZERO, own) if cell.slot else (own, ZERO))
            if barred is ZERO or barred == ZERO:
                return Amount(plain, slotted, ZERO, below.tools, cell.model, NO_OTHERS)
            others = {m: (ZERO, ZERO, b) for m, (_, _, b) in below.others.items()} if below.others else NO_OTHERS
            return Amount(ZERO, ZERO, barred, below.tools, below.model, others).plus(
                Amount(plain, slotted, ZERO, NO_TOOLS, cell.model, NO_OTHERS)
            )
    return below


def below_of(cell: Cell) -> Amount:
    """Return what lies below a cell."""
    below = cell.below
    return NOTHING if below is None else _tuple(Amount, (*below, cell.model_below, cell.others))


def total(cell: Cell) -> tuple[Flow, Tools, Models]:
    """Return the figures of the unit that this boundary cell heads."""
    # The top of a trace that is no box counts itself.
    amount = below_of(cell) if cell.is_box or cell.is_open_question else hands(cell)
    tools = amount.tools
    tools = tools if SAME_CALL not in tools else {name: count for name, count in tools.items() if name != SAME_CALL}
    return amount.calls, tools, amount.models


class Kin:
    """The kin of one trace domain: its cells and units, and what a batch changes in them."""

    def __init__(self, work: Work, domain: bytes) -> None:
        self.domain = domain
        self.cells = Shelf(work, Cell, domain + b"c")
        self.units = Shelf(work, Unit, domain + b"u")
        self._kids = Shelf(work, Kids, domain + b"k")
        #: Figures of boundaries that change, as the tasks that show them know them: of the time before.
        self.former: dict[bytes, tuple[Flow, Tools, Models]] = {}
        #: Boundaries that changed: their tasks take in what they know when the batch closes.
        self.learned: dict[bytes, None] = {}
        #: Positions of the batch that are recorded, by the boundary under which they were met.
        self.recorded: dict[bytes, list[int]] = {}

    def flush(self) -> None:
        """Hand what changed to the work."""
        self.cells.flush()
        self.units.flush()
        self._kids.flush()

    # --- records --------------------------------------------------------------------------------------------------

    def kids(self, span_id: bytes) -> Kids:
        return self._kids.get(span_id) or Kids()

    def add_kid(self, up: bytes, span_id: bytes, kid: Kid) -> None:
        kids = self.kids(up)
        if kids.units.get(span_id) != kid:
            kids.units[span_id] = kid
            self._kids.put(up, kids)

    def drop_kid(self, up: bytes, span_id: bytes) -> None:
        kids = self.kids(up)
        if kids.units.pop(span_id, None) is not None:
            if kids.units:
                self._kids.put(up, kids)
            else:
                self._kids.drop(up)

    def drop_kids(self, up: bytes) -> None:
        self._kids.drop(up)

    # --- walking up -------------------------------------------------------------------------------------------------

    def boundary(self, span_id: bytes) -> bytes:
        """Return the nearest boundary at or above the span."""
        cells = self.cells
        for _ in range(DEPTH):
            cell = cells.get(span_id)
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
            above = self.cells.get(span_id)
            if above is None or above.is_boundary:
                return span_id, via_tool or (above is not None and above.role is _TOOL)
            via_tool = via_tool or above.role is _TOOL
            span_id = above.parent
        return span_id, via_tool

    # --- sums -------------------------------------------------------------------------------------------------------

    def push(self, span_id: bytes, change: Amount) -> None:
        """Add a difference to a cell's sums and carry what changes upward."""
        for _ in range(DEPTH):
            cell = self.cells.get(span_id)
            if cell is None:  # every parent has its placeholder
                return
            old: Amount | None = None
            if not cell.is_boundary:
                old = hands(cell)
            elif span_id not in self.former:
                self.former[span_id] = total(cell)
            below = change if cell.below is None else below_of(cell).plus(change)
            cell.below, cell.model_below, cell.others = below[:4], below[4], below[5]
            self.cells.put(span_id, cell)
            if old is None:
                return
            change = hands(cell).minus(old)
            if change.is_nothing:
                return
            span_id = cell.parent

    def recast(self, span_id: bytes, cell: Cell, old: Amount, before: tuple[Flow, Tools, Models] | None) -> None:
        """After a cell changed: carry the difference of what it passes up. `old` and `before` are of the time before."""
        self.cells.put(span_id, cell)
        is_boundary = cell.is_boundary
        if (is_boundary or before is not None) and span_id not in self.former:
            self.former[span_id] = before or _NO_FIGURES
        if cell.parent and not cell.is_cut:
            change = (NOTHING if is_boundary else hands(cell)).minus(old)
            if not change.is_nothing:
                self.push(cell.parent, change)

    def changes(self) -> Iterator[tuple[bytes, Flow, Tools, Models]]:
        """Yield the boundaries whose figures changed, and by what."""
        for span_id, (flow, tools, models) in self.former.items():
            cell = self.cells.get(span_id)
            now = total(cell) if cell is not None and cell.is_boundary else _NO_FIGURES
            flow, tools, models = minus(now[0], flow), tools_minus(now[1], tools), models_minus(now[2], models)
            if flow is not ZERO or tools or models:
                yield span_id, flow, tools, models

    # --- circles ----------------------------------------------------------------------------------------------------

    def circle(self, span_id: bytes, parent: bytes) -> bytes:
        """Return the span whose edge must be cut if `span_id` under `parent` closes a circle; empty when it does not.

        The smallest span id of the circle is cut, so that every order of arrival cuts the same edge.
        """
        smallest, at = span_id, parent
        for _ in range(DEPTH):
            if at == span_id:
                return smallest
            cell = self.cells.get(at)
            if cell is None or not cell.parent or cell.is_cut:
                return b""
            smallest = min(smallest, at)
            at = cell.parent
        return b""


def claim(slots: Shelf[Slot], slot_key: Key, cell_key: Key, claimant: Claimant | None) -> None:
    """Enter, change or withdraw (None) a span's claim to a response id."""
    slot = slots.get(slot_key) or Slot()
    if claimant is None:
        slot.claimants.pop(cell_key, None)
    elif cell_key in slot.claimants or len(slot.claimants) < CLAIMANT_CAP:
        slot.claimants[cell_key] = claimant
    slots.put(slot_key, slot)


def winners(slot: Slot) -> set[Key]:
    """Return the cells that count: of copies that overlap in time the greatest; copies apart in time are separate calls."""
    if len(slot.claimants) <= 1:
        return set(slot.claimants)
    won: list[tuple[Key, Claimant]] = []
    for key, c in sorted(slot.claimants.items(), key=lambda item: item[1].rank, reverse=True):
        if not any(c.start_ns <= w.end_ns and w.start_ns <= c.end_ns for _, w in won):
            won.append((key, c))
    return {key for key, _ in won}


def borrowed(slot: Slot, holder: Key) -> int:
    """Return the cost that a holder of the slot does not know and another telling of the same call does; 0 for none."""
    own = slot.claimants[holder]
    if own.cost >= 0:
        return 0
    told = [c.cost for c in slot.claimants.values() if c.start_ns <= own.end_ns and own.start_ns <= c.end_ns]
    return max(0, *told)
