"""Turn an observation and its reading into facts."""

from __future__ import annotations

from collections.abc import Collection
from zlib import crc32

from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import MAX_NS, Observation, Part, Status
from spanpost.model.readings import EventReport, Failure, Finish, Reading, Role
from spanpost.readers.values import doing, is_of_framework, name_of_span
from spanpost.readers.values import name as clean_name
from spanpost.semconv import FINAL_STATUSES, TASK_NAME
from spanpost.tasks import acts, approvals, evaluations
from spanpost.tasks.amounts import nano
from spanpost.tasks.context import canonical_model
from spanpost.tasks.fact_values import (
    CallEnd,
    Deed,
    FailureWords,
    FinalStatus,
    FirstCall,
    KeptArtifact,
    LifetimeTokens,
    Sign,
    SpanEnd,
    StepBegin,
    StepNow,
    ToolAct,
    UsePoint,
)
from spanpost.tasks.facts import LOG_CAP, Ending, Facts, newest
from spanpost.text.sanitise import paragraph
from spanpost.text.wording import TEXT_CAP, message, packed, worded

#: Bound once: the members of an enum are slow to look up.
_STARTED, _ENDED, _EVENT, _INTERVENTION = Part.STARTED, Part.ENDED, Part.EVENT, Part.INTERVENTION
_OK, _ERROR = Status.OK, Status.ERROR
_COMPACTION, _STEPS = EventReport.COMPACTION, Finish.STEPS
_STEP, _LLM, _TOOL, _AGENT, _TASK, _HANDOFF = Role.STEP, Role.LLM, Role.TOOL, Role.AGENT, Role.TASK, Role.HANDOFF

#: What an agent does, as it begins and ends.
_DOING = frozenset({_LLM, _TOOL, _STEP})
#: A named tuple's constructor is a Python function, and too slow for each call.
_tuple = tuple.__new__
_MODEL_FIRST = FirstCall(False)
#: Model of the context window for calls that name no model, and for what the agent reports itself: no model
#: has these names.
NO_MODEL, AGENT_CONVERSATION = "model", "agent"
#: Characters kept of an attribute that routes match on.
ATTRIBUTE_CAP = 200
#: Identity that a root span states about its task, and the attribute of `Reading` that holds it.
_IDENTITY = (
    ("type", "task_type"),
    ("agent_name", "agent_name"),
    ("agent_id", "agent_id"),
    ("agent_version", "agent_version"),
    ("repo", "repo"),
    ("topic", "topic"),
    ("requested_by", "requested_by"),
    ("retry_of", "retry_of"),
    ("caused_by", "caused_by"),
    ("order_id", "order_id"),
    ("alias", "task_alias"),
    ("parent_id", "task_parent_id"),
)


