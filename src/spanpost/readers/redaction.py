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
from operator import is_not
from typing import Any, TypeVar

import msgspec

from spanpost import semconv as c
from spanpost.model.alerts import Alert
from spanpost.model.launch_orders import Order
from spanpost.model.messages import LocaleMessage, Value
from spanpost.model.observations import Observation, Origin, Part, log_index
from spanpost.model.readings import Reading
from spanpost.readers import NOTHING, read
from spanpost.readers.identity import IDENTITY
from spanpost.text.content import without_content
from spanpost.text.names import NameVerdict, Strength, verdict
from spanpost.text.secrets import SHORTEST, Scanner
from spanpost.text.values import is_nothing, is_random, is_secret

#: Questions are forwarded in their original words to the process that computes their mark.
QUESTIONS = frozenset({c.APPROVAL_QUESTION, c.APPROVAL_DETAIL, c.APPROVAL_OPTIONS})
#: Bounds of the caches: names of attributes, texts without secrets and their length, resources.
_MEMO, _TEXTS, _TEXT, _ORIGINS = 4096, 16_384, 160, 1024
#: Fields of a reading that are texts; its other fields are ids or numbers.
_SAID = (
    "task_name", "task_type", "agent_name", "agent_label", "agent_version", "repo", "topic", "requested_by", "service", "environment", "model",
    "provider", "tool_name", "action", "step_name", "step_message", "message", "locale_message", "links", "results", "failure", "artifact", "approval",
)  # fmt: skip
#: Fields of the structures within those that are ids.
_IDS = frozenset({"id", "mark", "key", "source", "expires_at", "at_expiry", "reported_by", "escalated_by", "span"})
#: Keys of maps that hold a name and its value in two fields.
_NAMES = ("name", "key", "Name", "Key", "field", "header", "variable", "env")
_VALUES = ("value", "val", "Value", "content", "data", "secret", "default")
#: Ids made by machines: no secret of a known form is hexadecimal throughout.
_HEX_ID = re.compile(r"[0-9a-f]{8,64}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


#: For the names of a map: the verdict on each (None: an id); and the cleaned form of names that hold a
#: secret.
_Plan = tuple[dict[str, NameVerdict | None], dict[str, str]]


S = TypeVar("S", bound=msgspec.Struct)


class _Cleaner:
    """Cleans what one tenant sends.

    Several threads may share one: its caches are read and written in single steps.
    """

    def __init__(self, scanner: Scanner, spared: frozenset[str]) -> None:
        self.scanner = scanner
        self._spared = spared
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._clean: set[str] = set()
        self._origins: dict[int, tuple[Origin, Origin]] = {}

    def text(self, text: str) -> str:
        """Return a text without its secrets."""
        if len(text) < SHORTEST or text in self._clean:
            return text
        found = text if len(text) <= 64 and _HEX_ID.fullmatch(text) else self.scanner.scan(text)
        if found is text and len(text) <= _TEXT:
            if len(self._clean) >= _TEXTS:
                self._clean.clear()
            self._clean.add(text)
        return found

    def map(self, given: dict[str, Any], *, is_top: bool = False) -> dict[str, Any]:
        """Return a map without the secrets of its names and values; the same object when it holds none."""
        names = tuple(given)
        plan, renamed = self._plans.get(names) or self._plan(names)
        clean, text_of = self._clean, self.text
        changed: dict[str, Any] = {}
        for name, value in given.items():
            kind = type(value)
            if kind is str:
                if name not in plan:
                    if value in clean:
                        continue
                    found: Any = text_of(value)
                elif (said := plan[name]) is None:
                    continue
                else:
                    found = self._named(value, said)
            elif kind is list or kind is dict:
                said = plan.get(name, _UNNAMED)
                found = value if said is None else self._within(value, said)
            else:
                continue
            if found is not value:
                changed[name] = found
        if len(given) > 1 and not is_top:
            self._by_two_fields(given, changed)
        if not changed and not renamed:
            return given
        return {renamed.get(name, name): changed.get(name, value) for name, value in given.items()}

    def value(self, value: Any) -> Any:
        """Return a value of any type without its secrets."""
        kind = type(value)
        if kind is str:
            return self.text(value)
        return self._within(value, _UNNAMED) if kind is list or kind is dict else value

    def origin(self, origin: Origin) -> Origin:
        """Return a resource and scope without their secrets."""
        known = self._origins.get(id(origin))
        if known is not None and known[0] is origin:
            return known[1]
        resource, scope, version = (
            self.map(origin.resource, is_top=True),
            self.text(origin.scope),
            self.text(origin.scope_version),
        )
        is_same = resource is origin.resource and scope is origin.scope and version is origin.scope_version
        clean = (
            origin
            if is_same
            else msgspec.structs.replace(origin, resource=resource, scope=scope, scope_version=version)
        )
        if len(self._origins) >= _ORIGINS:
            self._origins.clear()
        self._origins[id(origin)] = (origin, clean)
        return clean

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        plan: dict[str, NameVerdict | None] = {}
        renamed: dict[str, str] = {}
        for name in names:
            if name in self._spared:
                plan[name] = None
            elif (said := verdict(name)).strength and not self.scanner.is_off(said.kind):
                plan[name] = said
            if (found := self.text(name)) is not name:
                while found in names or found in renamed.values():
                    found += "'"
                renamed[name] = found
        if len(self._plans) >= _MEMO:
            self._plans.clear()
        if len(names) <= 64:
            self._plans[names] = (plan, renamed)
        return plan, renamed

    def _named(self, value: str, said: NameVerdict) -> str:
        """Return the replacement of a value whose name marks it as a secret."""
        if said.strength is Strength.STRONG:
            is_one = len(value) >= 3 and not is_nothing(value) and (not value.isdigit() or said.kind == "password")
        elif said.strength is Strength.TOKEN:
            is_one = is_secret(value.strip(), said.strength, said.kind, is_quoted=True, is_set=True)
        else:
            is_one = is_secret(value, said.strength, said.kind, is_quoted=True, is_set=True) or (
                said.kind == "cookie" and "=" in value and is_random(value.partition("=")[2].partition(";")[0])
            )
        if not is_one:
            return self.text(value)
        found = self.scanner.scan(value)  # a known form has the exact kind
        if found.startswith("[redacted") and found.endswith("]") and found.count("[redacted") == 1:
            return found
        return self.scanner.replacement(said.kind, value)

    def _within(self, value: Any, said: NameVerdict) -> Any:
        if type(value) is dict:
            return self._of_map(value, said)
        items: list[Any] = []
        before = ""
        for item in value:
            kind = type(item)
            if kind is str:
                meaning = said if said.strength else _flagged(before)
                found: Any = self._named(item, meaning) if meaning.strength else self.text(item)
                before = item
            else:
                found = self._within(item, said) if kind is list or kind is dict else item
                before = ""
            items.append(found)
        return items if any(map(is_not, items, value)) else value

    def _of_map(self, value: dict[str, Any], said: NameVerdict) -> dict[str, Any]:
        found = self.map(value)
        for field in _VALUES if said.strength is Strength.STRONG else ():
            inner = found.get(field)
            if type(inner) is str and (cleaned := self._named(inner, said)) is not inner:
                found = {**found, field: cleaned}
        return found

    def _by_two_fields(self, given: Mapping[str, Any], changed: dict[str, Any]) -> None:
        """Redact the value of a map that has its name in one field and its value in another."""
        for field in _NAMES:
            name = given.get(field)
            if type(name) is not str or not (said := verdict(name)).strength or self.scanner.is_off(said.kind):
                continue
            for other in _VALUES:
                value = given.get(other)
                if type(value) is str and (found := self._named(value, said)) is not value:
                    changed[other] = found


_UNNAMED = NameVerdict(Strength.NONE, "")


def _flagged(before: str) -> NameVerdict:
    """Return the verdict of a command's argument on the next one: ``["--password", "x"]``."""
    return (
        verdict(before.lstrip("-")) if before[:1] == "-" and before[1:2].isalpha() | (before[:2] == "--") else _UNNAMED
    )


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
        self._cleaners: dict[str, _Cleaner] = {}
        self._default: _Cleaner | None = None

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

    def of(self, tenant: str) -> _Cleaner:
        """Return the cleaner of a tenant."""
        own = self._rules.tenants.get(tenant)
        if own is None:
            if self._default is None:
                self._default = self._make(frozenset(self._rules.off))
            return self._default
        if tenant not in self._cleaners:
            self._cleaners[tenant] = self._make(frozenset((*self._rules.off, *own.off)))
        return self._cleaners[tenant]

    def _make(self, off: frozenset[str]) -> _Cleaner:
        return _Cleaner(Scanner(self.key, off=off, patterns=self._patterns), self._spared)

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
                approval = _struct(reading.approval, self.of(source.tenant))
                again = msgspec.structs.replace(again, approval=approval, occurrence=reading.occurrence)
            reading = again
        if clean.attributes is not source.attributes or clean.body is not source.body:
            reading = self._reading(reading, self.of(source.tenant))
        return source, reading, clean

    def _reading(self, reading: Reading, cleaner: _Cleaner) -> Reading:
        if reading is NOTHING:
            return reading
        changed: dict[str, Any] = {}
        for field in _SAID:
            said = getattr(reading, field)
            if said:
                if isinstance(said, LocaleMessage):
                    found: Any = _clean_message(said, cleaner)
                else:
                    found = _struct(said, cleaner) if isinstance(said, msgspec.Struct) else cleaner.value(said)
                if found is not said:
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


def _clean_message(said: LocaleMessage, cleaner: _Cleaner) -> LocaleMessage:
    """Return a message without secrets in its values, nested ones included."""

    def value(given: Value) -> Value:
        if isinstance(given, LocaleMessage):
            return _clean_message(given, cleaner)
        if isinstance(given, list):
            return [_clean_message(one, cleaner) for one in given]
        return cleaner.text(given) if isinstance(given, str) else given

    values = {name: value(given) for name, given in said.values.items()}
    return said if values == said.values else LocaleMessage(said.key, values)


def _struct(said: S, cleaner: _Cleaner) -> S:
    """Return a failure, an artifact or a question without secrets in its texts."""
    changed: dict[str, Any] = {}
    for field in said.__struct_fields__:
        value = getattr(said, field)
        if not value or field in _IDS:
            continue
        if type(value) is tuple:
            found: Any = tuple(map(cleaner.value, value))
            found = value if found == value else found
        else:
            found = cleaner.value(value)
        if found is not value:
            changed[field] = found
    return msgspec.structs.replace(said, **changed) if changed else said
