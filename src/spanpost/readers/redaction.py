"""Takes secrets, and what rules select, out of all telemetry, before any of it is stored, shown or counted.

Rules. It runs once, between reading and folding (`batches`), and in a process that forwards (`receivers`).
The cleaned observation is read again; but a question keeps its mark, and everything else that was concluded
from its words, from the original words, because the agent knows those. Numbers and booleans stay, and so do
identities (`IDENTITY`): ids are looked up, compared and joined. What people write through spanpost stays
(`Part.INTERVENTION`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from itertools import takewhile
from operator import eq
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.alerts import Alert
from spanpost.model.launch_orders import Order
from spanpost.model.observations import THROWN_CAPS, Observation, Part, log_index
from spanpost.model.readings import Approval, Reading
from spanpost.readers import NOTHING, read
from spanpost.readers.cleaner import Cleaner, clean_bytes
from spanpost.readers.identity import IDENTITY
from spanpost.text.content import without_content
from spanpost.text.rules import RedactionRule, RuleSet, TelemetryPart
from spanpost.text.secrets import REDACTED

#: Questions are forwarded in their original words to the process that computes their mark.
QUESTIONS = frozenset({c.APPROVAL_QUESTION, c.APPROVAL_DETAIL, c.APPROVAL_OPTIONS})
#: Fields of a reading that are texts; its other fields are ids or numbers.
_SAID = (
    "task_name", "task_type", "agent_name", "agent_label", "agent_version", "repo", "topic", "requested_by", "service",
    "environment", "model", "provider", "tool_name", "action", "step_name", "step_message", "message", "locale_message",
    "links", "results", "failure", "artifact", "approval", "evaluation",
)  # fmt: skip


#: In place of a request that cannot be read, where rules select attributes or parts of it.
UNREAD = "[redacted: {} bytes that cannot be read, so that rules for attributes and parts cannot be applied]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TenantRules:
    """Rules of one tenant, besides those of all."""

    rules: tuple[RedactionRule, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RedactionRules:
    """The rules of all tenants, and those of single ones."""

    rules: tuple[RedactionRule, ...] = ()
    tenants: Mapping[str, TenantRules] = dataclasses.field(default_factory=dict)


#: Attributes of which `Observation.thrown` is made.
_THROWN = (c.EXCEPTION_TYPE, c.EXCEPTION_MESSAGE, c.EXCEPTION_STACKTRACE)


class Redaction:
    """Takes secrets out.

    The `key` makes equal secrets have equal hashes. Where it is not set, a program that opens a database
    sets the database's. With `spares_questions` the words of questions stay, for the process that receives
    them next.
    """

    def __init__(
        self, rules: RedactionRules = RedactionRules(), *, key: bytes = b"", spares_questions: bool = False
    ) -> None:
        self._rules = rules
        self.key = key
        self._spared = IDENTITY | QUESTIONS if spares_questions else IDENTITY
        self._cleaners: dict[str, Cleaner] = {}
        self._default: Cleaner | None = None
        self._sparing: Redaction | None = None

    def sparing_questions(self) -> Redaction:
        """Return the same redaction for the process that sends to the one that records."""
        if self._sparing is None or self._sparing.key != self.key:
            self._sparing = Redaction(self._rules, key=self.key, spares_questions=True)
        return self._sparing

    def keyed(self, key: bytes) -> None:
        """Hash with this key from now on, unless the settings give one."""
        if key and not self.key:
            self.key, self._default = key, None
            self._cleaners.clear()

    def found(self) -> dict[str, int]:
        """Return how many secrets were taken out since the last call, by kind."""
        total: Counter[str] = Counter()
        for cleaner in (self._default, *list(self._cleaners.values())):
            if cleaner is not None:
                total += cleaner.found()
        return dict(total)

    def of(self, tenant: str) -> Cleaner:
        """Return the cleaner of a tenant."""
        own = self._rules.tenants.get(tenant)
        if own is None:
            if self._default is None:
                self._default = self._make(self._rules.rules)
            return self._default
        if tenant not in self._cleaners:
            self._cleaners[tenant] = self._make((*self._rules.rules, *own.rules))
        return self._cleaners[tenant]

    def _make(self, rules: tuple[RedactionRule, ...]) -> Cleaner:
        return Cleaner(self.key, RuleSet(rules), self._spared)

    def clean(self, o: Observation) -> Observation:
        """Return an observation without its secrets; the same object when it holds none."""
        if o.part is Part.INTERVENTION:
            return o
        cleaner = self.of(o.tenant)
        part = part_of(o)
        attributes = cleaner.map(o.attributes, part, is_top=True) if o.attributes else o.attributes
        name = cleaner.text(o.name, TelemetryPart.SPAN_NAME if part is TelemetryPart.SPAN else part)
        message = cleaner.text(o.status_message, TelemetryPart.ERROR) if o.status_message else o.status_message
        body = o.body if o.body is None or self._is_spared_question(o) else cleaner.body(o.body, part)
        origin = cleaner.origin(o.origin)
        if o.thrown:
            # The rules for the exception event hold for the words that are kept of it.
            said = dict(zip(_THROWN, o.thrown, strict=True))
            if (left := cleaner.map(said, TelemetryPart.EVENT, is_top=True)) is not said:
                words = tuple(str(left.get(name, "")) for name in _THROWN)
                o = msgspec.structs.replace(o, thrown=tuple(map(_without_half_a_secret, o.thrown, words, THROWN_CAPS)))
        if (
            attributes is o.attributes
            and name is o.name
            and message is o.status_message
            and body is o.body
            and origin is o.origin
        ):
            return o
        return msgspec.structs.replace(
            o, attributes=attributes, name=name, status_message=message, body=body, origin=origin
        )

    def clean_source(self, o: Observation, *, keeps_content: bool) -> Observation:
        """Return an observation without the secrets in its stored part, for another process that records it:
        the same that `cleaned` makes of it. Content that is not stored stays, and is not searched.
        """
        whole = self._wholes(o)
        kept = whole if keeps_content else without_content(whole)
        clean = self.clean(kept)
        return o if clean is o or (clean is kept and whole is o) else _with_content(whole, kept, clean)

    def _wholes(self, o: Observation) -> Observation:
        """Return an observation whose attributes that a rule selects as a whole are hidden, content included."""
        cleaner = self.of(o.tenant)
        if not cleaner.rules.has_whole or o.part is Part.INTERVENTION:
            return o
        part = part_of(o)
        attributes = cleaner.wholes(o.attributes, part)
        body = o.body if o.body is None or self._is_spared_question(o) else cleaner.whole_body(o.body, part)
        if attributes is o.attributes and body is o.body:
            return o
        return msgspec.structs.replace(o, attributes=attributes, body=body)

    def _is_spared_question(self, o: Observation) -> bool:
        return self._spared is not IDENTITY and o.name[:15] == "agent.approval."

    def cleaned(
        self, source: Observation, reading: Reading, *, keeps_content: bool
    ) -> tuple[Observation, Reading, Observation]:
        """Return an observation and its reading without secrets, and the part of it that is stored.

        Content that is not stored is not searched: only what the reading took of it is.
        """
        whole = self._wholes(source)
        kept = whole if keeps_content else without_content(whole)
        clean = self.clean(kept)
        if clean is not kept or whole is not source:
            source = _with_content(whole, kept, clean)
            clean = source if keeps_content else msgspec.structs.replace(clean, index=source.index)
            again = read(source)
            if reading.approval is not None:  # conclusions from the question's own words stay
                approval = _with_words(
                    self.of(source.tenant).struct(reading.approval), reading.approval, again.approval
                )
                again = msgspec.structs.replace(again, approval=approval, occurrence=reading.occurrence)
            reading = again
        if clean.attributes is not source.attributes or clean.body is not source.body:
            reading = self._reading(reading, self.of(source.tenant))
        return source, reading, clean

    def _reading(self, reading: Reading, cleaner: Cleaner) -> Reading:
        if reading is NOTHING:
            return reading
        changed: dict[str, Any] = {}
        for field in _SAID:
            said = getattr(reading, field)
            if said and (found := cleaner.part(said)) is not said:
                changed[field] = found
        return msgspec.structs.replace(reading, **changed) if changed else reading

    def alert(self, alert: Alert) -> Alert:
        """Return an alert without its secrets."""
        cleaner = self.of(alert.tenant)
        texts = ("name", "severity", "summary", "description", "links", "labels", "annotations", "external_url")
        part = TelemetryPart.ALERT
        changed = {
            name: found for name in texts if (found := cleaner.value(said := getattr(alert, name), part)) is not said
        }
        return msgspec.structs.replace(alert, **changed) if changed else alert

    def order(self, order: Order) -> Order:
        """Return a program's order without its secrets. A person's order stays as it is."""
        if order.source != "hook":
            return order
        cleaner = self.of(order.tenant)
        parameters = cleaner.map(dict(order.parameters), TelemetryPart.WEBHOOK)
        body = self.body(order.tenant, order.body, TelemetryPart.WEBHOOK)
        return msgspec.structs.replace(order, parameters=parameters, body=body)

    def body(self, tenant: str, body: bytes, part: TelemetryPart | None = None) -> bytes:
        """Return the bytes of a request without the secrets in its texts.

        Telemetry that cannot be read (`part` is None) is left out where a rule selects attributes or parts.
        """
        cleaner = self.of(tenant)
        if body and part is None and cleaner.rules.has_whole:
            return body if body.startswith(b"[redacted: ") else UNREAD.format(len(body)).encode()
        return clean_bytes(cleaner, body, part)


def _without_half_a_secret(raw: str, clean: str, cap: int) -> str:
    """Return a redacted text without the part beside the place where a receiver cut it.

    No pattern matches half a secret. The part is as long as a half of what receivers keep, much of which nothing shows.
    """
    if len(raw) < cap - 8 or clean == raw:
        return clean  # an uncut text; or one without a secret, whose end is not shown
    beside = cap // 2
    if cap == max(THROWN_CAPS):  # of a stack trace the end is kept
        shared = _shared(raw[:beside], clean)
        return clean[shared:]
    shared = _shared(raw[: -beside - 1 : -1], clean[::-1])
    return clean[: len(clean) - shared]


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with in common."""
    return sum(1 for _ in takewhile(bool, map(eq, one, other)))