def absorb(facts: Facts, o: Observation, r: Reading, key: bytes, *, role: Role, is_ending: bool) -> None:
    """Add to `facts` what the observation says.

    `key` breaks ties between facts of the same time (the content hash). `role` is the span's role as its
    node has it; `is_ending` says that the span is a root span or the top of its trace, so that its end ends
    something.
    """
    at = o.at_ns if o.part is not _EVENT or not o.end_ns else o.end_ns
    if o.part is _INTERVENTION:  # a person's act is no sign of work
        if r.approval is not None:
            approvals.enter(facts, o, r, at, key)
        if r.act is not None:
            acts.enter(facts, r.act, at, key)
        if r.evaluation is not None:
            evaluations.enter(facts, o, r.evaluation, at, key)
        return
    if r.evaluation is not None:  # others judge the work: no sign of it
        evaluations.enter(facts, o, r.evaluation, at, key)
        return
    if r.is_stalled:  # its process stopped sending: this is all that the observation says
        stalled = Sign(at, key)
        if facts.ending.stalled is None or stalled > facts.ending.stalled:
            facts.ending.stalled = stalled
        return
    begins = o.start_ns or at
    if begins and (not facts.first_ns or begins < facts.first_ns):
        facts.first_ns = begins
    if at > facts.last_ns:
        facts.last_ns = at
    is_span = o.part <= _STARTED
    if is_span:
        # The same value must win in every form of an occurrence (start, end, log): a span's end knows most.
        _identity(facts, o, r, o.span_id + (b"\1" if o.part is _ENDED else b"\0") + key, begins, role)
        if o.part is _ENDED:
            _ended(facts, o, r, key, role, is_ending)
            # It outranks its start: nothing is done any more. The end of an HTTP request in a call is no call's.
            if o.parent_id and r.role in _DOING:
                facts.doing = newest(facts.doing, 0, begins, b"\1" + key, None)
        else:
            if role is _LLM or role is _TOOL:
                if begins > facts.active_ns:
                    facts.active_ns = begins
                if role is _TOOL and not r.is_same_call:
                    facts.begun = newest(facts.begun, 0, begins, key, True)
            _doing(facts, o, r, key, begins)
        if (role is _LLM or role is _TOOL) and begins and not r.is_same_call:
            # What the run began with: of a span's copies, its end knows most.
            first = facts.first
            if first is None or first.at_ns <= -begins:
                what = FirstCall(True, r.tool_name or "", r.tool_call_id or "") if role is _TOOL else _MODEL_FIRST
                facts.first = newest(facts.first, 0, -begins, (b"\1" if o.part is _ENDED else b"\0") + key, what)
            if role is _LLM and (facts.answered is None or facts.answered.at_ns <= -begins):
                ids = " ".join(r.answered_ids) if r.answered_ids else ""
                facts.answered = newest(facts.answered, 0, -begins, (b"\1" if o.part is _ENDED else b"\0") + key, ids)
        if role is _TOOL and r.tool_name:
            name = clean_name(r.tool_name) or "a tool"
            # A bounded map keeps the entries that sort first: the newest calls.
            rank = 1 if o.part is _ENDED else 0
            facts.enter(
                "acts",
                f"{MAX_NS - begins:019d}{o.span_id.hex()}",
                rank,
                at,
                key,
                ToolAct(name, begins, o.end_ns, o.parent_id, r.is_interrupt),
            )
    elif at > facts.active_ns and not r.is_quiet and r.is_of_agent:  # others count only if their span came first
        facts.active_ns = at
    if r.is_aside and not is_span:
        facts.is_beside = newest(facts.is_beside, 0, at, key, True)
    if r.begins_tool:
        facts.begun = newest(facts.begun, 0, at, key, True)
    if r.is_idle:
        facts.idle = newest(facts.idle, 0, at, key, True)
    if r.rests:
        rested = Sign(at, key)
        if facts.ending.rested is None or rested > facts.ending.rested:
            facts.ending.rested = rested
    if r.finish is _STEPS and not is_span:
        limited = Sign(at, key)
        if facts.ending.limited is None or limited > facts.ending.limited:
            facts.ending.limited = limited
    _progress(facts, o, r, key, role, at)
    if r.reports is _COMPACTION:
        facts.compacted = newest(facts.compacted, 0, o.start_ns or at, key, True)
    if r.is_interrupt:
        facts.interrupt = newest(facts.interrupt, 0, at, key, True)
    if r.approval is not None:
        approvals.enter(facts, o, r, at, key)
    if r.is_gone:
        _gone(facts.ending, at, key)


def keep(facts: Facts, o: Observation, names: Collection[str], key: bytes, *, is_root_span: bool) -> None:
    """Keep the attributes that routes match on: the earliest.

    The root span's own come before its process's, and those before attributes of spans below it.
    """
    begins = -(o.start_ns or o.at_ns)
    for name in names:
        for rank, source in ((2 if is_root_span else 0, o.attributes), (1, o.origin.resource)):
            value = source.get(name)
            if isinstance(value, (str, int, float)):  # a bool is an int
                shown = str(value).lower() if isinstance(value, bool) else str(value)
                facts.enter("attributes", name, rank, begins, key, shown[:ATTRIBUTE_CAP])


