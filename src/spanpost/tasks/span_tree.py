"""Placement and counting: which span owns each span, and which figures count once.

Rules.
1. Every span has a node; the first child that names a parent creates the parent's node as a placeholder.
2. An *owning span* owns the subtree below it, down to the next owning span: a root span (agent, workflow,
   task), the top of a trace, and every span that may still become a root span (not seen, or started and
   without a role yet).
3. A span that turns out not to be a root span passes its subtree to the owning span above. A root span keeps
   it.
4. Nodes pass sums upward. A change adds the difference to the parent, and on, until the difference is zero
   or an owning span is reached. An owning span passes nothing up.
5. A cycle of parents is cut before anything walks it: above its smallest root span, by span id, because what
   lies below a root span belongs to it with the cut or without; in a cycle without a root span, above its
   smallest span.

Theory. A node's sums are a function of its children's sums, its role and its own figures; an owning span's
facts are a merge of the facts below it. Both are therefore the same for every order of arrival.

Cost. A batch is linear in its spans and in the spans above them, whatever the depth. Differences are
collected and carried up once, children before parents. Walks up cache shortcuts, which hold until a known
span changes its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from spanpost.model.readings import Role
from spanpost.tasks.amounts import (
    NO_COUNT,
    NO_OTHERS,
    NO_TOOLS,
    NOTHING,
    ZERO,
    Amount,
    Amounts,
    ModelPart,
    SubtreeFigures,
    ToolCount,
    count_minus,
    minus,
    models_minus,
    together,
)
from spanpost.tasks.record_keys import span_keys
from spanpost.tasks.records import MANY, ChildRoot, ChildRoots, Node, Subtree
from spanpost.tasks.work import RecordSet, Work

#: Bound once: looking up an enum's member is slow.
_LLM = Role.LLM
_TOOL = Role.TOOL

#: The name of a tool call that is part of the one above it and is not counted by itself.
SAME_CALL = "\0"
#: One tool call: that ended, failed, or stopped to ask a person.
_DONE, _FAILED, _ASKED = ToolCount(1), ToolCount(1, 1), ToolCount(1, 0, 1)
_NO_FIGURES = SubtreeFigures()


def passes(node: Node) -> Amount:
    """Return the sums that a node passes to its parent."""
    return NOTHING if node.owns_subtree else hands(node)


def hands(node: Node) -> Amount:
    """Return the sums of a node and all below it, as if it were not an owning span.

    A model call covers the calls within it. A copy that lost its response id to another span counts nothing
    and still covers those within, but not the holders of response ids: one of them may be the copy that
    counts.
    """
    role, own = node.role, node.own
    if node.below is None and node.wins:  # most nodes: nothing lies below them
        if role is _TOOL:
            return Amount(ZERO, ZERO, ZERO, {node.tool_name: _tool(node, has_failed=node.failed)}, "", NO_OTHERS)
        if role is _LLM and own is not None:
            return _call(node, own)
        return NOTHING
    below = below_of(node)
    if role is _TOOL:
        # A tool call inside one of the same name, or without a name, is the same call reported by another
        # layer.
        if not node.wins:  # another span reports it, too
            return below
        name, failed = node.tool_name, node.failed
        if not below.tools:
            tools = {name: _tool(node, has_failed=failed)}
            return Amount(ZERO, ZERO, below.calls, tools, below.model, below.all_barred)
        tools = {n: t for n, t in below.tools.items() if n and n != name and n != SAME_CALL}
        inner = any(t.failed for n in (name, "", SAME_CALL) if (t := below.tools.get(n)) is not None)
        tools[name] = _tool(node, has_failed=failed or inner)
        return Amount(ZERO, ZERO, below.calls, tools, below.model, below.all_barred)
    if role is _LLM and own is not None:
        if not node.wins:
            others = {m: ModelPart(ZERO, part.slotted, part.barred) for m, part in below.others.items()}
            return Amount(ZERO, below.slotted, below.barred, below.tools, below.model, others)
        if own.has_tokens or not (below.plain.calls or below.slotted.calls):
            if below.barred == ZERO:
                return Amount(tools=below.tools).plus(_call(node, own))
            others = {m: ModelPart(barred=part.barred) for m, part in below.others.items()}
            return Amount(ZERO, ZERO, below.barred, below.tools, below.model, others).plus(_call(node, own))
    return below


def _tool(node: Node, *, has_failed: bool) -> ToolCount:
    """Return a tool call by itself."""
    return _ASKED if node.asks and node.tool_name else _FAILED if has_failed else _DONE


def _call(node: Node, own: Amounts) -> Amount:
    """Return a model call by itself."""
    plain, slotted = (ZERO, own) if node.duplicates else (own, ZERO)
    return Amount(plain, slotted, ZERO, NO_TOOLS, node.model, NO_OTHERS)


def below_of(node: Node) -> Amount:
    """Return the sums below a node."""
    return NOTHING if node.below is None else node.below


def total(node: Node) -> SubtreeFigures:
    """Return the figures of a node's subtree."""
    # The top of a trace that is not a root span counts itself.
    amount = below_of(node) if node.is_root_span or node.is_open_question else hands(node)
    calls = failed = 0
    for name, count in amount.tools.items():
        if name != SAME_CALL:
            calls, failed = calls + count.made, failed + count.failed
    if node.is_root_span:
        calls -= node.repeated_tools  # the call itself may lie in another subtree of the run
    stated = node.own if node.is_root_span else None
    return SubtreeFigures(amount.calls, ToolCount(calls, failed), amount.models, stated or ZERO)


