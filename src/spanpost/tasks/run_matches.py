"""Which run continues which: the matches among the candidates of one set.

Rules. Of the candidates
- a run continues the one that ended, before it began, waiting for a person: if it begins with the tool call
  that was left open, without a model call before; if it begins with a tool call, or its first model call
  with the result of one, whose id the last model call asked for; or, where the wait was reported and no tool
  call was left open, if it is the same agent's. One run continues each wait, the earliest. Of runs that only
  share the id of a tool call, the id decides; of those that only share the id of their agent, which name no
  conversation, a run has to begin with a tool call;
- runs of linked traces are one task if they are the same agent's; those of other agents are children of the
  earliest;
- a run that links to another trace continues the same agent's run there, else it is a child of the earliest
  run that began before it. A span that links to several traces (a batch consumer) joins nothing.

Theory. The matches are a function of the candidates alone, so order does not matter.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from spanpost.tasks.records import RunCandidate, RunCandidates
from spanpost.tasks.work import Key


class Continued(NamedTuple):
    """For each run that continues another the task of that other, and those that repeat its open tool call."""

    on: dict[Key, Key]
    repeated_in: set[Key]


def continued(runs: dict[Key, RunCandidate], rule: bytes = b"") -> Continued:
    """Return which runs continue which; `rule`: end of the key of the set, which says what else they share."""
    matches = _MATCHES.get(rule, goes_on)
    out = Continued({}, set())
    waiting: list[Key] = []
    for key in sorted(runs, key=lambda key: (runs[key].start_ns, key)):
        candidate, best = runs[key], b""
        for former in waiting:
            before = runs[former]
            if before.end_ns > candidate.start_ns or not matches(before, candidate):
                continue
            if not best or (before.end_ns, former) > (runs[best].end_ns, best):
                best = former
        if best:
            waiting.remove(best)
            out.on[key] = runs[best].state
            if calls_again(runs[best], candidate):
                out.repeated_in.add(key)
        if candidate.waits and candidate.end_ns:
            waiting.append(key)
    return out


def may_go_on(service: RunCandidates, candidate: RunCandidate) -> bool:
    """Tell whether a run that did nothing yet may still turn out to be one more run of a task with a message.

    It may continue a run that waits; or name its conversation later, as runs of its service did before. Once it has
    begun a tool call, it may continue only a run that left a call of that tool open.
    """
    if not candidate.is_idle or candidate.end_ns:
        return False
    if service.names_late and not candidate.talk and candidate.began_with is None:
        return True
    return any(
        former.waits
        and (candidate.began_with is None or former.pending[0] == candidate.began_with[0])
        and 0 < former.end_ns <= candidate.start_ns
        and not (former.talk and candidate.talk and former.talk != candidate.talk)
        for former in service.runs.values()
    )


def goes_on(before: RunCandidate, candidate: RunCandidate) -> bool:
    """Tell whether a run does what the waiting one left open."""
    return takes_up(before, candidate) or _does_pending(before, candidate)


def takes_up(before: RunCandidate, candidate: RunCandidate) -> bool:
    """Tell whether a run begins with a tool call, by its id, that the waiting one left open or asked for."""
    return any(one == before.pending[1] or one in before.asked for one in candidate.takes_up)


def _begins_with_it(before: RunCandidate, candidate: RunCandidate) -> bool:
    """Tell whether a run that shares only its agent's id begins with a tool call that the waiting one left open.

    Other runs of that agent may be anybody's.
    """
    return candidate.began_with is not None and goes_on(before, candidate)


#: What makes a match among runs that may share nothing else: by the id of a tool call, and by an agent's id.
_MATCHES: Final = {b"ra": takes_up, b"ri": _begins_with_it}


def calls_again(before: RunCandidate, candidate: RunCandidate) -> bool:
    """Tell whether a run that continues another makes the tool call again that the other had begun."""
    return any(before.pending) and _does_pending(before, candidate)


def _does_pending(before: RunCandidate, candidate: RunCandidate) -> bool:
    name, call_id = before.pending
    if not name and not call_id and before.waits == 2:
        return not before.agent_name or not candidate.agent_name or before.agent_name == candidate.agent_name
    if candidate.began_with is None:
        return False
    its_name, its_id = candidate.began_with
    if call_id and its_id:
        return call_id == its_id
    return not name or not its_name or name == its_name


def of_links(
    runs: dict[Key, RunCandidate], linked: dict[Key, RunCandidate], is_joined: bool
) -> tuple[dict[Key, Key], dict[Key, Key], dict[Key, RunCandidate]]:
    """Return continued tasks, parent tasks and matched runs of linked traces and of runs linked to them."""
    on, below = of_linked_runs(runs, linked)
    if not is_joined:  # a single trace: its own spans say how its runs relate
        return on, below, linked
    one, other = of_linked_traces(runs)
    return {**on, **one}, {**below, **other}, {**linked, **runs}


def of_linked_runs(
    runs: dict[Key, RunCandidate], linked: dict[Key, RunCandidate]
) -> tuple[dict[Key, Key], dict[Key, Key]]:
    """Return for each run that links to a trace the task there that it continues, else its parent task."""
    on: dict[Key, Key] = {}
    below: dict[Key, Key] = {}
    earlier = sorted((candidate.start_ns, other) for other, candidate in runs.items())
    by_agent: dict[str, list[tuple[int, Key]]] = {}
    for at in earlier:
        by_agent.setdefault(runs[at[1]].agent_name, []).append(at)
    for key, run in linked.items():
        began = (run.start_ns, key)
        same = _earliest(by_agent.get(run.agent_name, []), began) if run.agent_name else b""
        if same:
            on[key] = runs[same].state
        elif first := _earliest(earlier, began):
            below[key] = runs[first].state
    return on, below


def _earliest(earlier: list[tuple[int, Key]], began: tuple[int, Key]) -> Key:
    """Return the earliest of the runs that began before, in another trace; empty for none."""
    return next((other for at, other in earlier if other[:16] != began[1][:16] and (at, other) < began), b"")


def of_linked_traces(runs: dict[Key, RunCandidate]) -> tuple[dict[Key, Key], dict[Key, Key]]:
    """Return for each run the task that it continues, and for each agent's first run the parent task."""
    on: dict[Key, Key] = {}
    below: dict[Key, Key] = {}
    first: dict[str, Key] = {}
    for key in sorted(runs, key=lambda key: (runs[key].start_ns, key)):
        agent = runs[key].agent_name
        if agent in first:
            on[key] = runs[first[agent]].state
        else:
            if first:
                below[key] = runs[next(iter(first.values()))].state
            first[agent] = key
    return on, below
