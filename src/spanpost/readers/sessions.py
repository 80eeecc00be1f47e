"""Coding CLIs that report by log records and data points: what such a CLI declares, and how it is read.

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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import Observation
from spanpost.model.readings import METERED, Approval, EventReport, Failure, Finish, Reading, Role
from spanpost.model.usage import Usage
from spanpost.readers import values as v
from spanpost.readers.agent import ON_RESOURCE
from spanpost.readers.plans import is_plan, plan_of
from spanpost.text.wording import message, worded


class SessionPart(Enum):
    """The kind of a log record."""

    PROMPT = auto()
    CALL = auto()
    CALL_FAILED = auto()
    TOOL = auto()
    #: A tool may run, or may not; decided by a person or a rule.
    DECISION = auto()
    #: The model has answered in text: unless something follows, the prompt is done.
    ANSWER = auto()
    #: The CLI gave up.
    GAVE_UP = auto()
    #: The conversation was shortened.
    COMPACTION = auto()
    #: A sub-agent did a part of the work.
    SUBAGENT = auto()
    HOOK = auto()


class TokenMeter(Enum):
    """The kind of a data point."""

    #: Tokens; an attribute states which sort.
    TOKENS = auto()
    COST = auto()
    #: A session began.
    SESSION = auto()
    #: Time at work, reported when the work is done.
    WORKED = auto()


@dataclass(frozen=True, kw_only=True)
class Cli:
    """One coding CLI.

    `fields` maps names of this module to attribute names, best first; names that no rule uses are not read.
    """

    name: str
    #: The agent's name for people.
    agent: str
    #: Instrumentation scopes and heads of event names that identify its telemetry.
    scopes: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    #: Event names without their head, and metric names with it.
    events: Mapping[str, SessionPart] = field(default_factory=dict)
    meters: Mapping[str, TokenMeter] = field(default_factory=dict)
    #: Events that mean something only when an attribute has this value.
    only: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Words of the data points' attribute ``type``, and the field of `Usage` that they count.
    sorts: Mapping[str, str] = field(default_factory=dict)
    #: `input` excludes tokens read from and written to the cache; `output` excludes reasoning.
    excludes_cache: bool = False
    excludes_reasoning: bool = False
    #: (attribute of the record or resource, value) that marks a session without a person at the terminal.
    unattended: tuple[str, str] = ("", "")
    #: Heads of the field `source` for calls of the conversation; empty: all calls are.
    main: tuple[str, ...] = ()
    #: A record's span is that of its prompt: spans and records form one tree.
    is_traced: bool = False
    #: Makes the key of a model call from its attributes; the same for a call's span and for its record.
    call_key: Callable[[str, Mapping[str, Any]], str] | None = None


#: Fields of a reading that a resource may state for routing.
_ROUTING = frozenset({"service", "environment", "repo", "topic"})


class _SessionRecord:
    """A log record or data point while it is read."""

    def __init__(self, cli: Cli, o: Observation) -> None:
        self.cli, self.o, self.attributes = cli, o, o.attributes
        self.session = self.identifier("session") or ""
        self.prompt = self.identifier("prompt") or ""
        is_inside = cli.is_traced and bool(o.span_id)
        self.trace = o.trace_id if is_inside else self.hash(16, "session")
        self.root_span = o.span_id if is_inside else self.hash(8, "prompt", self.prompt)
        self.at_ns = self._moment()

    def get(self, name: str) -> Any:
        attributes = self.attributes
        for attribute in self.cli.fields.get(name, ()):
            value = attributes.get(attribute)
            if value is not None and value != "":
                return value
        return None

    def text(self, name: str) -> str:
        return v.text(self.get(name)) or ""

    def identifier(self, name: str) -> str | None:
        return v.identifier(self.get(name))

    def count(self, name: str) -> int | None:
        return v.count(self.get(name))

    def hash(self, size: int, *parts: str) -> bytes:
        whole = "\0".join((self.session, *parts)).encode("utf-8", "replace")
        return blake2b(whole, digest_size=size, person=self.cli.name.encode()[:16]).digest()

    def _moment(self) -> int:
        """Return the record's time; records with a time in milliseconds are ordered by the sequence within it."""
        at, sequence = self.o.at_ns, self.count("sequence")
        return at if sequence is None or at % 1_000_000 else at + min(sequence, 999_999)

    def began(self) -> int:
        return max(self.at_ns - (self.count("duration_ms") or 0) * 1_000_000, 0)

    def common(self) -> dict[str, Any]:
        return {
            "rule": f"{self.cli.name}: records",
            "task_id": self.session,
            "conversation_id": self.session,
            "at_ns": self.at_ns,
            "agent_label": v.name(self.get("agent")),
        }

    def of_process(self) -> dict[str, Any]:
        """Return what the resource states for routing; the person or program that starts the CLI sets it."""
        resource = self.o.origin.resource
        said: dict[str, Any] = {}
        for attribute, name in ON_RESOURCE.items():
            if name in _ROUTING and (value := v.text(resource.get(attribute))) is not None:
                said.setdefault(name, value)
        return said

    def is_session(self) -> bool:
        attribute, value = self.cli.unattended
        said = self.attributes.get(attribute, self.o.origin.resource.get(attribute))
        return str(said).lower() != value if attribute else True

    def failure(self) -> Failure | None:
        return Failure(type=self.text("error_type"), message=v.long_text(self.get("error_message")) or "")

    def event(self, **said: Any) -> Reading:
        """Return the reading of an event on the prompt's span."""
        return Reading(is_event=True, stands_for=(self.trace, self.root_span, b"", self.at_ns), **self.common(), **said)


