"""Task states and the subtrees shown in them: created, placed, moved, merged.

`placement` decides where a subtree is shown; this module carries it out. A task that loses a subtree is
marked stale and rebuilt when the batch closes (`rebuild`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import UUID

from spanpost.model.ids import end_id, explicit_uid, message_of, root_span_uid, start_id
from spanpost.model.observations import Observation
from spanpost.tasks.facts import Facts
from spanpost.tasks.hanging import add_child_root, hang
from spanpost.tasks.hierarchy import Hierarchy
from spanpost.tasks.placement import hint_of, is_of_one_agent, place, place_of
from spanpost.tasks.record_keys import given_key, node_key, subtree_key
from spanpost.tasks.records import STARTED, Subtree, TaskState
from spanpost.tasks.reported import Reported
from spanpost.tasks.requests import learn, leave_around
from spanpost.tasks.runs import enter_run
from spanpost.tasks.span_tree import SpanTree, total
from spanpost.tasks.task_figures import add_figures, move_counted
from spanpost.tasks.work import Key, Work

#: Length of the key of a task without a span: the uid of an explicit task or of a conversation, or a trace.
_OWN_DOMAIN = 16 + 1


class SubtreeMove(NamedTuple):
    """What was recorded below one owning span is now below another, or in another task."""

    domain: bytes
    tenant: str
    trace_id: bytes
    subtree_from: bytes
    subtree_to: bytes
    state: Key


class TaskStates(Hierarchy):
    """The tasks touched in one transaction, and the subtrees shown in them."""

    def __init__(self, work: Work, tick: Callable[[], None]) -> None:
        super().__init__(work, tick)
        #: Owning spans below which subtrees must be placed again, and whose child roots may have moved.
        self._moved: dict[tuple[bytes, bytes], None] = {}
        self._orphaning: dict[tuple[bytes, bytes], None] = {}
        #: Owning spans that lost a span or a subtree, perhaps their last, and that span.
        self._lost: dict[tuple[bytes, bytes], bytes] = {}
        #: Tasks to rebuild from their subtrees.
        self.stale: set[Key] = set()
        self.moves: list[SubtreeMove] = []
        #: What was last observed of spans that hang below another owning span than before, by domain and id.
        self.moved_spans: dict[tuple[bytes, bytes], Observation] = {}
        #: Tasks that lost their last subtree, and the task it moved to.
        self.gone: dict[Key, Key] = {}
        #: Tasks that lost a subtree or a span, and the task that the last one moved to.
        self.went: dict[Key, Key] = {}
        #: Former states of tasks that are gone.
        self.dropped: dict[Key, TaskState] = {}
        #: Copies of a model call that no longer count, and the copy that does, by node.
        self.outdone: list[tuple[Key, Key]] = []
        self._where_outdone: dict[Key, Key] | None = None
        #: Runs that their task no longer has: the checkpoints of their start and end are retracted.
        self.retracted: set[Key] = set()
        #: Tasks that had subtrees before their first root span.
        self.gained_root: set[Key] = set()
        #: Roots of runs that changed (for `matching_runs`); traces joined by links.
        self.runs: set[Key] = set()
        self.links: list[tuple[bytes, bytes]] = []
        self.withdrawn: dict[Key, list[Key]] = {}

    def retracted_ids(self) -> list[UUID]:
        """Return the ids of the start and end of runs that are gone."""
        return [id for root in sorted(self.retracted) for id in (start_id(root), end_id(root))]

    def moved_subtrees(self) -> dict[Key, None]:
        """Return the keys of the subtrees that may have come to a task with a root span."""
        found = {subtree_key(move.domain, move.subtree_to): None for move in self.moves}
        for state in self.gained_root:
            found.update(dict.fromkeys(self.members(state)))
        return found

    def where_outdone(self) -> dict[Key, Key]:
        """Return, by task whose copy of a call no longer counts, the task of the copy that does (computed once)."""
        if self._where_outdone is None:
            self._where_outdone = {}
            for loser, winner in self.outdone:
                key, to = self.key_of(loser), self.key_of(winner)
                if to != key:
                    self._where_outdone.setdefault(key, to)
        return self._where_outdone

    # --- subtrees ---------------------------------------------------------------------------------------------------

    def need_subtree(self, tree: SpanTree, span_id: bytes, trace_id: bytes, tenant: str) -> Subtree:
        """Return an owning span's subtree; create and place it, and those above it, if missing."""
        subtree = tree.subtrees.get(span_id)
        if subtree is not None:
            return subtree
        made = []
        while subtree is None:
            new, node = Subtree(trace_id=trace_id, tenant=tenant), tree.nodes.get(span_id)
            if node is not None:
                hang(tree, span_id, node, new)
            tree.subtrees.put(span_id, new)
            made.append((span_id, new))
            span_id = new.up
            if not span_id:  # none is known above; an observation outside any span has an empty id
                break
            subtree = tree.subtrees.get(span_id)
        for span_id, new in reversed(made):
            if new.up:
                add_child_root(tree, span_id, new)
            self.regroup(tree, span_id)
        return made[0][1]

    def update(self, tree: SpanTree, span_id: bytes, subtree: Subtree) -> None:
        """Place a subtree again after its owning span, or the span above, changed."""
        node = tree.nodes.get(span_id)
        if node is None:
            return
        old_up = subtree.up
        has_request = hang(tree, span_id, node, subtree)
        up = subtree.up
        if up != old_up and old_up:
            tree.drop_child_root(old_up, span_id)
            self.lose(tree, old_up, span_id)
        tree.subtrees.put(span_id, subtree)
        if up:
            self.need_subtree(tree, up, subtree.trace_id, subtree.tenant)
            if add_child_root(tree, span_id, subtree):
                tree.learned[up] = None  # the names of its agents may be its task's name
        if old_up and old_up != up:
            self._recount(tree, old_up)
        if up:
            self._recount(tree, up)
        self.regroup(tree, span_id)
        shape = (int(subtree.role), subtree.agent_name, subtree.task_id, up, subtree.is_via_tool)
        if subtree.shape != shape:
            subtree.shape = shape
            tree.subtrees.put(span_id, subtree)
            self._moved[tree.domain, span_id] = None
            if subtree.is_root_span:
                self._recount(tree, span_id)
        tree.learned[span_id] = None
        if has_request:
            self.learn_requests(tree, span_id)

    def dissolve(self, tree: SpanTree, span_id: bytes, subtree: Subtree) -> None:
        """Merge a subtree into the one above, because its owning span turned out not to be a root span."""
        node = tree.nodes.get(span_id)
        assert node is not None
        up, _ = tree.above(node)
        successor = self.need_subtree(tree, up, subtree.trace_id, subtree.tenant)
        leave_around(subtree.facts, tree, span_id, up)
        if node.state == STARTED:
            successor.unended.setdefault(span_id, Facts()).merge(subtree.facts)
        else:
            successor.facts.merge(subtree.facts)
        for below, facts in subtree.unended.items():
            successor.unended.setdefault(below, Facts()).merge(facts)
        successor.errors += subtree.errors
        successor.doubtful = [*successor.doubtful, *subtree.doubtful]
        tree.subtrees.put(up, successor)
        if subtree.hint:
            self.hint(tree, up, successor, subtree.hint)
        tree.learned[up] = None
        if subtree.up:
            tree.drop_child_root(subtree.up, span_id)
            if subtree.up != up:
                self.lose(tree, subtree.up, span_id)
        if self._lost.pop((tree.domain, span_id), None) is not None:
            self.lose(tree, up, span_id)  # it may have been empty itself
        child_roots = tree.child_roots(span_id)
        moved = list(child_roots.subtrees)
        tree.drop_child_roots(span_id)
        self._leave(tree, span_id, subtree, successor.state)
        if successor.state != subtree.state:
            move_counted(self, tree, span_id, subtree.state, successor.state)
        tree.subtrees.drop(span_id)
        if subtree.candidate_sets:
            self.withdrawn[subtree_key(tree.domain, span_id)] = list(subtree.candidate_sets)
        self.moves.append(SubtreeMove(tree.domain, subtree.tenant, subtree.trace_id, span_id, up, successor.state))
        successor_state = self.state(successor.state)
        if successor_state is not None and successor.state != subtree.state:
            successor_state.errors += subtree.errors
            enter_run(successor_state, successor, subtree_key(tree.domain, up), up)
            self.touch(successor.state, successor_state)
        for child_root in moved:
            child = tree.subtrees.get(child_root)
            if child is not None:
                child_node = tree.nodes.get(child_root)
                assert child_node is not None
                child.up, child.is_via_tool = tree.above(child_node)
                if learn(child.facts, tree, child_root):
                    tree.learned[child_root] = None
                    self.learn_requests(tree, child_root)
                tree.subtrees.put(child_root, child)
                add_child_root(tree, child_root, child)
        self._recount(tree, up)
        if subtree.up and subtree.up != up:
            self._recount(tree, subtree.up)
        for child_root in moved:
            self.regroup(tree, child_root)

    def hint(self, tree: SpanTree, span_id: bytes, subtree: Subtree, task_id: str) -> None:
        """Show a subtree without a root span in the task that a span of it names; of several the first."""
        if subtree.is_root_span or (subtree.hint and subtree.hint <= task_id):
            return
        subtree.hint = task_id
        tree.subtrees.put(span_id, subtree)
        self.regroup(tree, span_id)

    def adopt_child_roots(self, tree: SpanTree, up: bytes) -> None:
        """Have `place_moved` place the subtrees below `up` again, after a span between them changed."""
        self._orphaning[tree.domain, up] = None

    def place_moved(self) -> None:
        """Do the postponed placement once a batch: find the owning spans above, then place those below."""
        orphaning, self._orphaning = self._orphaning, {}
        for domain, up in orphaning:
            tree = self.tree(domain)
            child_roots = list(tree.child_roots(up).subtrees)
            self._want_subtrees(tree, child_roots)
            for child_root in child_roots:
                self.tick()
                child, node = tree.subtrees.get(child_root), tree.nodes.get(child_root)
                if child is not None and node is not None and tree.above(node) != (up, child.is_via_tool):
                    self.update(tree, child_root, child)
        moved, self._moved = self._moved, {}
        for domain, span_id in moved:
            self._regroup_below(self.tree(domain), span_id)
        while self._lost:
            (domain, span_id), lost = self._lost.popitem()
            self.tick()
            self._drop_if_empty(self.tree(domain), span_id, lost)

    def lose(self, tree: SpanTree, up: bytes, span_id: bytes) -> None:
        """Have `place_moved` drop the subtree of `up` if what left it with a span was all that it had."""
        self._lost[tree.domain, up] = span_id

    def _drop_if_empty(self, tree: SpanTree, span_id: bytes, lost: bytes) -> None:
        """Drop a subtree in which and below which nothing is recorded: it is in no task, and its end ends none."""
        subtree = tree.subtrees.get(span_id)
        if subtree is None or tree.child_roots(span_id).subtrees or not subtree.is_empty:
            return
        self._leave(tree, span_id, subtree, self.key_of(node_key(tree.domain, lost)))
        tree.subtrees.drop(span_id)
        if subtree.up:
            tree.drop_child_root(subtree.up, span_id)
            self.lose(tree, subtree.up, lost)

    # --- placement --------------------------------------------------------------------------------------------------

    def regroup(self, tree: SpanTree, span_id: bytes) -> None:
        """Show a subtree, and those that depend on it, in the task it now belongs to."""
        waiting = [span_id]
        while waiting:
            self.tick()
            span_id = waiting.pop()
            subtree = tree.subtrees.get(span_id)
            if subtree is not None and self._put_in_place(tree, span_id, subtree):
                child_roots = list(tree.child_roots(span_id).subtrees)
                self._want_subtrees(tree, child_roots)
                waiting.extend(child_roots)

    def _want_subtrees(self, tree: SpanTree, span_ids: Sequence[bytes]) -> None:
        """Announce that subtrees, and the tasks that show them, are needed next."""
        if span_ids:
            tree.want(span_ids)
            self.want([subtree.state for span_id in span_ids if (subtree := tree.subtrees.get(span_id)) is not None])

    def _put_in_place(self, tree: SpanTree, span_id: bytes, subtree: Subtree) -> bool:
        """Show one subtree where it belongs; return whether its place changed: then check those below."""
        known, now = place_of(subtree), place(tree, span_id, subtree)
        state, root = now.state, now.root
        if root[16:17] == b"u":
            self.runs.add(root)
        if subtree.candidate_sets:
            self.runs.add(subtree_key(tree.domain, span_id))
        if now != known:
            subtree.root_span, subtree.is_root_span_via_tool, subtree.within = now[2:]
            tree.subtrees.put(span_id, subtree)
        if now[:2] == known[:2]:
            if root == subtree_key(tree.domain, span_id):
                self.relate(tree, subtree)
            return now != known
        old = subtree.state
        if old and old != state:
            self._leave(tree, span_id, subtree, state)
            self.moves.append(SubtreeMove(tree.domain, subtree.tenant, subtree.trace_id, span_id, span_id, state))
        elif old:
            self.stale.add(old)
        subtree.state, subtree.root = state, root
        if old != state:
            self._join(tree, span_id, subtree)
            move_counted(self, tree, span_id, old, state)
        elif root == subtree_key(tree.domain, span_id):
            self.relate(tree, subtree)  # it was shown there already, without a known root span
        return True

    def _recount(self, tree: SpanTree, span_id: bytes) -> None:
        """Update the agents' names below the nearest root span.

        What is directly below that span is placed again when "of one agent" changed.
        """
        subtree = tree.subtrees.get(span_id)
        while subtree is not None and not subtree.is_root_span:
            if not subtree.up or not add_child_root(tree, span_id, subtree):
                return
            span_id, subtree = subtree.up, tree.subtrees.get(subtree.up)
        if subtree is None or subtree.agent_name:
            return
        is_of_one = is_of_one_agent(tree, span_id)
        if is_of_one == subtree.is_of_many:
            subtree.is_of_many = not is_of_one
            tree.subtrees.put(span_id, subtree)
            self._moved[tree.domain, span_id] = None

    def _regroup_below(self, tree: SpanTree, span_id: bytes) -> None:
        """Place again the root spans directly below an owning span, and the other owning spans on the way."""
        waiting = [span_id]
        for at in waiting:
            child_roots = list(tree.child_roots(at).subtrees.items())
            self._want_subtrees(tree, [child_root_id for child_root_id, _ in child_roots])
            for child_root_id, child_root in child_roots:
                self.regroup(tree, child_root_id)
                if not child_root.is_root_span:
                    waiting.append(child_root_id)

    def _join(self, tree: SpanTree, span_id: bytes, subtree: Subtree) -> None:
        key = subtree.state
        state = self.state(key)
        if state is None:
            state = self._new(tree, span_id, subtree)
        has_others = self.add_member(key, subtree_key(tree.domain, span_id))
        self.gone.pop(key, None)
        if subtree.is_root_span and not state.has_root_span:
            state.has_root_span = True
            if has_others:
                self.gained_root.add(key)
        tree.learned[span_id] = None
        state.errors += subtree.errors
        enter_run(state, subtree, subtree_key(tree.domain, span_id), span_id)
        node = tree.nodes.get(span_id)
        if node is not None:
            tree.former.pop(span_id, None)
            add_figures(state, subtree.root, span_id, total(node))
        self.touch(key, state)
        if subtree.root == subtree_key(tree.domain, span_id):
            self.relate(tree, subtree)

    def _new(self, tree: SpanTree, span_id: bytes, subtree: Subtree) -> TaskState:
        task_id = subtree.task_id if subtree.is_root_span else hint_of(tree, subtree)
        # Of the tasks that a run is shown in by its matches, only a conversation's has a domain of its own.
        is_conversation = len(subtree.state) == _OWN_DOMAIN and subtree.state in (subtree.talk, subtree.joined)
        if is_conversation:
            uid, task_id = subtree.state[:16], ""
        elif task_id and subtree.state[:16] != tree.domain:
            uid = explicit_uid(subtree.tenant, task_id)
        else:
            uid = root_span_uid(subtree.tenant, subtree.trace_id, subtree.state[17:])
        given = self.given.get(given_key(subtree.state))
        return TaskState(
            uid=uid,
            tenant=subtree.tenant,
            trace_id=subtree.trace_id,
            span_id=subtree.state[17:],
            task_id=task_id,
            is_conversation=is_conversation,
            reported=Reported(message_uid=message_of(uid, given.at_ns if given is not None else 0)),
        )

    def _leave(self, tree: SpanTree, span_id: bytes, subtree: Subtree, successor: Key) -> None:
        key = subtree.state
        if not key:
            return
        tree.former.pop(span_id, None)
        own = subtree_key(tree.domain, span_id)
        if self.drop_member(key, own):
            self.gone[key] = successor
        else:
            self.unrelate(key, own)
        if successor != key:  # a dissolved subtree may stay in its task
            self.went[key] = successor
        self.stale.add(key)
