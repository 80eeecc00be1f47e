"""Takes secrets out of all telemetry, before any of it is stored, shown or counted.

Rules. It runs once, between reading and folding (`batches`), and in a process that forwards (`receivers`).
The cleaned observation is read again; but a question keeps its mark, and everything else that was concluded
from its words, from the original words, because the agent knows those. Numbers and booleans stay, and so do
identities (`IDENTITY`): ids are looked up, compared and joined. What people write through spanpost stays
(`Part.INTERVENTION`).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.alerts import Alert
from spanpost.model.launch_orders import Order
from spanpost.model.observations import Observation, Part, log_index
from spanpost.model.readings import Reading
from spanpost.readers import NOTHING, read
from spanpost.readers.cleaner import Cleaner
from spanpost.readers.identity import IDENTITY
from spanpost.text.content import without_content
from spanpost.text.secrets import Scanner

#: Questions are forwarded in their original words to the process that computes their mark.
QUESTIONS = frozenset({c.APPROVAL_QUESTION, c.APPROVAL_DETAIL, c.APPROVAL_OPTIONS})
#: Fields of a reading that are texts; its other fields are ids or numbers.
_SAID = (
    "task_name", "task_type", "agent_name", "agent_label", "agent_version", "repo", "topic", "requested_by", "service",
    "environment", "model", "provider", "tool_name", "action", "step_name", "step_message", "message", "locale_message",
    "links", "results", "failure", "artifact", "approval",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptKinds:
    """Kinds of secrets that stay in the telemetry of one tenant, besides those that stay in all."""

    off: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecretPattern:
    """A kind of secret of the settings, and its regular expression."""

    kind: str
    pattern: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RedactionRules:
    """Which secrets are taken out: all known kinds but those that are `off`, and the `patterns`."""

    off: tuple[str, ...] = ()
    tenants: Mapping[str, KeptKinds] = dataclasses.field(default_factory=dict)
    patterns: tuple[SecretPattern, ...] = ()


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
        self._patterns = tuple((one.kind, re.compile(one.pattern)) for one in rules.patterns)
        self.key = key
        self._spared = IDENTITY | QUESTIONS if spares_questions else IDENTITY
        self._cleaners: dict[str, Cleaner] = {}
        self._default: Cleaner | None = None

    def keyed(self, key: bytes) -> None:
        """Hash with this key from now on, unless the settings give one."""
        if key and not self.key:
            self.key, self._default = key, None
            self._cleaners.clear()

    def found(self) -> dict[str, int]:
        """Return how many secrets were taken out since the last call, by kind."""
        total: dict[str, int] = {}
        for cleaner in (self._default, *self._cleaners.values()):
            if cleaner is not None and cleaner.scanner.found:
                # Another thread may be scanning: it continues with the new counter.
                found, cleaner.scanner.found = cleaner.scanner.found, Counter()
                for kind, count in list(found.items()):
                    total[kind] = total.get(kind, 0) + count
        return total

    def of(self, tenant: str) -> Cleaner:
        """Return the cleaner of a tenant."""
        own = self._rules.tenants.get(tenant)
        if own is None:
            if self._default is None:
                self._default = self._make(frozenset(self._rules.off))
            return self._default
        if tenant not in self._cleaners:
            self._cleaners[tenant] = self._make(frozenset((*self._rules.off, *own.off)))
        return self._cleaners[tenant]

    def _make(self, off: frozenset[str]) -> Cleaner:
        return Cleaner(Scanner(self.key, off=off, patterns=self._patterns), self._spared)

    def clean(self, o: Observation) -> Observation:
        """Return an observation without its secrets; the same object when it holds none."""
        if o.part is Part.INTERVENTION:
            return o
        cleaner = self.of(o.tenant)
        attributes = cleaner.map(o.attributes, is_top=True) if o.attributes else o.attributes
        name = cleaner.text(o.name)
        message = cleaner.text(o.status_message) if o.status_message else o.status_message
        is_question = self._spared is not IDENTITY and o.name[:15] == "agent.approval."
        body = cleaner.value(o.body) if o.body is not None and not is_question else o.body
        origin = cleaner.origin(o.origin)
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
        kept = o if keeps_content else without_content(o)
        clean = self.clean(kept)
        return o if clean is kept else _with_content(o, kept, clean)

    def cleaned(
        self, source: Observation, reading: Reading, *, keeps_content: bool
    ) -> tuple[Observation, Reading, Observation]:
        """Return an observation and its reading without secrets, and the part of it that is stored.

        Content that is not stored is not searched: only what the reading took of it is.
        """
        kept = source if keeps_content else without_content(source)
        clean = self.clean(kept)
        if clean is not kept:
            source = _with_content(source, kept, clean)
            clean = source if keeps_content else msgspec.structs.replace(clean, index=source.index)
            again = read(source)
            if reading.approval is not None:  # conclusions from the question's own words stay
                approval = self.of(source.tenant).struct(reading.approval)
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
        texts = ("name", "severity", "summary", "description", "links", "labels", "annotations")
        changed = {name: found for name in texts if (found := cleaner.value(said := getattr(alert, name))) is not said}
        return msgspec.structs.replace(alert, **changed) if changed else alert

    def order(self, order: Order) -> Order:
        """Return a program's order without its secrets. A person's order stays as it is."""
        if order.source != "hook":
            return order
        cleaner = self.of(order.tenant)
        parameters, body = cleaner.map(dict(order.parameters)), self.body(order.tenant, order.body)
        return msgspec.structs.replace(order, parameters=parameters, body=body)

    def body(self, tenant: str, body: bytes) -> bytes:
        """Return the bytes of a request without the secrets in its texts."""
        cleaner = self.of(tenant)
        try:
            document = msgspec.json.decode(body)
            clean = cleaner.value(document)
            return body if clean is document else msgspec.json.encode(clean)
        except (ValueError, RecursionError):
            text = body.decode("utf-8", "surrogateescape")
            found = cleaner.scanner.scan(text)
            return body if found is text else found.encode("utf-8", "surrogateescape")


def _with_content(source: Observation, kept: Observation, clean: Observation) -> Observation:
    """Return the observation without secrets in its stored part, and with its content that is not stored."""
    if kept is not source:
        pairs = zip(source.attributes.items(), kept.attributes.values(), clean.attributes.items(), strict=True)
        attributes = {key: whole if left is not whole else value for (_, whole), left, (key, value) in pairs}
        clean = msgspec.structs.replace(
            clean, attributes=attributes, body=clean.body if kept.body is source.body else source.body
        )
    if clean.part is Part.LOG:
        # Its index is a hash of its content, from which a short secret could be guessed.
        attributes = {**clean.attributes, c.ORDINAL: clean.ordinal} if clean.ordinal else clean.attributes
        index = log_index(msgspec.structs.replace(clean, attributes=attributes))
        clean = msgspec.structs.replace(clean, index=index)
    return clean
