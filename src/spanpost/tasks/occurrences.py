"""The checkpoints that a batch reports: each occurrence once, under the task that finally shows it."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.ids import uuid_of
from spanpost.model.observations import Part
from spanpost.model.readings import Approval, Role
from spanpost.tasks import checkpoints
from spanpost.tasks.approvals import answered_id
from spanpost.tasks.checkpoints import TaskCheckpoint
from spanpost.tasks.folded import Placed
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.record_keys import seen_key
from spanpost.tasks.records import Node, Seen, Subtree
from spanpost.tasks.span_tree import SpanTree
from spanpost.tasks.work import Key, RecordSet

#: Unconfirmed exceptions kept of one subtree, the earliest.
DOUBTFUL_CAP = 16
_ERROR, _RESOLVED = Kind.ERROR, Kind.APPROVAL_RESOLVED
_RANKED = (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED, Kind.ERROR)
_ENDED, _INTERVENTION, _LLM = Part.ENDED, Part.INTERVENTION, Role.LLM


class Occurrences:
    """The checkpoints reported by one batch."""

    def __init__(self, states: TaskStates) -> None:
        self.states = states
        self.seen = RecordSet(states.work, Seen)
        #: (checkpoint, domain, may belong to no task). The task is known when the batch closes.
        self.found: list[tuple[Checkpoint, bytes, bool]] = []
        self.retracted: list[UUID] = []
        #: Retracted checkpoints, with the number of reports made before the retraction.
        self._retracted_at: dict[UUID, int] = {}
        #: Failures that this batch reports first, and those that it reports in other words.
        self._first: set[UUID] = set()
        self._reworded: set[UUID] = set()

    def report(self, tree: SpanTree, p: Placed, owner: bytes, node: Node, kind: Kind) -> None:
        """Report an occurrence, unless an earlier copy of it was reported."""
        o, r = p.observation, p.reading
        if kind is _ERROR and o.part is _ENDED and r.role is _LLM:
            self._report_failure_once(tree, p)
            if node.is_failure_reported:
                return
        if p.occurrence is not None and p.occurrence[0] is kind:
            _, id, key = p.occurrence
        else:
            id = checkpoints.occurrence_id(o, r, kind)
            key = seen_key(p.domain, id.bytes)
        seen = self.seen.get(key)
        copy = p.content_hash + o.trace_id + o.span_id  # two spans may report the same approval in the same words
        at_ns = o.at_ns if o.part is not _INTERVENTION else 0
        if kind is _ERROR and r.failure is not None:  # of several reports of a failure the one that says most stands
            copy = at_ns.to_bytes(8, "big") + copy
            at_ns = -len((r.tool_name or r.model or "") + r.failure.type + r.failure.message)
            if seen is None:
                self._first.add(id)
            elif id not in self._first:
                self._reworded.add(id)
        if kind is _RESOLVED and o.part is _INTERVENTION and r.approval is not None:
            self._replace_reported(p, r.approval, Seen(-1, copy))
        if seen is not None and (seen.at_ns, seen.key) <= (at_ns, copy):
            return
        self.seen.put(key, Seen(at_ns, copy))
        if kind is _ERROR and seen is None:
            if o.name in c.EXCEPTION_EVENTS and o.part is not _ENDED and len(node.errors) < 16:
                node.errors = (*node.errors, id.bytes)
            node.error_count += 1
            tree.nodes.put(o.span_id, node)
            self._count_error(tree, owner, 1)
        subtree = tree.subtrees.get(owner)
        assert subtree is not None
        uid = self._uid(subtree)
        is_doubtful = o.name in c.EXCEPTION_EVENTS and not r.task_id
        self.found.append((checkpoints.checkpoint_of(o, r, kind, id, uid, owner), tree.domain, is_doubtful))

    def _report_failure_once(self, tree: SpanTree, p: Placed) -> None:
        """Mark the call around a failed model call, whose failure is the same on its way up, and retract its report.

        Frameworks whose models wrap each other have a span for each (LlamaIndex).
        """
        o = p.observation
        around = tree.nodes.get(o.parent_id) if o.parent_id not in (b"", o.span_id) else None
        if around is None or around.is_failure_reported:
            return
        around.is_failure_reported = True
        uid = checkpoints.end_id(o, o.parent_id, _ERROR)
        if around.role is _LLM and self.seen.get(seen_key(p.domain, uid.bytes)) is not None:
            self.retracted.append(uid)
            self._retracted_at[uid] = len(self.found)
            around.error_count -= 1
            self._count_error(tree, tree.owner(o.parent_id), -1)
        tree.nodes.put(o.parent_id, around)

    def _replace_reported(self, p: Placed, decided: Approval, seen: Seen) -> None:
        """Replace what telemetry reported of a decision, before and from now on, by the person's own."""
        uid = answered_id(p.observation.tenant, decided.id, p.observation.trace_id.hex())
        key = seen_key(p.domain, uid.bytes)
        known = self.seen.get(key)
        if known is not None and known.at_ns >= 0:
            self.retracted.append(uid)
            self.found = [n for n in self.found if n[0].id != uid]
        self.seen.put(key, seen)

    def _count_error(self, tree: SpanTree, owner: bytes, by: int) -> None:
        subtree = tree.subtrees.get(owner)
        state = self.states.state(subtree.state) if subtree is not None else None
        if subtree is not None and state is not None:
            subtree.errors += by
            tree.subtrees.put(owner, subtree)
            state.errors += by
            self.states.touch(subtree.state, state)

    def retract(self, tree: SpanTree, node: Node, span_id: bytes) -> None:
        """Retract the exceptions of a span that turned out to be an agent's: its own end reports them."""
        for id in node.errors:
            uid = uuid_of(id)
            self.retracted.append(uid)
            self._retracted_at[uid] = len(self.found)
            subtree = tree.subtrees.get(tree.owner(span_id))
            if subtree is not None:
                subtree.doubtful = [d for d in subtree.doubtful if d.id != uid]
            self._count_error(tree, tree.owner(span_id), -1)
        node.error_count -= len(node.errors)
        node.errors = ()
        tree.nodes.put(span_id, node)

    def resolved(self) -> list[TaskCheckpoint]:
        """Return the batch's checkpoints with their tasks, and the exceptions that are confirmed now."""
        resolved: dict[UUID, TaskCheckpoint] = {}

        def keep(checkpoint: Checkpoint, key: Key) -> None:
            known = resolved.get(checkpoint.id)
            # At equal times, and for questions and failures, the later report ranks first.
            if known is None or checkpoint.kind in _RANKED or checkpoint.at <= known.checkpoint.at:
                resolved[checkpoint.id] = TaskCheckpoint(checkpoint, key, checkpoint.id in self._reworded)

        for own in self.states.moved_subtrees():
            subtree = self.states.subtree(own)
            if subtree is not None and subtree.doubtful:
                state = self.states.state(subtree.state)
                if state is not None and state.has_root_span:
                    self._keep_all(self.states.tree(own[:16]), own[17:], subtree, keep)
        for number, (checkpoint, domain, is_doubtful) in enumerate(self.found):
            if number < self._retracted_at.get(checkpoint.id, 0):
                continue
            tree = self.states.tree(domain)
            owner = tree.owner(checkpoint.span_id)
            subtree = tree.subtrees.get(owner)
            state = self.states.state(subtree.state) if subtree is not None else None
            if subtree is None or state is None:
                continue
            checkpoint = _with(checkpoint, self._uid(subtree), owner)
            if is_doubtful and not state.has_root_span:
                known = [c for c in subtree.doubtful if c.id != checkpoint.id]
                subtree.doubtful = sorted([*known, checkpoint], key=lambda c: (c.at, c.id))[:DOUBTFUL_CAP]
                tree.subtrees.put(owner, subtree)
            else:
                keep(checkpoint, subtree.state)
        return list(resolved.values())

    def _keep_all(
        self, tree: SpanTree, subtree_id: bytes, subtree: Subtree, keep: Callable[[Checkpoint, Key], None]
    ) -> None:
        """Report the unconfirmed exceptions of a subtree that turned out to lie in a task."""
        for checkpoint in subtree.doubtful:
            keep(_with(checkpoint, self._uid(subtree), subtree_id), subtree.state)
        subtree.doubtful = []
        tree.subtrees.put(subtree_id, subtree)

    def _uid(self, subtree: Subtree) -> UUID:
        state = self.states.state(subtree.state)
        return uuid_of(state.uid) if state is not None else UUID(int=0)


def _with(checkpoint: Checkpoint, uid: UUID, subtree: bytes) -> Checkpoint:
    if checkpoint.task_uid == uid and checkpoint.subtree == subtree:
        return checkpoint
    return msgspec.structs.replace(checkpoint, task_uid=uid, subtree=subtree)
