"""Readings of span events and log records: one vocabulary for both, because both forms mean the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from spanpost import semconv as c
from spanpost.model.interventions import Verb
from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Act, Artifact, EventReport, Failure, Finish, Reading
from spanpost.readers import alerts, sentences
from spanpost.readers import values as v
from spanpost.readers.agent import AGENT
from spanpost.readers.approvals import read_approval
from spanpost.readers.claude_code import CLAUDE_CODE_CLI
from spanpost.readers.coding_clis import CODEX_CLI, GEMINI_CLI, OPENCODE_CLI, QWEN_CLI
from spanpost.readers.dialect import DIRECT
from spanpost.readers.evaluations import rating, read_evaluation
from spanpost.readers.session_records import Cli
from spanpost.readers.sessions import of_hook, read_session, read_span_event
from spanpost.readers.stops import INTERRUPT, is_cancel, is_handoff, is_interrupt
from spanpost.readers.wrapped_errors import MESSAGE, unwrapped
from spanpost.text.secrets import unhashed

#: The empty reading: shared, because most events have it.
NOTHING = Reading()

#: Attributes with a tool's result.
_RESULTS = ("gcp.vertex.agent.tool_response", "gen_ai.tool.call.result", "output.value", "genkit:output")
_TYPED = re.compile(r"([A-Za-z_][\w.]{0,120}(?:Error|Exception|Interrupt|Exceeded|Failure|Timeout))[:(]\s*")
#: Types that say nothing: LangSmith's export and JavaScript write them for all errors, Go the last for any text.
_ANY = frozenset((
    "Exception", "BaseException", "builtins.Exception", "Error", "unknown", "_OTHER",
    "*errors.errorString", "*errors.joinError", "*fmt.wrapError", "*fmt.wrapErrors",
))  # fmt: skip
#: A class as Python writes it (Semantic Kernel).
_CLASS = re.compile(r"<class '([\w.]{1,200})'>")
#: A run's status in place of a reason (agno): the call that failed has the reason.
_ONLY_STATUS = re.compile(r"run status: (?:error|failed)", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last)"
#: Characters that are read of the end of a log.
LOG_READ = 65_536

_FIELDS = {
    attribute: (name, DIRECT[name])
    for name, attributes in AGENT.fields.items()
    for attribute in attributes
    if name in DIRECT
}


#: Coding CLIs that report by log records and data points.
CLIS: tuple[Cli, ...] = (CLAUDE_CODE_CLI, GEMINI_CLI, CODEX_CLI, QWEN_CLI, OPENCODE_CLI)
_BY_SCOPE = {scope: cli for cli in CLIS for scope in cli.scopes}
_BY_HEAD = {head: cli for cli in CLIS for head in cli.heads}
_BY_SPAN_SCOPE = {scope: cli for cli in CLIS for scope in cli.span_scopes}
_BY_NAME = {cli.name: cli for cli in CLIS}
_METERS = frozenset(name for cli in CLIS for name in cli.meters)
_LOG = Part.LOG
_VERBS = frozenset(Verb)
_ALERT = (c.ALERT_STATE, c.ALERT_SEVERITY, c.ALERT_NAME, c.ALERT_SUMMARY, c.ALERT_BY)


def is_meter(name: str) -> bool:
    """Return whether the data points of a metric are read; those of all others are only counted."""
    return name in _METERS


def asks_person(attributes: Mapping[str, Any]) -> bool:
    """Return whether a tool's result says that a person must confirm the call first."""
    for name in _RESULTS:
        said = attributes.get(name)
        if type(said) is str and "please approve or reject" in said[:400]:
            return INTERRUPT.search(said, 0, 400) is not None
    return False


