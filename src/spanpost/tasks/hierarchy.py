"""The task states and subtrees of a batch, and the parent of each task.

Rules. A task is a child of the task whose root span lies above its own. Where several runs name different
parents, the earliest run that has one decides. The root of a task is the topmost task above it, at most
`DEPTH` levels up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from zlib import crc32

import msgspec

from spanpost.tasks.amounts import Models
from spanpost.tasks.placement import root_span_above
from spanpost.tasks.record_keys import child_tasks_key, members_key, members_page_key, task_keys
from spanpost.tasks.records import DEPTH, ChildTasks, Members, Seen, Subtree, TaskState
from spanpost.tasks.requests import learn
from spanpost.tasks.span_tree import SpanTree
from spanpost.tasks.work import Key, RecordSet, Work

#: Subtrees of a task that lie in one record; of more each lies in the page that its key gives, so that one more
#: turn of a long conversation rewrites one page.
PAGE = 64
#: Tasks whose rows are rewritten at once because a task above them changed.
BELOW_CAP = 10_000


class SpanTrees(dict[bytes, SpanTree]):
    """The span tree of each trace domain."""

    def __init__(self, work: Work, tick: Callable[[], None]) -> None:
        super().__init__()
        self._work = work
        self._tick = tick

    def __missing__(self, domain: bytes) -> SpanTree:
        tree = self[domain] = SpanTree(self._work, domain, self._tick)
        return tree


class KeyedTask(msgspec.Struct, frozen=True, gc=False):
    """A task's state and its key."""

    key: Key
    state: TaskState


class MovedUse(msgspec.Struct, frozen=True, gc=False):
    """CountedUse figures, by model, that moved from one task to another; `after` is empty for none."""

    before: bytes
    after: bytes
    tenant: str
    models: Models


