"""Texts, maps and structures without the secrets in them.

A value is a secret by its own form, by the name of its attribute, or by a name that stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import is_not
from typing import Any, TypeVar

import msgspec

from spanpost.model.messages import LocaleMessage, Value
from spanpost.model.observations import Origin
from spanpost.text.names import NameVerdict, Strength, verdict
from spanpost.text.secrets import SHORTEST, Scanner
from spanpost.text.values import is_nothing, is_random, is_secret

#: Bounds of the caches: names of attributes, texts without secrets and their length, resources.
_MEMO, _TEXTS, _TEXT, _ORIGINS = 4096, 16_384, 160, 1024
#: Fields of structures that are ids.
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


class Cleaner:
    """Takes secrets out of what one tenant sends.

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
        resource = self.map(origin.resource, is_top=True)
        scope, version = self.text(origin.scope), self.text(origin.scope_version)
        clean = origin
        if resource is not origin.resource or scope is not origin.scope or version is not origin.scope_version:
            clean = msgspec.structs.replace(origin, resource=resource, scope=scope, scope_version=version)
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
