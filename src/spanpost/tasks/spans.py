"""Spans as they become known: which copy counts, where it hangs, which copy of a model call counts.

A span is reported in several copies (its start, a later state, its end, duplicates with other content). The
greatest by (state, end time, number of attributes, hash) stands; a greater copy replaces a smaller one, and
what the smaller one added to the spans above is taken back. What was recorded of a span that has not ended is
kept apart (`Subtree.unended`), and goes with it if a greater copy names another parent. All of it
happens in the span tree of the span's domain.
"""

from __future__ import annotations

from msgspec.structs import replace

from spanpost.model.observations import Observation, Part, Status
from spanpost.model.readings import Reading, Role
from spanpost.model.usage import Usage
from spanpost.tasks.amounts import NOTHING, of_call, of_run
from spanpost.tasks.duplicate_calls import borrowed, claim, winners
from spanpost.tasks.fact_values import SpanEnd
from spanpost.tasks.facts import Facts
from spanpost.tasks.folded import Placed
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.record_keys import domain_of, node_key
from spanpost.tasks.records import ENDED, STARTED, CallCopy, Copy, DuplicateCalls, Node, Subtree
from spanpost.tasks.requests import is_request, request_of
from spanpost.tasks.span_tree import SAME_CALL, SpanTree, hands, passes, total
from spanpost.tasks.work import Key, RecordSet
from spanpost.text.wording import TEXT_CAP

_LLM, _TOOL = Role.LLM, Role.TOOL
_STARTED = Part.STARTED

#: Characters kept of a model's name.
MODEL_CAP = 200
#: Rank of a span's copies: end time, number of attributes, hash.
Rank = tuple[int, int, bytes]


