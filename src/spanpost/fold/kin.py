"""Placement and counting: whose a span is, and what counts once.

Rules.
1. Every span has a cell; the first child that names a parent makes the parent's cell as a placeholder.
2. A *boundary* owns what lies below it down to the next boundary: a box (agent, workflow, task), the top of a trace, and
   every span of which it is not yet known that it is no box (not seen, or started and still without a role).
3. A span that turns out to be no box hands what it owned to the boundary above. A box keeps it.
4. Cells pass sums upward. A change adds the difference to the parent, and on, until the difference is nothing or a boundary
   is reached. A boundary passes nothing up.
5. A circle of parents is cut before anything walks it: above its smallest box, by span id, because what lies below a box is the box's
   with the cut or without; where there is no box, above its smallest span.

Theory. A cell's sums are a function of its children's, its role and its own figures, never of the order in which they were
learned; a boundary's facts are a merge of the facts below it. Both are therefore the same for every order of arrival.

Cost. A batch is linear in its spans and in the spans above them, whatever the depth. Differences are collected and carried up
once, children before parents. Walks up leave shortcuts behind, which hold until a span that was known turns into something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from spanpost.domain.readings import Role
from spanpost.fold.flow import (
    NO_MODELS,
    NO_OTHERS,
    NO_TOOLS,
    NOTHING,
    ZERO,
    Amount,
    Count,
    Flow,
    Models,
    minus,
    models_minus,
    together,
)
from spanpost.fold.records import MANY, Cell, Claimant, Kid, Kids, Slot, Unit
from spanpost.fold.work import Key, Shelf, Work

#: Bound once: an enum's members are looked up slowly.
_LLM = Role.LLM
_TOOL = Role.TOOL

#: The name of a tool call that is a part of the one above it, and counts for itself nowhere.
SAME_CALL = "\0"
#: A named tuple's own constructor is a Python function.
_tuple = tuple.__new__
#: Figures of nothing.
NO_COUNT: Count = (0, 0)
_NO_FIGURES: tuple[Flow, Count, Models] = (ZERO, NO_COUNT, NO_MODELS)
#: Spans that may carry one response id; more is no honest telemetry, and those that rank last count by themselves.
CLAIMANT_CAP = 16


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


def total(cell: Cell) -> tuple[Flow, Count, Models]:
    """Return the figures of the unit that this boundary cell heads: model calls, tool calls (all, failed), model calls by model."""
    # The top of a trace that is no box counts itself.
    amount = below_of(cell) if cell.is_box or cell.is_open_question else hands(cell)
    calls = failed = 0
    for name, count in amount.tools.items():
        if name != SAME_CALL:
            calls, failed = calls + count[0], failed + count[1]
    return amount.calls, (calls, failed), amount.models


class Kin:
    """The kin of one trace domain: its cells and units, and what a batch changes in them."""

    def __init__(self, work: Work, domain: bytes, tick: Callable[[], None]) -> None:
        self.domain = domain
        self._tick = tick
        self.cells = Shelf(work, Cell, domain + b"c")
        self.units = Shelf(work, Unit, domain + b"u")
        self._kids = Shelf(work, Kids, domain + b"k")
        #: Figures of boundaries that change, as the tasks that show them know them: of the time before.
        self.former: dict[bytes, tuple[Flow, Count, Models]] = {}
        #: Boundaries that changed: their tasks take in what they know when the batch closes.
        self.learned: dict[bytes, None] = {}
        #: Positions of the batch that are recorded, by the boundary under which they were met.
        self.recorded: dict[bytes, list[int]] = {}
        #: Differences that are not added yet, by the cell below which they are.
        self._pending: dict[bytes, list[Amount]] = {}
        #: Shortcuts: a span above without a boundary before it, and whether a tool call is passed; any span above.
        self._ways: dict[bytes, tuple[bytes, bool]] = {}
        self._tops: dict[bytes, bytes] = {}

    def flush(self) -> None:
        """Hand what changed to the work."""
        self.cells.flush()
        self.units.flush()
        self._kids.flush()

    # --- records --------------------------------------------------------------------------------------------------

    def kids(self, span_id: bytes) -> Kids:
        return self._kids.get(span_id) or Kids()

    def want(self, span_ids: Iterable[bytes]) -> None:
        """Say that what is kept of these boundaries will be asked for."""
        asked = list(span_ids)
        for shelf in (self.units, self.cells, self._kids):
            shelf.want(asked)

    def add_kid(self, up: bytes, span_id: bytes, kid: Kid) -> bool:
        """Enter a boundary below another, as it is now; return whether it was there otherwise, or not at all."""
        kids = self.kids(up)
        known = kids.units.get(span_id)
        if known == kid:
            return False
        kids.units[span_id] = kid
        _count(kids, known, -1)
        _count(kids, kid, 1)
        self._kids.put(up, kids)
        return True

    def drop_kid(self, up: bytes, span_id: bytes) -> None:
        kids = self.kids(up)
        known = kids.units.pop(span_id, None)
        if known is not None:
            _count(kids, known, -1)
            if kids.units:
                self._kids.put(up, kids)
            else:
                self._kids.drop(up)

    def drop_kids(self, up: bytes) -> None:
        self._kids.drop(up)

    # --- walking up -------------------------------------------------------------------------------------------------

    def boundary(self, span_id: bytes) -> bytes:
        """Return the nearest boundary at or above the span."""
        return self._climb(span_id)[0]

    def above(self, cell: Cell) -> tuple[bytes, bool]:
        """Return the nearest boundary above a cell, and whether a tool call lies between; empty at a top."""
        if not cell.parent or cell.is_cut:
            return b"", False
        span_id, via_tool = self._climb(cell.parent)
        top = self.cells.get(span_id)
        return span_id, via_tool or (top is not None and top.role is _TOOL)

    def _climb(self, span_id: bytes) -> tuple[bytes, bool]:
        """Return the nearest boundary at or above the span, and whether a tool call is passed on the way to it."""
        cells, ways = self.cells, self._ways
        passed: list[tuple[bytes, bool]] = []
        while True:
            cell = cells.get(span_id)
            if cell is None or cell.is_boundary:
                break
            known = ways.get(span_id)
            passed.append((span_id, known[1] if known is not None else cell.role is _TOOL))
            span_id = known[0] if known is not None else cell.parent
        via_tool = False
        for at, is_tool in reversed(passed):
            via_tool = via_tool or is_tool
            ways[at] = (span_id, via_tool)
        return span_id, via_tool

    def _top(self, span_id: bytes) -> bytes:
        """Return the topmost span known above, or the span itself."""
        passed = []
        while True:
            up = self._tops.get(span_id, b"")
            if not up:
                cell = self.cells.get(span_id)
                if cell is None or not cell.parent or cell.is_cut:
                    break
                up = cell.parent
            passed.append(span_id)
            span_id = up
        self._tops.update(dict.fromkeys(passed, span_id))
        return span_id

    def turned(self) -> None:
        """Forget the shortcuts: a span that was known is something else, or hangs elsewhere, from now on."""
        self._ways.clear()
        self._tops.clear()

    # --- sums -------------------------------------------------------------------------------------------------------

    def push(self, span_id: bytes, change: Amount) -> None:
        """Have a difference added to a cell's sums, and what that changes carried upward, by `carry`."""
        self._pending.setdefault(span_id, []).append(change)

    def carry(self) -> None:
        """Add the differences that were pushed: to each cell once, and to those below before those above."""
        pending, self._pending = self._pending, {}
        ready, left = self._order(pending)
        while ready:
            self._tick()
            span_id = ready.pop()
            cell, changes = self.cells.get(span_id), pending.pop(span_id, None)
            if cell is None:  # every parent has its placeholder
                continue
            change = self._add(span_id, cell, changes) if changes else NOTHING
            if cell.is_boundary:
                continue
            if not change.is_nothing:
                pending.setdefault(cell.parent, []).append(change)
            left[cell.parent] -= 1
            if not left[cell.parent]:
                ready.append(cell.parent)

    def _order(self, pending: dict[bytes, list[Amount]]) -> tuple[list[bytes], dict[bytes, int]]:
        """Return the cells to begin with, and of those above how many wait to be carried to each."""
        left: dict[bytes, int] = {}
        met: set[bytes] = set()
        for span_id in pending:
            while span_id not in met:
                met.add(span_id)
                left.setdefault(span_id, 0)
                cell = self.cells.get(span_id)
                if cell is None or cell.is_boundary:
                    break
                span_id = cell.parent
                left[span_id] = left.get(span_id, 0) + 1
        return [span_id for span_id, n in left.items() if not n], left

    def _add(self, span_id: bytes, cell: Cell, changes: list[Amount]) -> Amount:
        """Add differences to a cell's sums; return what it hands to its parent more than before."""
        is_boundary, role = cell.is_boundary, cell.role
        change = changes[0] if len(changes) == 1 else together(changes)
        old = hands(cell) if not is_boundary and (role is _TOOL or role is _LLM) else None
        if is_boundary and span_id not in self.former:
            self.former[span_id] = total(cell)
        below = change if cell.below is None else together((below_of(cell), change))
        cell.below, cell.model_below, cell.others = below[:4], below[4], below[5]
        self.cells.put(span_id, cell)
        if old is not None:
            return hands(cell).minus(old)
        return NOTHING if is_boundary else change

    def recast(self, span_id: bytes, cell: Cell, old: Amount, before: tuple[Flow, Count, Models] | None) -> None:
        """After a cell changed: carry the difference of what it passes up. `old` and `before` are of the time before."""
        self.cells.put(span_id, cell)
        is_boundary = cell.is_boundary
        if (is_boundary or before is not None) and span_id not in self.former:
            self.former[span_id] = before or _NO_FIGURES
        if cell.parent and not cell.is_cut:
            change = (NOTHING if is_boundary else hands(cell)).minus(old)
            if not change.is_nothing:
                self.push(cell.parent, change)

    def changes(self) -> Iterator[tuple[bytes, Flow, Count, Models]]:
        """Yield the boundaries whose figures changed, and by what."""
        for span_id, (flow, tools, models) in self.former.items():
            cell = self.cells.get(span_id)
            now = total(cell) if cell is not None and cell.is_boundary else _NO_FIGURES
            more = (now[1][0] - tools[0], now[1][1] - tools[1])
            flow, models = minus(now[0], flow), models_minus(now[2], models)
            if flow is not ZERO or more != NO_COUNT or models:
                yield span_id, flow, more, models

    # --- circles ----------------------------------------------------------------------------------------------------

    def circle(self, span_id: bytes, parent: bytes, *, is_box: bool) -> bytes:
        """Return the span whose edge must be cut if `span_id` under `parent` closes a circle; empty when it does not."""
        cell = self.cells.get(span_id)
        is_top = cell is None or not cell.parent or cell.is_cut
        if is_top and self._top(parent) != span_id:
            return b""
        first, at = (not is_box, span_id), parent
        while at != span_id:
            above = self.cells.get(at)
            if above is None or not above.parent or above.is_cut:
                return b""
            first = min(first, (not above.is_box, at))
            at = above.parent
        return first[1]

    def cut_anew(self, span_id: bytes) -> tuple[bytes, bytes]:
        """Return the span of a circle that is cut and the one that is to be, after a span of it became a box, or none; else nothing."""
        cut = self._top(span_id)
        top = self.cells.get(cut)
        if top is None or not top.is_cut:
            return b"", b""
        first, at, is_in = (not top.is_box, cut), top.parent, cut == span_id
        while at != cut:
            above = self.cells.get(at)
            if above is None or not above.parent or above.is_cut:
                return b"", b""
            first = min(first, (not above.is_box, at))
            is_in = is_in or at == span_id
            at = above.parent
        return (cut, first[1]) if is_in and first[1] != cut else (b"", b"")


def _count(kids: Kids, kid: Kid | None, by: int) -> None:
    """Count in, or out, what a boundary adds to the agents' names directly below the one above it."""
    if kid is None or kid.says is None:
        return
    kids.names[kid.says] = left = kids.names.get(kid.says, 0) + by
    if not left:
        del kids.names[kid.says]


def agent_below(kids: Kids) -> str | None:
    """Return the name of the only agent directly below a boundary; None for no agent at all, `MANY` for more than one."""
    return next(iter(kids.names), None) if len(kids.names) <= 1 else MANY


def claim(slots: Shelf[Slot], slot_key: Key, cell_key: Key, claimant: Claimant | None) -> Key:
    """Enter, change or withdraw (None) a span's claim to a response id. Return the one for which there is no room; empty for none."""
    slot = slots.get(slot_key) or Slot()
    out = b""
    if claimant is None:
        slot.claimants.pop(cell_key, None)
    else:
        slot.claimants[cell_key] = claimant
        if len(slot.claimants) > CLAIMANT_CAP:
            out = min(slot.claimants, key=lambda key: slot.claimants[key].rank)
            del slot.claimants[out]
    if out != cell_key:
        slots.put(slot_key, slot)
    return out


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