def failure_of(kind: str | None, message: str | None, log_tail: str = "") -> Failure:
    """Return a failure.

    A type at the head of the message becomes its type, and is not repeated in the message. The first line is the
    message; what follows it is a log.
    """
    kind, message = kind or "", message or ""
    kind = written.group(1) if (written := _CLASS.fullmatch(kind)) is not None else kind
    if _ONLY_STATUS.fullmatch(message):
        message = ""
    if kind in _ANY:  # LangSmith's export and JavaScript write it for all; the type may be in the message
        message = _without_type(message.strip(), kind)
        kind = ""
    cut = message.find(_TRACEBACK)
    if cut > 0:
        log_tail = log_tail or message[cut:]
        message = message[:cut].rstrip()
    if not kind:
        head = _TYPED.match(message)
        kind = head.group(1) if head is not None else ""
    message = unwrapped(_without_type(message.strip(), kind), kind)
    headline, _, more = _without_type(message, kind).partition("\n")
    if headline.endswith(":") and more:  # the line only introduces the next (smolagents)
        following, _, more = more.lstrip("\n").partition("\n")
        headline = f"{headline} {following.strip()}"
    if more and more not in log_tail:  # a stack trace ends with the message
        log_tail = f"{more}\n{log_tail}".rstrip("\n")
    return Failure(type=kind, message=headline.rstrip()[:MESSAGE], log_tail=log_tail[-LOG_READ:])


def _without_type(message: str, kind: str) -> str:
    """Return a message without the name of its type, which OpenTelemetry's SDKs write before it."""
    for name in (kind, kind.rpartition(".")[2]) if kind else ():
        head = f"{name}: "
        while message.startswith(head) and len(message) > len(head):
            message = message[len(head) :].lstrip()
    return message


def log_of(attributes: Mapping[str, Any]) -> str:
    """Return the end of an error's log: as the agent gave it, else the stack trace."""
    log = v.long_text(attributes.get(c.ERROR_LOG_TAIL)) or v.long_text(attributes.get(c.EXCEPTION_STACKTRACE)) or ""
    return log[-LOG_READ:]


def has_agent_key(attributes: Mapping[str, Any]) -> bool:
    """Return whether a key begins with ``agent.`` (one search in the joined keys costs a third of a check of each)."""
    joined = "\0".join(attributes)
    return "agent." in joined and (joined.startswith("agent.") or "\0agent." in joined)