def part_of(o: Observation) -> TelemetryPart:
    """Return the part of telemetry to which the attributes of an observation belong."""
    if o.part is Part.EVENT or (o.part is Part.LOG and o.name):
        return TelemetryPart.EVENT
    return TelemetryPart.LOG if o.part is Part.LOG else TelemetryPart.SPAN


def _with_words(clean: Approval, asked: Approval, again: Approval | None) -> Approval:
    """Return a question with the words that the rules left of its attributes.

    Words that a rule took away leave a marker, so that nobody approves a question that is not whole.
    """
    changed: dict[str, Any] = {"expires_at": again.expires_at if again is not None else ""}
    for field in ("question", "detail", "risk", "tool"):
        if (left := getattr(again, field, "")) != getattr(asked, field):
            changed[field] = left or REDACTED
    if asked.options and getattr(again, "options", ()) != asked.options:
        changed["options"] = again.options if again is not None and again.options else (REDACTED,)
    return msgspec.structs.replace(clean, **changed)


def _with_content(source: Observation, kept: Observation, clean: Observation) -> Observation:
    """Return the observation without secrets in its stored part, and with its content that is not stored."""
    if kept is not source:
        before, left = source.attributes, kept.attributes
        attributes = {
            name: before[name] if name in before and before[name] is not left[name] else value
            for name, value in clean.attributes.items()
        }
        clean = msgspec.structs.replace(
            clean, attributes=attributes, body=clean.body if kept.body is source.body else source.body
        )
    if clean.part is Part.LOG:
        # Its index is a hash of its content, from which a short secret could be guessed.
        attributes = {**clean.attributes, c.ORDINAL: clean.ordinal} if clean.ordinal else clean.attributes
        index = log_index(msgspec.structs.replace(clean, attributes=attributes))
        clean = msgspec.structs.replace(clean, index=index)
    return clean
