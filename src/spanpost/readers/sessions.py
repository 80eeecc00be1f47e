"""What log records and data points of a coding CLI mean.

Rules. A session is a task and each of its prompts a run of it. Records are joined by the session's and the
prompt's id, and stand for spans of their own: the prompt, its model calls, its tools. Their ids are made of
the record's content, so that any order and any repetition finds the same. Among records of the same time the
CLI's own sequence decides the order. A record inside a span (`is_traced`) stands in that span's trace, below
it; a call that a span and a record report is one, known by `call_key`. The span's place counts, and it takes
over what the record alone knows (its cost). Data points are kept apart (`is_metered`): they count as a
task's use where nothing else reports it. A record without an end of its own is over when the CLI has
answered and does nothing more (`rests`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import Observation, Part, Status
from spanpost.model.readings import METERED, Approval, EventReport, Failure, Finish, Reading, Role
from spanpost.model.usage import Usage
from spanpost.readers import values as v
from spanpost.readers.plans import is_plan, plan_of
from spanpost.readers.session_points import read_point
from spanpost.readers.session_records import Cli, SessionPart, SessionRecord
from spanpost.text.wording import message, worded


def read_session(cli: Cli, o: Observation) -> Reading | None:
    """Return what a log record or data point of the CLI means; None for one that is not of a session."""
    meter = cli.meters.get(o.name)
    if meter is not None:
        return read_point(SessionRecord(cli, o), meter)
    name = (v.text(o.attributes.get(cli.event_name)) if cli.event_name else None) or o.name
    head, _, rest = name.partition(".")
    event = rest if head in cli.heads else name
    what = cli.events.get(event)
    if what is None:
        return _QUIET
    if event in cli.only:
        attribute, values = cli.only[event]
        what = values.get(str(o.attributes.get(attribute)), values.get("*"))
        if what is None:
            return _QUIET
    record = SessionRecord(cli, o)
    return (_READERS[what](record) or _QUIET) if record.session else None


def read_session_span(cli: Cli, o: Observation) -> Reading:
    """Return what a span of the CLI means: the record of the same call, placed where that record is."""
    what = cli.spans.get(o.name)
    if what is None or o.part is not Part.ENDED:
        return _UNREAD
    if o.name in cli.only:
        attribute, values = cli.only[o.name]
        what = values.get(str(o.attributes.get(attribute)), values.get("*"))
        if what is None:
            return _UNREAD
    record = SessionRecord(cli, o)
    return (_READERS[what](record) if record.session else None) or _UNREAD


def read_span_event(cli: Cli, o: Observation) -> Reading | None:
    """Return what an event of a span means that repeats a record; None for any other: those of machinery."""
    if not cli.event_name:
        return None
    found = read_session(cli, o)
    return found if found is not None and found.stands_for is not None else None


#: A record without meaning here: kept with its span, and no sign of work.
_QUIET = Reading(is_quiet=True)
#: Time by which the span of a failed call is read as earlier than its record.
_BESIDE_NS = 10_000_000
#: Time between the end of a tool and that of its round, at most (recorded: 7 ms); no model answers as fast.
_ROUND_NS = 25_000_000
#: A span of a CLI that is not read.
_UNREAD = Reading()


def prompt(length: int | None) -> LocaleMessage:
    """Return the name of a prompt's step; `length` is in characters."""
    return message("task.prompt_of", length=length) if length else message("task.prompt")


def _prompt(r: SessionRecord) -> Reading | None:
    if r.is_span and r.o.status is Status.ERROR:
        return _prompt_ended(r)  # its last call says why
    command, length = r.text("command"), r.count("length")
    step: LocaleMessage | str = f"/{command.lstrip('/')}" if command else prompt(length)
    name, locale_message = worded(step)
    common = r.common()
    common.pop("agent_label")
    return Reading(
        role=Role.AGENT,
        agent_name=r.cli.agent,
        **{"repo": v.text(r.get("repo")), **r.of_process()},
        is_session=r.is_session(),
        step_name=name,
        step_message=locale_message,
        # A CLI without ids of prompts has one root: its steps are known by the span around the record, or its time.
        step_key=r.root_span.hex() if r.prompt or r.cli.is_traced else (r.o.span_id.hex() or str(r.at_ns)),
        stands_for=(r.trace, r.root_span, b"", r.began() if r.is_span else r.at_ns),
        is_open=not r.is_span,
        **common,
    )


