"""Matching of runs in different traces that belong to one task: resumed runs, and runs joined by links.

Rules. A *run* here is a root span without a root span above it and without a task id of its own. Runs that
name the same conversation, of one agent in one service of one tenant, are runs of one task, whose uid is made
of just that (unless `tasks.conversations` says otherwise). Other runs are matched by a tool call's id, by
their conversation, by the traces that a framework's message links join, and by a link of their own (of their
root span or of a span above it, such as a queue's consumer). `run_matches` says which of the candidates match.

Theory. A conversation's task needs no candidates: a turn finds it by its own facts, so that the ten thousandth
turn costs what the tenth cost, in any order. A run's `RunCandidate` is a function of the facts of its own
subtrees, never of what it was joined to; the matches are a function of the candidates. Both are computed
again whenever they may have changed, so order does not matter.
"""

from __future__ import annotations

from heapq import nlargest
from typing import NamedTuple

from msgspec.structs import replace

from spanpost.model.ids import conversation_uid
from spanpost.tasks.facts import value_of
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.last_calls import last, last_by
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.placement import root_span_above
from spanpost.tasks.record_keys import candidates_key, linked_traces_key, state_key
from spanpost.tasks.records import DEPTH, Run, RunCandidate, RunCandidates, Subtree, TaskState
from spanpost.tasks.run_facts import facts_of_run, is_idle, totals_of
from spanpost.tasks.run_matches import continued, may_go_on, of_links
from spanpost.tasks.span_tree import SpanTree, passes, total
from spanpost.tasks.status import how_it_waits
from spanpost.tasks.task_rules import ONE_TASK
from spanpost.tasks.work import Key, RecordSet

#: Runs kept of one candidate set; beyond it runs that do not wait are dropped first, the oldest first.
RUNS_CAP = 32
#: Runs of linked traces that are joined, the earliest, and as many runs that link to them; others stay
#: single tasks.
LINKED_TRACES_CAP = 256

#: End of the key under which one agent's runs with lifetime totals are matched; and of the key under which a
#: service's runs that wait meet those that have done nothing yet.
_TOTALS = b"rt"
_SERVICE = b"rw"
#: The rules by which runs continue one another, by the end of the set's key, the strongest first.
RULES = {
    b"ra": "the tool call that was left open",
    b"rc": "the conversation's run that waited",
    b"ri": "the same agent's run that waited",
    b"l": "a link to the former's trace",
}


class RunPlaces(NamedTuple):
    """Where a run belongs: its candidate by set, the set that it only links to, its conversation's task."""

    sets: dict[Key, RunCandidate]
    link_of: Key = b""
    talk: Key = b""