def _identity(facts: Facts, o: Observation, r: Reading, key: bytes, begins: int, role: Role) -> None:
    """Keep who works on the task.

    Among equals the earliest stands, so that a name does not change under its readers.
    """
    earliest = -begins
    # Of a span's copies its end says most: at its start a weaker attribute may stand in for one that comes
    # later.
    key = (b"\1" if o.part is _ENDED else b"\0") + key
    is_root_span = 4 <= role <= 6
    if is_root_span:
        name = r.task_name
        if name:
            facts.name = newest(facts.name, 3, earliest, key, name[:TEXT_CAP])
            if TASK_NAME in o.attributes:
                facts.is_named = newest(facts.is_named, 0, earliest, key, True)
        elif r.agent_name:
            facts.name = newest(facts.name, 2 if role is _AGENT else 1, earliest, key, r.agent_name[:TEXT_CAP])
        elif o.name and ((called := name_of_span(o.name)) is None or called != r.model):
            # A name that says nothing ("Agent workflow") is better than none.
            is_poor = called is None or is_of_framework(called)
            said_name = called if called is not None and is_poor else o.name
            facts.name = newest(facts.name, -1 if is_poor else 0, earliest, key, said_name[:TEXT_CAP])
        for field, attribute in _IDENTITY:
            value = getattr(r, attribute)
            if value:
                setattr(facts, field, newest(getattr(facts, field), 0, earliest, key, value))
        if r.aggregate is not None and o.part is _ENDED:
            facts.aggregate = newest(
                facts.aggregate, 0, o.at_ns, key, LifetimeTokens(r.aggregate.input, r.aggregate.output)
            )
            if r.totals_of:
                facts.totals_of = newest(facts.totals_of, 0, o.at_ns, key, r.totals_of)
    elif r.agent_label:
        facts.agent_label = newest(facts.agent_label, 0, earliest, key, r.agent_label)
    if r.is_unattended:
        facts.is_session = newest(facts.is_session, 1, earliest, key, False)
    elif r.is_session:
        facts.is_session = newest(facts.is_session, 0, earliest, key, True)
    # Most spans repeat what an earlier one said: check that without a call.
    if (said := r.conversation_id) and (
        (known := facts.conversation) is None or known.at_ns <= earliest or is_root_span
    ):
        facts.conversation = newest(facts.conversation, 1 if is_root_span else 0, earliest, key, said)
    if (said := r.service) and ((known := facts.service) is None or known.at_ns <= earliest):
        facts.service = newest(facts.service, 0, earliest, key, said)
    if (said := r.environment) and ((known := facts.environment) is None or known.at_ns <= earliest):
        facts.environment = newest(facts.environment, 0, earliest, key, said)


def _doing(facts: Facts, o: Observation, r: Reading, key: bytes, begins: int) -> None:
    """Keep what the task is doing now: the newest start counts.

    `role` is taken from this copy of the span: the role that its node has depends on the order of arrival.
    """
    role = r.role
    if role is not _LLM and role is not _TOOL and (role is not _STEP or not o.parent_id):
        return
    if begins > facts.active_ns:
        facts.active_ns = begins
    if role is _LLM:
        shown = packed(message("task.model", name=r.model) if r.model else message("task.asking_model"))
    else:
        name = (clean_name(r.tool_name) or "a tool") if r.tool_name else doing(o.name)
        if name is None:
            return
        shown = packed(message("task.tool", name=name) if role is _TOOL else name[:TEXT_CAP])
    facts.doing = newest(facts.doing, 0, begins, b"\0" + key, shown)


