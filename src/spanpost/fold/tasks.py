"""The task machine: from facts to a status that can be trusted, and to the row that people see.

Rules. The newest segment decides. Within it, the greatest authority stands:

    said         an explicit final status (agent.status), the earliest
    interrupt    what looks like a failure is a wait for a person, nothing was done since
    approval     a question is open
    root         the root's error, or its cancellation
    inner box    the last box within it ended in error (roots that say OK over failed runs)
    last call    the last thing was a model call that failed, or a turn after it
    unresolved   it closed on a tool call that nobody answered: waiting, probably
    rested       a coding session answered and did nothing since: complete, or waiting for its next prompt
    root OK      complete
    root UNSET   complete, inferred
    gone         its process ended with the span open: error, interrupted
    silent       its process was not heard of any more, and nothing of it since: error, interrupted

While nothing has ended it: waiting, paused, context_warning, working or starting, in this order of precedence.

Theory. Every input is a merged fact, so the status is a function of what is known and not of how it became known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from spanpost import conventions as c
from spanpost.domain.readings import Approval, Artifact, Failure, Finish
from spanpost.domain.tasks import Step, Task
from spanpost.domain.usage import Usage
from spanpost.fold.context import window_of
from spanpost.fold.facts import Ending, Fact, Facts
from spanpost.fold.flow import ZERO, as_usage
from spanpost.fold.ids import uuid_of
from spanpost.fold.records import Group, Segment
from spanpost.fold.segments import is_loose, newest_segment, runs

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Tools after which no model turn is expected: closing on one of them is an end, not a question.
_CLOSING = (
    "final_answer",
    "final_result",
    "final_output",
    "finish",
    "handoff",
    "transfer",
    "submit",
    "return_",
    "complete_task",
    "attempt_completion",
)


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """A status, why, and whether it was concluded rather than said."""

    status: str
    rule: str
    end_reason: str | None = None
    is_inferred: bool = False
    is_over: bool = False
    ended_ns: int = 0
    failure: tuple[str, str, str] | None = None


def moment(ns: int) -> datetime | None:
    """Return a time of the sender's clock; None for 0 and for what no calendar holds."""
    if ns <= 0:
        return None
    try:
        return EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return None


def judge(group: Group, windows: Mapping[str, int], warn_at: tuple[int, ...]) -> Verdict:
    """Return the status of a task from its facts."""
    facts = group.facts
    segment = newest_segment(group) or Segment()
    verdict = _end(group, facts, segment)
    if verdict is not None:
        return verdict
    if _open_approvals(facts):
        return Verdict(c.WAITING, "open approval")
    said = facts.latest.get("status")
    if said is not None and said[3] in (c.WAITING, c.PAUSED, c.STALLED):
        return Verdict(said[3], "agent.status")
    if _is_interrupted(facts):
        return Verdict(c.WAITING, "interrupt", is_inferred=True)
    used, window, _ = context_of(facts, windows)
    if used is not None and window and warn_at and used * 1000 >= window * warn_at[0]:
        return Verdict(c.CONTEXT_WARNING, "context window")
    if said is not None:
        if said[3] == c.STARTING and _active(group, facts) > said[1]:
            return Verdict(c.WORKING, "activity")
        return Verdict(said[3], "agent.status")
    if not _active(group, facts) and facts.value("step") is None and facts.value("progress") is None:
        return Verdict(c.STARTING, "no activity yet")
    return Verdict(c.WORKING, "activity")


def how_it_waits(facts: Facts, segment: Segment) -> int:
    """Return whether a run, by its own facts, ended waiting for a person: 0 no, 1 probably, 2 as it said itself."""
    if segment.ending.closed is None:
        return 0
    verdict = _end(Group(facts=facts, has_box=True), facts, segment)
    if verdict is None or verdict.status != c.WAITING:
        return 0
    return {"unresolved tool call": 1, "interrupt": 2, "open approval": 2}.get(verdict.rule, 0)