def own_fields(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a reading that ``agent.*`` attributes state, links and results among them."""
    said: dict[str, Any] = {}
    for key, value in attributes.items():
        if key[:6] == "agent.":
            field = _FIELDS.get(key)
            if field is not None:
                found = field[1](value)
                if found is not None:
                    said[field[0]] = found
            else:
                note_extra(said, key, value)
    if said.get("status") == c.CANCELLED:
        said["is_cancelled"] = True
    return said


def note_extra(said: dict[str, Any], key: str, value: Any) -> None:
    """Add ``agent.link.<name>`` and ``agent.result.<name>`` to the fields."""
    if key.startswith(c.LINK_PREFIX):
        # Only http(s) links are shown to people.
        if type(value) is str and value[:8].lower().startswith(("https://", "http://")) and len(value) <= 2048:
            said.setdefault("links", {})[key[len(c.LINK_PREFIX) :]] = value
    elif key.startswith(c.RESULT_PREFIX) and type(value) in (str, int, float, bool):
        said.setdefault("results", {})[key[len(c.RESULT_PREFIX) :]] = value[:512] if type(value) is str else value


def read_event(o: Observation) -> Reading:
    """Return what a span event or log record means."""
    if o.part is _LOG:
        cli = _BY_SCOPE.get(o.origin.scope) or _BY_HEAD.get(o.name.partition(".")[0])
        if cli is not None:
            return read_session(cli, o) or NOTHING
    elif o.origin.scope in _BY_SPAN_SCOPE:
        return read_span_event(_BY_SPAN_SCOPE[o.origin.scope], o) or NOTHING
    say = _EVENTS.get(o.name)
    attributes = o.attributes
    if say is None and not has_agent_key(attributes):
        return NOTHING
    said = own_fields(attributes)
    if say is not None:
        say(o, said)
    if o.part is _LOG and c.HOOK_PROGRAM in attributes:
        cli = _BY_NAME.get(attributes[c.HOOK_PROGRAM]) if type(attributes[c.HOOK_PROGRAM]) is str else None
        said |= of_hook(cli, o) if cli is not None else {}
    return Reading(rule=o.name if say is not None else "agent.*", **said) if said else NOTHING


def _body(o: Observation) -> str | None:
    return v.long_text(o.body)


def _checkpoint(o: Observation, said: dict[str, Any]) -> None:
    said["reports"] = EventReport.CHECKPOINT
    message = (
        v.long_text(o.attributes.get(c.CHECKPOINT_MESSAGE)) or _body(o) or v.long_text(o.attributes.get("message"))
    )
    if message is not None:
        said["message"] = message[:MESSAGE]


def _artifact(o: Observation, said: dict[str, Any]) -> None:
    uri = v.text(o.attributes.get(c.ARTIFACT_URI)) or ""
    name = v.text(o.attributes.get(c.ARTIFACT_NAME)) or uri.rstrip("/").rpartition("/")[2] or uri
    if not name:
        _checkpoint(o, said)  # an artifact without a name: a checkpoint, but nothing to list
        return
    artifact = Artifact(name=name, uri=uri, kind=v.text(o.attributes.get(c.ARTIFACT_KIND)) or "")
    said.update(reports=EventReport.ARTIFACT, artifact=artifact, occurrence=f"artifact:{unhashed(artifact.key)}")


def _act(o: Observation, said: dict[str, Any]) -> None:
    a = o.attributes
    verb = a.get(c.INTERVENTION_VERB)
    if o.part is not Part.INTERVENTION or verb not in _VERBS:
        return  # an agent's report of a person's act is no act of that person
    text = (v.long_text(a.get(c.INTERVENTION_TEXT)) or "")[:MESSAGE]
    by, source = v.text(a.get(c.INTERVENTION_BY)) or "", v.text(a.get(c.INTERVENTION_SOURCE)) or ""
    seen = a.get(c.INTERVENTION_SEEN)
    finding, count = v.text(a.get(c.INTERVENTION_FINDING)) or "", a.get(c.INTERVENTION_COUNT)
    act = Act(
        verb=verb,
        by=by,
        text=text,
        source=source,
        seen_ns=seen if type(seen) is int else 0,
        finding=finding,
        count=count if type(count) is int else 0,
    )
    said["act"] = act
    if verb == Verb.RATE:
        said["evaluation"] = evaluation = rating(a, act)
        asked = sentences.rated(evaluation) if evaluation is not None else None
    else:
        asked = sentences.asked(act)
    if asked is not None:
        said.update(reports=EventReport.CHECKPOINT, locale_message=asked, occurrence=f"act:{verb}:{o.index:x}")


def _budget(o: Observation, said: dict[str, Any]) -> None:
    a = o.attributes
    if o.part is Part.INTERVENTION:  # an agent's report of a budget is no budget of ours
        said.update(
            reports=EventReport.BUDGET,
            locale_message=sentences.message_of(o),
            occurrence=f"budget:{v.text(a.get(c.BUDGET_KEY)) or ''}",
        )


def _alert(o: Observation, said: dict[str, Any]) -> None:
    a = o.attributes
    if o.part is not Part.INTERVENTION:
        return  # not an alert that spanpost received
    text = alerts.line(*((v.text(a.get(name)) or "") for name in _ALERT))
    occurrence = f"alert:{a.get(c.ALERT_ID)}:{a.get(c.ALERT_STATE)}"
    if a.get(c.ALERT_STATE) in alerts.CHANGES:  # people may do the same again
        occurrence += f":{o.index:x}"
    said.update(reports=EventReport.ALERT, message=text, occurrence=occurrence)


def _error(o: Observation, said: dict[str, Any]) -> None:
    a = o.attributes
    kind = v.text(a.get(c.EXCEPTION_TYPE)) or v.text(a.get("error.type")) or ""
    message = v.long_text(a.get(c.EXCEPTION_MESSAGE)) or _body(o) or v.long_text(a.get("message")) or ""
    if is_interrupt(kind, message):
        said["is_interrupt"] = True
        return
    if is_handoff(kind, message):
        return
    failure = failure_of(kind, message, log_of(a))
    if is_cancel(failure.type, failure.message):
        said["is_cancelled"] = True
        return
    # The same exception has the same digest, whether and by which key a secret was taken out.
    digest = blake2b(unhashed(message).encode("utf-8", "replace"), digest_size=8).hexdigest()
    said.update(reports=EventReport.ERROR, failure=failure, occurrence=f"exception:{failure.type[:200]}:{digest}")


def _compacted(o: Observation, said: dict[str, Any]) -> None:
    said.update(
        reports=EventReport.COMPACTION,
        compaction=(v.count(o.attributes.get(c.CONTEXT_BEFORE)), said.pop("context_used", None)),
    )


def _gone(o: Observation, said: dict[str, Any]) -> None:
    said["is_gone"] = True


def _silent(o: Observation, said: dict[str, Any]) -> None:
    said["is_stalled"] = True


def _seen_again(o: Observation, said: dict[str, Any]) -> None:
    said["is_recovered"] = True


def _heartbeat(o: Observation, said: dict[str, Any]) -> None:
    roots = o.attributes.get(c.OPEN_ROOTS)
    found = []
    for root in roots[:1024] if type(roots) is list else ():
        trace, _, span = root.partition("-") if type(root) is str else ("", "", "")
        if len(trace) == 32 and len(span) == 16:
            try:
                found.append((bytes.fromhex(trace), bytes.fromhex(span)))
            except ValueError:
                continue
    if not found and o.span_id:
        found = [(o.trace_id, o.span_id)]
    said["open_roots"] = tuple(found)


def _choice(o: Observation, said: dict[str, Any]) -> None:
    # strands 1.62: an agent that stopped for a person, or at its limit, says so in the event of its last answer only.
    if (why := o.attributes.get("finish_reason")) == "interrupt":
        said["is_interrupt"] = True
    elif v.finish(why) is Finish.STEPS:
        said["finish"] = Finish.STEPS


def _paused(o: Observation, said: dict[str, Any]) -> None:
    # A proposal of the GenAI conventions (2026-08). A pause for another reason waits for no person.
    if o.attributes.get(c.PAUSE_REASON) == c.HUMAN_INPUT and o.origin.scope != c.SCOPE_FEEDBACK:
        said["is_interrupt"] = True


def _stopped(o: Observation, said: dict[str, Any]) -> None:
    # llama-index (instrumentor 4.6): a person cancelled the workflow, whose span ends OK. Steps are also cancelled in
    # runs that go on, with another reason.
    if o.attributes.get("reason") == "workflow cancelled by user":
        said["status"] = c.CANCELLED


_EVENTS: dict[str, Callable[[Observation, dict[str, Any]], None]] = {
    c.EVENT_CHECKPOINT: _checkpoint,
    c.EVENT_ARTIFACT: _artifact,
    c.EVENT_APPROVAL_REQUESTED: read_approval,
    c.EVENT_APPROVAL_RESOLVED: read_approval,
    c.EVENT_APPROVAL_ESCALATED: read_approval,
    c.EVENT_APPROVAL_AWAITED: read_approval,
    c.EVENT_APPROVAL_COUNTED: read_approval,
    c.EVENT_APPROVAL_PASSED_ON: read_approval,
    c.EVENT_INTERVENTION: _act,
    c.EVENT_EVALUATION: read_evaluation,
    c.EVENT_BUDGET: _budget,
    c.EVENT_ALERT: _alert,
    c.EVENT_COMPACTED: _compacted,
    c.EVENT_ERROR: _error,
    **dict.fromkeys(c.EXCEPTION_EVENTS, _error),
    c.EVENT_SPAN_INTERRUPTED: _gone,
    c.EVENT_SPAN_STALLED: _silent,
    c.EVENT_SPAN_RECOVERED: _seen_again,
    c.EVENT_HEARTBEAT: _heartbeat,
    "gen_ai.choice": _choice,
    c.EVENT_AGENT_PAUSED: _paused,
    "span.cancelled": _stopped,
}
