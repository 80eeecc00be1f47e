"""A form of another program as a question, which a person answers with a button or a short comment.

The form is a flat JSON Schema, as MCP's elicitation allows: text, numbers, booleans and choices. It comes
from a server that may be hostile or malformed: an unknown part is read as text, and reading never raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DECLINE", "Field", "Form", "Value", "read_form"]

Value = str | int | float | bool | list[str]

#: The option that refuses all others.
DECLINE = "decline"
#: Maximum number of options of a question, and of characters of one. A larger form is answered in the
#: comment.
_OPTIONS, _OPTION = 20, 500
#: Maximum number of fields of a form, and of choices of a field.
_FIELDS, _CHOICES = 100, 1000
#: Larger bounds, also infinite ones, are ignored.
_MOST = 1e300
_WORDS = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}
_KINDS = {"boolean": "yes or no", "integer": "a whole number", "number": "a number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a form."""

    name: str
    #: string, integer, number, boolean or array (of choices).
    kind: str
    description: str
    is_required: bool
    default: Value | None
    #: The allowed values, by the label that a person reads.
    choices: Mapping[str, Value]
    #: Minimum and maximum: of a number, of the characters of a text, of the number of choices.
    least: float | None
    most: float | None

    @property
    def is_needed(self) -> bool:
        """True when the form is incomplete without it."""
        return self.is_required and self.default is None

    def read(self, text: str) -> Value:
        """Return the value of a person's text. Raises `ValueError`, which says what is wrong."""
        if self.kind == "array":
            taken = [str(self._choice(part)) for part in text.split(",") if part.strip()]
            self._within(len(taken), "choices")
            return taken
        if self.choices:
            return self._choice(text)
        if self.kind == "boolean":
            if (word := text.strip().lower()) not in _WORDS:
                raise ValueError(f"{self.name}: {text[:50]!r} is neither yes nor no")
            return _WORDS[word]
        if self.kind in ("integer", "number"):
            try:
                number = int(text) if self.kind == "integer" else float(text)
                is_one = math.isfinite(number)
            except (ValueError, OverflowError):
                is_one = False
            if not is_one:
                raise ValueError(f"{self.name}: {text[:50]!r} is not {_KINDS[self.kind]}")
            self._within(number, "")
            return number
        self._within(len(text), "characters")
        return text

    def _choice(self, text: str) -> Value:
        wanted = text.strip().lower()
        for label, value in self.choices.items():
            if wanted in (label.lower(), str(value).lower()):
                return value
        if self.kind == "array" and not self.choices:
            return text.strip()
        raise ValueError(f"{self.name}: {text.strip()[:50]!r} is none of {', '.join(self.choices)[:300]}")

    def _within(self, number: float, unit: str) -> None:
        for bound, is_out, word in ((self.least, self._is_less, "least"), (self.most, self._is_more, "most")):
            if bound is not None and is_out(number):
                raise ValueError(
                    " ".join(filter(None, (f"{self.name}: at {word} {bound:g}", unit))) + f", not {number}"
                )

    def _is_less(self, number: float) -> bool:
        return self.least is not None and number < self.least

    def _is_more(self, number: float) -> bool:
        return self.most is not None and number > self.most

    @property
    def _bounds(self) -> str:
        unit = {"string": "characters", "array": "choices"}.get(self.kind, "")
        said = (("at least", self.least), ("at most", self.most))
        return ", ".join(f"{word} {bound:g} {unit}".rstrip() for word, bound in said if bound is not None)

    @property
    def shown(self) -> str:
        """The field as a person reads it: its name, its allowed values and its description."""
        takes = ", ".join(filter(None, (", ".join(self.choices) or _KINDS.get(self.kind, ""), self._bounds)))
        if self.default is not None:
            takes = f"{takes}; {written(self.default)} unless you say otherwise".removeprefix("; ")
        elif not self.is_required:
            takes = f"{takes}; may be left out".removeprefix("; ")
        return f"{self.name}{f' ({takes})' if takes else ''}{f': {self.description}' if self.description else ''}"


