"""The start and the end of each run of a task: reported once, and again where the verdict on it changed."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.ids import end_id, start_id, uuid_of
from spanpost.model.messages import LocaleMessage
from spanpost.tasks import checkpoints
from spanpost.tasks.amounts import ZERO
from spanpost.tasks.approvals import open_since
from spanpost.tasks.facts import value_of
from spanpost.tasks.names import name_of
from spanpost.tasks.records import Run, TaskState
from spanpost.tasks.reported import Reported, ReportedRun
from spanpost.tasks.runs import newest_keyed_run, newest_run, runs_of
from spanpost.tasks.status import TaskVerdict, of_past_run
from spanpost.tasks.times import EPOCH, moment
from spanpost.tasks.work import Key
from spanpost.text.wording import message, worded

NOT_REPORTED_RUN = ReportedRun()


class RunReports(NamedTuple):
    """What is reported of a task's runs from now on, the new checkpoints, and those that no longer hold."""

    after: dict[Key, ReportedRun]
    checkpoints: list[Checkpoint]
    retracted: list[UUID]


def report_runs(state: TaskState, verdict: TaskVerdict, before: dict[Key, ReportedRun], *, has_row: bool) -> RunReports:
    """Return the start and the end of each run as far as they differ from what was reported before.

    A task without a row reports none, as when its only call turned out to be a step.
    """
    newest, known = newest_run(state), runs_of(state) if has_row else {}
    facts = state.facts
    name = name_of(state)
    # Its id is its conversation's: the session of a coding agent, of which each run is a prompt.
    is_talk = state.is_conversation or (bool(state.task_id) and state.task_id == value_of(facts.conversation))
    is_session = is_talk and len(known) > 1
    asked = open_since(facts) if len(known) > 1 else []
    after, found, retracted = before, list[Checkpoint](), list[UUID]()
    for root, run in state.runs.items():
        was = before.get(root, NOT_REPORTED_RUN)
        if root not in known:
            if was.is_reported:
                after = {**after, root: replace(was, start="", end="")}
                retracted += [start_id(root), end_id(root)]
            continue
        started_ns = run.start_ns or facts.first_ns
        what = "checkpoint.resumed" if run.goes_on else "checkpoint.started"
        # A run of which only its task's name is known has the trace of its task, which may change.
        place = "" if run.trace_id else f"\0{state.trace_id.hex()}"
        start, end = f"{what}\0{name}\0{started_ns}{place}", ""
        if start != was.start:
            words = message(what, name=str(name) if name else message("checkpoint.task"))
            found.append(_checkpoint(start_id(root), state, Kind.START, c.STARTING, words, started_ns, run))
        ended = verdict if run is newest else of_past_run(run, asked)
        if ended is not None and ended.is_over:
            # The task's figures are those of the session: the end of a prompt says its own.
            words = checkpoints.end(ended, started_ns, run.amounts if is_session else ZERO)
            end = f"{ended.status}\0{worded(words)[0]}\0{ended.ended_ns}\0{started_ns}{place}"
            if end != was.end:
                found.append(_checkpoint(end_id(root), state, Kind.END, ended.status, words, ended.ended_ns, run))
        elif was.end:
            retracted.append(end_id(root))
        if (start, end) != (was.start, was.end):
            after = {**after, root: replace(was, start=start, end=end)}
    return RunReports(after, found, retracted)


def _checkpoint(
    id: UUID, state: TaskState, kind: Kind, status: str, words: LocaleMessage, at_ns: int, run: Run
) -> Checkpoint:
    text, rendered = worded(words)
    return Checkpoint(
        id=id,
        tenant=state.tenant,
        task_uid=uuid_of(state.uid),
        kind=kind,
        status=status,
        text=text,
        message=rendered,
        at=moment(at_ns) or EPOCH,
        trace_id=run.trace_id or state.trace_id,
        span_id=run.span_id,
        subtree=run.span_id,
    )


def count_end(state: TaskState, before: Reported, runs: dict[Key, ReportedRun]) -> dict[Key, ReportedRun] | None:
    """Return the runs with the end of the newest counted; None: it was counted before, under its first status."""
    newest = newest_keyed_run(state)
    if newest is None:
        return None if before.is_over else runs
    was = runs.get(newest.root, NOT_REPORTED_RUN)
    return None if was.is_counted else {**runs, newest.root: replace(was, is_counted=True)}