def read_session(cli: Cli, o: Observation) -> Reading | None:
    """Return what a log record or data point of the CLI means; None for one that is not of a session."""
    meter = cli.meters.get(o.name)
    if meter is not None:
        return _point(_SessionRecord(cli, o), meter)
    head, _, rest = o.name.partition(".")
    event = rest if head in cli.heads else o.name
    what = cli.events.get(event)
    if what is None:
        return _QUIET
    if event in cli.only:
        attribute, value = cli.only[event]
        if o.attributes.get(attribute) != value:
            return _QUIET
    record = _SessionRecord(cli, o)
    return (_READERS[what](record) or _QUIET) if record.session else None


#: A record without meaning here: kept with its span, and no sign of work.
_QUIET = Reading(is_quiet=True)


def prompt(length: int | None) -> LocaleMessage:
    """Return the name of a prompt's step; `length` is in characters."""
    return message("task.prompt_of", length=length) if length else message("task.prompt")


def _prompt(r: _SessionRecord) -> Reading:
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
        step_key=r.root_span.hex(),
        stands_for=(r.trace, r.root_span, b"", r.at_ns),
        is_open=True,
        **common,
    )


def _call(r: _SessionRecord) -> Reading:
    return _as_call(r, usage_of(r.cli, r.get), None)


def _call_failed(r: _SessionRecord) -> Reading:
    return _as_call(r, None, r.failure())


def _as_call(r: _SessionRecord, usage: Usage | None, failure: Failure | None) -> Reading:
    key = r.cli.call_key(r.session, r.attributes) if r.cli.call_key is not None else ""
    own = r.identifier("request") or key or str(r.o.index)
    # An error that is not retried ends the prompt, unless something follows.
    status = r.count("status_code")
    is_final = failure is not None and status is not None and 400 <= status < 500 and status not in (408, 409, 429)
    return Reading(
        role=Role.LLM,
        model=v.text(r.get("model")),
        usage=usage,
        failure=failure,
        finish=v.finish(r.get("finish")) or Finish.UNKNOWN,
        call_key=key,
        occurrence=failure_key(r.identifier("request")) if failure is not None else "",
        rests=is_final,
        is_aside=is_aside(r.cli, r.get("source")),
        stands_for=(r.trace, r.hash(8, "call", r.prompt, own, str(r.o.at_ns)), r.root_span, r.began()),
        **r.common(),
    )


def _tool(r: _SessionRecord) -> Reading:
    failed = v.truth(r.get("success")) is False
    return _as_tool(r, failure=r.failure() if failed else None)


def _as_tool(r: _SessionRecord, **said: Any) -> Reading:
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
        occurrence=failure_key(call) if said.get("failure") is not None else "",
        stands_for=(r.trace, r.hash(8, "tool", r.prompt, call or str(r.o.index)), r.root_span, began),
        **r.common(),
        **said,
    )


_ACCEPTED = frozenset(
    {"accept", "accepted", "approved", "approve", "approved_for_session", "allow", "auto_accept", "modify"}
)


def _decision(r: _SessionRecord) -> Reading:
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


def _answer(r: _SessionRecord) -> Reading:
    return r.event(rests=True, is_quiet=True)


def _compaction(r: _SessionRecord) -> Reading:
    if v.truth(r.get("success")) is False:
        why = r.text("error_message")
        failed = message("checkpoint.not_compacted_because", reason=why) if why else message("checkpoint.not_compacted")
        return r.event(reports=EventReport.CHECKPOINT, locale_message=failed, is_quiet=True)
    before, after = r.count("before"), r.count("after")
    shown = message("checkpoint.compacted")
    if before and after is not None:
        shown = message("checkpoint.compacted_from_to", before=before, after=after)
    return r.event(reports=EventReport.COMPACTION, locale_message=shown, occurrence=f"compaction\0{r.at_ns}")