def of_past_segment(segment: Segment) -> Verdict | None:
    """Return how a segment ended that is not the newest: from its own end alone."""
    ending, inner = segment.ending, segment.inner
    said = max((s for s in (ending.said, inner.said) if s is not None), default=None)
    closed = ending.closed
    if closed is None and ending.rested is not None:
        closed = (*ending.rested, "unset", "", "")
    if said is not None:
        return Verdict(said[2], "agent.status", "said", False, True, closed[0] if closed is not None else -said[0])
    if closed is None:
        gone = ending.gone or ending.silent
        return Verdict(c.ERROR, "process gone", "interrupted", True, True, gone[0]) if gone is not None else None
    outcome = closed[2]
    if outcome == "unset" and inner.closed is not None and inner.closed[2] != "unset":
        outcome = inner.closed[2]
    status = {"error": c.ERROR, "cancelled": c.CANCELLED}.get(outcome, c.COMPLETE)
    failure = (closed[3], closed[4], "") if status == c.ERROR else None
    return Verdict(status, "segment ended", outcome, outcome == "unset", True, closed[0], failure)


def _end(group: Group, facts: Facts, segment: Segment) -> Verdict | None:
    ending, inner = segment.ending, segment.inner
    closed = ending.closed or _rested(group, facts, ending)
    if closed is not None and facts.active_ns > closed[0] and any(map(is_loose, group.segments)) and group.has_box:
        closed = None  # something goes on of which the box is not known yet
    said = max((s for s in (ending.said, inner.said) if s is not None), default=None)
    if said is not None:
        ended_ns = closed[0] if closed is not None else -said[0]
        failure = _said_failure(facts, closed) if said[2] == c.ERROR else None
        return Verdict(said[2], "agent.status", end_reason="said", is_over=True, ended_ns=ended_ns, failure=failure)
    if closed is None:
        if ending.gone is not None:
            shown = ("", "The process ended with the task open.", "")
            return Verdict(c.ERROR, "process gone", "interrupted", True, True, ending.gone[0], shown)
        silent = max((s for s in (ending.silent, inner.silent) if s is not None), default=None)
        if silent is not None and silent[0] >= facts.last_ns:
            shown = ("", "Its process is not heard of any more.", "")
            return Verdict(c.ERROR, "process silent", "interrupted", True, True, silent[0], shown)
        return None
    at, _, outcome, kind, message = closed
    if _is_interrupted(facts):
        return Verdict(c.WAITING, "interrupt", "waiting", True, True, at)
    if _open_approvals(facts) and outcome != "error":
        return Verdict(c.WAITING, "open approval", "waiting", False, True, at)
    if outcome == "cancelled":
        return Verdict(c.CANCELLED, "cancelled", "cancelled", False, True, at)
    if outcome == "error":
        return Verdict(c.ERROR, "root error", "error", False, True, at, (kind, message, _log_tail(facts)))
    if inner.closed is not None and inner.closed[2] in ("error", "cancelled"):
        status = c.ERROR if inner.closed[2] == "error" else c.CANCELLED
        return Verdict(status, "inner box", inner.closed[2], True, True, at, (inner.closed[3], inner.closed[4], _log_tail(facts)))
    if _has_failed_call_last(facts):
        return Verdict(c.ERROR, "last call failed", "error", True, True, at, facts.value("failure"))
    if _has_failed_turn_last(facts):
        return Verdict(c.ERROR, "turn failed", "error", True, True, at, facts.value("failure"))
    if group.has_box and _is_unresolved(facts):
        return Verdict(c.WAITING, "unresolved tool call", "waiting", True, True, at)
    if closed[2] == "rested" and not facts.value("is_session"):
        return Verdict(c.COMPLETE, "answered", "complete", True, True, at)
    if facts.value("is_session"):
        return Verdict(c.WAITING, "session between prompts", "waiting", True, True, at)
    if outcome == "ok":
        return Verdict(c.COMPLETE, "root OK", "complete", False, True, at)
    return Verdict(c.COMPLETE, "root ended UNSET", "complete", True, True, at)


def _active(group: Group, facts: Facts) -> int:
    """Return the newest sign of work; that of data points, which come late, only where nothing else tells."""
    return facts.active_ns if group.has_box else max(facts.active_ns, facts.at("metered"))


