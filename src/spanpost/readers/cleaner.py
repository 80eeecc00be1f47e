"""Texts, maps and structures without the secrets in them.

A value is hidden by a rule, by its own form, by the name of its attribute, or by a name that stands beside
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from operator import is_not
from typing import Any, NamedTuple, TypeVar

import msgspec

from spanpost.model.messages import LocaleMessage, Value
from spanpost.model.observations import Origin
from spanpost.text.content import is_left_out
from spanpost.text.names import NameVerdict, Strength, verdict
from spanpost.text.rules import RedactionAction, RuleSet, TelemetryPart
from spanpost.text.secrets import Scanner, is_one_marker
from spanpost.text.text_view import TextView
from spanpost.text.values import is_nothing, is_random, is_secret

#: Bounds of the caches: names of attributes, resources, levels.
_MEMO, _ORIGINS, _LEVELS = 4096, 1024, 512
#: Fields of structures that are ids.
_IDS = frozenset({"id", "mark", "key", "source", "expires_at", "at_expiry", "reported_by", "escalated_by", "span"})
#: Keys of maps that hold a name and its value in two fields.
_NAMES = ("name", "key", "Name", "Key", "field", "header", "variable", "env")
_VALUES = ("value", "val", "Value", "content", "data", "secret", "default")
S = TypeVar("S", bound=msgspec.Struct)
#: In place of a value that a rule drops.
_GONE = object()


class _Plan(NamedTuple):
    """What happens with the attributes of a map, by name. None: an id. A name that is left out: its level's view."""

    entries: dict[str, _Entry | None]
    #: The cleaned form of names that hold a secret.
    renamed: dict[str, str]


class _Entry(NamedTuple):
    """What happens with an attribute."""

    said: NameVerdict
    #: What a rule does with the whole value.
    action: RedactionAction | None
    name: str
    view: TextView


class _Level:
    """A map's place: the part of the telemetry, and the path of the attribute that holds it."""

    __slots__ = ("part", "plans", "prefix", "view")

    def __init__(self, part: TelemetryPart | None, prefix: str, view: TextView) -> None:
        self.part, self.prefix, self.view = part, prefix, view
        self.plans: dict[tuple[str, ...], _Plan] = {}