def _subagent(r: _SessionRecord) -> Reading:
    name, tools = v.name(r.get("subagent")) or "Sub-agent", r.count("tools")
    milliseconds = r.count("duration_ms")
    figures = [message("checkpoint.tool_calls", n=tools)] if tools is not None else []
    if milliseconds:
        figures.append(message("checkpoint.seconds", seconds=milliseconds / 1000))
    done = message("checkpoint.done", name=name)
    if figures:
        done = message("checkpoint.with_words", text=done, words=figures)
    return r.event(reports=EventReport.CHECKPOINT, locale_message=done)


def _hook(r: _SessionRecord) -> Reading | None:
    hook, name = r.text("hook"), r.text("hook_name")
    if hook == "PermissionRequest" or (hook == "Notification" and "permission" in name):
        return r.event(is_interrupt=True)
    if hook == "Notification" and "idle" in name:
        # The prompt waits for input: the only record of a prompt that was given up with Escape.
        return r.event(rests=True, is_idle=True, is_quiet=True)
    return (
        r.event(rests=True, is_quiet=True)
        if hook == "Stop"
        else r.event(status=c.COMPLETE)
        if hook == "SessionEnd"
        else None
    )


_READERS: dict[SessionPart, Callable[[_SessionRecord], Reading | None]] = {
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
}


def is_aside(cli: Cli, source: Any) -> bool:
    """Return whether a model call is beside the conversation, by what requested it."""
    return bool(cli.main) and type(source) is str and not source.startswith(cli.main)


def failure_key(call: str | None) -> str:
    """Return the occurrence of a failed call, by the call's own id: the same in its span and its record."""
    return f"call\0{call}" if call else ""


def usage_of(cli: Cli, get: Callable[[str], Any]) -> Usage | None:
    """Return the usage of a call; None where none is known."""
    given, output = v.count(get("input")), v.count(get("output"))
    read, write, reasoning = v.count(get("cache_read")), v.count(get("cache_write")), v.count(get("reasoning"))
    if cli.excludes_cache and given is not None:
        given += (read or 0) + (write or 0)
    if cli.excludes_reasoning and output is not None:
        output += reasoning or 0
    usage = Usage(
        input=given,
        output=output,
        cache_read=read,
        cache_write=write,
        reasoning=reasoning,
        cost_usd=v.money(get("cost")),
    )
    return usage if usage.is_known or usage.cost_usd is not None else None


# --- data points ----------------------------------------------------------------------------------------------------

#: `Observation.kind` of a data point: its temporality as OTLP numbers it.
DELTA, CUMULATIVE = 1, 2


def _point(r: _SessionRecord, meter: TokenMeter) -> Reading | None:
    if not r.session or (meter is TokenMeter.SESSION and r.attributes.get("start_type") == "agents_view"):
        return None
    trace = r.hash(16, "meters")
    common: dict[str, Any] = {
        "rule": f"{r.cli.name}: data points",
        "task_id": r.session,
        "conversation_id": r.session,
        "agent_label": r.cli.agent,
        **r.of_process(),
        "is_session": r.is_session(),
        "is_metered": True,
    }
    if meter is TokenMeter.WORKED:
        if r.attributes.get("type") != "cli":
            return None
        return Reading(is_event=True, rests=True, is_quiet=True, stands_for=(trace, METERED, b"", r.o.at_ns), **common)
    usage = None
    if meter is not TokenMeter.SESSION:
        usage = _metered(r, meter)
        if usage is None:
            return None
    else:
        common |= {"status": c.STARTING, "at_ns": r.o.start_ns or r.o.at_ns}
    # A cumulative point replaces the one before it; after a restart it has another start.
    times = (str(r.o.start_ns), "" if r.o.kind == CUMULATIVE else str(r.o.at_ns))
    series = msgspec.json.encode([r.o.name, r.attributes], order="deterministic").decode()
    span = r.hash(8, series, *times)
    return Reading(
        role=Role.LLM,
        model=v.text(r.get("model")),
        usage=usage,
        stands_for=(trace, span, METERED, r.o.start_ns or r.o.at_ns),
        **common,
    )


def _metered(r: _SessionRecord, meter: TokenMeter) -> Usage | None:
    if meter is TokenMeter.COST:
        cost = v.money(r.o.body)
        return Usage(cost_usd=cost) if cost is not None else None
    count, sort = v.count(r.o.body), r.cli.sorts.get(r.attributes.get("type", ""))
    if count is None or sort is None:
        return None
    # Tokens read from and written to the cache are input too.
    is_input = sort == "input" or (sort.startswith("cache") and r.cli.excludes_cache)
    return Usage(
        input=count if is_input else None,
        output=count if sort == "output" else None,
        cache_read=count if sort == "cache_read" else None,
        cache_write=count if sort == "cache_write" else None,
        reasoning=count if sort == "reasoning" else None,
    )