def _call(r: SessionRecord) -> Reading | None:
    if r.is_span and r.o.status is Status.ERROR:
        # Its record, which is written before the span ends, has better words.
        before = max(r.o.start_ns, r.at_ns - _BESIDE_NS)
        return msgspec.structs.replace(_as_call(r, None, r.failure()), at_ns=before)
    usage = r.usage()
    if usage is None and (r.cli.rests_after_calls or (r.is_span and r.cli.needs_figures)):
        return None  # the same event without figures comes first, or the call's record has them
    is_answer = r.cli.rests_after_answers and not r.is_quiet and v.finish(r.get("finish")) is Finish.STOP
    return _as_call(r, usage, None, rests=r.cli.rests_after_calls or is_answer)


def _call_failed(r: SessionRecord) -> Reading:
    return _as_call(r, None, r.failure())


def _as_call(r: SessionRecord, usage: Usage | None, failure: Failure | None, *, rests: bool = False) -> Reading:
    key = r.cli.call_key(r.session, r.attributes) if r.cli.call_key is not None else ""
    own = r.identifier("request") or key or str(r.o.index)
    # An error that is not retried ends the prompt, unless something follows.
    status = r.count("status_code")
    # It overlaps the span of the same call, which is moved before it.
    began = r.began() - (_BESIDE_NS if failure is not None and r.cli.spans and not r.is_span else 0)
    is_final = failure is not None and status is not None and 400 <= status < 500 and status not in (408, 409, 429)
    return Reading(
        role=Role.LLM,
        model=v.text(r.get("model")),
        usage=usage,
        failure=failure,
        finish=v.finish(r.get("finish")) or Finish.UNKNOWN,
        call_key=key,
        occurrence=failure_key(r.session, r.identifier("request") or _span_of(r)) if failure is not None else "",
        rests=is_final or rests,
        is_aside=r.is_aside,
        is_unattended=bool(r.cli.unattended_source) and r.get("source") == r.cli.unattended_source,
        is_quiet=r.is_quiet,
        stands_for=(r.trace, r.hash(8, "call", r.prompt, own, str(r.o.at_ns)), r.root_span, max(began, 0)),
        **r.common(),
    )


def _span_of(r: SessionRecord) -> str | None:
    """Return the span that a record names, or that it is: the same for both forms of a call; None without one."""
    return f"span\0{r.o.span_id.hex()}" if r.cli.spans and r.o.span_id else None


def _tool(r: SessionRecord) -> Reading:
    failed = v.truth(r.get("success")) is False or (r.is_span and r.o.status is Status.ERROR)
    decision = r.text("decision").lower()
    if failed and decision in _REFUSED:  # a person or a rule said no: no failure of the tool
        key = r.identifier("tool_call_id") or _span_of(r) or str(r.o.at_ns)
        said = approval_of(key, False, r.text("decided_by") or r.cli.refuses_by, r.text("tool_name"))
        return _as_tool(r, **said, has_result=True, rests=bool(r.cli.refuses_by))
    return _as_tool(r, failure=r.failure() if failed else None)


def _calls_tool(r: SessionRecord) -> Reading:
    return r.event(begins_tool=True, is_quiet=True)


def _turn(r: SessionRecord) -> Reading | None:
    """Return the use of a turn as its span sums it up: it counts where no record of a call does."""
    usage = r.usage()
    if usage is None:
        return None
    return Reading(
        role=Role.LLM,
        model=v.text(r.get("model")),
        usage=usage,
        is_metered=True,
        stands_for=(r.hash(16, "meters"), r.hash(8, "turn", r.o.span_id.hex()), METERED, r.o.start_ns),
        **r.common(),
    )


