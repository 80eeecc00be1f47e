"""The status of a task and its row, from its merged facts.

Rules. The newest run decides. Within it, the first of these that applies decides:

    said         an explicit final status (agent.status), the earliest
    interrupt    what looks like a failure waits for a person, and nothing was done since
    approval     a question is open
    root         the root span ended in error, or was cancelled
    nested span  the last nested root span ended in error (frameworks whose root says OK over failed runs)
    last call    the last model call, or a turn after it, failed
    unresolved   it ended with a tool call open: probably waiting for an answer
    rested       a coding session answered and did nothing since: complete, or waiting for its next prompt
    root OK      complete
    root UNSET   complete, inferred
    gone         its process ended with the span open: error, interrupted
    stalled      its process stalled and nothing of the task came since: error, interrupted

While nothing has ended it: waiting, paused, context_warning, working or starting, in this order.

Theory. Every input is a merged fact, so the status does not depend on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.ids import uuid_of
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Artifact, Failure
from spanpost.model.tasks import Step, Task
from spanpost.tasks import acts, approvals
from spanpost.tasks.amounts import as_usage
from spanpost.tasks.context import window_of
from spanpost.tasks.context_limits import is_near, limits
from spanpost.tasks.context_use import ContextUse, ahead
from spanpost.tasks.facts import Ending, Fact, Facts
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.last_calls import last, last_by
from spanpost.tasks.records import Run, TaskState
from spanpost.tasks.runs import is_loose, newest_run, runs_of
from spanpost.tasks.times import moment
from spanpost.tasks.usage import figures, unpriced
from spanpost.text.wording import message, unpacked, worded


class TaskVerdict(msgspec.Struct, frozen=True, gc=False):
    """A status, the rule that chose it, and whether it is inferred."""

    status: str
    rule: str
    end_reason: str | None = None
    is_inferred: bool = False
    is_over: bool = False
    ended_ns: int = 0
    failure: tuple[str, str, str] | None = None
    #: Why it failed, in spanpost's words; None: in the agent's.
    reason: LocaleMessage | None = None


def judge(state: TaskState, use: ContextUse, rules: FoldRules) -> TaskVerdict:
    """Return the status of a task from its facts and its context use."""
    facts = state.facts
    run = newest_run(state) or Run()
    verdict = _end(state, facts, run)
    if verdict is not None:
        return verdict
    if is_given_up(state):
        return TaskVerdict(
            c.ERROR, "last call failed, nothing since", "error", True, True, facts.last_ns, facts.value("failure")
        )
    if approvals.is_waiting(facts):
        return TaskVerdict(c.WAITING, "open approval")
    said = facts.latest.get("status")
    if acts.paused_by(state) and (said is None or said[1] < facts.at("pause_asked")):
        return TaskVerdict(c.PAUSED, "a person paused it")
    if said is not None and said[3] in (c.WAITING, c.PAUSED, c.STALLED):
        return TaskVerdict(said[3], "agent.status")
    if _is_interrupted(facts):
        return TaskVerdict(c.WAITING, "interrupt", is_inferred=True)
    if use.used is not None:
        if any(use.used >= limit.tokens for limit in limits(use.window, rules)[:1]):
            return TaskVerdict(c.CONTEXT_WARNING, "context window")
        near = ahead(use, rules)
        if near is not None and is_near(near, rules):
            return TaskVerdict(c.CONTEXT_WARNING, "context forecast", is_inferred=True)
    if said is not None:
        if said[3] == c.STARTING and _active(state, facts) > said[1]:
            return TaskVerdict(c.WORKING, "activity")
        return TaskVerdict(said[3], "agent.status")
    if not _active(state, facts) and facts.value("step") is None and facts.value("progress") is None:
        return TaskVerdict(c.STARTING, "no activity yet")
    return TaskVerdict(c.WORKING, "activity")


def may_be_given_up(state: TaskState) -> bool:
    """Tell whether a task whose root never ends counts as failed once it stalls: its last call failed."""
    return last(state.facts).has_failed and not approvals.is_waiting(state.facts)


def is_given_up(state: TaskState) -> bool:
    return state.quiet_ns > 0 and state.quiet_ns >= state.facts.last_ns and may_be_given_up(state)


def how_it_waits(facts: Facts, run: Run) -> int:
    """Return whether a run ended waiting for a person, by its own facts: 0 no, 1 probably, 2 it said so."""
    if run.ending.closed is None:
        return 0
    verdict = _end(TaskState(facts=facts, has_root_span=True), facts, run)
    if verdict is None or verdict.status != c.WAITING:
        return 0
    return {"unresolved tool call": 1, "interrupt": 2, "open approval": 2}.get(verdict.rule, 0)


def of_past_run(run: Run) -> TaskVerdict | None:
    """Return how an older run ended, from its own end alone; None: it has not."""
    ending, inner = run.ending, run.inner
    said = max((s for s in (ending.said, inner.said) if s is not None), default=None)
    closed = ending.closed
    if closed is None and ending.rested is not None:
        closed = (*ending.rested, "unset", "", "")
    if said is not None:
        return TaskVerdict(said[2], "agent.status", "said", False, True, closed[0] if closed is not None else -said[0])
    if closed is None:
        gone = ending.gone or ending.stalled
        return TaskVerdict(c.ERROR, "process gone", "interrupted", True, True, gone[0]) if gone is not None else None
    outcome = closed[2]
    if outcome == "unset" and inner.closed is not None and inner.closed[2] != "unset":
        outcome = inner.closed[2]
    if run.waited:
        return TaskVerdict(c.WAITING, "a later run goes on", "waiting", True, True, closed[0])
    status = {"error": c.ERROR, "cancelled": c.CANCELLED}.get(outcome, c.COMPLETE)
    failure = (closed[3], closed[4], "") if status == c.ERROR else None
    return TaskVerdict(status, "run ended", outcome, outcome == "unset", True, closed[0], failure)


def _interrupted(rule: str, at_ns: int, key: str) -> TaskVerdict:
    reason = message(key)
    return TaskVerdict(c.ERROR, rule, "interrupted", True, True, at_ns, ("", worded(reason)[0], ""), reason)


def _end(state: TaskState, facts: Facts, run: Run) -> TaskVerdict | None:
    ending, inner = run.ending, run.inner
    closed = ending.closed or _rested(state, facts, ending)
    if closed is not None and facts.active_ns > closed[0] and any(map(is_loose, state.runs)) and state.has_root_span:
        closed = None  # something continues whose root span is not known yet
    said = max((s for s in (ending.said, inner.said) if s is not None), default=None)
    if said is not None:
        ended_ns = closed[0] if closed is not None else -said[0]
        failure = _said_failure(facts, closed) if said[2] == c.ERROR else None
        return TaskVerdict(said[2], "agent.status", end_reason="said", is_over=True, ended_ns=ended_ns, failure=failure)
    if closed is None:
        if ending.gone is not None:
            return _interrupted("process gone", ending.gone[0], "task.process_ended")
        stalled = max((s for s in (ending.stalled, inner.stalled) if s is not None), default=None)
        if stalled is not None and stalled[0] >= facts.last_ns:
            return _interrupted("process stalled", stalled[0], "task.process_silent")
        return None
    at, _, outcome, kind, message = closed
    if _is_interrupted(facts):
        return TaskVerdict(c.WAITING, "interrupt", "waiting", True, True, at)
    if approvals.is_waiting(facts) and outcome != "error":
        return TaskVerdict(c.WAITING, "open approval", "waiting", False, True, at)
    if outcome == "cancelled":
        return TaskVerdict(c.CANCELLED, "cancelled", "cancelled", False, True, at)
    if outcome == "error":
        shown = (
            (kind, message, _log_tail(facts)) if kind or message else facts.value("failure")
        )  # an event has reported it
        return TaskVerdict(c.ERROR, "root error", "error", False, True, at, shown)
    if inner.closed is not None and inner.closed[2] in ("error", "cancelled"):
        status = c.ERROR if inner.closed[2] == "error" else c.CANCELLED
        words = (inner.closed[3], inner.closed[4], _log_tail(facts))
        return TaskVerdict(
            status, "nested span", inner.closed[2], True, True, at, words if any(words) else facts.value("failure")
        )
    by_then, by_now = last_by(facts, at), last(facts)
    if by_then.has_failed and by_now.has_failed:
        return TaskVerdict(c.ERROR, "last call failed", "error", True, True, at, facts.value("failure"))
    if _has_thrown(facts):
        return TaskVerdict(c.ERROR, "exception on a root", "error", True, True, at, facts.value("failure"))
    if _has_failed_turn_last(facts):
        return TaskVerdict(c.ERROR, "turn failed", "error", True, True, at, facts.value("failure"))
    if state.has_root_span and by_then.is_unresolved and by_now.is_unresolved:
        return TaskVerdict(c.WAITING, "unresolved tool call", "waiting", True, True, at)
    if closed[2] == "rested" and not facts.value("is_session"):
        return TaskVerdict(c.COMPLETE, "answered", "complete", True, True, at)
    if facts.value("is_session"):
        return TaskVerdict(c.WAITING, "session between prompts", "waiting", True, True, at)
    if outcome == "ok":
        return TaskVerdict(c.COMPLETE, "root OK", "complete", False, True, at)
    return TaskVerdict(c.COMPLETE, "root ended UNSET", "complete", True, True, at)


def _active(state: TaskState, facts: Facts) -> int:
    """Return the newest sign of work; metric data points come late and count only without a root span."""
    return facts.active_ns if state.has_root_span else max(facts.active_ns, facts.at("metered"))


def _rested(state: TaskState, facts: Facts, ending: Ending) -> tuple[int, bytes, str, str, str] | None:
    """Return the end of a run that answered and did nothing since, as if its root had ended."""
    rested = ending.rested
    if rested is None or rested[0] < _active(state, facts):
        return None
    if facts.at("begun") > max(facts.at("tool"), facts.at("idle")):  # a tool runs, or waits for permission
        return None
    return rested[0], rested[1], "rested", "", ""


def _said_failure(facts: Facts, closed: tuple[int, bytes, str, str, str] | None) -> tuple[str, str, str] | None:
    if closed is not None and closed[2] == "error" and (closed[3] or closed[4]):
        return closed[3], closed[4], _log_tail(facts)
    failure: tuple[str, str, str] | None = facts.value("failure")
    return failure


def _log_tail(facts: Facts) -> str:
    failure = facts.value("failure")
    return failure[2] if failure is not None else ""


def _is_interrupted(facts: Facts) -> bool:
    """True when neither a model nor a tool did anything after the last interrupt."""
    at = facts.at("interrupt")
    if not at:
        return False
    return facts.at("call") <= at and facts.at("begun") <= at


def _has_thrown(facts: Facts) -> bool:
    """True when a root span that did not fail recorded an exception, and nothing was done after it."""
    thrown, failure = facts.at("exception"), facts.latest.get("failure")
    if not thrown or failure is None:
        return False
    return failure[1] >= facts.at("call") and failure[1] >= facts.at("tool")


def _has_failed_turn_last(facts: Facts) -> bool:
    """True when a turn failed after all calls: a guardrail stopped it, whatever the root says."""
    at = facts.at("failed_turn")
    return bool(at) and at >= facts.at("call") and at >= facts.at("tool")


def as_task(
    state: TaskState,
    verdict: TaskVerdict,
    use: ContextUse,
    rules: FoldRules,
    *,
    parent: TaskState | None,
    root: TaskState,
    children: Mapping[bytes, bool],
    agents_at_work: LocaleMessage | None = None,
) -> Task:
    """Return the row of a task."""
    facts, maps = state.facts, state.facts.maps
    known: Callable[[str], Any] = {name: fact[3] for name, fact in facts.latest.items()}.get
    run = newest_run(state) or Run()
    whole = figures(state)
    usage = as_usage(whole)
    aggregate = known("aggregate")
    is_aggregate = usage.input is None and usage.output is None and aggregate is not None and state.amounts[0] == 0
    window = use.window
    if is_aggregate and state.before is not None and facts.value("totals_of") is not None:
        aggregate = tuple(n - less if n is not None else None for n, less in zip(aggregate, state.before, strict=True))
    steps = _steps(facts) if maps else ()
    messages: dict[str, LocaleMessage] = {}

    def text(field: str, said: LocaleMessage | str | None) -> str | None:
        if not isinstance(said, LocaleMessage):
            return said
        messages[field] = said
        return worded(said)[0]

    step = known("step") or (None, None, None, None)
    step_name = step[0]
    if step[1] is None and steps and steps[-1].name.endswith(f". {step[0]}"):
        step, step_name = (None, None, None, None), text("step_name", steps[-1].message or steps[-1].name)
    elif step[3] is not None:
        step_name = text("step_name", unpacked(step[3]))
    parent_id = public_id(parent) if parent is not None else known("parent_id")
    task_id = public_id(state)
    name = known("name") or known("agent_label") or known("service") or known("model") or ""
    failure = verdict.failure if verdict.status == c.ERROR else None
    if failure is not None and verdict.reason is not None:
        messages["error"] = verdict.reason
    runs = runs_of(state)
    if len(runs) == 1:
        started = run.start_ns or facts.first_ns
    else:
        started = min((s.start_ns for s in runs.values() if s.start_ns), default=0) or facts.first_ns
    return Task(
        uid=uuid_of(state.uid),
        tenant=state.tenant,
        task_id=task_id,
        aliases=_aliases(state),
        parent_uid=uuid_of(parent.uid) if parent is not None else None,
        parent_task_id=parent_id,
        root_uid=uuid_of(root.uid),
        message_uid=uuid_of(root.message_uid),
        trace_id=run.trace_id or state.trace_id,
        span_id=run.span_id or state.span_id,
        name=name,
        type=known("type"),
        agent_name=known("agent_name") or known("agent_label"),
        agent_id=known("agent_id"),
        agent_version=known("agent_version"),
        service=known("service"),
        environment=known("environment"),
        repo=known("repo"),
        topic=known("topic"),
        requested_by=known("requested_by"),
        retry_of=known("retry_of"),
        caused_by=known("caused_by"),
        order_id=known("order_id"),
        session_id=known("conversation"),
        status=verdict.status,
        end_reason=verdict.end_reason,
        is_inferred=verdict.is_inferred,
        rule=verdict.rule,
        is_announced=root.is_announced,
        progress=known("progress"),
        action=text("action", _action(facts, verdict, agents_at_work)),
        step_name=step_name,
        step_index=step[1],
        step_count=step[2],
        started_at=moment(started),
        ended_at=moment(verdict.ended_ns) if verdict.is_over else None,
        last_event_at=moment(facts.last_ns),
        runs=max(1, len(runs)),
        input_tokens=aggregate[0] if is_aggregate else usage.input,
        output_tokens=aggregate[1] if is_aggregate else usage.output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        reasoning_tokens=usage.reasoning,
        cost_usd=usage.cost_usd,
        unpriced_calls=unpriced(whole),
        context_used_tokens=use.used,
        context_window_tokens=window.tokens if window is not None else None,
        context_window_source=window.source if window is not None else "",
        context_model=use.model,
        context_max_output_tokens=window_of(use.model, rules.outputs) if rules.outputs else None,
        context_forecast=None if verdict.is_over else ahead(use, rules),
        model=known("model"),
        llm_calls=state.amounts[0],
        tool_calls=state.tools[0],
        tool_errors=state.tools[1],
        error_count=state.errors,
        child_count=len(children),
        child_failed=sum(children.values()),
        steps=steps,
        artifacts=_artifacts(facts) if maps else (),
        approvals=approvals.approvals(facts, state.tenant, rules.expiry) if maps else (),
        is_muted=acts.is_muted(state),
        cancel_by=(cancel_by := text("cancel_by", acts.cancel_by(state)) or ""),
        cancel_at=moment(facts.at("cancel_asked")) if cancel_by else None,
        paused_by=text("paused_by", acts.paused_by(state)) or "",
        links=_by_name(maps.get("links")),
        results=_by_name(maps.get("results")),
        attributes=_by_name(maps.get("attributes")),
        error=Failure(type=failure[0], message=failure[1], log_tail=failure[2]) if failure is not None else None,
        messages=messages,
    )


def _by_name(entries: Mapping[str, Fact] | None) -> dict[str, Any]:
    return {name: fact[3] for name, fact in sorted(entries.items())} if entries else {}


def public_id(state: TaskState) -> str:
    """Return the highest-ranked alias known."""
    return state.task_id or state.facts.value("alias") or _span_id(state)


def _span_id(state: TaskState) -> str:
    return f"{state.trace_id.hex()}-{state.span_id.hex()}" if state.span_id else state.trace_id.hex()


def _aliases(state: TaskState) -> tuple[str, ...]:
    newest = newest_run(state)
    span = (
        f"{newest.trace_id.hex()}-{newest.span_id.hex()}" if state.task_id and newest is not None else _span_id(state)
    )
    known = (state.task_id, state.facts.value("alias"), span)
    return tuple(dict.fromkeys(a for a in known if a))


def _steps(facts: Facts) -> tuple[Step, ...]:
    entries = facts.maps.get("steps")
    if not entries:
        return _acts(facts)
    order = sorted(
        entries.items(), key=lambda item: (item[1][3][1] is None, item[1][3][1] or 0, item[1][3][2], item[0])
    )
    return tuple(_step(n, entry, *fact[3]) for n, (entry, fact) in enumerate(order, 1))


def _step(n: int, entry: str, name: str, index: int | None, at: int, ours: Any) -> Step:
    said = unpacked(ours) or name
    if index is None and entry[0] != "~":  # a prompt has no name of its own: its number tells it apart
        said = message("task.nth_step", n=n, name=said)
    text, rendered = worded(said)
    return Step(name=text, index=index, at=moment(at), message=rendered)


def _action(facts: Facts, verdict: TaskVerdict, agents_at_work: LocaleMessage | None) -> LocaleMessage | str | None:
    """Return the current action: as reported, else its working agents, else the newest thing that began."""
    action, doing = facts.latest.get("action"), facts.latest.get("doing")
    if agents_at_work and (action is None or action[0] == 0):
        return agents_at_work
    # What only a start reports was seen live, and holds while the task runs.
    if doing is not None and not verdict.is_over and (action is None or (action[0], action[1]) < (0, doing[1])):
        action = doing
    return unpacked(action[3]) if action is not None else None


def _acts(facts: Facts) -> tuple[Step, ...]:
    """Return the tool calls as steps, for an agent without steps; a call in several layers is one."""
    out: list[Step] = []
    name, ended_ns = "", 0
    for _, fact in sorted(
        facts.maps.get("acts", {}).items(), key=lambda item: (item[1][3][1], -item[1][3][2], item[0])
    ):
        if fact[3][0] == name and fact[3][1] < ended_ns:
            continue
        name, begins, ended_ns = fact[3]
        out.append(Step(name=name, index=None, at=moment(begins)))
    return tuple(out)


def _artifacts(facts: Facts) -> tuple[Artifact, ...]:
    entries = sorted(facts.maps.get("artifacts", {}).items(), key=lambda item: (item[1][1], item[0]))
    return tuple(Artifact(name=fact[3][0], uri=fact[3][1], kind=fact[3][2]) for _, fact in entries)