class Cleaner:
    """Takes secrets out of what one tenant sends, by its rules.

    Several threads may share one: its caches are read and written in single steps.
    """

    def __init__(self, key: bytes, rules: RuleSet, spared: frozenset[str]) -> None:
        self._key = key
        self.rules = rules
        self._spared = spared
        self._views: dict[tuple[int, ...], TextView] = {}
        self._levels: dict[tuple[TelemetryPart | None, str], _Level] = {}
        self._origins: dict[int, tuple[Origin, Origin]] = {}

    def found(self) -> Counter[str]:
        """Return how many secrets were taken out since the last call, by kind."""
        total: Counter[str] = Counter()
        for view in list(self._views.values()):
            if view.scanner.found:
                # Another thread may be scanning: it continues with the new counter.
                found, view.scanner.found = view.scanner.found, Counter()
                total.update(dict(found))
        return total

    def text(self, text: str, part: TelemetryPart | None = None) -> str:
        """Return a text without its secrets. It is the part's own, not an attribute."""
        level = self._level(part)
        if not self.rules.has_parts:
            return level.view.text(text)
        done = self.rules.treatment(part)
        if done.action is None or part is TelemetryPart.EVENT or not text:
            return level.view.text(text)
        found = self._whole(text, _Entry(_UNNAMED, done.action, done.name, level.view))
        return f"[redacted:{done.name}]" if found is _GONE else str(found)

    def map(self, given: dict[str, Any], part: TelemetryPart | None = None, *, is_top: bool = False) -> dict[str, Any]:
        """Return a map without the secrets of its names and values; the same object when it holds none."""
        return self._map(given, self._level(part), is_top=is_top)

    def _map(self, given: dict[str, Any], level: _Level, *, is_top: bool = False) -> dict[str, Any]:
        names = tuple(given)
        plan, renamed = level.plans.get(names) or self._plan(names, level)
        clean, text_of, drops = level.view.clean, level.view.text, level.view.scanner.drops
        changed: dict[str, Any] = {}
        for name, value in given.items():
            kind = type(value)
            entry = plan.get(name, _DEFAULT)
            if entry is _DEFAULT:
                if kind is str:
                    if value in clean:
                        continue
                    found: Any = text_of(value)
                elif kind is list or kind is dict:
                    found = self._within(value, _UNNAMED, self._below(level, name))
                else:
                    continue
            elif entry is None:
                continue
            else:
                found = self._by_entry(value, entry, self._below(level, name))
            if found is not value:
                changed[name] = _GONE if drops and kind is str and found in drops else found
        if len(given) > 1 and not is_top:
            self._by_two_fields(given, changed, level)
        if not changed and not renamed:
            return given
        return {
            renamed.get(name, name): found
            for name, value in given.items()
            if (found := changed.get(name, value)) is not _GONE
        }

    def field(self, name: str, text: str, part: TelemetryPart | None = None) -> str:
        """Return the text of a named field without its secrets."""
        level = self._level(part)
        plan = level.plans.get((name,)) or self._plan((name,), level)
        if (entry := plan.entries.get(name)) is None:
            return level.view.text(text)
        found = self._by_entry(text, entry, level)
        return f"[redacted:{entry.name or entry.said.kind}]" if found is _GONE else str(found)

    def value(self, value: Any, part: TelemetryPart | None = None) -> Any:
        """Return a value of any type without its secrets."""
        kind = type(value)
        if kind is str:
            return self.text(value, part)
        return self._within(value, _UNNAMED, self._level(part)) if kind is list or kind is dict else value

    def body(self, body: Any, part: TelemetryPart) -> Any:
        """Return the body of a record without its secrets. A number stays: it is a data point's."""
        if (whole := self.whole_body(body, part)) is not body:
            return whole
        level, kind = self._level(part), type(body)
        if kind is str:
            return level.view.text(body)
        return self._within(body, _UNNAMED, level) if kind is list or kind is dict else body

    def whole_body(self, body: Any, part: TelemetryPart) -> Any:
        """Return what rules for whole values leave of the body of a record."""
        done = self.rules.treatment(part) if self.rules.has_parts else None
        if done is None or done.action is None or type(body) not in (str, list, dict):
            return body
        found = self._whole(body, _Entry(_UNNAMED, done.action, done.name, self._level(part).view))
        return f"[redacted:{done.name}]" if found is _GONE else found

    def part(self, said: Any) -> Any:
        """Return a part of a reading without its secrets: a message, a structure or a plain value."""
        if isinstance(said, LocaleMessage):
            return self.message(said)
        return self.struct(said) if isinstance(said, msgspec.Struct) else self.value(said)

    def message(self, said: LocaleMessage) -> LocaleMessage:
        """Return a message without secrets in its values, nested ones included."""

        def value(given: Value) -> Value:
            if isinstance(given, LocaleMessage):
                return self.message(given)
            if isinstance(given, list):
                return [self.message(one) for one in given]
            return self.text(given) if isinstance(given, str) else given

        values = {name: value(given) for name, given in said.values.items()}
        return said if values == said.values else LocaleMessage(said.key, values)

    def struct(self, said: S) -> S:
        """Return a failure, an artifact or a question without secrets in its texts."""
        changed: dict[str, Any] = {}
        for field in said.__struct_fields__:
            value = getattr(said, field)
            if not value or field in _IDS:
                continue
            if type(value) is tuple:
                found: Any = tuple(map(self.value, value))
                found = value if found == value else found
            else:
                found = self.value(value)
            if found is not value:
                changed[field] = found
        return msgspec.structs.replace(said, **changed) if changed else said

    def origin(self, origin: Origin) -> Origin:
        """Return a resource and scope without their secrets."""
        known = self._origins.get(id(origin))
        if known is not None and known[0] is origin:
            return known[1]
        resource = self.map(origin.resource, TelemetryPart.RESOURCE, is_top=True)
        scope, version = (self.text(text, TelemetryPart.SCOPE) for text in (origin.scope, origin.scope_version))
        clean = origin
        if resource is not origin.resource or scope is not origin.scope or version is not origin.scope_version:
            clean = msgspec.structs.replace(origin, resource=resource, scope=scope, scope_version=version)
        if len(self._origins) >= _ORIGINS:
            self._origins.clear()
        self._origins[id(origin)] = (origin, clean)
        return clean

    def wholes(self, given: dict[str, Any], part: TelemetryPart) -> dict[str, Any]:
        """Return a map of attributes in which only the rules for whole values were applied."""
        level = self._level(part)
        plan = (level.plans.get(names := tuple(given)) or self._plan(names, level)).entries
        changed = {
            name: found
            for name, value in given.items()
            if (entry := plan.get(name)) is not None
            and entry.action is not None
            and (found := self._whole(value, entry)) is not value
        }
        return {n: v for n, v in {**given, **changed}.items() if v is not _GONE} if changed else given

    def _view(self, texts: tuple[int, ...]) -> TextView:
        if (known := self._views.get(texts)) is None:
            known = self._views[texts] = TextView(Scanner(self._key, self.rules.texts(texts)))
        return known

    def _level(self, part: TelemetryPart | None, prefix: str = "") -> _Level:
        if not self.rules.has_parts:
            part = None
        known = self._levels.get((part, prefix))
        if known is None:
            if len(self._levels) >= _LEVELS:
                self._levels.clear()
            view = self._view(self.rules.treatment(part).texts)
            known = self._levels[part, prefix] = _Level(part, prefix, view)
        return known

    def _below(self, level: _Level, name: str) -> _Level:
        return self._level(level.part, f"{level.prefix}{name}.") if self.rules.has_names else level

    def _plan(self, names: tuple[str, ...], level: _Level) -> _Plan:
        entries: dict[str, _Entry | None] = {}
        renamed: dict[str, str] = {}
        has_own = self.rules.has_names or self.rules.has_parts
        for name in names:
            if name in self._spared:
                entries[name] = None
            else:
                done = self.rules.treatment(level.part, level.prefix + name) if has_own else None
                view = self._view(done.texts) if done is not None else level.view
                said = verdict(name)
                if not said.strength or view.scanner.action(said.kind) is RedactionAction.KEEP:
                    said = _UNNAMED
                action = done.action if done is not None else None
                if action is not None and view.scanner.action(done.name if done else "") is RedactionAction.KEEP:
                    action = None
                if said.strength or action is not None or view is not level.view:
                    entries[name] = _Entry(said, action, done.name if done is not None else "", view)
            if (found := level.view.text(name)) is not name:
                while found in names or found in renamed.values():
                    found += "'"
                renamed[name] = found
        if len(level.plans) >= _MEMO:
            level.plans.clear()
        plan = _Plan(entries, renamed)
        if len(names) <= 64:
            level.plans[names] = plan
        return plan

    def _by_entry(self, value: Any, entry: _Entry, below: _Level) -> Any:
        if entry.action is not None:
            return self._whole(value, entry)
        kind = type(value)
        if kind is str:
            found = self._named(value, entry.said, entry.view) if entry.said.strength else entry.view.text(value)
            return _GONE if found is not value and found in entry.view.scanner.drops else found
        return self._within(value, entry.said, below) if kind is list or kind is dict else value

    def _whole(self, value: Any, entry: _Entry) -> Any:
        """Return what a rule leaves of a whole value. Nothing and sizes of content stay."""
        if entry.action is RedactionAction.KEEP or value is None or value in ("", [], {}):
            return value
        text = value if type(value) is str else msgspec.json.encode(value, enc_hook=repr).decode()
        scanner = entry.view.scanner
        if scanner.keeps(text) or is_left_out(value):
            return value
        if entry.action is RedactionAction.DROP:
            scanner.found[entry.name] += 1
            return _GONE
        if type(value) is str and is_one_marker(value):
            return value
        assert entry.action is not None
        return scanner.replacement(entry.name, text, entry.action)

    def _named(self, value: str, said: NameVerdict, view: TextView) -> str:
        """Return the replacement of a value whose name marks it as a secret."""
        if said.strength is Strength.STRONG:
            is_one = len(value) >= 3 and not is_nothing(value) and (not value.isdigit() or said.kind == "password")
        elif said.strength is Strength.TOKEN:
            is_one = is_secret(value.strip(), said.strength, said.kind, is_quoted=True, is_set=True)
        else:
            is_one = is_secret(value, said.strength, said.kind, is_quoted=True, is_set=True) or (
                said.kind == "cookie" and "=" in value and is_random(value.partition("=")[2].partition(";")[0])
            )
        if not is_one or view.scanner.keeps(value):
            return view.text(value)
        found = view.scanner.scan(value)  # a known form has the exact kind
        if is_one_marker(found):
            return found
        return view.scanner.replacement(said.kind, value, view.scanner.action(said.kind))

    def _within(self, value: Any, said: NameVerdict, level: _Level) -> Any:
        if type(value) is dict:
            return self._of_map(value, said, level)
        items: list[Any] = []
        before = ""
        for item in value:
            kind = type(item)
            if kind is str:
                meaning = said if said.strength else _flagged(before)
                found: Any = self._named(item, meaning, level.view) if meaning.strength else level.view.text(item)
                before = item
            else:
                found = self._within(item, said, level) if kind is list or kind is dict else item
                before = ""
            items.append(found)
        return items if any(map(is_not, items, value)) else value

    def _of_map(self, value: dict[str, Any], said: NameVerdict, level: _Level) -> dict[str, Any]:
        found = self._map(value, level)
        for field in _VALUES if said.strength is Strength.STRONG else ():
            inner = found.get(field)
            if type(inner) is str and (cleaned := self._named(inner, said, level.view)) is not inner:
                found = {**found, field: cleaned}
        return found

    def _by_two_fields(self, given: Mapping[str, Any], changed: dict[str, Any], level: _Level) -> None:
        """Redact the value of a map that has its name in one field and its value in another."""
        for field in _NAMES:
            name = given.get(field)
            if type(name) is not str or not (said := verdict(name)).strength:
                continue
            if level.view.scanner.action(said.kind) is RedactionAction.KEEP:
                continue
            for other in _VALUES:
                value = given.get(other)
                if type(value) is str and (found := self._named(value, said, level.view)) is not value:
                    changed[other] = found


_UNNAMED = NameVerdict(Strength.NONE, "")
_DEFAULT: Any = object()


def _flagged(before: str) -> NameVerdict:
    """Return the verdict of a command's argument on the next one: ``["--password", "x"]``."""
    return (
        verdict(before.lstrip("-")) if before[:1] == "-" and before[1:2].isalpha() | (before[:2] == "--") else _UNNAMED
    )


def clean_bytes(cleaner: Cleaner, body: bytes, part: TelemetryPart | None) -> bytes:
    """Return the bytes of a request, JSON or any other text, without the secrets in its texts."""
    try:
        document = msgspec.json.decode(body)
        clean = cleaner.value(document, part)
        return body if clean is document else msgspec.json.encode(clean)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "surrogateescape")
        found = cleaner.text(text, part)
        return body if found is text else found.encode("utf-8", "surrogateescape")