def _rested(group: Group, facts: Facts, ending: Ending) -> tuple[int, bytes, str, str, str] | None:
    """Return the end of a run that has answered and did nothing since, as its root would tell it."""
    rested = ending.rested
    if rested is None or rested[0] < _active(group, facts):
        return None
    if facts.at("begun") > facts.at("tool"):  # a tool is at work, or nobody has let it
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
    """An interrupt after which neither a model nor a tool did anything."""
    at = facts.at("interrupt")
    if not at:
        return False
    return facts.at("call") <= at and facts.at("begun") <= at


def _has_failed_call_last(facts: Facts) -> bool:
    call = facts.value("call")
    return call is not None and call[3] and facts.at("tool") <= facts.at("call")


def _has_failed_turn_last(facts: Facts) -> bool:
    """A turn failed after all that models and tools did: a guardrail stopped it, whatever the root says."""
    at = facts.at("failed_turn")
    return bool(at) and at >= facts.at("call") and at >= facts.at("tool")


def _is_unresolved(facts: Facts) -> bool:
    """It closed on a tool call that was asked for and never made, or made and never answered by a model turn."""
    call, tool = facts.value("call"), facts.value("tool")
    if call is None:
        return tool is not None and bool(tool[2])
    if tool is not None and facts.at("tool") > facts.at("call"):
        name = str(tool[0]).lower()
        if any(name.startswith(closing) or closing in name for closing in _CLOSING):
            return False
        return bool(tool[2]) or call[2] in (Finish.TOOLS, Finish.UNKNOWN)
    return bool(call[2] == Finish.TOOLS)


def _open_approvals(facts: Facts) -> bool:
    asked = facts.maps.get("asked")
    if not asked:
        return False
    answered = facts.maps.get("answered", {})
    return any(entry not in answered for entry in asked)


def context_of(facts: Facts, windows: Mapping[str, int]) -> tuple[int | None, int | None, str]:
    """Return tokens in use, the window and how the window is known (given, table or empty)."""
    used = facts.value("context_used")
    call = facts.value("context_call")
    if used is None and call is not None:
        used = call[1]
    window = facts.value("context_window")
    if window is not None:
        return used, window, "given"
    window = window_of(call[0] if call is not None else facts.value("model"), windows)
    return used, window, "table" if window is not None else ""


def as_task(
    group: Group, verdict: Verdict, windows: Mapping[str, int], *, parent: Group | None, root: Group, children: Mapping[bytes, bool]
) -> Task:
    """Return the row of a task."""
    facts, maps = group.facts, group.facts.maps
    known: Callable[[str], Any] = {name: fact[3] for name, fact in facts.latest.items()}.get
    segment = newest_segment(group) or Segment()
    usage = _used(group)
    aggregate = known("aggregate")
    is_aggregate = usage.input is None and usage.output is None and aggregate is not None and group.flow[0] == 0
    used, window, source = context_of(facts, windows)
    steps = _steps(facts) if maps else ()
    step = known("step") or (None, None, None)
    if step[1] is None and steps and steps[-1].name.endswith(f". {step[0]}"):
        step = (steps[-1].name, None, None)
    parent_id = public_id(parent) if parent is not None else known("parent_id")
    task_id = public_id(group)
    name = known("name") or known("agent_label") or known("service") or known("model") or ""
    failure = verdict.failure if verdict.status == c.ERROR else None
    segments = runs(group)
    if len(segments) == 1:
        started = segment.start_ns or facts.first_ns
    else:
        started = min((s.start_ns for s in segments.values() if s.start_ns), default=0) or facts.first_ns
    return Task(
        uid=uuid_of(group.uid),
        tenant=group.tenant,
        task_id=task_id,
        aliases=_aliases(group),
        parent_uid=uuid_of(parent.uid) if parent is not None else None,
        parent_task_id=parent_id,
        root_uid=uuid_of(root.uid),
        message_uid=uuid_of(root.message_uid),
        trace_id=segment.trace_id or group.trace_id,
        span_id=segment.span_id or group.span_id,
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
        session_id=known("conversation"),
        status=verdict.status,
        end_reason=verdict.end_reason,
        is_inferred=verdict.is_inferred,
        rule=verdict.rule,
        is_announced=root.is_announced,
        progress=known("progress"),
        action=known("action"),
        step_name=step[0],
        step_index=step[1],
        step_count=step[2],
        started_at=moment(started),
        ended_at=moment(verdict.ended_ns) if verdict.is_over else None,
        last_event_at=moment(facts.last_ns),
        segments=max(1, len(segments)),
        input_tokens=aggregate[0] if is_aggregate else usage.input,
        output_tokens=aggregate[1] if is_aggregate else usage.output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        reasoning_tokens=usage.reasoning,
        cost_usd=usage.cost_usd,
        context_used_tokens=used,
        context_window_tokens=window,
        context_window_source=source,
        model=known("model"),
        llm_calls=group.flow[0],
        tool_calls=sum([t[0] for t in group.tools.values()]),
        tool_errors=sum([t[1] for t in group.tools.values()]),
        error_count=group.errors,
        child_count=len(children),
        child_failed=sum(children.values()),
        steps=steps,
        artifacts=_artifacts(facts) if maps else (),
        approvals=_approvals(facts) if maps else (),
        links=_by_name(maps.get("links")),
        results=_by_name(maps.get("results")),
        error=Failure(type=failure[0], message=failure[1], log_tail=failure[2]) if failure is not None else None,
    )