def _ended(facts: Facts, o: Observation, r: Reading, key: bytes, role: Role, is_ending: bool) -> None:
    at = o.at_ns
    failure = r.failure
    has_failed = (failure is not None or o.status is _ERROR) and not (r.is_interrupt or r.is_handoff)
    if o.exceptions and not (has_failed or r.is_interrupt or r.is_handoff or r.has_no_result):
        # LangSmith's export sets OK although there was an exception. A call that was answered did not fail.
        has_failed = role is _TOOL or (role is _LLM and (r.usage is None or not r.usage.is_known))
    if role is _LLM:
        usage = r.usage
        if r.is_metered or r.is_quiet:  # a late sum of calls of unknown times; a call beside a session that waits
            if r.is_metered:
                facts.metered = newest(facts.metered, 0, at, key, True)
            if r.model:
                facts.model = newest(facts.model, -1, at, key, r.model)
            return
        facts.active_ns = max(facts.active_ns, at)
        asked = " ".join(r.asked_ids) if r.asked_ids else ""
        facts.call = newest(facts.call, 0, at, key, CallEnd(has_failed, int(r.finish), "", asked))
        facts.deed(_tuple(Deed, (at, key[:8], o.start_ns or at, False, has_failed, int(r.finish), "", asked)))
        if r.model:
            facts.model = newest(facts.model, -1 if r.is_aside else 0, at, key, r.model)
        if usage is not None and usage.input is not None and not r.is_aside:
            model = canonical_model(r.model or NO_MODEL)
            facts.point(point_of(o, r, key, at, usage.input, model))
            if not has_failed:
                facts.accept(model, usage.input)
    elif role is _TOOL:
        if r.is_quiet:
            return
        facts.active_ns = max(facts.active_ns, at)
        # Its result: unknown (0), known to be empty (1), known to be there (2), unknown and it may wait (3).
        result = 1 if r.has_no_result or r.is_interrupt else 2 if r.has_result else 3 if r.may_wait else 0
        if not r.is_same_call:
            _tool(facts, o, key, r.tool_name or "", has_failed, result, r.tool_call_id or "")
    elif role is _HANDOFF:
        _tool(facts, o, key, "handoff", has_failed, 0, "")
    elif role is _STEP and has_failed and not is_ending:
        facts.failed_turn = newest(facts.failed_turn, 0, at, key, True)
    if has_failed and (failure is not None or o.status is _ERROR):  # else an event reported it with more detail
        words = _failure(failure, o)
        facts.failure = newest(facts.failure, (1 if is_ending else 0) if any(words) else -1, at, key, words)
    if is_ending:
        shown = _failure(failure, o) if has_failed else FailureWords("", "", "")
        is_well = o.status is _OK or r.is_handoff
        outcome = "cancelled" if r.is_cancelled else "error" if has_failed else "ok" if is_well else "unset"
        if o.exceptions and role != _TASK and not r.is_handoff and outcome in ("ok", "unset"):
            facts.exception = newest(facts.exception, 0, at, key, True)
        closed = SpanEnd(at, key, outcome, shown.type, shown.message, int(r.finish) if role is not _LLM else 0)
        if facts.ending.closed is None or closed > facts.ending.closed:
            facts.ending.closed = closed


def point_of(o: Observation, r: Reading, key: bytes, at: int, tokens: int, model: str) -> UsePoint:
    """Return the input of a model call as it is kept."""
    return _tuple(UsePoint, (at, key[:8], o.start_ns or at, tokens, model, _conversation(r), o.parent_id))


def _conversation(r: Reading) -> int:
    """Return a number that differs between conversations; 0 when the call names none."""
    return crc32(r.conversation_id.encode("utf-8", "replace")) or 1 if r.conversation_id else 0


def _tool(facts: Facts, o: Observation, key: bytes, name: str, has_failed: bool, result: int, call_id: str) -> None:
    at = o.at_ns
    facts.tool = newest(facts.tool, 0, at, key, CallEnd(has_failed, result, name, call_id))
    facts.deed(
        _tuple(Deed, (at, key[:8], o.start_ns or at, True, has_failed, result, name[:TEXT_CAP], call_id[:TEXT_CAP]))
    )


def _failure(failure: Failure | None, o: Observation) -> FailureWords:
    if failure is None:
        return FailureWords("", o.status_message[:TEXT_CAP], "")
    message = failure.message or (o.status_message if failure.type else "")  # a failure without words has no reason
    return FailureWords(failure.type[:200], message[:TEXT_CAP], _tail(failure.log_tail))


def _tail(log: str) -> str:
    # Redact a long log before it is cut: no pattern matches half a secret.
    return log if len(log) <= LOG_CAP else paragraph(log, LOG_CAP, keep="tail")


