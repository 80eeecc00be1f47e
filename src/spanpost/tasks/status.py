"""The status of a task and its row, from its merged facts.

Rules. The newest run decides. Within it, the first of these that applies decides:

    said         an explicit final status (agent.status), the earliest
    interrupt    what looks like a failure waits for a person, and nothing was done since
    approval     a question is open
    root         the root span ended in error, or was cancelled
    nested span  the last nested root span ended in error (frameworks whose root says OK over failed runs)
    last call    the last model call, or a turn after it, failed
    unresolved   it ended with a tool call open: waiting for an answer
    unanswered   it ended on a request for a tool that was not called, and nothing came for a while since
    rested       a coding session answered and did nothing since: complete, or waiting for its next prompt
    root OK      complete
    root UNSET   complete, inferred
    gone         its process ended with the span open: error, interrupted
    stalled      its process stalled and nothing of the task came since: error, interrupted

While nothing has ended it: waiting, paused, context_warning, working or starting, in this order.

Theory. Every input is a merged fact, so the status does not depend on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from spanpost import semconv as c
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Finish
from spanpost.model.tasks import BETWEEN_PROMPTS
from spanpost.tasks import acts, approvals, end_reasons
from spanpost.tasks.context_limits import is_near, limits
from spanpost.tasks.context_use import ContextUse, ahead
from spanpost.tasks.fact_values import FailureWords, FinalStatus, SpanEnd
from spanpost.tasks.facts import Facts, time_of, value_of
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.last_calls import MAYBE_OPEN, NOT_OPEN, OPEN, Last, last, last_by
from spanpost.tasks.records import Run, TaskState
from spanpost.tasks.runs import is_loose, newest_run
from spanpost.tasks.times import EPOCH, moment
from spanpost.text.wording import message, worded

#: Time without events after which a task whose last call failed counts as failed without an end of its root.
GIVEN_UP_AFTER = timedelta(seconds=60)
_UNANSWERED = "unanswered tool call"


class TaskVerdict(msgspec.Struct, frozen=True, gc=False):
    """A status, the rule that chose it, and whether it is inferred."""

    status: str
    rule: str
    end_reason: str | None = None
    is_inferred: bool = False
    is_over: bool = False
    ended_ns: int = 0
    failure: FailureWords | None = None
    #: Why it failed, in spanpost's words; None: in the agent's.
    reason: LocaleMessage | None = None


def judge(state: TaskState, use: ContextUse, rules: FoldRules, *, has_children: bool = False) -> TaskVerdict:
    """Return the status of a task from its facts, its context use, and whether agents work below it."""
    facts = state.facts
    run = newest_run(state) or Run()
    verdict = _end(state, facts, run)
    if verdict is not None:
        if verdict.rule == _UNANSWERED and not is_quiet(state):
            return TaskVerdict(c.WORKING, "a tool call without an answer")
        return _with_reason(verdict, run, last(facts))
    if is_given_up(state):
        failure = value_of(facts.failure)
        why = end_reasons.of_failure(failure)
        return TaskVerdict(c.ERROR, "last call failed, nothing since", why, True, True, facts.last_ns, failure)
    if approvals.is_waiting(facts):
        return TaskVerdict(c.WAITING, "open approval")
    said = facts.status
    if acts.paused_by(state) and (said is None or said.at_ns < time_of(facts.pause_asked)):
        return TaskVerdict(c.PAUSED, "a person paused it")
    if said is not None and said.value in (c.WAITING, c.PAUSED, c.STALLED):
        return TaskVerdict(said.value, "agent.status")
    # A run that began since is at work, though its first call is not known yet.
    if _is_interrupted(facts) and run.start_ns <= time_of(facts.interrupt):
        return TaskVerdict(c.WAITING, "interrupt", is_inferred=True)
    if use.used is not None:
        if any(use.used >= limit.tokens for limit in limits(use.window, rules)[:1]):
            return TaskVerdict(c.CONTEXT_WARNING, "context window")
        near = ahead(use, rules)
        if near is not None and is_near(near, rules):
            return TaskVerdict(c.CONTEXT_WARNING, "context forecast", is_inferred=True)
    if said is not None:
        if said.value == c.STARTING and _active(state, facts) > said.at_ns:
            return TaskVerdict(c.WORKING, "activity")
        return TaskVerdict(said.value, "agent.status")
    is_active = _active(state, facts) or has_children
    if not is_active and value_of(facts.step) is None and value_of(facts.progress) is None:
        return TaskVerdict(c.STARTING, "no activity yet")
    return TaskVerdict(c.WORKING, "activity")


def may_be_given_up(state: TaskState) -> bool:
    """Tell whether a task whose root never ends counts as failed once it stalls: its last call failed."""
    return last(state.facts).has_failed and not approvals.is_waiting(state.facts)


def is_given_up(state: TaskState) -> bool:
    return is_quiet(state) and may_be_given_up(state)


def is_quiet(state: TaskState) -> bool:
    """Tell whether nothing of a task came for as long as its last call calls for (`quiet_after`)."""
    return 0 < state.reported.quiet_ns >= state.facts.last_ns


def quiet_after(state: TaskState, rules: FoldRules) -> timedelta | None:
    """Return how long nothing must come before more is concluded of a task; None where nothing would be."""
    run = newest_run(state) or Run()
    verdict = _end(state, state.facts, run)
    if verdict is not None:
        return rules.stall_rules.unanswered_after if verdict.rule == _UNANSWERED else None
    if not may_be_given_up(state):
        return None
    # The step around the call failed, too: nothing tries it again.
    return rules.stall_rules.unanswered_after if _has_failed_turn_last(state.facts) else GIVEN_UP_AFTER


def how_it_waits(facts: Facts, run: Run) -> int:
    """Return whether a run ended waiting for a person, by its own facts: 0 no, 1 probably, 2 it said so."""
    if run.ending.closed is None:
        return 0
    verdict = _end(TaskState(facts=facts, has_root_span=True), facts, run)
    if verdict is None or verdict.status != c.WAITING:
        return 0
    return {"unresolved tool call": 1, _UNANSWERED: 1, "interrupt": 2, "open approval": 2}.get(verdict.rule, 0)


def of_past_run(run: Run, asked: Collection[datetime] = ()) -> TaskVerdict | None:
    """Return how an older run ended, from its own end and when open questions were asked; None: it has not."""
    ending, inner = run.ending, run.inner
    said = max((s for s in (ending.said, inner.said) if s is not None), default=None)
    closed = ending.closed
    if closed is None and ending.rested is not None:
        closed = SpanEnd(*ending.rested, "unset")
    if said is not None:
        ended_ns = closed.at_ns if closed is not None else -said.rank
        return TaskVerdict(said.status, "agent.status", "said", False, True, ended_ns)
    if closed is None:
        gone = ending.gone or ending.stalled
        return TaskVerdict(c.ERROR, "process gone", "interrupted", True, True, gone.at_ns) if gone is not None else None
    outcome = closed.outcome
    if outcome == "unset" and inner.closed is not None and inner.closed.outcome != "unset":
        outcome = inner.closed.outcome
    ended_at = moment(closed.at_ns) or EPOCH
    if run.waited or (closed.outcome != "error" and any(at <= ended_at for at in asked)):
        return TaskVerdict(c.WAITING, "a later run goes on", "waiting", True, True, closed.at_ns)
    status = {"error": c.ERROR, "cancelled": c.CANCELLED}.get(outcome, c.COMPLETE)
    failure = FailureWords(closed.failure_type, closed.failure_message, "") if status == c.ERROR else None
    verdict = TaskVerdict(status, "run ended", outcome, outcome == "unset", True, closed.at_ns, failure)
    return _with_reason(verdict, run, Last())


def _with_reason(verdict: TaskVerdict, run: Run, newest: Last) -> TaskVerdict:
    """Return a verdict on an end with the reason of that end, where one is known."""
    if verdict.end_reason == "error" and verdict.status == c.ERROR:
        why = end_reasons.of_failure(verdict.failure)
    elif verdict.status == c.COMPLETE and verdict.end_reason != "said":
        call, tool = newest.call, newest.tool
        stopped = call.outcome if call is not None and (tool is None or tool.at <= call.at) else 0
        limit = Finish.STEPS if run.ending.limited is not None else 0
        why = end_reasons.of_finish(run.ending.closed.finish if run.ending.closed is not None else 0, limit, stopped)
        why = why if why != "complete" else verdict.end_reason or why
    else:
        return verdict
    return verdict if why == verdict.end_reason else replace(verdict, end_reason=why)


def _interrupted(facts: Facts, rule: str, at_ns: int, key: str) -> TaskVerdict:
    """Return the verdict on a run whose process is gone: its last call failed, else only that is known."""
    failed = value_of(facts.failure)
    if failed is not None and last(facts).has_failed and (failed.type or failed.message):
        why = end_reasons.of_failure(failed)
        return TaskVerdict(c.ERROR, rule, why if why != "error" else "interrupted", True, True, at_ns, failed)
    reason = message(key)
    return TaskVerdict(c.ERROR, rule, "interrupted", True, True, at_ns, FailureWords("", worded(reason)[0], ""), reason)


def _end(state: TaskState, facts: Facts, run: Run) -> TaskVerdict | None:
    ending, inner = run.ending, run.inner
    closed = ending.closed or _rested(state, facts, run)
    if closed is not None and facts.active_ns > closed.at_ns and any(map(is_loose, state.runs)) and state.has_root_span:
        # Something continues whose root span is not known yet.
        closed = _rested(state, facts, run)
    said = max((s for s in (ending.said, inner.said) if s is not None), default=None)
    left = _left(state, facts, run) if said is None else None
    if (said := said or left) is not None:
        ended_ns = closed.at_ns if closed is not None and left is None else -said.rank
        failure = _said_failure(facts, closed) if said.status == c.ERROR else None
        return TaskVerdict(
            said.status, "agent.status", end_reason="said", is_over=True, ended_ns=ended_ns, failure=failure
        )
    if closed is None:
        if ending.gone is not None:
            return _interrupted(facts, "process gone", ending.gone.at_ns, "task.process_ended")
        stalled = max((s for s in (ending.stalled, inner.stalled) if s is not None), default=None)
        if stalled is not None and stalled.at_ns >= facts.last_ns:
            return _interrupted(facts, "process stalled", stalled.at_ns, "task.process_silent")
        return None
    at, _, outcome, kind, message, finish = closed
    if ending.limited is not None:
        finish = finish or Finish.STEPS
    if _is_interrupted(facts):
        return TaskVerdict(c.WAITING, "interrupt", "waiting", True, True, at)
    if approvals.is_waiting(facts) and outcome != "error":
        return TaskVerdict(c.WAITING, "open approval", "waiting", False, True, at)
    if outcome == "cancelled":
        return TaskVerdict(c.CANCELLED, "cancelled", "cancelled", False, True, at)
    if outcome == "error":
        shown = (
            FailureWords(kind, message, _log_tail(facts)) if kind or message else value_of(facts.failure)
        )  # an event has reported it
        return TaskVerdict(c.ERROR, "root error", "error", False, True, at, shown)
    if inner.closed is not None and inner.closed.outcome in ("error", "cancelled"):
        status = c.ERROR if inner.closed.outcome == "error" else c.CANCELLED
        words = FailureWords(inner.closed.failure_type, inner.closed.failure_message, _log_tail(facts))
        return TaskVerdict(
            status,
            "nested span",
            inner.closed.outcome,
            True,
            True,
            at,
            words if any(words) else value_of(facts.failure),
        )
    by_then, by_now = last_by(facts, at), last(facts)
    if by_then.has_failed and by_now.has_failed:
        return TaskVerdict(c.ERROR, "last call failed", "error", True, True, at, value_of(facts.failure))
    if _has_thrown(facts):
        return TaskVerdict(c.ERROR, "exception on a root", "error", True, True, at, value_of(facts.failure))
    if _has_failed_turn_last(facts):
        return TaskVerdict(c.ERROR, "turn failed", "error", True, True, at, value_of(facts.failure))
    # A session that says that it rests has answered, whatever is known of its calls by now.
    is_judged = state.has_root_span and outcome != "rested"
    open_call = min(by_then.open_call, by_now.open_call) if is_judged else NOT_OPEN
    if open_call == OPEN:
        return TaskVerdict(c.WAITING, "unresolved tool call", "waiting", True, True, at)
    if open_call == MAYBE_OPEN and _may_ask(state, outcome, finish):
        return TaskVerdict(c.WAITING, "unanswered tool call", "waiting", True, True, at)
    if outcome == "rested" and not value_of(facts.is_session):
        return TaskVerdict(c.COMPLETE, "answered", "complete", True, True, at)
    if value_of(facts.is_session):
        return TaskVerdict(c.WAITING, BETWEEN_PROMPTS, "waiting", True, True, at)
    if outcome == "ok":
        return TaskVerdict(c.COMPLETE, "root OK", "complete", False, True, at)
    return TaskVerdict(c.COMPLETE, "root ended UNSET", "complete", True, True, at)


def _may_ask(state: TaskState, outcome: str, finish: int) -> bool:
    """Tell whether a request for a tool that was not called may be put to a person.

    A good end of the root span says that it is not, and so does a run around it that goes on.
    """
    return finish in (Finish.TOOLS, Finish.ASKS) or (not finish and outcome != "ok" and not state.parent)


def _active(state: TaskState, facts: Facts) -> int:
    """Return the newest sign of work; metric data points come late and count only without a root span."""
    return facts.active_ns if state.has_root_span else max(facts.active_ns, time_of(facts.metered))


def _rested(state: TaskState, facts: Facts, run: Run) -> SpanEnd | None:
    """Return the end of a run that answered and did nothing since, as if its root had ended."""
    active = _active(state, facts)
    rested = run.ending.rested
    if rested is None or rested.at_ns < active:
        # A record of the session that names no prompt is of the newest one.
        others = [(one.ending.rested, one.inner.rested) for root, one in state.runs.items() if is_loose(root)]
        least = max(active, run.start_ns)
        rested = max(
            (sign for pair in others for sign in pair if sign is not None and sign.at_ns >= least), default=None
        )
    if rested is None:
        return None
    if time_of(facts.begun) > max(time_of(facts.tool), time_of(facts.idle)):  # a tool runs, or waits for permission
        return None
    return SpanEnd(*rested, "rested")


def _left(state: TaskState, facts: Facts, run: Run) -> FinalStatus | None:
    """Return the end of a session by a record that names no prompt: a person left it, and nothing was done since."""
    if not value_of(facts.is_session):
        return None
    least = max(_active(state, facts), run.start_ns)
    others = [(one.ending.said, one.inner.said) for root, one in state.runs.items() if is_loose(root)]
    return max((said for pair in others for said in pair if said is not None and -said.rank >= least), default=None)


def _said_failure(facts: Facts, closed: SpanEnd | None) -> FailureWords | None:
    if closed is not None and closed.outcome == "error" and (closed.failure_type or closed.failure_message):
        return FailureWords(closed.failure_type, closed.failure_message, _log_tail(facts))
    return value_of(facts.failure)


def _log_tail(facts: Facts) -> str:
    failure = value_of(facts.failure)
    return failure.log_tail if failure is not None else ""


def _is_interrupted(facts: Facts) -> bool:
    """True when neither a model nor a tool did anything after the last interrupt."""
    at = time_of(facts.interrupt)
    if not at:
        return False
    return time_of(facts.call) <= at and time_of(facts.begun) <= at


def _has_thrown(facts: Facts) -> bool:
    """True when a root span that did not fail recorded an exception, and nothing was done after it."""
    thrown, failure = time_of(facts.exception), facts.failure
    if not thrown or failure is None:
        return False
    return failure.at_ns >= time_of(facts.call) and failure.at_ns >= time_of(facts.tool)


def _has_failed_turn_last(facts: Facts) -> bool:
    """True when a turn failed after all calls: a guardrail stopped it, whatever the root says."""
    at = time_of(facts.failed_turn)
    return bool(at) and at >= time_of(facts.call) and at >= time_of(facts.tool)
