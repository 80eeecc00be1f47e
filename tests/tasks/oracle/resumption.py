"""Which runs of different traces are one task: those that go on with a waiting run, and those that messages join.

Only a root span without a root span above it and without a task id of its own is considered.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from spanpost.model.readings import Role
from tests.tasks.oracle.ids import candidates, domain
from tests.tasks.oracle.status import TaskRun, how_it_waits
from tests.tasks.oracle.tree import Trace


class Asked(NamedTuple):
    """What decides whether a run goes on with another."""

    key: bytes
    trace: bytes
    start_ns: int
    end_ns: int
    agent_name: str
    waits: int
    #: The tool call that was left open, and the one by which it began: name and id.
    pending: tuple[str, str]
    began_with: tuple[str, str] | None
    #: Ids of tool calls: for which its last model call asked; of the one it began with, or that its first model
    #: call answers.
    asked: frozenset[str] = frozenset()
    takes_up: frozenset[str] = frozenset()


@dataclass
class Resumption:
    """By run: the run with which it goes on, the run below which it hangs."""

    goes_on: dict[bytes, bytes] = field(default_factory=dict)
    hangs_below: dict[bytes, bytes] = field(default_factory=dict)
    #: Runs that begin with the tool call that the other left open: it counts once.
    repeated_in: set[bytes] = field(default_factory=set)


def resumption(traces: list[Trace], task_runs: dict[bytes, TaskRun]) -> Resumption:
    """Return which runs of a history go on with, or hang below, others."""
    runs = {
        key: _asked(s)
        for key, s in task_runs.items()
        if s.run.root is not None and s.run.above is None and not s.run.task_id
    }
    out = Resumption()
    _by_links(traces, task_runs, runs, out)
    for kind in "ica":  # the strongest rule comes last and wins
        met: dict[bytes, list[Asked]] = defaultdict(list)
        for key, run in runs.items():
            for id in _ids(kind, run, task_runs[key]):
                met[candidates(task_runs[key].run.tenant, kind, id)].append(run)
        for _, those in sorted(met.items(), reverse=True):  # of several shared calls or conversations the first wins
            for run_key, former in _continued(those, kind).items():
                out.goes_on[run_key] = former
                out.repeated_in.discard(run_key)
                if any(runs[former].pending) and _does_pending(runs[former], runs[run_key]):
                    out.repeated_in.add(run_key)
    for key in out.goes_on:
        out.hangs_below.pop(key, None)
    return out


def _asked(s: TaskRun) -> Asked:
    facts, root = s.facts, s.run.root
    assert root is not None
    end = s.closed[0] if s.closed is not None else 0
    s.waits = how_it_waits(s)
    pending = ("", "")
    call, tool = facts.last(is_tool=False, by=end), facts.last(is_tool=True, by=end)
    if s.waits and tool is not None and (tool.outcome == 1 or call is None or tool.at > call.at):
        pending = (tool.name[:2000], tool.id)
    first = facts.first_call
    began_with = (first[1], first[2]) if first is not None and first[0] == "tool" else None
    asked = frozenset(call.id.split()) if s.waits and call is not None else frozenset[str]()
    takes_up = {began_with[1] if began_with is not None else "", *facts.answered}
    return Asked(
        s.key,
        s.run.trace.domain,
        s.start_ns,
        end,
        root.agent_name,
        s.waits,
        pending,
        began_with,
        asked - {""},
        frozenset(takes_up - {""}),
    )


def _ids(kind: str, run: Asked, s: TaskRun) -> set[str]:
    """Return the tool calls, the conversation, or the agent's id without one, by which a run is found."""
    if kind == "c":
        return {s.facts.conversation} if s.facts.conversation else set()
    if kind == "i":
        agent_id = s.facts.earliest("agent_id", of_root_span=True)
        can_match = run.began_with is not None or (run.waits and run.end_ns)
        is_known = agent_id and can_match and not s.facts.conversation
        return {f"{s.facts.earliest('service') or ''}\0{agent_id}"} if is_known else set()
    return {run.pending[1], *run.asked, *run.takes_up} - {""}


