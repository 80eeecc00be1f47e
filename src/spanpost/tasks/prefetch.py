"""The keys that the fold of a batch will probably ask for, found step by step from the records fetched so far.

It only saves queries: one for each level of parents, in place of one for each key. A key that is missing here
is fetched when the fold asks, and a key too many is not used, so the result is the same. The fold's own asking
cannot replace it. The fold decides on each record before it knows the next key, so it asks one key at a time;
and to run it once only for its keys would double its cost. What a span and a task consist of is said once, in
`record_keys.span_keys` and `task_keys`, for both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from spanpost.tasks.folded import Placed
from spanpost.tasks.record_keys import linked_traces_key, node_key, span_keys, state_key, task_keys
from spanpost.tasks.records import Node, Subtree, TaskState
from spanpost.tasks.work import Key


class Prefetch:
    """The keys of one batch that are still to be fetched.

    `loaded` is what was fetched, `whole` the domains that were fetched completely, `leads` the subtrees and
    task states among the records, in order of arrival.
    """

    def __init__(
        self,
        loaded: Mapping[Key, msgspec.Struct | None],
        whole: Collection[bytes],
        leads: Sequence[msgspec.Struct],
        batch: Sequence[Placed],
    ) -> None:
        self._loaded, self._whole, self._leads = loaded, whole, leads
        self._at = 0
        self._wanted: set[Key] = set()
        self._parents = {
            (p.domain, p.observation.span_id): p.observation.parent_id
            for p in batch
            if p.domain not in whole and p.is_span
        }
        #: Spans whose nodes are not fetched yet; all spans that were met.
        self.open: dict[tuple[bytes, bytes], None] = {}
        self._met: set[tuple[bytes, bytes]] = set()
        for p in batch:
            self._begin(p)

    def _begin(self, p: Placed) -> None:
        domain, span_id = p.domain, p.observation.span_id
        if p.duplicates:
            self._look(p.duplicates)
        if p.task_uid:
            self._task(state_key(p.task_uid))
        if p.occurrence is not None:
            self._look(p.occurrence[2])
        if domain not in self._whole:
            self._task(state_key(domain))
            self._look(linked_traces_key(domain))
            if p.reading.role.is_root_span:
                self._task(state_key(domain, span_id))
            if self._meet(domain, span_id):
                self.open[domain, span_id] = None

    def step(self) -> set[Key]:
        """Return the keys to fetch next; empty at the end. Each step climbs one level of parents."""
        while self._at < len(self._leads):
            record = self._leads[self._at]
            self._at += 1
            if type(record) is Subtree:
                self._task(record.state)
                for candidates in record.candidate_sets:
                    self._look(candidates)
            elif type(record) is TaskState and record.parent:
                self._look(record.parent)
        waiting, self.open = self.open, {}
        for domain, span_id in waiting:
            while True:
                key = node_key(domain, span_id)
                if key not in self._loaded and domain not in self._whole:
                    self.open[domain, span_id] = None
                    break
                node = self._loaded.get(key)
                span_id = (node.parent if type(node) is Node else b"") or self._parents.get((domain, span_id), b"")
                if not span_id or not self._meet(domain, span_id):
                    break
        wanted, self._wanted = {key for key in self._wanted if key not in self._loaded}, set()
        return wanted

    def _meet(self, domain: bytes, span_id: bytes) -> bool:
        """Ask for the records of a span; return whether it is new here."""
        if (domain, span_id) in self._met:
            return False
        self._met.add((domain, span_id))
        for key in span_keys(domain, span_id):
            self._look(key)
        return True

    def _look(self, key: Key) -> None:
        if key not in self._loaded and key[:16] not in self._whole:
            self._wanted.add(key)

    def _task(self, key: Key) -> None:
        if key:
            for asked in task_keys(key):
                self._look(asked)