class Spans:
    """The spans of one batch."""

    def __init__(self, states: TaskStates) -> None:
        self.states = states
        self.duplicates_of = RecordSet(states.work, DuplicateCalls)

    def adopt(self, tree: SpanTree, p: Placed, node: Node | None, state: int, rank: Rank) -> Node:
        """Make this copy of the span the one that counts."""
        o, r = p.observation, p.reading
        span_id, role = o.span_id, r.role
        parent = o.parent_id if o.parent_id != span_id else b""
        has_other_parent = node is not None and node.parent not in (b"", parent) and bool(parent)
        if has_other_parent:
            self._open_cycle(tree, span_id)
        is_cut = bool(parent) and self._link(tree, span_id, parent, node, is_root_span=role.is_root_span)
        is_new = node is None
        old, before, owned_subtree, former, was_root_span = NOTHING, None, False, (b"", False), False
        if node is None:
            node = Node()
        else:  # read only now: a cut may have changed it
            owned_subtree, was_root_span = node.owns_subtree, node.is_root_span
            former = (node.parent, node.role is _TOOL)
            old = passes(node)
            before = total(node) if owned_subtree else None
            if has_other_parent and not node.is_cut:
                tree.push(node.parent, NOTHING.minus(old))
                old = NOTHING
        node.parent = parent or node.parent
        node.is_cut = is_cut or (node.is_cut and not has_other_parent)
        node.state, node.rank, node.role = state, rank, role
        if o.links:
            node.link = link_of(o)
        node.tool_name = (SAME_CALL if r.is_same_call else r.tool_name or "") if role is _TOOL else ""
        node.failed, node.asks = r.failure is not None and not r.is_interrupt, r.is_interrupt
        node.own = of_call(r.usage) if role is _LLM else of_run(r) if state == ENDED and not o.parent_id else None
        node.model = (r.model or "")[:MODEL_CAP] if role is _LLM else ""
        if (r.is_metered or r.is_same_call) and node.own is not None:
            node.own = replace(node.own, calls=0)  # an unknown number of calls; or another span counts the call
        node.lent = 0
        node.closed = _closed(p) if state == ENDED and not node.parent and not node.is_root_span else None
        contests = (
            self._claim_duplicates(p, node, tree.domain)
            if node.duplicates or (p.duplicates and (role is _LLM or r.call_key))
            else ()
        )
        owns_subtree = node.owns_subtree
        has_new_parent = bool(former[0]) and former[0] != node.parent
        if has_new_parent or (not is_new and not owned_subtree and (owns_subtree or former[1] != (role is _TOOL))):
            tree.turned()
        if not (is_new or owned_subtree or owns_subtree) and former[1] != (role is _TOOL):
            self.states.adopt_child_roots(tree, tree.owner(span_id))  # it became a tool call, or is none any more
        if is_new and not owns_subtree:
            tree.nodes.put(span_id, node)
            change = hands(node)
            if not change.is_nothing:
                tree.push(node.parent, change)
        else:
            tree.recast(span_id, node, old, before)
        for contest in contests:
            self._pick_winners(contest)
        if role is Role.OTHER and state == ENDED and is_request(o):
            self._name_request(tree, span_id, node, request_of(o))
        if node.request_below[2] and not owns_subtree:
            owner = tree.owner(span_id)
            self._lend_request(tree, owner, span_id, node.request_below)
            self.states.learn_requests(tree, owner)
        if not is_new or owns_subtree:  # a placeholder that no span has named as its parent has nothing below it
            self._update_owner(tree, p, node, span_id, is_new, owned_subtree)
        if not is_new and was_root_span != node.is_root_span:
            self._cut_anew(tree, span_id)
        return node

    def _name_request(self, tree: SpanTree, span_id: bytes, node: Node, request: tuple[int, int, str]) -> None:
        """Enter a request's name, at its owning span, too, and have what runs in it learn the name."""
        if node.request == request:
            return
        node.request = request
        tree.nodes.put(span_id, node)
        owner = tree.owner(span_id)
        self._lend_request(tree, owner, span_id, request)
        self.states.learn_requests(tree, owner)

    @staticmethod
    def _lend_request(tree: SpanTree, owner: bytes, span_id: bytes, request: tuple[int, int, str]) -> None:
        """Keep the name of a request, where it has one, at the owning span above."""
        above = tree.nodes.get(owner)
        if above is not None and request[2] and owner != span_id and request > above.request_below:
            above.request_below = request
            tree.nodes.put(owner, above)

    def take_unended(self, tree: SpanTree, node: Node | None, span_id: bytes) -> tuple[bytes, Facts] | None:
        """Take an unended span's facts out of its subtree; return the owning span and the facts."""
        if node is None or node.state != STARTED or node.owns_subtree:
            return None
        owner = tree.owner(node.parent)
        subtree = tree.subtrees.get(owner)
        if subtree is None or (facts := subtree.unended.pop(span_id, None)) is None:
            return None
        tree.subtrees.put(owner, subtree)
        return owner, facts

    def put_unended(self, tree: SpanTree, node: Node, o: Observation, taken: tuple[bytes, Facts]) -> None:
        """Give these facts to the owning span that is above now, with all else that was reported on the span.

        The facts of unended spans below it go along.
        """
        former, facts = taken
        if not self._give(tree, node, o.span_id, o, former, facts):
            return
        loser = tree.subtrees.get(former)
        for span_id in list(loser.unended) if loser is not None else ():
            below = tree.nodes.get(span_id)
            if loser is not None and below is not None and tree.owner(span_id) != former:
                self._give(tree, below, span_id, o, former, loser.unended.pop(span_id))

    def _give(self, tree: SpanTree, node: Node, span_id: bytes, o: Observation, former: bytes, facts: Facts) -> bool:
        """Give a span's facts to the owning span above it; return whether that is another than the former one."""
        states, owner = self.states, tree.owner(span_id)
        subtree = states.need_subtree(tree, owner, o.trace_id, o.tenant)
        if node.state == STARTED and owner != span_id:
            subtree.unended[span_id] = facts
        else:
            subtree.facts.merge(facts)
        tree.subtrees.put(owner, subtree)
        tree.learned[owner] = None
        loser = tree.subtrees.get(former)
        if owner == former or loser is None:
            return False
        states.moved_spans[tree.domain, span_id] = o
        loser.errors -= node.error_count
        subtree.errors += node.error_count
        tree.subtrees.put(former, loser)
        states.lose(tree, former, span_id)
        states.stale.update((loser.state, subtree.state))
        if loser.root[16:17] == b"u":
            states.runs.add(loser.root)  # what it may be joined by, such as its conversation, may have gone
        if loser.state != subtree.state:
            states.went[loser.state] = subtree.state
        return True

    def edge(self, tree: SpanTree, span_id: bytes, parent: bytes, rank: Rank, link: bytes) -> None:
        """Keep the parent of an ended span that is no agent's and no known parent: all that `adopt` would do."""
        if tree.nodes.get(parent) is None:
            tree.nodes.put(parent, Node())
        tree.nodes.put(span_id, Node(parent=parent, state=ENDED, rank=rank, link=link))

    def _link(self, tree: SpanTree, span_id: bytes, parent: bytes, node: Node | None, *, is_root_span: bool) -> bool:
        """Add a placeholder for the parent, and cut a cycle that the edge would close.

        Return whether this very edge is cut.
        """
        if tree.nodes.get(parent) is None:
            tree.nodes.put(parent, Node())
            return False
        if node is None or node.parent == parent:  # no parent leads back to a span that no other has named
            return False
        cut = tree.circle(span_id, parent, is_root_span=is_root_span)
        if not cut or cut == span_id:
            return bool(cut)
        self._set_cut(tree, cut, is_cut=True)
        return False

    def _open_cycle(self, tree: SpanTree, span_id: bytes) -> None:
        """Join the cut edge of a cycle that a span leaves: the span's own edge is cut, until it has the new parent."""
        cut, _ = tree.cycle_cut(span_id)
        if cut and cut != span_id:
            self._set_cut(tree, span_id, is_cut=True)
            self._set_cut(tree, cut, is_cut=False)

    def _cut_anew(self, tree: SpanTree, span_id: bytes) -> None:
        """Move the cut of a cycle to where it belongs now.

        The new edge is cut before the old one is joined, so that the cycle is never closed.
        """
        was_cut, cut = tree.cycle_cut(span_id)
        if cut != was_cut:
            self._set_cut(tree, cut, is_cut=True)
            self._set_cut(tree, was_cut, is_cut=False)

    def _set_cut(self, tree: SpanTree, span_id: bytes, *, is_cut: bool) -> None:
        node = tree.nodes.get(span_id)
        if node is None or node.is_cut == is_cut:
            return
        old, before = passes(node), total(node) if node.owns_subtree else None
        if is_cut:
            tree.push(node.parent, NOTHING.minus(old))
        node.is_cut = is_cut
        tree.turned()
        tree.recast(span_id, node, NOTHING, before)
        subtree = tree.subtrees.get(span_id)
        if subtree is not None and not node.owns_subtree:
            self.states.dissolve(tree, span_id, subtree)
        elif subtree is not None:
            self.states.update(tree, span_id, subtree)

    def _update_owner(
        self, tree: SpanTree, p: Placed, node: Node, span_id: bytes, is_new: bool, owned_subtree: bool
    ) -> None:
        o, r = p.observation, p.reading
        subtree = tree.subtrees.get(span_id)
        if node.owns_subtree:
            if subtree is None and not node.is_root_span and not tree.child_roots(span_id).subtrees:
                return  # nothing to own yet
            is_first = subtree is None
            subtree = subtree if subtree is not None else Subtree(trace_id=o.trace_id, tenant=o.tenant)
            if node.is_root_span:
                _identify(subtree, o, r, (node.state, node.rank))
            subtree.is_live = subtree.is_live or (o.part is _STARTED and node.is_root_span)
            tree.subtrees.put(span_id, subtree)
            self.states.update(tree, span_id, subtree)
            if is_first and not is_new and not owned_subtree:  # nothing lies below a span that no other has named yet
                up = subtree.up
                if up:
                    self.states.adopt_child_roots(tree, up)
        elif subtree is not None:
            self.states.dissolve(tree, span_id, subtree)
        elif tree.child_roots(span_id).subtrees:
            subtree = self.states.need_subtree(tree, span_id, o.trace_id, o.tenant)
            self.states.dissolve(tree, span_id, subtree)

    def identify(self, tree: SpanTree, p: Placed, copy: Copy) -> None:
        """Take in what a smaller copy of a root span states and the greater ones do not."""
        span_id = p.observation.span_id
        subtree = tree.subtrees.get(span_id)
        if subtree is not None and _identify(subtree, p.observation, p.reading, copy):
            tree.subtrees.put(span_id, subtree)
            self.states.update(tree, span_id, subtree)

    def _claim_duplicates(self, p: Placed, node: Node, domain: bytes) -> list[Key]:
        """Enter the span among the copies of its model call, of which one counts.

        Return the keys of the calls whose winner may have changed.
        """
        o, r = p.observation, p.reading
        own = node_key(domain, o.span_id)
        key = p.duplicates if r.role is _LLM or r.call_key else b""
        contests = []
        if node.duplicates and node.duplicates != key:
            claim(self.duplicates_of, node.duplicates, own, None)
            contests.append(node.duplicates)
        node.duplicates, node.wins = key, True
        if key:
            # A span knows its parent; a record that stands for one knows only the span around it.
            place = -1 if r.stands_for is not None else 1 if node.parent else 0
            ranks = (place, _known(r.usage), own)
            cost = node.own.cost if node.own is not None and node.own.cost_calls else -1
            out = claim(self.duplicates_of, key, own, CallCopy(o.start_ns or o.at_ns, o.end_ns or o.at_ns, ranks, cost))
            if out == own:
                return contests
            if out:
                self._release(key, out)
            duplicates = self.duplicates_of.get(key)
            node.wins = duplicates is None or own in winners(duplicates)
            contests.append(key)
        return contests

    def _release(self, key: Key, holder: Key) -> None:
        """Have a copy of a call that no longer fits among its copies count by itself."""
        tree, span_id = self.states.tree(holder[:16]), holder[17:]
        node = tree.nodes.get(span_id)
        if node is not None and node.duplicates == key:
            self._judge(tree, span_id, node, wins=True, lent=0)

    def _pick_winners(self, key: Key) -> None:
        """Set for each copy of a call whether it counts."""
        duplicates = self.duplicates_of.get(key)
        if duplicates is None:
            return
        won = winners(duplicates)
        for holder in sorted(duplicates.call_copies):
            tree, span_id = self.states.tree(holder[:16]), holder[17:]
            node = tree.nodes.get(span_id)
            lent = borrowed(duplicates, holder) if holder in won else 0
            if node is None or node.duplicates != key:
                continue
            if node.wins and holder not in won:
                self.states.outdone += [(holder, winner) for winner in won if winner != holder][:1]
            self._judge(tree, span_id, node, wins=holder in won, lent=lent)

    @staticmethod
    def _judge(tree: SpanTree, span_id: bytes, node: Node, *, wins: bool, lent: int) -> None:
        """Set whether a copy of a call counts, and the cost that it takes from another copy."""
        if (node.wins, node.lent) == (wins, lent):
            return
        old, before = passes(node), total(node) if node.owns_subtree else None
        node.wins = wins
        if node.lent != lent and node.own is not None:
            node.own = replace(node.own, cost_calls=1 if lent else 0, cost=lent)
            node.lent = lent
        tree.recast(span_id, node, old, before)


