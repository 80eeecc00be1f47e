"""The status of a task, and why: the newest run decides, and in it the greatest authority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from spanpost import semconv as c
from spanpost.model.interventions import Verb
from spanpost.model.readings import Finish
from spanpost.tasks.end_reasons import of_failure, of_finish
from spanpost.tasks.fact_values import FailureWords
from tests.tasks.oracle.context import Use
from tests.tasks.oracle.facts import PERSON_WANTED, TOOLS_WANTED, Closed, Facts, Said
from tests.tasks.oracle.placement import Run
from tests.tasks.oracle.questions import EPOCH, is_waiting, moment
from tests.tasks.oracle.rules import Rules


@dataclass
class Verdict:
    """A status, the rule that decided, and how it ended if it did."""

    status: str
    rule: str
    end_reason: str | None = None
    is_inferred: bool = False
    is_over: bool = False
    ended_ns: int = 0
    failure: tuple[str, str, str] | None = None


class TaskRun:
    """One run within its task: when it began, and how it and the root spans within it ended."""

    def __init__(self, run: Run, *, has_root_span: bool) -> None:
        self.run = run
        self.facts = Facts((n, span) for b in run.owners for n in b.notes for span in [b.trace.spans[n.o.span_id]])
        own = [b for b in run.owners if b is run.root or (run.is_loose and not has_root_span)]
        inner = [b for b in run.owners if b not in own]
        self.own, self.inner = _facts(own), _facts(inner)
        self.tops = [b.closed for b in own if b.closed is not None]
        self.inner_tops = [b.closed for b in inner if b.closed is not None]
        self.start_ns = run.start_ns if not run.is_loose else self.facts.first_ns if not has_root_span else 0
        self.waits, self.goes_on, self.calls_again = 0, False, False

    @property
    def key(self) -> bytes:
        return self.run.key

    @property
    def span_id(self) -> bytes:
        return self.run.root.id if self.run.root is not None else b""

    @property
    def trace_id(self) -> bytes:
        return self.run.trace.id if self.run.root is not None else b""

    @cached_property
    def closed(self) -> Closed | None:
        return max([*self.tops, *([self.own.closed] if self.own.closed is not None else [])], default=None)

    @cached_property
    def inner_closed(self) -> Closed | None:
        return max([*self.inner_tops, *([self.inner.closed] if self.inner.closed is not None else [])], default=None)

    @property
    def final(self) -> tuple[int, bytes, str] | None:
        return max((f.final for f in (self.own, self.inner) if f.final is not None), default=None)


def _facts(owners: list) -> Facts:  # type: ignore[type-arg]
    return Facts((n, b.trace.spans[n.o.span_id]) for b in owners for n in b.notes)


def judge(
    facts: Facts,
    task_runs: list[TaskRun],
    use: Use,
    rules: Rules,
    *,
    has_root_span: bool,
    loose: Sequence[TaskRun],
    is_below: bool,
    has_children: bool,
) -> Verdict:
    """Return the status of a task without further observations."""
    newest = newest_of(task_runs)
    verdict = end_of(facts, newest, has_root_span=has_root_span, loose=loose, is_below=is_below)
    if verdict is not None:
        call, tool = facts.last(is_tool=False), facts.last(is_tool=True)
        stopped = call.outcome if call is not None and (tool is None or tool.at <= call.at) else 0
        return _with_reason(verdict, newest, stopped)
    if facts.has_failed_last() and not is_waiting(facts):
        rule = "last call failed, nothing since"
        return _with_reason(Verdict(c.ERROR, rule, "error", True, True, facts.last_ns, facts.failure_words), newest)
    if is_waiting(facts):
        return Verdict(c.WAITING, "open approval")
    said = facts.status
    paused = asked(facts, task_runs, Verb.PAUSE, Verb.RESUME)
    if paused is not None and paused.value.verb == Verb.PAUSE and (said is None or said.at < paused.at):
        return Verdict(c.PAUSED, "a person paused it")
    if said is not None and said.value in (c.WAITING, c.PAUSED, c.STALLED):
        return Verdict(said.value, "agent.status")
    if _is_interrupted(facts) and newest.start_ns <= facts.interrupt_ns:
        return Verdict(c.WAITING, "interrupt", is_inferred=True)
    if use.is_warned_of(rules):
        return Verdict(c.CONTEXT_WARNING, "context window")
    ahead = use.ahead(rules)
    if ahead is not None and rules.is_near(ahead):
        return Verdict(c.CONTEXT_WARNING, "context forecast", is_inferred=True)
    active_ns = _active_ns(facts, has_root_span=has_root_span)
    if said is not None:
        if said.value == c.STARTING and active_ns > said.at:
            return Verdict(c.WORKING, "activity")
        return Verdict(said.value, "agent.status")
    if not active_ns and not has_children and facts.step is None and facts.newest("progress") is None:
        return Verdict(c.STARTING, "no activity yet")
    return Verdict(c.WORKING, "activity")


def end_of(
    facts: Facts, task_run: TaskRun, *, has_root_span: bool, loose: Sequence[TaskRun] = (), is_below: bool = False
) -> Verdict | None:
    """Return how the newest run ended; None while it goes on."""
    closed = task_run.closed or _rested(facts, task_run, loose, has_root_span=has_root_span)
    if closed is not None and facts.active_ns > closed[0] and has_root_span and loose:
        # Something goes on below a root span that is not known yet.
        closed = _rested(facts, task_run, loose, has_root_span=has_root_span)
    left = None if task_run.final else _left(facts, task_run, loose, has_root_span=has_root_span)
    if (said := task_run.final or left) is not None:
        failure = None
        if said[2] == c.ERROR:
            has_words = closed is not None and closed[2] == "error" and (closed[3] or closed[4])
            failure = (closed[3], closed[4], _log(facts)) if closed is not None and has_words else facts.failure_words
        ended_ns = closed[0] if closed is not None and left is None else -said[0]
        return Verdict(said[2], "agent.status", "said", False, True, ended_ns, failure)
    if closed is None:
        return _lost(facts, task_run)
    at, _, outcome, kind, said, finish = closed
    finish = finish or (Finish.STEPS if task_run.own.is_limited else 0)
    words = (kind, said)
    own_words = (words[0], words[1], _log(facts))

    def over(
        status: str, rule: str, reason: str, *, is_inferred: bool = True, failure: tuple[str, str, str] | None = None
    ) -> Verdict:
        return Verdict(status, rule, reason, is_inferred, True, at, failure)

    if _is_interrupted(facts):
        return over(c.WAITING, "interrupt", "waiting")
    if is_waiting(facts) and outcome != "error":
        return over(c.WAITING, "open approval", "waiting", is_inferred=False)
    if outcome == "cancelled":
        return over(c.CANCELLED, "cancelled", "cancelled", is_inferred=False)
    if outcome == "error":
        return over(
            c.ERROR, "root error", "error", is_inferred=False, failure=own_words if any(words) else facts.failure_words
        )
    inner = task_run.inner_closed
    if inner is not None and inner[2] in ("error", "cancelled"):
        its = (inner[3], inner[4], _log(facts))
        status = c.ERROR if inner[2] == "error" else c.CANCELLED
        return over(status, "nested span", inner[2], failure=its if any(its) else facts.failure_words)
    last_done = max(call.at for call in facts.deeds) if facts.deeds else 0
    if facts.has_failed_last(by=at) and facts.has_failed_last():
        return over(c.ERROR, "last call failed", "error", failure=facts.failure_words)
    if facts.exception_ns and facts.failure is not None and facts.failure.at >= last_done:
        return over(c.ERROR, "exception on a root", "error", failure=facts.failure_words)
    if facts.failed_turn_ns and facts.failed_turn_ns >= last_done:
        return over(c.ERROR, "turn failed", "error", failure=facts.failure_words)
    is_open = min(facts.open_call(by=at), facts.open_call()) if has_root_span and outcome != "rested" else 0
    if is_open == 2:
        return over(c.WAITING, "unresolved tool call", "waiting")
    if is_open == 1 and (finish in (TOOLS_WANTED, PERSON_WANTED) or (not finish and outcome != "ok" and not is_below)):
        return over(c.WAITING, "unanswered tool call", "waiting")
    if outcome == "rested" and not facts.is_session:
        return over(c.COMPLETE, "answered", "complete")
    if facts.is_session:
        return over(c.WAITING, "session between prompts", "waiting")
    if outcome == "ok":
        return over(c.COMPLETE, "root OK", "complete", is_inferred=False)
    return over(c.COMPLETE, "root ended UNSET", "complete")


def end_of_former(task_run: TaskRun, asked: Sequence[datetime]) -> Verdict | None:
    """Return how a run before the newest ended: by its own end, and by when open questions were asked."""
    closed, inner = task_run.closed, task_run.inner_closed
    if closed is None and task_run.own.rested is not None:
        closed = (*task_run.own.rested, "unset", "", "", 0)
    if (said := task_run.final) is not None:
        return Verdict(said[2], "agent.status", "said", False, True, closed[0] if closed is not None else -said[0])
    if closed is None:
        gone = task_run.own.gone or task_run.own.stalled
        return Verdict(c.ERROR, "process gone", "interrupted", True, True, gone[0]) if gone is not None else None
    ended_at = moment(closed[0]) or EPOCH
    if task_run.waits or (closed[2] != "error" and any(at <= ended_at for at in asked)):
        return Verdict(c.WAITING, "a later run goes on", "waiting", True, True, closed[0])
    outcome = closed[2]
    if outcome == "unset" and inner is not None and inner[2] != "unset":
        outcome = inner[2]
    status = {"error": c.ERROR, "cancelled": c.CANCELLED}.get(outcome, c.COMPLETE)
    failure = (closed[3], closed[4], "") if status == c.ERROR else None
    return _with_reason(
        Verdict(status, "task_run ended", outcome, outcome == "unset", True, closed[0], failure), task_run
    )


def _with_reason(verdict: Verdict, run: TaskRun, stopped: int = 0) -> Verdict:
    """Say why it ended: what its error means, or why its root span, else its last model call, stopped."""
    why = verdict.end_reason
    if verdict.status == c.ERROR and why == "error":
        why = of_failure(FailureWords(*verdict.failure) if verdict.failure is not None else None)
    elif verdict.status == c.COMPLETE and why != "said":
        limit = Finish.STEPS if run.own.is_limited else 0
        found = of_finish(run.closed[5] if run.closed is not None else 0, limit, stopped)
        why = found if found != "complete" else why
    return replace(verdict, end_reason=why)


def newest_of(task_runs: list[TaskRun]) -> TaskRun:
    """Return the run that started last."""
    return max(task_runs, key=lambda s: (s.start_ns, s.key))


def how_it_waits(task_run: TaskRun) -> int:
    """Return whether a run ended waiting for a person: 0 no, 1 probably, 2 as it reported."""
    if task_run.closed is None:
        return 0
    verdict = end_of(task_run.facts, task_run, has_root_span=True)
    if verdict is None or verdict.status != c.WAITING:
        return 0
    probably, surely = ("unresolved tool call", "unanswered tool call"), ("interrupt", "open approval")
    return 1 if verdict.rule in probably else 2 if verdict.rule in surely else 0


def asked(facts: Facts, task_runs: list[TaskRun], *verbs: Verb) -> Said | None:
    """Return the newest act of people with one of these verbs, unless its run has ended since."""
    said = max(
        (Said(0, n.at, n.key, n.r.act) for n in facts.acts if n.r.act is not None and n.r.act.verb in verbs),
        key=lambda s: s[:3],
        default=None,
    )
    if said is None or len(task_runs) < 2:
        return said
    newest = newest_of(task_runs)
    ends = max((s.closed[0] for s in task_runs if s is not newest and s.closed is not None), default=0)
    seen = said.value.seen_ns + 999 if said.value.seen_ns else said.at - 1
    return said if seen >= ends else None


def _lost(facts: Facts, task_run: TaskRun) -> Verdict | None:
    gone, stalled = (
        task_run.own.gone,
        max((f.stalled for f in (task_run.own, task_run.inner) if f.stalled is not None), default=None),
    )
    if gone is not None:
        return _cut(facts, "process gone", gone[0], "The process ended with the task open.")
    if stalled is not None and stalled[0] >= facts.last_ns:
        return _cut(facts, "process stalled", stalled[0], "Its process stopped sending heartbeats.")
    return None


def _cut(facts: Facts, rule: str, at: int, otherwise: str) -> Verdict:
    """Return the verdict on a run without an end: the reason of its failed last call, if that is a known one."""
    words = _last_words(facts)
    why = of_failure(FailureWords(*words)) if words is not None else "error"
    why = why if why != "error" else "interrupted"
    return Verdict(c.ERROR, rule, why, True, True, at, words or ("", otherwise, ""))


def _last_words(facts: Facts) -> tuple[str, str, str] | None:
    """Return why the last call failed, if it did."""
    words = facts.failure_words
    return words if words is not None and any(words[:2]) and facts.has_failed_last() else None


def _left(
    facts: Facts, task_run: TaskRun, loose: Sequence[TaskRun], *, has_root_span: bool
) -> tuple[int, bytes, str] | None:
    """Return the end of a session by a record that names no prompt, and since which nothing was done."""
    least = max(_active_ns(facts, has_root_span=has_root_span), task_run.start_ns)
    found = [one.final for one in loose if facts.is_session and one.final is not None]
    return max((final for final in found if -final[0] >= least), default=None)


def _rested(facts: Facts, task_run: TaskRun, loose: Sequence[TaskRun], *, has_root_span: bool) -> Closed | None:
    """Return the end of a run that has answered and did nothing since."""
    active_ns = _active_ns(facts, has_root_span=has_root_span)
    signs = [sign for sign in [task_run.own.rested] if sign is not None and sign[0] >= active_ns]
    if not signs:  # what names no prompt is of the newest one
        found = [f.rested for one in loose for f in (one.own, one.inner) if f.rested is not None]
        signs = [sign for sign in found if sign[0] >= max(active_ns, task_run.start_ns)]
    rested = max(signs, default=None)
    if rested is None:
        return None
    tool = facts.last(is_tool=True)
    if facts.begun_ns > max(tool.at if tool is not None else 0, facts.idle_ns):  # a tool is at work
        return None
    return *rested, "rested", "", "", 0


def _active_ns(facts: Facts, *, has_root_span: bool) -> int:
    return facts.active_ns if has_root_span else max(facts.active_ns, facts.metered_ns)


def _is_interrupted(facts: Facts) -> bool:
    """Return whether there was an interrupt, and no model or tool call after it."""
    at, call = facts.interrupt_ns, facts.last(is_tool=False)
    return at > 0 and (call is None or call.at <= at) and facts.begun_ns <= at


def _log(facts: Facts) -> str:
    return facts.failure_words[2] if facts.failure_words is not None else ""
