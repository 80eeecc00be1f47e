"""Loops in the fold: the calls of a batch, the findings of a task, and the checkpoints that report them.

Rules. A finding is judged for each agent run (each subtree) and shown at its task. It is reported once in a
trace; again only after a person let it be and it has doubled since. A task reports `REPORTED_CAP` at most.

Theory. The present findings are made of the subtrees' facts alone, so they are the same for any order. A
checkpoint is judged at the call that completes it, in order of time, however many calls came in one batch; its
id is made of what repeats, so no order reports it twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from hashlib import blake2b
from operator import itemgetter

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.ids import named, uuid_of
from spanpost.model.loops import Loop, LoopKind
from spanpost.model.observations import Part
from spanpost.model.readings import Role
from spanpost.routing.matching import is_wanted
from spanpost.tasks.checkpoints import TaskCheckpoint
from spanpost.tasks.facts import Facts, value_of
from spanpost.tasks.folded import FoldRules, Placed
from spanpost.tasks.loop_facts import CALL_CAP, MARK_CAP, TURN_CAP, LoopFacts, ToolCall, call_of, mark_of, turn_of
from spanpost.tasks.loops import FoundLoop, LoopRules, judge
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.record_keys import seen_key
from spanpost.tasks.records import KeptLoop, Seen, Subtree, TaskState
from spanpost.tasks.runs import newest_keyed_run
from spanpost.tasks.span_tree import SpanTree
from spanpost.tasks.times import EPOCH, moment
from spanpost.tasks.work import Key, RecordSet
from spanpost.text.wording import message, worded

#: Findings kept of one task, and loops that it reports.
FINDING_CAP, REPORTED_CAP = 32, 20
#: Characters of a tool's name that are shown.
_SHOWN = 60

_ENDED, _INTERVENTION = Part.ENDED, Part.INTERVENTION
_LLM, _TOOL = Role.LLM, Role.TOOL


class LoopFindings:
    """The calls of one batch, and the loops that they complete."""

    def __init__(self, states: TaskStates, rules: FoldRules, seen: RecordSet[Seen]) -> None:
        self.states = states
        self.rules = rules.loops
        self.seen = seen
        #: By trace and owning span when it was recorded.
        self._batches: dict[tuple[bytes, bytes], _OfBatch] = {}

    def learn(self, tree: SpanTree, owner: bytes, facts: Facts, p: Placed) -> None:
        """Add what an observation says of calls and progress to the facts of its owning span."""
        o, r = p.observation, p.reading
        role = r.role
        if o.part is _ENDED:
            if role is _TOOL and p.call is not None and not r.is_same_call:
                call = call_of(o, r, p.call)
                loops, batch = self._of(tree, owner, facts)
                loops.add_call(call)
                batch.new[call] = p
                batch.calls.append(call)
            elif role is _LLM and not (r.is_metered or r.is_aside):
                turn = turn_of(o, r)
                loops, batch = self._of(tree, owner, facts)
                loops.add_turn(turn)
                batch.turns.append(turn)
        if r.reports or o.part is _INTERVENTION or r.progress is not None or r.step_index is not None or r.step_name:
            mark = mark_of(o, r)
            if mark is not None:
                loops, batch = self._of(tree, owner, facts)
                loops.add_mark(mark)
                batch.marks.append(mark)

    def _of(self, tree: SpanTree, owner: bytes, facts: Facts) -> tuple[LoopFacts, _OfBatch]:
        """Return the facts to add to, and this batch's part of them."""
        loops = facts.loops
        if loops is None:
            loops = facts.loops = LoopFacts()
        batch = self._batches.get((tree.domain, owner))
        if batch is None:
            batch = self._batches[tree.domain, owner] = _OfBatch(loops)
        return loops, batch

    def judged(self) -> list[TaskCheckpoint]:
        """Return the loops that this batch's calls complete, each with its task.

        Agents of a trace that repeat the same are one finding: the first of them in time reports it.
        """
        completed: list[tuple[int, bytes, Iterator[TaskCheckpoint]]] = []
        for domain, owner, batch in self._gathered():
            tree = self.states.tree(domain)
            subtree = tree.subtrees.get(owner)
            state = self.states.state(subtree.state) if subtree is not None else None
            if subtree is None or state is None or is_ignored(state, self.rules):
                continue
            self.states.tick()
            for loop, at in batch.completed(self.rules):
                reports = self._report(tree, owner, subtree.state, state, loop, at)
                completed.append((loop.at_ns, at.observation.span_id, reports))
        completed.sort(key=itemgetter(0, 1))
        return [one for _, _, reports in completed for one in reports]

    def _gathered(self) -> Iterator[tuple[bytes, bytes, _OfBatch]]:
        """Yield what is known of each agent run with a repeated call, by its present owning span."""
        gathered: dict[tuple[bytes, bytes], _OfBatch] = {}
        for (domain, met), batch in self._batches.items():
            tree = self.states.tree(domain)
            owner = tree.owner(met)
            subtree = tree.subtrees.get(owner)
            if subtree is None:
                continue
            known = gathered.get((domain, owner))
            if known is not None:
                known.add(batch)
            elif owner == met and not subtree.unended:
                gathered[domain, owner] = batch
            else:  # what is known there may have come from elsewhere, too
                known = gathered[domain, owner] = _OfBatch(loops_of(subtree) or LoopFacts())
                known.add(batch)
        for (domain, owner), batch in gathered.items():
            if batch.has_repetition:
                yield domain, owner, batch

    def _report(
        self, tree: SpanTree, owner: bytes, key: Key, state: TaskState, loop: FoundLoop, at: Placed
    ) -> Iterator[TaskCheckpoint]:
        """Report a loop, unless it was reported before, or a person let it be and it has not doubled since."""
        id = id_of(tree.domain, loop)
        dismissed = value_of(state.facts.dismissed.get(id))
        if dismissed is not None and loop.count < 2 * dismissed:
            return
        checkpoint = _checkpoint(state, owner, id, dismissed or 0, loop, at)
        seen = seen_key(tree.domain, checkpoint.id.bytes)
        if state.loops_reported >= REPORTED_CAP or self.seen.get(seen) is not None:
            return
        self.seen.put(seen, Seen(at.observation.at_ns, at.content_hash))
        state.loops_reported += 1
        self.states.touch(key, state)
        yield TaskCheckpoint(checkpoint, key)