class Hierarchy:
    """The task records that one transaction touches, and their relations."""

    def __init__(self, work: Work, tick: Callable[[], None]) -> None:
        self.work = work
        #: Called in every loop that may be long; it may raise `Interrupted`.
        self.tick = tick
        self.trees = SpanTrees(work, tick)
        self.states = RecordSet(work, TaskState)
        # By domain and by key. Used a dozen times a span: a cached record is found without a Python call.
        self.tree: Callable[[bytes], SpanTree] = self.trees.__getitem__
        self.state: Callable[[Key], TaskState | None] = self.states.__getitem__
        self._members = RecordSet(work, Members)
        self._child_tasks = RecordSet(work, ChildTasks)
        #: How often other tasks took over a task's message, by `given_key`.
        self.given = RecordSet(work, Seen)
        #: Counted figures that moved from one task to another.
        self.moved_use: list[MovedUse] = []
        #: Tasks whose row may have changed.
        self.touched: dict[Key, None] = {}
        #: Tasks below which rows must be rewritten, and the levels already done.
        self._to_touch: dict[Key, None] = {}
        self._levels: dict[Key, int] = {}

    # --- records --------------------------------------------------------------------------------------------------

    def subtree(self, key: Key) -> Subtree | None:
        """Return a subtree by its full key."""
        return self.tree(key[:16]).subtrees.get(key[17:])

    def key_of(self, node: Key) -> Key:
        """Return the key of the task that shows a span (by its node's key) now; empty for none."""
        tree = self.tree(node[:16])
        subtree = tree.subtrees.get(tree.owner(node[17:]))
        return subtree.state if subtree is not None else b""

    def state_of(self, domain: bytes, span_id: bytes) -> TaskState | None:
        """Return the task that shows a span now."""
        tree = self.tree(domain)
        subtree = tree.subtrees.get(tree.owner(span_id))
        return self.state(subtree.state) if subtree is not None else None

    def members(self, key: Key) -> Collection[Key]:
        """Return the keys of a task's subtrees."""
        first = self._members.get(members_key(key))
        if first is None or not first.pages:
            return first.subtrees if first is not None else ()
        pages = [members_page_key(key, page) for page in first.pages]
        self._members.want(pages)
        found = list(first.subtrees)
        for page in pages:
            found.extend((self._members.get(page) or Members()).subtrees)
        return found

    def add_member(self, key: Key, own: Key) -> bool:
        """Enter a subtree of a task; return whether the task has others."""
        at = members_key(key)
        first = self._members.get(at) or Members()
        if own in first.subtrees:
            return len(first.subtrees) > 1 or bool(first.pages)
        page = _page_of(own)
        known = self._page(key, page) if page in first.pages else None
        if known is None and len(first.subtrees) < PAGE:
            first.subtrees[own] = None
            self._members.put(at, first)
        elif known is None or own not in known.subtrees:
            if known is None:
                first.pages = sorted({*first.pages, page})
                self._members.put(at, first)
            known = known or Members()
            known.subtrees[own] = None
            self._members.put(members_page_key(key, page), known)
        return len(first.subtrees) > 1 or bool(first.pages)

    def drop_member(self, key: Key, own: Key) -> bool:
        """Take out a subtree of a task; return whether that was its last: then it has no such record."""
        at = members_key(key)
        first = self._members.get(at) or Members()
        page = _page_of(own)
        if own in first.subtrees:
            del first.subtrees[own]
        elif page in first.pages and (known := self._page(key, page)) is not None and own in known.subtrees:
            del known.subtrees[own]
            if known.subtrees:
                self._members.put(members_page_key(key, page), known)
            else:
                first.pages = [other for other in first.pages if other != page]
                self._members.drop(members_page_key(key, page))
        if first.subtrees or first.pages:
            self._members.put(at, first)
            return False
        self._members.drop(at)
        return True

    def _page(self, key: Key, page: int) -> Members | None:
        at = members_page_key(key, page)
        self._members.want((at, members_key(key)))
        return self._members.get(at)

    def child_tasks(self, key: Key) -> ChildTasks:
        return self._child_tasks.get(child_tasks_key(key)) or ChildTasks()

    def put_child_tasks(self, key: Key, child_tasks: ChildTasks) -> None:
        self._child_tasks.put(child_tasks_key(key), child_tasks)

    def touch(self, key: Key, state: TaskState) -> None:
        self.states.put(key, state)
        self.touched[key] = None

    def want(self, keys: Iterable[Key]) -> None:
        """Announce that tasks, their subtrees and their child tasks are needed next."""
        asked = [key for key in dict.fromkeys(keys) if key and key not in self.states]
        if asked:
            self.work.want([one for key in asked for one in task_keys(key)])

    def forget(self, key: Key) -> None:
        """Delete a task that is gone."""
        self.states.drop(key)
        self._child_tasks.drop(child_tasks_key(key))
        self.touched.pop(key, None)

    def flush(self) -> None:
        """Write all changed records to the work."""
        for tree in self.trees.values():
            tree.flush()
        for records in (self.states, self._members, self._child_tasks, self.given):
            records.flush()

    def learn_requests(self, tree: SpanTree, owner: bytes) -> None:
        """Have the subtree of an owning span, and those below it, learn the requests around them.

        Where nothing is new, those below know it, too.
        """
        waiting = [owner]
        for span_id in waiting:
            self.tick()
            subtree = tree.subtrees.get(span_id)
            if subtree is not None and learn(subtree.facts, tree, span_id):
                tree.subtrees.put(span_id, subtree)
                tree.learned[span_id] = None
            elif span_id != owner:
                continue
            waiting += tree.child_roots(span_id).subtrees

    # --- parents and children ----------------------------------------------------------------------------------------

    def relate(self, tree: SpanTree, subtree: Subtree) -> None:
        """Make a run's task a child of the task whose root span lies above."""
        state = self.state(subtree.state)
        if state is None:
            return
        above = root_span_above(tree, subtree)[1]
        # A run that continues another has the parent of that run.
        linked_to = b"" if subtree.joined else subtree.linked_to
        parent = above.state if above is not None else linked_to
        if parent == subtree.state:
            parent = b""
        rank = (subtree.start_ns, subtree.root)
        has_changed, subtree.parent_state = subtree.parent_state != parent, parent
        if has_changed:
            self.tree(subtree.root[:16]).subtrees.put(subtree.root[17:], subtree)
        if state.parent and state.parent_rank[1] == subtree.root and (has_changed or state.parent_rank != rank):
            self._attach(subtree.state, state, *self._earliest_parent(subtree.state))
        elif parent and (not state.parent or rank < state.parent_rank):
            self._attach(subtree.state, state, parent, rank)

    def unrelate(self, key: Key, run: Key) -> None:
        """Find the parent of a task anew if the run that left it gave the parent."""
        state = self.state(key)
        if state is not None and state.parent and state.parent_rank[1] == run:
            self._attach(key, state, *self._earliest_parent(key))

    def _earliest_parent(self, key: Key) -> tuple[Key, tuple[int, Key]]:
        """Return the parent named by the earliest run that has one, and that run's rank."""
        found: tuple[tuple[int, Key], Key] | None = None
        for own in self.members(key):
            subtree = self.subtree(own)
            if subtree is not None and subtree.root == own and subtree.parent_state:
                rank = (subtree.start_ns, own)
                if found is None or rank < found[0]:
                    found = (rank, subtree.parent_state)
        return (found[1], found[0]) if found is not None else (b"", (0, b""))

    def _attach(self, key: Key, state: TaskState, parent: Key, rank: tuple[int, Key]) -> None:
        state.parent_rank = rank
        if parent != state.parent:
            if state.parent:
                siblings = self.child_tasks(state.parent)
                siblings.at_work.pop(key, None)
                siblings.agents.pop(key, None)
                if siblings.tasks.pop(key, None) is not None:
                    self.put_child_tasks(state.parent, siblings)
                    self.touched[state.parent] = None
            state.parent = parent
            if parent:
                siblings = self.child_tasks(parent)
                siblings.tasks[key] = state.reported.is_failed
                self.put_child_tasks(parent, siblings)
                self.touched[parent] = None
        self.touch(key, state)
        self.touch_below(key)

    def root(self, key: Key, state: TaskState) -> KeyedTask:
        """Return the topmost task above; in a cycle of tasks the one whose key sorts first."""
        if not state.parent:
            return KeyedTask(key, state)
        seen = {key: state}
        while state.parent and len(seen) < DEPTH:
            if state.parent in seen:
                # Only of the cycle: a task below it is not part of it, and has the same root.
                way = list(seen)
                key = min(way[way.index(state.parent) :])
                return KeyedTask(key, seen[key])
            above = self.state(state.parent)
            if above is None:
                break
            key, state = state.parent, above
            seen[key] = state
        return KeyedTask(key, state)

    def touch_below(self, key: Key) -> None:
        """Have `touch_all_below` rewrite the rows of a task's child tasks, because their root changed."""
        self._to_touch[key] = None

    def touch_all_below(self) -> list[Key]:
        """Touch the tasks up to `DEPTH` levels below those of `touch_below`; return the newly touched."""
        waiting = [(key, DEPTH) for key in self._to_touch]
        self._to_touch.clear()
        new = []
        for at, levels in waiting:  # grows while walked, level by level: no task is met again from farther above
            self.tick()
            if self._levels.get(at, 0) >= levels or len(waiting) > BELOW_CAP:
                continue
            self._levels[at] = levels
            below = self.child_tasks(at).tasks
            self.want(below)
            for child in below:
                if child not in self.touched:
                    self.touched[child] = None
                    new.append(child)
                waiting.append((child, levels - 1))
        return new


def _page_of(own: Key) -> int:
    return crc32(own) & 0xFF
