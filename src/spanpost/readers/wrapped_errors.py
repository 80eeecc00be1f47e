"""The words of an error, out of what SDKs wrap them in."""

from __future__ import annotations

import re
from typing import Final

#: Characters of a message that are read.
MESSAGE: Final = 8192
#: An exception as its `repr`.
_AS_CODE = re.compile(r"([A-Za-z_][\w.]{0,120})\((['\"])(.*)\2,?\)", re.DOTALL)
#: An exception of words and of the exception that led to it (Semantic Kernel, Agent Framework): the second says why.
_CAUSED = re.compile(r"\(\s*(['\"]).{1,400}?\1, ([A-Za-z_]\w{0,120})\((['\"])(.*)\3,?\)\)", re.DOTALL)
#: How SDKs wrap an error in a dictionary of Python or JavaScript: "Error in agent run: {'error': '...'}", and
#: {'message': '...', 'data': {'error': '...'}} (openai-agents).
_WRAPPED = re.compile(r"([^:{}]{1,80}): \{.{0,300}?[\"']error[\"']: ?([\"'])(.*)\2\}\s*", re.DOTALL)
#: What an SDK adds to its words: "Max turns exceeded: {'max_turns': 3}" (openai-agents).
_ADDED = re.compile(r"([^:{}]{1,80}): \{'(\w{1,40})': (\d{1,9})\}\s*")
_LISTED = re.compile(
    r"\{'message': '([^'{}]{1,200})', 'data': (?:\{'error': (['\"])(.*)\2\}|\{[^{}]{0,500}\}|None)\}\Z", re.DOTALL
)


def unwrapped(message: str, kind: str) -> str:
    """Return a message out of the exception's `repr`, and out of the dictionary in which a framework wraps it."""
    whole = _AS_CODE.fullmatch(message[: 2 * MESSAGE])
    if whole is not None and (not kind or whole.group(1) == kind.rpartition(".")[2]):
        return whole.group(3).replace("\\n", "\n")
    caused = _CAUSED.fullmatch(message[: 2 * MESSAGE])
    if caused is not None:
        return f"{caused.group(2)}: {caused.group(4)}".replace("\\n", "\n")
    wrapped = _WRAPPED.fullmatch(message[: 2 * MESSAGE])
    if wrapped is not None:
        said = wrapped.group(3).replace('\\"', '"').replace("\\n", "\n")
        return said if wrapped.group(1).startswith("Error ") else f"{wrapped.group(1)}: {said}"
    added = _ADDED.fullmatch(message[:200])
    if added is not None:
        return f"{added.group(1)} ({added.group(2)}: {added.group(3)})"
    listed = _LISTED.match(message)
    if listed is not None:
        return f"{listed.group(1)}: {listed.group(3)}" if listed.group(3) else listed.group(1)
    return message