class _OfBatch:
    """What was known of an agent run before this batch, and what the batch adds; in no order."""

    __slots__ = ("calls", "marks", "new", "turns")

    def __init__(self, known: LoopFacts) -> None:
        self.calls, self.turns, self.marks = list(known.calls), list(known.turns), list(known.marks)
        self.new: dict[ToolCall, Placed] = {}

    def add(self, other: _OfBatch) -> None:
        self.calls += other.calls
        self.turns += other.turns
        self.marks += other.marks
        self.new |= other.new

    @property
    def has_repetition(self) -> bool:
        """Tell whether a new call shows what another showed: else there is nothing to judge."""
        if not self.new:
            return False
        shown = [call.shown for call in self.calls]
        return any(call.shown and shown.count(call.shown) > 1 for call in self.new)

    def completed(self, rules: LoopRules) -> Iterator[tuple[FoundLoop, Placed]]:
        """Yield the loops that new calls complete, each judged as if its call were the newest."""
        greatest: dict[bytes, ToolCall] = {}
        for call in self.calls:
            if call.span not in greatest or greatest[call.span] < call:
                greatest[call.span] = call
        calls, turns, marks = sorted(greatest.values()), sorted(set(self.turns)), sorted(set(self.marks))
        turn_ends, mark_ends = [turn.at_ns for turn in turns], [mark.at_ns for mark in marks]
        shown: set[bytes] = set()
        for n, call in enumerate(calls):
            is_repeated = call.shown in shown  # most are not: no need to judge them
            shown.add(call.shown)
            if not is_repeated or call not in self.new:
                continue
            turn, mark = bisect_right(turn_ends, call.at_ns), bisect_right(mark_ends, call.at_ns)
            loop = judge(
                calls[max(0, n + 1 - CALL_CAP) : n + 1],
                turns[max(0, turn - TURN_CAP) : turn],
                marks[max(0, mark - MARK_CAP) : mark],
                rules,
            )
            if loop is not None:
                yield loop, self.new[call]