def _continued(runs: list[Asked], kind: str) -> dict[bytes, bytes]:
    """Return successors with their former runs: each wait has one successor, the earliest."""
    out: dict[bytes, bytes] = {}
    waiting: list[Asked] = []
    for run in sorted(runs, key=lambda r: (r.start_ns, r.key)):
        is_out = kind == "i" and run.began_with is None
        does = _takes_up if kind == "a" else _goes_on
        fitting = [w for w in waiting if w.end_ns <= run.start_ns and not is_out and does(w, run)]
        if fitting:
            former = max(fitting, key=lambda w: (w.end_ns, w.key))
            waiting.remove(former)
            out[run.key] = former.key
        if run.waits and run.end_ns:
            waiting.append(run)
    return out


def _goes_on(before: Asked, run: Asked) -> bool:
    """Return whether a run does the open work of the waiting run."""
    return _takes_up(before, run) or _does_pending(before, run)


def _takes_up(before: Asked, run: Asked) -> bool:
    """Return whether a run begins with a tool call that the waiting run left open or asked for, by its id."""
    return bool(({before.pending[1]} | before.asked) & run.takes_up)


def _does_pending(before: Asked, run: Asked) -> bool:
    name, id = before.pending
    if not name and not id and before.waits == 2:
        return not before.agent_name or not run.agent_name or before.agent_name == run.agent_name
    if run.began_with is None:
        return False
    if id and run.began_with[1]:
        return id == run.began_with[1]
    return not name or not run.began_with[0] or name == run.began_with[0]


def _by_links(traces: list[Trace], task_runs: dict[bytes, TaskRun], runs: dict[bytes, Asked], out: Resumption) -> None:
    """Join the traces that messages link, and the runs that link to one trace with the runs of that trace."""
    linked_set_of = _linked_sets(traces)
    linked_sets: dict[bytes, list[Asked]] = defaultdict(list)
    for run in runs.values():
        linked_sets[linked_set_of.get(run.trace, run.trace)].append(run)
    for linked_set, members in linked_sets.items():
        if linked_set in linked_set_of:
            _within_linked_traces(members, out)
    for run in runs.values():
        link = _link(task_runs[run.key]) if run.trace not in linked_set_of else b""
        to = linked_set_of.get(link, link)
        if to and to != run.trace:
            # Runs that link to the same trace are not joined with one another.
            _join_by_link(run, linked_sets.get(to, []), out)


def _within_linked_traces(runs: list[Asked], out: Resumption) -> None:
    """Runs of one agent are one task; those of other agents hang below the earliest."""
    first: dict[str, Asked] = {}
    for run in sorted(runs, key=lambda r: (r.start_ns, r.key)):
        if run.agent_name in first:
            out.goes_on[run.key] = first[run.agent_name].key
        else:
            if first:
                out.hangs_below[run.key] = next(iter(first.values())).key
            first[run.agent_name] = run


def _join_by_link(guest: Asked, hosts: list[Asked], out: Resumption) -> None:
    """Join a run with the earliest run of the same agent that began before it; else hang it below the earliest."""
    before = sorted(
        (h for h in hosts if h.trace != guest.trace and (h.start_ns, h.key) < (guest.start_ns, guest.key)),
        key=lambda h: (h.start_ns, h.key),
    )
    same = [h for h in before if guest.agent_name and h.agent_name == guest.agent_name]
    if same:
        out.goes_on[guest.key] = same[0].key
    elif before:
        out.hangs_below[guest.key] = before[0].key


def _linked_sets(traces: list[Trace]) -> dict[bytes, bytes]:
    """Return the representative of each set of traces that messages of a framework link."""
    head: dict[bytes, bytes] = {}

    def find(trace: bytes) -> bytes:
        while head.get(trace, trace) != trace:
            trace = head[trace]
        return trace

    for trace in traces:
        for span in trace.order:
            for n in [n for n in span.copies if n.r.role is Role.PLUMBING]:
                for other in {other for other, _ in n.o.links[:16]} - {trace.id}:
                    a, b = find(trace.domain), find(domain(trace.tenant, other))
                    head[a] = head[b] = min(a, b)
    return {trace: find(trace) for trace in head}


def _link(s: TaskRun) -> bytes:
    """Return the trace to which a run links: by its root span, or by the nearest span above it that links anywhere."""
    span = s.run.root
    for _ in range(64):
        if span is None or span.link:
            break
        span = span.parent
    return span.link if span is not None else b""