def _progress(facts: Facts, o: Observation, r: Reading, key: bytes, role: Role, at: int) -> None:
    if r.status is not None:
        if r.status in FINAL_STATUSES:
            said = FinalStatus(-at, key, r.status)
            if facts.ending.said is None or said > facts.ending.said:
                facts.ending.said = said
            if r.failure is not None:
                facts.failure = newest(facts.failure, 1, at, key, _failure(r.failure, o))
        else:
            facts.status = newest(facts.status, 0, at, key, r.status)
    if r.progress is not None:
        facts.progress = newest(facts.progress, 0, at, key, r.progress)
    if r.action:
        facts.action = newest(facts.action, 1, at, key, r.action[:TEXT_CAP])
    if r.step_name or (r.step_index is not None and r.says_something):
        name, locale_message = r.step_name or "", r.step_message
        if not name:
            name, locale_message = worded(message("task.step", index=r.step_index or 0))
        name, ours = name[:TEXT_CAP], packed(locale_message) if locale_message is not None else None
        # The agent's own steps stand above a plan that it wrote down.
        is_named = bool(r.step_name) or not r.is_plan
        step = StepNow(name if is_named else None, r.step_index, r.step_count, ours if is_named else None)
        facts.step = newest(facts.step, 0 if r.is_plan or r.step_key else 1, at, key, step)
    if r.step_count is not None:
        facts.step_count = newest(facts.step_count, 0 if r.is_plan or r.step_key else 1, at, key, r.step_count)
    if r.reports is EventReport.CHECKPOINT:
        text = r.locale_message or r.message or r.action or r.step_message or r.step_name or o.name
        facts.checkpoint = newest(
            facts.checkpoint, 0, at, key, packed(text if isinstance(text, LocaleMessage) else text[:TEXT_CAP])
        )
    if not r.is_aside:
        if r.ask is not None:  # the first of a task; of the last call's answers, even an empty one
            facts.ask = newest(facts.ask, 1 if r.is_of_run else 0, -(o.start_ns or at), key, r.ask)
        if r.answer is not None:
            facts.answer = newest(facts.answer, 1 if r.is_of_run else 0, at, key, r.answer)
    if r.step_name or (r.step_index is not None and not r.is_plan and r.says_something):
        has_place = r.step_index is not None and 0 <= r.step_index < 10**9
        entry = r.step_key or (f"{r.step_index:09d}" if has_place else f"~{name}")
        # The earliest mention of a step stands: it is when the step began. An event has the exact time; a
        # span's attribute may have been set late, so the span's start is only second best.
        is_span = o.part in (Part.ENDED, Part.STARTED)
        began = (o.start_ns or at) if is_span else at
        # The end of a step's own span is the last to name it.
        best = 1 if not is_span or (r.step_key and o.part is _ENDED) else 0
        facts.enter("steps", entry, best, -began, key, StepBegin(name, r.step_index, began, ours))
    if r.cost_usd is not None and 4 <= role <= 6:
        facts.enter("costs", f"{o.trace_id.hex()}{o.span_id.hex()}", 0, at, key, nano(r.cost_usd))
    if r.context_used is not None:
        facts.context_used = newest(facts.context_used, 0, at, key, r.context_used)
        facts.point(UsePoint(at, key[:8], at, r.context_used, AGENT_CONVERSATION, _conversation(r)))
    if r.context_window is not None:
        facts.context_window = newest(facts.context_window, 0, at, key, r.context_window)
    for name, url in r.links.items():
        facts.enter("links", name, 0, at, key, url)
    for name, value in r.results.items():
        facts.enter("results", name, 0, at, key, value)
    if r.artifact is not None:
        a = r.artifact
        facts.enter("artifacts", a.key[:TEXT_CAP], 0, at, key, KeptArtifact(a.name, a.uri, a.kind))
    if r.reports is EventReport.ERROR and r.failure is not None:
        facts.failure = newest(facts.failure, 0, at, key, _failure(r.failure, o))


def _gone(ending: Ending, at: int, key: bytes) -> None:
    gone = Sign(at, key)
    if ending.gone is None or gone > ending.gone:
        ending.gone = gone
