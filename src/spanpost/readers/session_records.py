"""What a coding CLI declares about its telemetry, and one of its log records or data points while it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b
from typing import Any

import msgspec

from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Failure, Reading
from spanpost.model.usage import Usage
from spanpost.readers import values as v
from spanpost.readers.agent import ON_RESOURCE


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
    #: The model stream calls a tool: it runs, or waits for permission, until its result is reported.
    CALLS_TOOL = auto()
    #: The whole use of a turn, reported by a span at its end.
    TURN = auto()
    #: A sub-agent with an id of its own began: a task below the session's.
    AGENT_BEGAN = auto()
    #: It ended.
    AGENT_ENDED = auto()
    #: A prompt's work has ended, whatever was begun.
    PROMPT_ENDED = auto()
    #: A person left the session: no prompt follows.
    SESSION_ENDED = auto()
    #: A model is asked: a sign of work, and no call yet.
    CALL_BEGAN = auto()
    #: A tool ran, and the model receives its result next: the end of its round is no prompt's end.
    GOES_ON = auto()
    #: The process has begun: it says whether there is a person.
    SESSION_BEGAN = auto()
    #: A conversation that the CLI has with itself began (for a title): no task of its own.
    BESIDE = auto()


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

    `fields` maps names of the rules in `sessions` to attribute names, best first. Names that no rule uses are
    not read.
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
    #: Events whose meaning another attribute states: its name, and what each of its values means. No other value
    #: means anything, unless there is an entry for ``*``.
    only: Mapping[str, tuple[str, Mapping[str, SessionPart | None]]] = field(default_factory=dict)
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Instrumentation scopes of its spans, the attribute that names an event of a span or record (empty: its own
    #: name does), and the spans that mean something, by name. They are read as records of the same calls; no other
    #: span of these scopes is read.
    span_scopes: tuple[str, ...] = ()
    event_name: str = ""
    spans: Mapping[str, SessionPart] = field(default_factory=dict)
    #: Returns the id of the sub-agent that a record is of; empty: the main agent's.
    agent_of: Callable[[Mapping[str, Any]], str] | None = None
    #: Words of the data points' attribute ``type``, and the field of `Usage` that they count.
    sorts: Mapping[str, str] = field(default_factory=dict)
    #: `input` excludes tokens read from and written to the cache; `output` excludes reasoning.
    excludes_cache: bool = False
    excludes_reasoning: bool = False
    #: (attribute of the record or resource, value) that marks a session without a person at the terminal.
    unattended: tuple[str, str] = ("", "")
    #: What requests the calls of such a session; its terminal may have a name nevertheless.
    unattended_source: str = ""
    #: The same where only one record reports that there is a person.
    attended: tuple[str, str] = ("", "")
    #: Heads of the field `source` for calls of the conversation; empty: all calls are.
    main: tuple[str, ...] = ()
    #: Returns whether a record is of work beside the conversation that goes on while it waits for its next prompt: it
    #: is no sign of work.
    is_quiet: Callable[[Mapping[str, Any]], bool] | None = None
    #: Returns whether a conversation begins that the CLI has with itself (for a title): it is no task for people.
    is_beside: Callable[[Mapping[str, Any]], bool] | None = None
    #: A model call that no tool call follows ends the prompt: nothing else reports it.
    rests_after_calls: bool = False
    #: A model call that stops by itself ends the prompt: its span or record says that it calls no tool.
    rests_after_answers: bool = False
    #: A span of a call without figures is not read: without them nothing joins it to the call's record.
    needs_figures: bool = False
    #: Who refuses a tool where its record names nobody.
    refuses_by: str = ""
    #: Returns the id of the prompt that a record belongs to, from the session's id and the one that it names.
    prompt_of: Callable[[str, str], str] | None = None
    #: A record's span is that of its prompt: spans and records form one tree.
    is_traced: bool = False
    #: Makes the key of a model call from its attributes; the same for a call's span and for its record.
    call_key: Callable[[str, Mapping[str, Any]], str] | None = None

    def is_aside(self, source: Any) -> bool:
        """Return whether a model call is beside the conversation, by what requested it."""
        return bool(self.main) and type(source) is str and not source.startswith(self.main)


#: Fields of a reading that a resource may state for routing.
_ROUTING = frozenset({"service", "environment", "repo", "topic"})


class SessionRecord:
    """A log record or data point while it is read."""

    def __init__(self, cli: Cli, o: Observation) -> None:
        self.cli, self.o, self.attributes = cli, o, o.attributes
        self.session = self.identifier("session") or ""
        self.prompt = self.identifier("prompt") or ""
        if cli.prompt_of is not None:
            self.prompt = cli.prompt_of(self.session, self.prompt)
        self.agent = cli.agent_of(self.attributes) if cli.agent_of is not None else ""
        is_inside = cli.is_traced and bool(o.span_id)
        self.trace = o.trace_id if is_inside else self.hash(16, "session")
        self.root_span = o.span_id if is_inside else self.hash(8, "prompt", self.agent or self.prompt)
        self.at_ns = self._moment()

    @property
    def is_aside(self) -> bool:
        """True for a call beside the conversation; those of a sub-agent with a task of its own are not."""
        return not self.agent and (self.is_quiet or self.cli.is_aside(self.get("source")))

    @property
    def is_quiet(self) -> bool:
        """True for work that is no sign that the session works."""
        return self.cli.is_quiet is not None and self.cli.is_quiet(self.attributes)

    @property
    def is_span(self) -> bool:
        """True for a span of the CLI, read as a record of what it did."""
        return self.o.part <= Part.STARTED

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
        if self.is_span:
            return self.o.start_ns
        return max(self.at_ns - (self.count("duration_ms") or 0) * 1_000_000, 0)

    def common(self) -> dict[str, Any]:
        return {
            "rule": f"{self.cli.name}: records",
            "task_id": self.agent or self.session,
            "conversation_id": self.session,
            "at_ns": self.at_ns,
            "agent_label": v.name(self.get("agent")) or (self.cli.agent if self.is_span else None),
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
        if self.agent:
            return False
        attribute, value = self.cli.attended
        if attribute:
            return str(self.attributes.get(attribute)).lower() == value
        attribute, value = self.cli.unattended
        said = self.attributes.get(attribute, self.o.origin.resource.get(attribute))
        return str(said).lower() != value if attribute else True

    def usage(self) -> Usage | None:
        """Return the usage of a model call; None where none is known."""
        given, output = self.count("input"), self.count("output")
        read, write, reasoning = self.count("cache_read"), self.count("cache_write"), self.count("reasoning")
        if self.cli.excludes_cache and given is not None:
            given += (read or 0) + (write or 0)
        if self.cli.excludes_reasoning and output is not None:
            output += reasoning or 0
        usage = Usage(
            input=given,
            output=output,
            cache_read=read,
            cache_write=write,
            reasoning=reasoning,
            cost_usd=v.money(self.get("cost")),
        )
        return usage if usage.is_known or usage.cost_usd is not None else None

    def failure(self) -> Failure | None:
        kind, message = self.text("error_type"), v.long_text(self.get("error_message")) or ""
        if self.is_span:
            kind, message = kind or (self.o.thrown or ("",))[0], message or self.o.status_message
        return Failure(type=kind, message=_plain(message))

    def event(self, **said: Any) -> Reading:
        """Return the reading of an event on the prompt's span."""
        return Reading(is_event=True, stands_for=(self.trace, self.root_span, b"", self.at_ns), **self.common(), **said)


def _plain(message: str) -> str:
    """Return the message within a service's error object, which some CLIs report as JSON; else the text itself."""
    if not message.startswith("{"):
        return message
    try:
        error = msgspec.json.decode(message, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeError):
        return message
    return error.message or message


class _ErrorWords(msgspec.Struct):
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _ErrorWords