@dataclass(frozen=True, slots=True)
class Form:
    """A form, and how a person can fill it in."""

    fields: tuple[Field, ...]

    @property
    def by_button(self) -> Field | None:
        """The field that a button fills in, if one alone is needed: an option, or a yes."""
        needed = [field for field in self.fields if field.is_needed]
        if len(needed) > 1:
            return None
        yes_or_no = [field for field in self.fields if field.kind == "boolean"]
        one = needed or (list(self.fields) if len(self.fields) == 1 else yes_or_no if len(yes_or_no) == 1 else [])
        return one[0] if one and (one[0].kind == "boolean" or _are_options(one[0])) else None

    @property
    def options(self) -> list[str]:
        """The options of the question; empty: approve or deny."""
        field = self.by_button
        return [*field.choices, DECLINE] if field is not None and _are_options(field) else []

    @property
    def needs_words(self) -> bool:
        """True when a button alone does not fill in the form."""
        return self.by_button is None and any(field.is_needed for field in self.fields)

    @property
    def hint(self) -> str:
        """How to answer, if the buttons do not show it."""
        if self.needs_words:
            needed = [field.name for field in self.fields if field.is_needed]
            if len(needed) == 1:
                return "To answer, approve with the answer as your comment."
            return "To answer, approve with a comment that has a line for each: " + ", ".join(
                f"{name}: …" for name in needed
            )
        field = self.by_button
        return f"To approve answers {field.name}: yes." if field is not None and not self.options else ""

    def filled(self, decision: str, comment: str) -> dict[str, Value]:
        """Return the values of a person's answer. Raises `ValueError`, which says what is missing or wrong.

        A line ``name: value`` of the comment fills in a field. If one field alone is missing, the other
        lines are its value.
        """
        content = {field.name: field.default for field in self.fields if field.default is not None}
        names = {field.name.lower(): field for field in self.fields}
        said, rest = set(), []
        for line in comment.splitlines():
            name, colon, value = line.partition(":")
            field = names.get(name.strip().lower())
            if colon and field is not None:
                content[field.name] = field.read(value.strip())
                said.add(field.name)
            else:
                rest.append(line)
        one = self.by_button
        if one is not None and (self.options or one.name not in said):
            content[one.name] = one.choices[decision] if self.options else True
        missing = [field for field in self.fields if field.is_needed and field.name not in content]
        if len(missing) == 1 and (words := "\n".join(rest).strip()):
            content[missing[0].name] = missing[0].read(words)
        elif missing:
            raise ValueError(f"{', '.join(field.name for field in missing)}: missing in the comment")
        return content


def _are_options(field: Field) -> bool:
    """Return whether a field's choices can be a question's options, beside `DECLINE`."""
    taken = {label.strip().lower() for label in field.choices}
    return (
        field.kind != "array"
        and 0 < len(field.choices) < _OPTIONS
        and len(taken) == len(field.choices)
        and not taken & {"", DECLINE, "expired"}
        and all(label == label.strip() and len(label) <= _OPTION for label in field.choices)
    )


def read_form(schema: Any) -> Form:
    """Read a form from its JSON Schema."""
    schema = schema if isinstance(schema, Mapping) else {}
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, Mapping):
        return Form(())
    needed = {str(name) for name in required} if isinstance(required, list | tuple) else set()
    return Form(
        tuple(_field(str(name), said, str(name) in needed) for name, said in list(properties.items())[:_FIELDS])
    )


def _field(name: str, said: Any, is_required: bool) -> Field:
    said = said if isinstance(said, Mapping) else {}
    kind = said.get("type")
    kind = kind if kind in ("boolean", "integer", "number", "array") else "string"
    bounds = {"array": ("minItems", "maxItems"), "string": ("minLength", "maxLength")}.get(kind, ("minimum", "maximum"))
    least, most = (_number(said.get(bound)) for bound in bounds)
    items = said.get("items")
    return Field(
        name=name,
        kind=kind,
        description=str(said.get("description") or said.get("title") or ""),
        is_required=is_required,
        default=_value(said.get("default")),
        choices=_choices(items if kind == "array" and isinstance(items, Mapping) else said),
        least=least,
        most=most,
    )


def _choices(said: Mapping[str, Any]) -> dict[str, Value]:
    titled = said.get("oneOf") or said.get("anyOf")
    if isinstance(titled, list):
        pairs = [(one.get("title"), one.get("const")) for one in titled if isinstance(one, Mapping) and "const" in one]
    else:
        values = said.get("enum", [said["const"]] if "const" in said else None)
        values = values if isinstance(values, list) else []
        names = said.get("enumNames")
        pairs = list(
            zip(names if isinstance(names, list) and len(names) == len(values) else values, values, strict=True)
        )
    read = [(label, value) for label, one in pairs[:_CHOICES] if (value := _value(one)) is not None]
    choices = {str(label if label is not None else value): value for label, value in read}
    # Two equal labels could not be distinguished.
    return choices if len(choices) == len(read) else {str(value): value for _, value in read}


def _value(given: Any) -> Value | None:
    if isinstance(given, list):
        return given if all(isinstance(one, str) for one in given) else None
    return given if isinstance(given, str | int | float | bool) else None


def _number(given: Any) -> float | None:
    is_one = isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < _MOST
    return given if is_one else None


def written(value: Value) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)
