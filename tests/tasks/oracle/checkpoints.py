"""The checkpoints of tasks: what happened in them, and the start and the end of each of their runs."""

from __future__ import annotations

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.text.figures import count, money
from tests.tasks.oracle.ids import named
from tests.tasks.oracle.names import name_of
from tests.tasks.oracle.occurrences import checkpoint, failure_words
from tests.tasks.oracle.questions import EPOCH, moment, open_since
from tests.tasks.oracle.status import TaskRun, Verdict, end_of_former
from tests.tasks.oracle.tasks import Task, Tasks, calls_of
from tests.tasks.oracle.usage import Usage, summed


def checkpoints_of(tasks: Tasks, shown: list[Task]) -> list[Checkpoint]:
    """Return the checkpoints of a finished history, in order of time."""
    out = []
    for one in tasks.occurrences:
        task = tasks.task_of(one.run)
        if task.has_root_span or not one.is_doubtful:
            out.append(checkpoint(one, task.uid))
    for task in shown:
        if task.has_root_span or task.root.is_worth_a_message:
            for task_run in task.task_runs:
                out += _turns(task, task_run)
    return sorted(out, key=lambda one: (one.at, one.id))


def _turns(task: Task, task_run: TaskRun) -> list[Checkpoint]:
    """Return the start of a run, and its end if it has ended."""
    name, started_ns = name_of(task, has_team=False) or "task", task_run.start_ns or task.facts.first_ns
    begun = f"{'Resumed' if task_run.goes_on else 'Started'}: {name}"
    out = [_turn(task, task_run, Kind.START, c.STARTING, begun, started_ns)]
    verdict = task.verdict if task_run is task.newest else end_of_former(task_run, open_since(task.facts))
    if verdict is not None and verdict.is_over:
        text = _end_text(verdict, started_ns)
        is_talk = task.is_conversation or (task.task_id and task.task_id == task.facts.conversation)
        is_prompt = is_talk and len(task.task_runs) > 1
        if is_prompt and verdict.status in (c.COMPLETE, c.CANCELLED):
            text = " · ".join([text, *_used(summed(calls_of(task_run.run)))])
        out.append(_turn(task, task_run, Kind.END, verdict.status, text, verdict.ended_ns))
    return out


def _used(usage: Usage) -> list[str]:
    tokens = [(usage.tokens.get(name), word) for name, word in (("input", "in"), ("output", "out"))]
    said = [f"{count(n)} {word}" for n, word in tokens if n is not None]
    if usage.cost_usd is not None:
        n = usage.unpriced
        said.append(money(usage.cost_usd) + (f" + {n} call{'s' if n > 1 else ''} unpriced" if n else ""))
    return said


def _turn(task: Task, task_run: TaskRun, kind: Kind, status: str, text: str, at_ns: int) -> Checkpoint:
    return Checkpoint(
        id=named(kind, task_run.key.hex()),
        tenant=task.tenant,
        task_uid=task.uid,
        kind=kind,
        status=status,
        text=text,
        at=moment(at_ns) or EPOCH,
        trace_id=task_run.trace_id or task.trace_id,
        span_id=task_run.span_id,
        subtree=task_run.span_id,
    )


#: Ends with a reason of their own.
ENDS = {
    "max_steps": "Stopped at its maximum of steps",
    "guardrail": "Stopped by a guardrail",
    "content_filter": "Stopped by a content filter",
    "refused": "The model refused",
    "timed_out": "Timed out",
}


def _end_text(verdict: Verdict, started_ns: int) -> str:
    if verdict.status == c.ERROR:
        kind, message, _ = verdict.failure or ("", "", "")
        why = failure_words(kind, message)
        end = ENDS.get(verdict.end_reason or "", "Failed")
        return f"{end}: {why}"[:2000] if why else end
    if verdict.status == c.WAITING:
        return "Waiting for its next prompt" if verdict.rule.startswith("session") else "Waiting for a person"
    word = {c.COMPLETE: "Complete", c.CANCELLED: "Cancelled"}.get(verdict.status, verdict.status.capitalize())
    took = (verdict.ended_ns - started_ns) / 1e9
    text = f"{word} in {_duration(took)}" if started_ns and took > 0 else word
    return f"{text} · {ENDS[verdict.end_reason]}" if verdict.end_reason in ENDS else text


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days} d {hours:02d} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