def _agent_began(r: SessionRecord) -> Reading:
    common = r.common()
    common.pop("agent_label")
    return Reading(
        role=Role.AGENT,
        agent_name=v.name(r.get("subagent")) or "Sub-agent",
        task_parent_id=r.session,
        # Below the prompt of a run without a terminal; at one, the record does not say which prompt it is of.
        stands_for=(r.trace, r.root_span, r.hash(8, "prompt", r.session), r.at_ns),
        is_open=True,
        **r.of_process(),
        **common,
    )


def _agent_ended(r: SessionRecord) -> Reading:
    reading = _agent_began(r)
    assert reading.stands_for is not None
    return msgspec.structs.replace(reading, is_open=False, stands_for=(*reading.stands_for[:3], r.began()))


def _prompt_ended(r: SessionRecord) -> Reading:
    return r.event(rests=True, is_idle=True, is_quiet=True)


def _session_ended(r: SessionRecord) -> Reading:
    return r.event(status=c.COMPLETE)


def _call_began(r: SessionRecord) -> Reading:
    return r.event()


def _goes_on(r: SessionRecord) -> Reading:
    return msgspec.structs.replace(r.event(), at_ns=r.at_ns + _ROUND_NS)


def _session_began(r: SessionRecord) -> Reading | None:
    if not r.is_session():
        return None
    stands_for = (r.trace, r.hash(8, "session"), b"", r.at_ns)
    return Reading(role=Role.STEP, is_session=True, is_open=True, is_quiet=True, stands_for=stands_for, **r.common())


def _beside(r: SessionRecord) -> Reading | None:
    is_beside = r.cli.is_beside is not None and r.cli.is_beside(r.attributes)
    return r.event(is_aside=True, is_quiet=True) if is_beside else None


def _as_tool(r: SessionRecord, **said: Any) -> Reading:
    call = r.identifier("tool_call_id")
    began = r.at_ns if said.get("is_open") else r.began()
    name = v.text(r.get("tool_name"))
    if name is not None and is_plan(name):
        said |= plan_of(r.attributes)
    return Reading(
        role=Role.TOOL,
        tool_name=name,
        tool_call_id=call,
        call_key=f"tool\0{r.session}\0{call}" if call else "",
        occurrence=failure_key(r.session, call) if said.get("failure") is not None else "",
        is_quiet=r.is_quiet,
        stands_for=(r.trace, r.hash(8, "tool", r.prompt, call or str(r.o.index)), r.root_span, began),
        **r.common(),
        **said,
    )


_REFUSED = frozenset({"reject", "rejected", "denied", "deny", "cancel", "cancelled"})
_ACCEPTED = frozenset(
    {"accept", "accepted", "approved", "approve", "approved_for_session", "allow", "auto_accept", "modify"}
)


def _decision(r: SessionRecord) -> Reading:
    decision = r.text("decision").lower()
    said: dict[str, Any] = {"is_open": True} if decision in _ACCEPTED else {}
    key = r.o.span_id.hex() if r.cli.is_traced and r.o.span_id else r.identifier("tool_call_id")
    if key and decision:
        said |= approval_of(key, decision in _ACCEPTED, r.text("decided_by"), r.text("tool_name"))
        # After a rejection the person is asked what to do instead.
        said["rests"] = decision not in _ACCEPTED and r.text("decided_by").startswith("user")
    return _as_tool(r, **said)


def approval_of(key: str, is_accepted: bool, source: str, what: str) -> dict[str, Any]:
    """Return the fields of a decision: a person's always, a rule's or hook's only where it refused.

    A refusal is a checkpoint.
    """
    is_person = source.lower().startswith("user")
    if is_accepted and not is_person:
        return {}
    who = "a person" if is_person else source or "a rule"
    approval = Approval(id=key, decision="accept" if is_accepted else "reject", by=who, comment=what)
    return {"approval": approval} if is_accepted else {"approval": approval, "reports": EventReport.APPROVAL_RESOLVED}


def _answer(r: SessionRecord) -> Reading:
    return r.event(rests=True, is_quiet=True)


