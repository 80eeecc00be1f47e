"""JSON with comments, edited in place: what is not edited stays as it is, byte by byte.

Theory. The text is read once into values that know their place in it. An edit is a piece of text put in or
taken out at such a place, and the result is read again for the next edit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null')
_DEEPEST: Final = 64


class BadJson(ValueError):
    """The text is no JSON. The message has the line."""


@dataclass
class JsonNode:
    """A value, where it begins and ends, and what it holds."""

    begin: int
    end: int = 0
    value: Any = None
    #: Of an object: name, where the name begins, and the member's value. Of an array the names are empty.
    members: list[tuple[str, int, JsonNode]] = field(default_factory=list)
    is_object: bool = False

    def get(self, name: str) -> JsonNode | None:
        """Return a member of an object."""
        return next((node for key, _, node in self.members if key == name), None) if self.is_object else None


def read(text: str) -> JsonNode:
    """Return the value of a text. Raises `BadJson`."""
    reader = _Reader(text)
    node = reader.node(reader.blank(0), 0)
    if (end := reader.blank(node.end)) != len(text):
        raise reader.error(end, "nothing more was expected")
    return node


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text

    def error(self, at: int, why: str) -> BadJson:
        return BadJson(f"line {self.text.count(chr(10), 0, at) + 1}: {why}")

    def blank(self, at: int) -> int:
        found = _BLANK.match(self.text, at)
        return found.end() if found else at

    def node(self, at: int, depth: int) -> JsonNode:
        opening = self.text[at : at + 1]
        if opening not in ("{", "["):
            found = _SCALAR.match(self.text, at)
            if found is None:
                raise self.error(at, "a value was expected")
            return JsonNode(at, found.end(), json.loads(found.group(), strict=False))
        if depth >= _DEEPEST:
            raise self.error(at, "it is nested too deeply")
        node = JsonNode(at, is_object=opening == "{")
        node.value = {} if node.is_object else []
        closing, at = "}" if node.is_object else "]", self.blank(at + 1)
        while self.text[at : at + 1] != closing:
            at = self._member(node, at, depth)
            if self.text[at : at + 1] == ",":
                at = self.blank(at + 1)
            elif self.text[at : at + 1] != closing:
                raise self.error(at, f"a comma or {closing} was expected")
        node.end = at + 1
        return node

    def _member(self, node: JsonNode, at: int, depth: int) -> int:
        begin, name = at, ""
        if node.is_object:
            key = self.node(at, depth + 1)
            if not isinstance(key.value, str):
                raise self.error(at, "a name in quotes was expected")
            name, at = key.value, self.blank(key.end)
            if self.text[at : at + 1] != ":":
                raise self.error(at, "a colon was expected")
            at = self.blank(at + 1)
        member = self.node(at, depth + 1)
        node.members.append((name, begin, member))
        if node.is_object:
            node.value[name] = member.value
        else:
            node.value.append(member.value)
        return self.blank(member.end)


def added(text: str, node: JsonNode, value: Any, name: str = "") -> str:
    """Return the text with a member more at the end of an object or array."""
    own = _indent(text, node.begin)
    inner = f"{own}  "
    written = json.dumps(value, indent=2, ensure_ascii=False).replace("\n", f"\n{inner}")
    piece = f"{json.dumps(name)}: {written}" if node.is_object else written
    if not node.members:
        return f"{text[: node.begin + 1]}\n{inner}{piece}\n{own}{text[node.end - 1 :]}"
    last = node.members[-1][2].end
    return f"{text[:last]},\n{inner}{piece}{text[last:]}"


def removed(text: str, node: JsonNode, index: int) -> str:
    """Return the text without a member, and without the comma that belonged to it."""
    _, begin, member = node.members[index]
    if index:
        return text[: node.members[index - 1][2].end] + text[member.end :]
    if len(node.members) > 1:
        return text[:begin] + text[node.members[1][1] :]
    between = text[node.begin + 1 : begin] + text[member.end : node.end - 1]
    return text[: node.begin + 1] + ("" if not between.strip() else between) + text[node.end - 1 :]


def _indent(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def found(node: JsonNode, *names: str) -> Iterator[JsonNode]:
    """Yield the nodes along a path of names, as far as it exists."""
    here: JsonNode | None = node
    for name in names:
        here = here.get(name) if here is not None else None
        if here is None:
            return
        yield here