def _used(group: Group) -> Usage:
    """Return what a task used: as its calls tell, where they tell nothing as its data points do."""
    usage, metered = as_usage(group.flow), group.metered
    if metered == ZERO:
        return usage
    other = as_usage(metered)
    if not usage.is_known:
        return other if usage.cost_usd is None else msgspec.structs.replace(other, cost_usd=usage.cost_usd)
    return usage if usage.cost_usd is not None else msgspec.structs.replace(usage, cost_usd=other.cost_usd)


def _by_name(entries: Mapping[str, Fact] | None) -> dict[str, Any]:
    return {name: fact[3] for name, fact in sorted(entries.items())} if entries else {}


def public_id(group: Group) -> str:
    """Return the highest-ranked alias known."""
    return group.task_id or group.facts.value("alias") or _span_id(group)


def _span_id(group: Group) -> str:
    return f"{group.trace_id.hex()}-{group.span_id.hex()}" if group.span_id else group.trace_id.hex()


def _aliases(group: Group) -> tuple[str, ...]:
    newest = newest_segment(group)
    span = f"{newest.trace_id.hex()}-{newest.span_id.hex()}" if group.task_id and newest is not None else _span_id(group)
    known = (group.task_id, group.facts.value("alias"), span)
    return tuple(dict.fromkeys(a for a in known if a))


def _steps(facts: Facts) -> tuple[Step, ...]:
    entries = facts.maps.get("steps", {})
    order = sorted(entries.items(), key=lambda item: (item[1][3][1] is None, item[1][3][1] or 0, item[1][3][2], item[0]))
    # Steps that are known by no name of theirs (prompts) are told apart by their number.
    return tuple(
        Step(name=f"{n}. {name}" if index is None and entry[0] != "~" else name, index=index, at=moment(at))
        for n, (entry, (_, _, _, (name, index, at))) in enumerate(order, 1)
    )


def _artifacts(facts: Facts) -> tuple[Artifact, ...]:
    entries = sorted(facts.maps.get("artifacts", {}).items(), key=lambda item: (item[1][1], item[0]))
    return tuple(Artifact(name=fact[3][0], uri=fact[3][1], kind=fact[3][2]) for _, fact in entries)


def _approvals(facts: Facts) -> tuple[Approval, ...]:
    asked, answered = facts.maps.get("asked", {}), facts.maps.get("answered", {})
    out = []
    for entry in sorted(asked.keys() | answered.keys(), key=lambda e: (asked[e][1] if e in asked else 0, e)):
        question, detail, options, risk, expires_at = asked[entry][3] if entry in asked else ("", "", [], "", "")
        decision, by, comment = answered[entry][3] if entry in answered else ("", "", "")
        out.append(
            Approval(
                id=entry,
                question=question,
                detail=detail,
                options=tuple(options),
                risk=risk,
                expires_at=expires_at,
                decision=decision,
                by=by,
                comment=comment,
            )
        )
    return tuple(out)
