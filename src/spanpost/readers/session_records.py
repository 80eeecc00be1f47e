"""What a coding CLI declares about its telemetry, and one of its log records or data points while it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b
from typing import Any

from spanpost.model.observations import Observation
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
        return Failure(type=self.text("error_type"), message=v.long_text(self.get("error_message")) or "")

    def event(self, **said: Any) -> Reading:
        """Return the reading of an event on the prompt's span."""
        return Reading(is_event=True, stands_for=(self.trace, self.root_span, b"", self.at_ns), **self.common(), **said)