def _identify(subtree: Subtree, o: Observation, r: Reading, copy: Copy) -> bool:
    """Take in what one copy of a root span states; return whether that changed its subtree.

    Of each field the greatest copy that states it stands, and the earliest start: the same for any order of
    the copies.
    """
    before = (subtree.agent_name, subtree.task_id, subtree.start_ns)
    if r.agent_name and copy > subtree.named_by:
        subtree.agent_name, subtree.named_by = r.agent_name, copy
    if r.task_id and copy > subtree.identified_by:
        subtree.task_id, subtree.identified_by = r.task_id, copy
    if o.start_ns and (not subtree.start_ns or o.start_ns < subtree.start_ns):
        subtree.start_ns = o.start_ns
    return before != (subtree.agent_name, subtree.task_id, subtree.start_ns)


def link_of(o: Observation) -> bytes:
    """Return the domain of the trace to which a span links; empty where it links to several, as a batch does."""
    traces = {trace_id for trace_id, _ in o.links} - {o.trace_id}
    return domain_of(o.tenant, traces.pop()) if len(traces) == 1 else b""


def _closed(p: Placed) -> SpanEnd:
    """Return how a span ended, for the ending of the spans below it."""
    o, failure = p.observation, p.reading.failure
    outcome = "error" if o.status is Status.ERROR else "ok" if o.status is Status.OK else "unset"
    kind, message = (failure.type, failure.message) if failure is not None else ("", o.status_message)
    return SpanEnd(o.at_ns, p.content_hash, outcome, kind[:200], message[:TEXT_CAP])


def _known(usage: Usage | None) -> int:
    """Return how much is known of a call's tokens: of its copies the one that knows more counts."""
    return 0 if usage is None else (usage.input is not None) + (usage.output is not None)
