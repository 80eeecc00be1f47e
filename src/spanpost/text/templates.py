"""Templates: ``{issue.title}`` is replaced by that value of a document. Nothing is evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from spanpost.text.sanitise import strip

#: Names joined by dots: keys of objects, or indexes of a list. ``{{`` and ``}}`` are literal braces.
_PLACE: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z0-9_][A-Za-z0-9_.:/-]*)\}")
_NOTHING: Final = object()


def render(template: str, document: Mapping[str, Any]) -> str:
    """Return the text with its placeholders filled; missing values are empty."""

    def fill(place: re.Match[str]) -> str:
        if place[1] is None:
            return place[0][0]
        return text_of(value_at(document, place[1]))

    return _PLACE.sub(fill, template)


def places(template: str) -> Iterator[str]:
    """Yield the paths that a template uses."""
    return (place[1] for place in _PLACE.finditer(template) if place[1] is not None)


def mistake(template: str) -> str:
    """Return the mistake in a template; empty if there is none."""
    rest = _PLACE.sub("", template)
    return "a brace stands alone: write {{ or }} for a brace itself" if "{" in rest or "}" in rest else ""


def value_at(document: Any, path: str) -> Any:
    """Return the value at a path of names and numbers joined by dots; None if there is none."""
    at = document
    for name in path.split("."):
        if isinstance(at, Mapping):
            at = at.get(name, _NOTHING)
        elif isinstance(at, Sequence) and not isinstance(at, str | bytes) and name.isdecimal() and len(name) < 9:
            at = at[int(name)] if int(name) < len(at) else _NOTHING
        else:
            return None
        if at is _NOTHING:
            return None
    return at


def text_of(value: Any) -> str:
    """Return a value as text: scalars only, all their lines, without invisible characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return strip(value) if isinstance(value, str) else ""