def _compaction(r: SessionRecord) -> Reading:
    if v.truth(r.get("success")) is False:
        why = r.text("error_message")
        failed = message("checkpoint.not_compacted_because", reason=why) if why else message("checkpoint.not_compacted")
        return r.event(reports=EventReport.CHECKPOINT, locale_message=failed, is_quiet=True)
    before, after = r.count("before"), r.count("after")
    shown = message("checkpoint.compacted")
    if before and after is not None:
        shown = message("checkpoint.compacted_from_to", before=before, after=after)
    return r.event(reports=EventReport.COMPACTION, locale_message=shown, occurrence=f"compaction\0{r.at_ns}")


def _subagent(r: SessionRecord) -> Reading | None:
    if r.text("subagent").startswith("managed-"):  # it keeps the CLI's own memory
        return None
    name, tools = v.name(r.get("subagent")) or "Sub-agent", r.count("tools")
    milliseconds = r.count("duration_ms")
    figures = [message("checkpoint.tool_calls", n=tools)] if tools is not None else []
    if milliseconds:
        figures.append(message("checkpoint.seconds", seconds=milliseconds / 1000))
    done = message("checkpoint.done", name=name)
    if figures:
        done = message("checkpoint.with_words", text=done, words=figures)
    return r.event(reports=EventReport.CHECKPOINT, locale_message=done, is_quiet=r.cli.is_quiet is not None)


def _hook(r: SessionRecord) -> Reading | None:
    hook, name = r.text("hook"), r.text("hook_name")
    if hook == "PermissionRequest" or (hook == "Notification" and "permission" in name):
        return r.event(is_interrupt=True)
    if hook == "Notification" and "idle" in name:
        # The prompt waits for input: the only record of a prompt that was given up with Escape.
        return r.event(rests=True, is_idle=True, is_quiet=True)
    return r.event(rests=True, is_quiet=True) if hook == "Stop" else _session_ended(r) if hook == "SessionEnd" else None


_READERS: dict[SessionPart, Callable[[SessionRecord], Reading | None]] = {
    SessionPart.PROMPT: _prompt,
    SessionPart.CALL: _call,
    SessionPart.CALL_FAILED: _call_failed,
    SessionPart.TOOL: _tool,
    SessionPart.DECISION: _decision,
    SessionPart.ANSWER: _answer,
    SessionPart.GAVE_UP: _answer,
    SessionPart.COMPACTION: _compaction,
    SessionPart.SUBAGENT: _subagent,
    SessionPart.HOOK: _hook,
    SessionPart.CALLS_TOOL: _calls_tool,
    SessionPart.TURN: _turn,
    SessionPart.AGENT_BEGAN: _agent_began,
    SessionPart.AGENT_ENDED: _agent_ended,
    SessionPart.PROMPT_ENDED: _prompt_ended,
    SessionPart.SESSION_ENDED: _session_ended,
    SessionPart.GOES_ON: _goes_on,
    SessionPart.CALL_BEGAN: _call_began,
    SessionPart.SESSION_BEGAN: _session_began,
    SessionPart.BESIDE: _beside,
}


def failure_key(session: str, call: str | None) -> str:
    """Return the occurrence of a failed call, by the call's own id: the same in its span and its record.

    Some models count the calls of each conversation from zero.
    """
    return f"call\0{session}\0{call}" if call else ""


def of_hook(cli: Cli, o: Observation) -> dict[str, Any]:
    """Return the fields of a record of a permission hook: it stands in its session, on the span of its prompt.

    A record that says only that the hook was called names the agent. It begins no run: telemetry does.
    """
    r = SessionRecord(cli, o)
    if not r.session:
        return {}
    said = r.common() | {"is_quiet": True}
    del said["rule"]  # the event's name is
    if o.name != c.EVENT_HOOK_CALLED:
        return said | {"is_event": True, "stands_for": (r.trace, r.root_span, b"", r.at_ns)}
    stands_for = (r.trace, r.hash(8, "hook", r.prompt), r.root_span, r.at_ns)
    begun = {"agent_label": cli.agent, "is_session": r.is_session(), "rests": True}
    return said | r.of_process() | begun | {"stands_for": stands_for}