def loops_of(subtree: Subtree) -> LoopFacts | None:
    """Return what is known of the calls of an agent run."""
    own = subtree.facts.loops
    more = [facts.loops for facts in subtree.unended.values() if facts.loops is not None]
    if not more:
        return own
    merged = LoopFacts()
    for loops in (own, *more):
        if loops is not None:
            merged.merge(loops)
    return merged


def enter_loop(state: TaskState, own: Key, subtree: Subtree, rules: LoopRules) -> None:
    """Enter in a task the present finding of one of its agent runs."""
    loops = loops_of(subtree)
    if loops is None or not loops.calls or not rules.enabled:
        return
    found = judge(loops.calls, loops.turns, loops.marks, rules)
    closed = subtree.facts.ending.closed
    if found is None or (closed is not None and closed.at_ns >= found.at_ns):
        state.loops.pop(own, None)
    elif own in state.loops or len(state.loops) < FINDING_CAP:
        state.loops[own] = KeptLoop(subtree.root, found)


def loop_of(state: TaskState, rules: LoopRules) -> Loop | None:
    """Return the gravest finding in the newest run of a task: one that nobody let be, the most frequent."""
    if not state.loops or is_ignored(state, rules):
        return None
    run = newest_keyed_run(state)
    found = [
        (own, kept.found) for own, kept in state.loops.items() if run is None or not kept.root or kept.root == run.root
    ]
    shown = [_shown(state, own, loop) for own, loop in found]
    return max(shown, key=lambda one: (not one.is_dismissed, one.count, one.id), default=None)


def is_ignored(state: TaskState, rules: LoopRules) -> bool:
    """Tell whether the settings exempt a task."""
    if not rules.enabled:
        return True
    facts = state.facts
    agent = value_of(facts.agent_name) or value_of(facts.agent_label)
    return bool(
        (rules.ignore_agents and is_wanted(rules.ignore_agents, agent))
        or (rules.ignore_types and is_wanted(rules.ignore_types, value_of(facts.type)))
    )


def id_of(domain: bytes, loop: FoundLoop) -> str:
    """Return the id of a finding: the same as long as the same repeats in a trace."""
    return blake2b(domain + b"loop" + loop.key, digest_size=8).hexdigest()


def _shown(state: TaskState, own: Key, loop: FoundLoop) -> Loop:
    id = id_of(own[:16], loop)
    dismissed = value_of(state.facts.dismissed.get(id))
    return Loop(
        kind=LoopKind(loop.kind),
        id=id,
        tools=loop.tools,
        count=loop.count,
        at=moment(loop.at_ns),
        is_dismissed=dismissed is not None and loop.count < 2 * dismissed,
    )


def _checkpoint(state: TaskState, owner: bytes, id: str, dismissed: int, loop: FoundLoop, at: Placed) -> Checkpoint:
    o = at.observation
    tools = ", ".join(tool[:_SHOWN] for tool in loop.tools)
    text, locale_message = worded(message(f"checkpoint.loop_{loop.kind}", tools=tools, count=loop.count))
    return Checkpoint(
        id=uuid_of(named(f"{id}\0{Kind.LOOP}\0{dismissed}")),
        tenant=state.tenant,
        task_uid=uuid_of(state.uid),
        kind=Kind.LOOP,
        status=c.WORKING,
        text=text,
        message=locale_message,
        at=moment(o.at_ns) or EPOCH,
        trace_id=o.trace_id,
        span_id=o.span_id,
        subtree=owner,
        ref=id,
    )