class RunMatching:
    """The runs that one transaction touches, and the candidates for joining them."""

    def __init__(self, states: TaskStates, rules: FoldRules) -> None:
        self.states = states
        self._has_conversations = rules.tasks.conversations == ONE_TASK
        self.candidates = RecordSet(states.work, RunCandidates)
        #: Changed candidate sets as they were before: runs whose match stays the same are left alone.
        self._changed: dict[Key, RunCandidates] = {}
        self._has_moved = False
        #: The changed runs, and where each belongs.
        self._wanted: list[tuple[Key, Subtree, RunPlaces]] = []

    def examine(self) -> None:
        """Compute the candidate sets of the runs that changed."""
        states, self._has_moved = self.states, False
        for domain, other in states.links:
            self._join_traces(domain, other)
        states.links.clear()
        for key, left in states.withdrawn.items():
            for candidates in left:
                self._withdraw(candidates, key)
        states.withdrawn.clear()
        runs, states.runs = sorted(states.runs), set()
        for key in runs:
            subtree = states.subtree(key)
            wanted = self._wants(key, subtree) if subtree is not None else None
            if subtree is not None and wanted is not None:
                self._wanted.append((key, subtree, wanted))

    def match(self) -> bool:
        """Match the changed runs with others; return whether a run changed its task."""
        self.candidates.want([candidates for _, _, wanted in self._wanted for candidates in wanted.sets])
        for key, subtree, wanted in self._wanted:
            self._enter_all(key, subtree, wanted)
        self._wanted.clear()
        changed, self._changed = self._changed, {}
        for candidates, before in changed.items():
            self._decide(candidates, before)
        return self._has_moved

    # --- candidate sets ----------------------------------------------------------------------------------------------

    def _wants(self, key: Key, subtree: Subtree) -> RunPlaces | None:
        """Return where a run belongs; None while its task is unknown."""
        tree = self.states.tree(key[:16])
        is_run = (
            subtree.is_root_span
            and subtree.root == key
            and not subtree.task_id
            and root_span_above(tree, subtree)[1] is None
        )
        if not is_run:
            return RunPlaces({})
        state = self.states.state(subtree.state)
        if state is None:
            return None
        candidate, keys = self._run(key, subtree, state)
        wanted = dict.fromkeys(keys, candidate)
        # Linked traces need only the agent and the time: facts that change with every batch are not written
        # there.
        own, linked_traces = self._linked_traces(key[:16])
        wanted[own] = RunCandidate(subtree.start_ns, 0, subtree.state, subtree.agent_name)
        other = (
            self._linked_traces(link)[0]
            if not linked_traces.is_joined and (link := self._link(tree, key[17:]))
            else own
        )
        if other == own:
            return RunPlaces(wanted, b"", candidate.talk)
        wanted[other] = wanted[own]
        return RunPlaces(wanted, other, candidate.talk)

    def _enter_all(self, key: Key, subtree: Subtree, run: RunPlaces) -> None:
        wanted = run.sets
        talk = run.talk if self._has_conversations else b""
        if subtree.talk != talk:
            subtree.talk = talk
            self._show(key, subtree)
        for candidates in [m for m in subtree.candidate_sets if m not in wanted]:
            if candidates[16:] == _SERVICE:
                self._release(candidates, key, subtree, names_late=bool(run.talk) and subtree.is_live)
            self._withdraw(candidates, key)
            del subtree.candidate_sets[candidates]
            subtree.repeated_in = [one for one in subtree.repeated_in if one != candidates]
            if candidates[16:] == b"l":
                subtree.linked_to = b""
            self._show(key, subtree)
        for candidates, as_run in wanted.items():
            if (
                self._enter(candidates, key, as_run, is_link=candidates == run.link_of)
                and candidates not in subtree.candidate_sets
            ):
                subtree.candidate_sets[candidates] = b""
                self.states.tree(key[:16]).subtrees.put(key[17:], subtree)

    def _release(self, service: Key, key: Key, subtree: Subtree, *, names_late: bool) -> None:
        """Announce a run that was held. Remember if it names a conversation only now, after its start."""
        record = self._set(service)
        was = record.runs.get(key)
        if names_late and not record.names_late and was is not None and not was.talk:
            record.names_late = True
            self.candidates.put(service, record)
        self._set_held(key, subtree, is_held=False)

    def _run(self, key: Key, subtree: Subtree, state: TaskState) -> tuple[RunCandidate, list[Key]]:
        """Return a run's candidate, and the keys of the sets that it belongs in."""
        run = state.runs.get(key) or Run()
        facts = state.facts if len(state.runs) <= 1 else facts_of_run(self.states, key, subtree)
        waits = how_it_waits(facts, run)
        if run.waited != (waits > 0) and key in state.runs:
            run.waited = waits > 0
            self.states.touch(subtree.state, state)
        first, closed = value_of(facts.first), run.ending.closed
        began_with = (first.name, first.id) if first is not None and first.is_tool else None
        pending = ("", "")
        done = last_by(facts, closed.at_ns) if closed is not None else last(facts)
        if (
            waits
            and done.tool is not None
            and (done.tool.outcome == 1 or done.call is None or done.tool.at > done.call.at)
        ):
            pending = (done.tool.name, done.tool.id)
        asked = done.call.id if waits and done.call is not None else ""
        taken_up = (*(began_with or ())[1:], *(value_of(facts.answered) or "").split())
        candidate = RunCandidate(
            run.start_ns or subtree.start_ns,
            closed.at_ns if closed is not None else 0,
            subtree.state,
            subtree.agent_name,
            waits,
            pending,
            began_with,
            tuple(asked.split()),
            tuple(one for one in taken_up if one),
            is_idle(facts),
            totals_of(facts, state) if closed is not None else None,
        )
        calls = dict.fromkeys((pending[1], *candidate.asked, *candidate.takes_up))
        keys = [candidates_key(subtree.tenant, b"a", call_id) for call_id in calls if call_id]
        conversation, service = value_of(facts.conversation), value_of(facts.service) or ""
        if conversation:
            keys.append(candidates_key(subtree.tenant, b"c", conversation))
            candidate.talk = state_key(conversation_uid(subtree.tenant, service, subtree.agent_name, conversation))
        elif (agent_id := value_of(facts.agent_id)) and (began_with or (waits and candidate.end_ns)):
            keys.append(candidates_key(subtree.tenant, b"i", f"{service}\0{agent_id}"))
        # A run that waits may be resumed by one that is seen live and has done nothing yet.
        if (subtree.is_live and not candidate.end_ns and candidate.is_idle) or (waits and candidate.end_ns):
            keys.append(candidates_key(subtree.tenant, b"w", service))
        if candidate.totals is not None:
            keys.append(candidates_key(subtree.tenant, b"t", value_of(facts.totals_of) or ""))
        return candidate, keys

    def _enter(self, candidates: Key, key: Key, candidate: RunCandidate, *, is_link: bool) -> bool:
        record = self._set(candidates)
        runs = record.linked if is_link else record.runs
        if runs.get(key) == candidate:
            return True
        self._change(candidates, record)
        runs[key] = candidate
        self.candidates.put(candidates, record)
        if candidates[16:17] == b"l":
            return key not in self._drop_excess(candidates, runs)
        if len(runs) > RUNS_CAP:
            del runs[min(runs, key=lambda k: (runs[k].waits > 0, runs[k].start_ns, k))]
        return True

    def _drop_excess(self, linked_traces: Key, runs: dict[Key, RunCandidate]) -> list[Key]:
        """Drop the latest runs of linked traces above the cap and return them: they become single tasks."""
        gone = nlargest(len(runs) - LINKED_TRACES_CAP, runs, key=lambda k: (runs[k].start_ns, k))
        for key in gone:
            del runs[key]
            subtree = self.states.subtree(key)
            if subtree is not None and subtree.candidate_sets.pop(linked_traces, None) is not None:
                subtree.linked_to = b""
                self._show(key, subtree)
        return gone

    def _set(self, candidates: Key) -> RunCandidates:
        return self.candidates.get(candidates) or RunCandidates()

    def _change(self, candidates: Key, record: RunCandidates) -> None:
        """Remember a candidate set as it was when it was last matched."""
        if candidates not in self._changed:
            self._changed[candidates] = replace(record, runs=dict(record.runs), linked=dict(record.linked))

    def _withdraw(self, candidates: Key, key: Key) -> None:
        if candidates[16:17] == b"l":
            candidates = self._linked_traces(candidates[:16])[0]
        record = self._set(candidates)
        if not (key in record.runs or key in record.linked):
            return
        self._change(candidates, record)
        if record.runs.pop(key, None) is None:
            del record.linked[key]
        self.candidates.put(candidates, record)
        subtree = self.states.subtree(key) if candidates[16:] == _TOTALS else None
        state = self.states.state(subtree.state) if subtree is not None else None
        if subtree is not None and state is not None and state.before is not None:
            # The task is no longer a run of its own: nothing is subtracted from its total.
            state.before = None
            self.states.touch(subtree.state, state)

    def _link(self, tree: SpanTree, span_id: bytes) -> bytes:
        """Return the domain that a run links to: by its root span, or the nearest linked span above."""
        for _ in range(DEPTH):
            node = tree.nodes.get(span_id)
            if node is None:
                return b""
            if node.link or not node.parent or node.is_cut:
                return node.link
            span_id = node.parent
        return b""

    # --- linked traces -----------------------------------------------------------------------------------------------

    def _linked_traces(self, domain: bytes) -> tuple[Key, RunCandidates]:
        """Return the linked traces of a domain: of joined ones the record that holds the runs."""
        linked_traces = RunCandidates()
        for _ in range(DEPTH):
            linked_traces = self._set(linked_traces_key(domain))
            if not linked_traces.into:
                break
            domain = linked_traces.into
        return linked_traces_key(domain), linked_traces

    def _join_traces(self, domain: bytes, other: bytes) -> None:
        (a, mine), (b, its) = self._linked_traces(domain), self._linked_traces(other)
        if a == b:
            return
        if (-len(its.runs) - len(its.linked), b) < (-len(mine.runs) - len(mine.linked), a):  # the smaller set moves
            (a, mine), (b, its) = (b, its), (a, mine)
        self._change(a, mine)
        for of, to in ((its.runs, mine.runs), (its.linked, mine.linked)):
            for key, candidate in of.items():
                self.states.tick()
                to[key] = candidate
                subtree = self.states.subtree(key)
                if subtree is not None and subtree.candidate_sets.pop(b, None) is not None:
                    subtree.candidate_sets[a] = b""
                    self.states.tree(key[:16]).subtrees.put(key[17:], subtree)
            self._drop_excess(a, to)
        mine.is_joined, its.into, its.runs, its.linked = True, a[:16], {}, {}
        self.states.runs.update(mine.runs)  # runs that linked from elsewhere are part of it now
        self.candidates.put(a, mine)
        self.candidates.put(b, its)

    # --- matches -----------------------------------------------------------------------------------------------------

    def _decide(self, candidates: Key, former: RunCandidates) -> None:
        record = self._set(candidates)
        repeated_in, was_repeated = set[Key](), set[Key]()
        if candidates[16:17] == b"l":
            on, below, runs = of_links(record.runs, record.linked, record.is_joined)
            was_on, was_below, were = of_links(former.runs, former.linked, former.is_joined)
        elif candidates[16:] == _TOTALS:
            self._take_off(record.runs)
            return
        elif candidates[16:] == _SERVICE:
            self._hold(record)
            return
        else:
            runs, were, below, was_below = record.runs, former.runs, {}, {}
            (on, repeated_in), (was_on, was_repeated) = (continued(of, candidates[16:]) for of in (runs, were))
        for key in sorted(runs):
            is_same = on.get(key) == was_on.get(key) and (key in repeated_in) == (key in was_repeated)
            if key in were and is_same and below.get(key) == was_below.get(key):
                continue  # not even fetched: a long conversation has many runs
            subtree = self.states.subtree(key)
            if subtree is None:
                continue
            to = on.get(key, b"")
            known = subtree.candidate_sets.get(candidates, b"")
            is_linked = candidates[16:17] == b"l" and subtree.linked_to != below.get(key, b"")
            if known == to and not is_linked and (key in repeated_in) == (candidates in subtree.repeated_in):
                continue
            subtree.candidate_sets[candidates] = to
            others = [one for one in subtree.repeated_in if one != candidates]
            subtree.repeated_in = [*others, candidates] if key in repeated_in else others
            if is_linked:
                subtree.linked_to = below.get(key, b"")
            self._show(key, subtree)

    def _hold(self, record: RunCandidates) -> None:
        """Hold the announcement of runs that may belong to a task that has a message."""
        for key in sorted(record.runs):
            candidate = record.runs[key]
            if candidate.end_ns:
                continue
            subtree = self.states.subtree(key)
            if subtree is not None:
                self._set_held(key, subtree, is_held=may_go_on(record, candidate))

    def _set_held(self, key: Key, subtree: Subtree, *, is_held: bool) -> None:
        if subtree.is_held == is_held:
            return
        subtree.is_held = is_held
        self.states.tree(key[:16]).subtrees.put(key[17:], subtree)
        state = self.states.state(subtree.state)
        if state is not None:
            self.states.touch(subtree.state, state)

    def _take_off(self, runs: dict[Key, RunCandidate]) -> None:
        """Store the lifetime total before each run: that of the run before it, unless that is greater."""
        before: tuple[int, int] | None = None
        for key in sorted(runs, key=lambda key: (runs[key].end_ns, key)):
            totals, state = runs[key].totals, self.states.state(runs[key].state)
            assert totals is not None
            less = before if before is not None and before[0] <= totals[0] and before[1] <= totals[1] else None
            before = totals
            if state is not None and state.before != less:
                state.before = less
                self.states.touch(runs[key].state, state)

    def _show(self, key: Key, subtree: Subtree) -> None:
        """Show a run in the task that its matches and links give."""
        tree = self.states.tree(key[:16])
        self._has_moved = True
        before = bool(subtree.joined), subtree.calls_again
        subtree.joined, subtree.joined_by, repeated = b"", "", 0
        for end, rule in RULES.items():
            for candidates, to in sorted(subtree.candidate_sets.items()):
                if to and not subtree.joined and candidates[16:] == end:
                    subtree.joined, subtree.joined_by = to, rule
                    repeated = int(candidates in subtree.repeated_in)
        if not any(candidates[16:17] == b"l" for candidates in subtree.candidate_sets):
            subtree.linked_to = b""
        subtree.calls_again = bool(repeated)
        tree.subtrees.put(key[17:], subtree)
        node = tree.nodes.get(key[17:])
        if node is not None and node.repeated_tools != repeated:
            old, figures = passes(node), total(node)
            node.repeated_tools = repeated
            tree.recast(key[17:], node, old, figures)
        if before != (bool(subtree.joined), subtree.calls_again):  # its place may stay, but not what is said of it
            self.states.stale.add(subtree.state)
        self.states.regroup(tree, key[17:])
