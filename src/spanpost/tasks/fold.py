"""Fold of one transaction: take in observations one by one, then close the batch.

The steps in order: `spans` and `span_tree` (which copy counts, its place in the tree, its sums), `ownership`
(which task shows it), `absorb` (its facts), `reported` (its checkpoints), `rebuild` and `closing` (the
result of the batch).

The facts of an observation go into the subtree of its owning span only; tasks merge them when the batch
closes. Nothing reads a task's facts in between.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from spanpost.model.evaluations import Evaluation
from spanpost.model.ids import uuid_of
from spanpost.model.observations import Part
from spanpost.model.readings import EventReport, Reading, Role
from spanpost.model.recorded import NO_TASK
from spanpost.readers import NOTHING as STALL
from spanpost.tasks import evaluations
from spanpost.tasks.absorb import absorb, keep
from spanpost.tasks.announcing import after_delay
from spanpost.tasks.checkpoints import kind_of
from spanpost.tasks.closing import Batch, Closed, close
from spanpost.tasks.conversations import Conversations
from spanpost.tasks.facts import EVALUATIONS_CAP, Facts, newest
from spanpost.tasks.folded import Folded, FoldRules, Move, Placed, SpanMove
from spanpost.tasks.loop_findings import LoopFindings
from spanpost.tasks.matching_runs import RunMatching
from spanpost.tasks.occurrences import Occurrences
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.rebuild import gather, rebuild
from spanpost.tasks.record_keys import domain_of
from spanpost.tasks.records import ENDED, PLACEHOLDER, STARTED, UNDECIDED, UNDECIDED_ROLES, DuplicateCalls, Node, Seen
from spanpost.tasks.requests import is_request
from spanpost.tasks.span_tree import SpanTree
from spanpost.tasks.spans import Spans, link_of
from spanpost.tasks.succession import gone_to, move_messages
from spanpost.tasks.work import Key, Work

#: Bound once: looking up an enum's member is slow.
_OTHER, _PLUMBING, _LLM = Role.OTHER, Role.PLUMBING, Role.LLM
_STEP, _TOOL = Role.STEP, Role.TOOL
_PART_ENDED = Part.ENDED
_NOTHING = EventReport.NOTHING

#: Rounds of joining runs: a run that changed its task may change the matches of others.
ROUNDS = 16


def go_on() -> None:
    """Do nothing: the default `tick`."""


class Fold:
    """The fold of one batch."""

    def __init__(self, work: Work, rules: FoldRules, now: datetime, tick: Callable[[], None] = go_on) -> None:
        self.out = Folded()
        self.tick = tick
        #: Attributes that routes and budgets use.
        self.kept = rules.attributes
        self.states = TaskStates(work, tick)
        self.spans = Spans(self.states)
        self.reported = Occurrences(self.states)
        self.conversations = Conversations(self.states, rules, self.reported.seen)
        self.loops = LoopFindings(self.states, rules, self.reported.seen)
        self.matching = RunMatching(self.states, rules)
        self.rules, self.now = rules, now
        #: Root tasks whose held milestones may be due.
        self._due: set[Key] = set()
        #: Uids of tasks that lost their last subtree.
        self._uids: dict[Key, bytes] = {}

    def span(self, position: int, p: Placed) -> None:
        """Take in a span: started, updated, or ended."""
        o, r = p.observation, p.reading
        span_id = o.span_id
        if not span_id:
            return
        tree = self.states.tree(p.domain)
        node = tree.nodes.get(span_id)
        if o.part is _PART_ENDED:
            state, end_ns = ENDED, o.end_ns
        else:
            state, end_ns = UNDECIDED if r.role in UNDECIDED_ROLES else STARTED, o.at_ns
        rank = (end_ns, len(o.attributes) + o.unread, p.content_hash)
        is_edge = r is STALL and node is None and state == ENDED and o.parent_id and o.parent_id != span_id
        if is_edge and not is_request(o):
            self.spans.edge(tree, span_id, o.parent_id, rank, link_of(o) if o.links else b"")
            return
        is_first_end = state == ENDED and (node is None or node.state != ENDED)
        if node is None or (state, rank) > (node.state, node.rank):
            learned = self.spans.take_unended(tree, node, span_id)
            node = self.spans.adopt(tree, p, node, state, rank)
            if learned is not None:
                self.spans.put_unended(tree, node, o, learned)
            if node.errors and node.role is not _OTHER:
                self.reported.retract(tree, node, span_id)
        elif node.is_root_span and r.role.is_root_span:
            self.spans.identify(tree, p, (state, rank))
        role = node.role
        if o.links and r.role is _PLUMBING:
            for trace_id, _ in o.links[:16]:
                if trace_id != o.trace_id:
                    self.states.links.append((p.domain, domain_of(o.tenant, trace_id)))
        if not r.is_of_agent:
            return
        # The facts come from the copy itself: what the node knows by now depends on the order of arrival.
        is_ending = 4 <= r.role <= 6 or o.parent_id in (b"", span_id)
        owner = self._record(position, tree, p, node, r.role, is_ending=is_ending)
        if p.duplicates and (known := self.spans.duplicates_of.get(p.duplicates)) is not None and known.evaluations:
            self._give_evaluations(tree, span_id, known)
        if (
            is_first_end
            and _STEP <= role <= _TOOL
            and not (r.is_metered or r.is_same_call)
            and (role is not _LLM or self._is_outermost(tree, node))
        ):
            self.out.ended_spans.append(position)
        usage = r.usage
        if (
            state == ENDED
            and role is _LLM
            and usage is not None
            and usage.input is not None
            and self._counts_first(node, r)
        ):
            if self._is_outermost(tree, node):
                self.conversations.calls.append((o.at_ns, p.content_hash, p.domain, owner, o, r, p.talk))
        elif r.context_used is not None:
            self.conversations.calls.append((o.at_ns, p.content_hash, p.domain, owner, o, r, p.talk))

    @staticmethod
    def _is_outermost(tree: SpanTree, node: Node) -> bool:
        """Tell whether a model call counts, as far as known: no duplicate counts, no call is around it."""
        above = tree.nodes.get(node.parent) if node.parent else None
        return node.wins and (above is None or above.role is not _LLM)

    def _counts_first(self, node: Node, r: Reading) -> bool:
        """Tell whether this is the first copy of a model call that is known to count."""
        if not node.wins or r.is_metered or r.is_aside:
            return False
        duplicates = self.spans.duplicates_of.get(node.duplicates) if r.call_key else None
        return duplicates is None or len(duplicates.call_copies) == 1

    def event(self, position: int, p: Placed) -> None:
        """Take in something that happened on a span."""
        o, r = p.observation, p.reading
        span_id = o.span_id
        if r.open_roots:
            return  # a heartbeat belongs to a process, not to a task
        tree = self.states.tree(p.domain)
        node = tree.nodes.get(span_id) if span_id else None
        if node is None or node.role is _OTHER or node.role is _PLUMBING:
            is_known = node is not None and node.state == PLACEHOLDER
            if not r.is_of_agent and r.reports is _NOTHING and not is_known and not r.is_interrupt:
                return
        if not span_id and not r.task_id and r.evaluation is not None and p.duplicates:
            self._evaluate(position, tree, p, r.evaluation)
            return
        if not span_id and not r.task_id:
            self.out.dropped[NO_TASK] = self.out.dropped.get(NO_TASK, 0) + 1
            return
        if node is None:
            node = Node()
            tree.nodes.put(span_id, node)
        owner = self._record(position, tree, p, node, node.role, is_ending=False)
        if r.context_used is not None:
            self.conversations.calls.append((o.at_ns, p.content_hash, p.domain, owner, o, r, p.talk))

    def _evaluate(self, position: int, tree: SpanTree, p: Placed, evaluation: Evaluation) -> None:
        """Take in an evaluation that names a model call by its response id alone.

        It is kept with the copies of the call, so that it waits for those that are not known yet.
        """
        if tree.nodes.get(b"") is None:
            tree.nodes.put(b"", Node())  # a repetition is recognised by it
        o, duplicates_of = p.observation, self.spans.duplicates_of
        duplicates = duplicates_of.get(p.duplicates) or DuplicateCalls()
        entry, kept = evaluations.entry_of(o, evaluation, o.at_ns)
        duplicates.evaluations[entry] = newest(duplicates.evaluations.get(entry), 0, o.at_ns, p.content_hash, kept)
        if len(duplicates.evaluations) > EVALUATIONS_CAP:
            del duplicates.evaluations[max(duplicates.evaluations)]
        duplicates_of.put(p.duplicates, duplicates)
        for holder in sorted(duplicates.call_copies):
            self._give_evaluations(self.states.tree(holder[:16]), holder[17:], duplicates)
        self.out.recorded[position] = (None, b"")

    @staticmethod
    def _give_evaluations(tree: SpanTree, span_id: bytes, duplicates: DuplicateCalls) -> None:
        """Add the evaluations of a model call to the facts around one of its copies."""
        node = tree.nodes.get(span_id)
        if node is None:
            return
        owner = span_id if node.owns_subtree else tree.owner(node.parent)
        subtree = tree.subtrees.get(owner)
        if subtree is None:
            return
        is_apart = node.state == STARTED and owner != span_id
        facts = subtree.unended.setdefault(span_id, Facts()) if is_apart else subtree.facts
        facts.merge(Facts(evaluations=duplicates.evaluations))
        tree.subtrees.put(owner, subtree)
        tree.learned[owner] = None

    def _record(self, position: int, tree: SpanTree, p: Placed, node: Node, role: Role, *, is_ending: bool) -> bytes:
        """Enter the facts and the checkpoint of an observation under its owning span; return that span."""
        o, r = p.observation, p.reading
        owner = o.span_id if node.owns_subtree else tree.owner(node.parent)
        subtree = tree.subtrees.get(owner)
        if subtree is None:
            subtree = self.states.need_subtree(tree, owner, o.trace_id, o.tenant)
        if r.task_id is not None and not subtree.is_root_span:
            self.states.hint(tree, owner, subtree, r.task_id)
        facts = subtree.facts
        if node.state == STARTED and owner != o.span_id:
            facts = subtree.unended.setdefault(o.span_id, Facts())
        absorb(facts, o, r, p.content_hash, role=role, is_ending=is_ending)
        if self.kept:
            keep(facts, o, self.kept, p.content_hash, is_root_span=r.role.is_root_span)
        if self.rules.loops.enabled:
            self.loops.learn(tree, owner, facts, p)
        tree.recorded.setdefault(owner, []).append(position)
        if r.reports is not _NOTHING or r.failure is not None:
            kind = kind_of(o, r, role)
            if kind is not None:
                self.reported.report(tree, p, owner, node, kind)
        return owner

    def mark_due(self, key: Key) -> None:
        """Mark a root task whose held milestone is due."""
        state = self.states.state(key)
        if state is not None:
            self._due.add(key)
            self.states.touch(key, state)

    def finalize(self, key: Key) -> None:
        """Announce a task whose settling time is over, if it is worth it, and count its usage."""
        state = self.states.state(key)
        if state is None:
            return
        before = state.reported
        state.reported, difference = after_delay(key, state, self.rules, self.now)
        self.out.add(difference)
        self.states.states.put(key, state)
        if state.reported.is_announced and not before.is_announced:
            self.states.touch_below(key)
        if (before.is_announced, before.quiet_ns) != (state.reported.is_announced, state.reported.quiet_ns):
            self.states.touch(key, state)

    def close(self) -> Folded:
        """Judge the touched tasks and return the result of the batch."""
        states, out = self.states, self.out
        states.place_moved()
        for _ in range(ROUNDS):
            gather(states, self.rules.loops)
            self._uids |= {key: g.uid for key in states.gone if (g := states.state(key)) is not None}
            rebuild(states, self.rules.loops)
            self.matching.examine()
            if not self.matching.match():
                break
        states.touch_all_below()
        for key, uid in self._uids.items():
            if states.state(key) is None:
                out.gone.append(gone_to(states, key, uid))
        for move in states.moves:
            # A task that existed only in between is gone by now: use the task that the subtree moved on to.
            state = states.state(move.state) or states.state_of(move.domain, move.subtree_to)
            if state is not None:
                out.moves.append(
                    Move(move.tenant, move.trace_id, move.subtree_from, move.subtree_to, uuid_of(state.uid))
                )
        for (domain, span_id), o in states.moved_spans.items():
            owner = states.tree(domain).owner(span_id)
            state = states.state_of(domain, owner)
            if state is not None:
                out.moved_spans.append(SpanMove(o.tenant, o.trace_id, span_id, owner, uuid_of(state.uid)))
        reported = self.reported.resolved() + self.conversations.judged() + self.loops.judged()
        overtaken = self.conversations.overtaken()
        reported = [item for item in reported if item.checkpoint.id not in overtaken]
        out.retracted = [*self.reported.retracted, *states.retracted_ids(), *overtaken]
        move_messages(states, out)
        self._apply(close(Batch(states, self.reported.seen, reported, self._due, self.rules, self.now)))
        for tree in list(states.trees.values()):
            for met, positions in tree.recorded.items():
                owner = tree.owner(met)
                subtree = tree.subtrees.get(owner)
                state = states.state(subtree.state) if subtree is not None else None
                place = (uuid_of(state.uid) if state is not None else None, owner)
                for position in positions:
                    out.recorded[position] = place
        self.keep()
        return out

    def _apply(self, closed: Closed) -> None:
        """Store what is reported from now on, and add the difference to the result of the batch."""
        for key, after in closed.after.items():
            state = self.states.state(key)
            if state is not None:
                state.reported = after
                self.states.states.put(key, state)
        for key, child_tasks in closed.child_tasks.items():
            self.states.put_child_tasks(key, child_tasks)
        for seen in closed.milestones:
            self.reported.seen.put(seen, Seen())
        self.out.add(closed.difference)

    def keep(self) -> None:
        """Write all changed records to the work."""
        for records in (
            self.states,
            self.matching.candidates,
            self.spans.duplicates_of,
            self.reported.seen,
            self.conversations.shared_conversations,
        ):
            records.flush()
