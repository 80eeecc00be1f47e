"""The runs of a task, each with its start and its end."""

from __future__ import annotations

import msgspec

from spanpost.tasks.records import Run, Subtree, TaskState
from spanpost.tasks.work import Key

#: Runs kept of a task, the newest; older ones keep only their counted figures.
RUN_CAP = 16


class KeyedRun(msgspec.Struct, frozen=True, gc=False):
    """A run and the key of its root."""

    root: Key
    run: Run


def is_loose(root: Key) -> bool:
    """Tell by its key whether a run has no known root span."""
    return root[16:17] == b"g"


def runs_of(state: TaskState) -> dict[Key, Run]:
    """Return the runs of a task; one without a root span is left out where another has one."""
    runs = state.runs
    if len(runs) <= 1 or not any(map(is_loose, runs)):
        return runs
    return {root: run for root, run in runs.items() if not is_loose(root)}


def newest_run(state: TaskState) -> Run | None:
    """Return the run that started last."""
    runs = runs_of(state)
    return runs[_newest(runs)] if runs else None


def newest_keyed_run(state: TaskState) -> KeyedRun | None:
    """Return the run that started last, with the key of its root."""
    runs = runs_of(state)
    return KeyedRun(root := _newest(runs), runs[root]) if runs else None


def _newest(runs: dict[Key, Run]) -> Key:
    return next(iter(runs)) if len(runs) == 1 else max(runs, key=lambda root: (runs[root].start_ns, root))


def enter_run(state: TaskState, subtree: Subtree, own: Key, span_id: bytes) -> None:
    """Enter a subtree's facts about the start and the end of its run."""
    run = state.runs.get(subtree.root)
    if run is None:
        run = state.runs[subtree.root] = Run()
    is_root = subtree.root == own or not state.has_root_span
    if is_root:
        begins = (
            subtree.start_ns
            if subtree.is_root_span
            else min((f.first_ns for f in subtree.all_facts if f.first_ns), default=0)
        )
        is_earliest = not run.start_ns or (begins, subtree.trace_id) < (run.start_ns, state.trace_id)
        if begins and not state.has_root_span and is_earliest:
            state.trace_id = subtree.trace_id  # the earliest of several traces that share only the task id
        if begins and (not run.start_ns or begins < run.start_ns):
            run.start_ns = begins
        for facts in subtree.all_facts:
            run.ending.merge(facts.ending)
        if subtree.root == own:
            run.trace_id, run.span_id = subtree.trace_id, span_id
            run.goes_on = bool(subtree.joined) and subtree.state == subtree.joined  # else it is nested in another run
            run.calls_again = subtree.calls_again
    else:
        for facts in subtree.all_facts:
            run.inner.merge(facts.ending)
    if len(state.runs) > RUN_CAP:
        oldest = min(state.runs, key=lambda k: (state.runs[k].start_ns, k))
        del state.runs[oldest]
        if oldest in state.reported.runs:
            left = {root: run for root, run in state.reported.runs.items() if root != oldest}
            state.reported = msgspec.structs.replace(state.reported, runs=left)