class SpanTree:
    """The span tree of one trace domain: its nodes and subtrees, and what a batch changes in them."""

    def __init__(self, work: Work, domain: bytes, tick: Callable[[], None]) -> None:
        self.domain = domain
        self._work = work
        self._tick = tick
        self.nodes = RecordSet(work, Node, domain + b"c")
        self.subtrees = RecordSet(work, Subtree, domain + b"u")
        self._child_roots = RecordSet(work, ChildRoots, domain + b"k")
        #: Figures of subtrees that change, as they were before the batch: the tasks that show them hold
        #: these.
        self.former: dict[bytes, SubtreeFigures] = {}
        #: Owning spans whose subtree changed: their tasks merge its facts when the batch closes.
        self.learned: dict[bytes, None] = {}
        #: Positions of the batch by the owning span under which they were recorded.
        self.recorded: dict[bytes, list[int]] = {}
        #: Differences that are not added yet, by the node whose sums they change.
        self._pending: dict[bytes, list[Amount]] = {}
        #: Cached walks: the span reached without an owning span before it, and whether a tool call was
        #: passed; the top.
        self._walks: dict[bytes, tuple[bytes, bool]] = {}
        self._tops: dict[bytes, bytes] = {}

    def flush(self) -> None:
        """Write the changed records to the work."""
        self.nodes.flush()
        self.subtrees.flush()
        self._child_roots.flush()

    # --- records --------------------------------------------------------------------------------------------------

    def child_roots(self, span_id: bytes) -> ChildRoots:
        return self._child_roots.get(span_id) or ChildRoots()

    def want(self, span_ids: Iterable[bytes]) -> None:
        """Announce that the records of these owning spans are needed next."""
        known = (self.nodes, self.subtrees, self._child_roots)
        asked = [span_id for span_id in span_ids if not all(span_id in records for records in known)]
        if asked:
            self._work.want([key for span_id in asked for key in span_keys(self.domain, span_id)])

    def add_child_root(self, up: bytes, span_id: bytes, child_root: ChildRoot) -> bool:
        """Enter a subtree below another; return whether that changed anything."""
        child_roots = self.child_roots(up)
        known = child_roots.subtrees.get(span_id)
        if known == child_root:
            return False
        child_roots.subtrees[span_id] = child_root
        _count(child_roots, known, -1)
        _count(child_roots, child_root, 1)
        self._child_roots.put(up, child_roots)
        return True

    def drop_child_root(self, up: bytes, span_id: bytes) -> None:
        child_roots = self.child_roots(up)
        known = child_roots.subtrees.pop(span_id, None)
        if known is not None:
            _count(child_roots, known, -1)
            if child_roots.subtrees:
                self._child_roots.put(up, child_roots)
            else:
                self._child_roots.drop(up)

    def drop_child_roots(self, up: bytes) -> None:
        self._child_roots.drop(up)

    # --- walking up -------------------------------------------------------------------------------------------------

    def owner(self, span_id: bytes) -> bytes:
        """Return the nearest owning span at or above the span."""
        return self._climb(span_id)[0]

    def above(self, node: Node) -> tuple[bytes, bool]:
        """Return the nearest owning span above a node, and whether a tool call is between; empty at a top."""
        if not node.parent or node.is_cut:
            return b"", False
        span_id, via_tool = self._climb(node.parent)
        top = self.nodes.get(span_id)
        return span_id, via_tool or (top is not None and top.role is _TOOL)

    def _climb(self, span_id: bytes) -> tuple[bytes, bool]:
        """Return the nearest owning span at or above the span, and whether the way passes a tool call."""
        nodes, walks = self.nodes, self._walks
        passed: list[tuple[bytes, bool]] = []
        while True:
            node = nodes.get(span_id)
            if node is None or node.owns_subtree:
                break
            known = walks.get(span_id)
            passed.append((span_id, known[1] if known is not None else node.role is _TOOL))
            span_id = known[0] if known is not None else node.parent
        via_tool = False
        for at, is_tool in reversed(passed):
            via_tool = via_tool or is_tool
            walks[at] = (span_id, via_tool)
        return span_id, via_tool

    def _top(self, span_id: bytes) -> bytes:
        """Return the topmost known span above, or the span itself."""
        passed = []
        while True:
            up = self._tops.get(span_id, b"")
            if not up:
                node = self.nodes.get(span_id)
                if node is None or not node.parent or node.is_cut:
                    break
                up = node.parent
            passed.append(span_id)
            span_id = up
        self._tops.update(dict.fromkeys(passed, span_id))
        return span_id

    def turned(self) -> None:
        """Forget the cached walks: a known span changed its kind or its parent."""
        self._walks.clear()
        self._tops.clear()

    # --- sums -------------------------------------------------------------------------------------------------------

    def push(self, span_id: bytes, change: Amount) -> None:
        """Queue a difference to a node's sums; `carry` adds it and carries it upward."""
        self._pending.setdefault(span_id, []).append(change)

    def carry(self) -> None:
        """Add the queued differences: to each node once, children before parents."""
        pending, self._pending = self._pending, {}
        ready, left = self._order(pending)
        while ready:
            self._tick()
            span_id = ready.pop()
            node, changes = self.nodes.get(span_id), pending.pop(span_id, None)
            if node is None:  # a parent without a node does not exist: it has a placeholder
                continue
            change = self._add(span_id, node, changes) if changes else NOTHING
            if node.owns_subtree:
                continue
            if not change.is_nothing:
                pending.setdefault(node.parent, []).append(change)
            left[node.parent] -= 1
            if not left[node.parent]:
                ready.append(node.parent)

    def _order(self, pending: dict[bytes, list[Amount]]) -> tuple[list[bytes], dict[bytes, int]]:
        """Return the nodes to begin with, and for each node the number of children that come first."""
        left: dict[bytes, int] = {}
        met: set[bytes] = set()
        for span_id in pending:
            while span_id not in met:
                met.add(span_id)
                left.setdefault(span_id, 0)
                node = self.nodes.get(span_id)
                if node is None or node.owns_subtree:
                    break
                span_id = node.parent
                left[span_id] = left.get(span_id, 0) + 1
        return [span_id for span_id, n in left.items() if not n], left

    def _add(self, span_id: bytes, node: Node, changes: list[Amount]) -> Amount:
        """Add differences to a node's sums; return by how much it now passes up more."""
        owns_subtree, role = node.owns_subtree, node.role
        change = changes[0] if len(changes) == 1 else together(changes)
        old = hands(node) if not owns_subtree and (role is _TOOL or role is _LLM) else None
        if owns_subtree and span_id not in self.former:
            self.former[span_id] = total(node)
        node.below = change if node.below is None else together((node.below, change))
        self.nodes.put(span_id, node)
        if old is not None:
            return hands(node).minus(old)
        return NOTHING if owns_subtree else change

    def recast(self, span_id: bytes, node: Node, old: Amount, before: SubtreeFigures | None) -> None:
        """Carry the difference after a node changed. `old`: what it passed up; `before`: its figures."""
        self.nodes.put(span_id, node)
        owns_subtree = node.owns_subtree
        if (owns_subtree or before is not None) and span_id not in self.former:
            self.former[span_id] = before or _NO_FIGURES
        if node.parent and not node.is_cut:
            change = (NOTHING if owns_subtree else hands(node)).minus(old)
            if not change.is_nothing:
                self.push(node.parent, change)

    def changes(self) -> Iterator[tuple[bytes, SubtreeFigures]]:
        """Yield the owning spans whose figures changed, with the differences."""
        for span_id, former in self.former.items():
            node = self.nodes.get(span_id)
            now = total(node) if node is not None and node.owns_subtree else _NO_FIGURES
            amounts, models = minus(now.amounts, former.amounts), models_minus(now.models, former.models)
            tools, stated = count_minus(now.tools, former.tools), minus(now.stated, former.stated)
            if amounts is not ZERO or tools != NO_COUNT or models or stated is not ZERO:
                yield span_id, SubtreeFigures(amounts, tools, models, stated)

    # --- cycles -----------------------------------------------------------------------------------------------------

    def circle(self, span_id: bytes, parent: bytes, *, is_root_span: bool) -> bytes:
        """Return the span whose edge must be cut if `span_id` under `parent` closes a cycle; else empty."""
        node = self.nodes.get(span_id)
        is_top = node is None or not node.parent or node.is_cut
        if is_top and self._top(parent) != span_id:
            return b""
        first, at = (not is_root_span, span_id), parent
        while at != span_id:
            above = self.nodes.get(at)
            if above is None or not above.parent or above.is_cut:
                return b""
            first = min(first, (not above.is_root_span, at))
            at = above.parent
        return first[1]

    def cycle_cut(self, span_id: bytes) -> tuple[bytes, bytes]:
        """Return the span of the span's cycle that is cut, and the one to cut now; empty when it is in no cycle.

        The choice changes when a span of the cycle becomes a root span, or stops being one.
        """
        cut = self._top(span_id)
        top = self.nodes.get(cut)
        if top is None or not top.is_cut:
            return b"", b""
        first, at, is_in = (not top.is_root_span, cut), top.parent, cut == span_id
        while at != cut:
            above = self.nodes.get(at)
            if above is None or not above.parent or above.is_cut:
                return b"", b""
            first = min(first, (not above.is_root_span, at))
            is_in = is_in or at == span_id
            at = above.parent
        return (cut, first[1]) if is_in else (b"", b"")


def _count(child_roots: ChildRoots, child_root: ChildRoot | None, by: int) -> None:
    """Count an agent's name in or out of the names directly below an owning span."""
    if child_root is None or child_root.says is None:
        return
    child_roots.names[child_root.says] = left = child_roots.names.get(child_root.says, 0) + by
    if not left:
        del child_roots.names[child_root.says]


def agent_below(child_roots: ChildRoots) -> str | None:
    """Return the name of the only agent directly below an owning span; None: no agent, `MANY`: several."""
    return next(iter(child_roots.names), None) if len(child_roots.names) <= 1 else MANY
