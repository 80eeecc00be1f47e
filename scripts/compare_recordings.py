#!/usr/bin/env python3
"""Say what a library's newer version reports otherwise: ``compare_recordings.py OLD NEW [--values]``.

OLD and NEW are recordings: a directory of a run, of a framework or of many. Compared are the names of scopes, spans,
attributes, events and log records, each below its scope. Numbers and ids within names are left out. ``--values`` also
compares the values of the attributes that say what a span is. Exit code: 0 the same, 1 a difference, 2 nothing to
compare.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from spanpost.model.observations import Observation, Part
from spanpost.readers.known_dialects import DIALECTS
from spanpost.receivers.recordings import read_recording

#: Parts of a name that differ from run to run.
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{20,}|\b[0-9a-f]{12,}\b|\d+")
#: Attributes whose values decide what a span is.
_KINDS = frozenset(dialect.kind for dialect in DIALECTS if dialect.kind)

#: (kind of name, scope, name)
Name = tuple[str, str, str]


def plain(name: str) -> str:
    """Return a name without numbers and ids."""
    return _ID.sub("*", name)


def names(place: Path, with_values: bool = False) -> set[Name]:
    """Return all names in the recordings below a directory."""
    found: set[Name] = set()
    for path in sorted(place.rglob("*.pb*")):
        for decoded in read_recording(path):
            for observation in decoded.observations:
                found.update(_of(observation, with_values))
    return found


def _of(o: Observation, with_values: bool) -> Iterator[Name]:
    scope = o.origin.scope
    yield "scope", "", scope
    kind = {Part.ENDED: "span", Part.STARTED: "span", Part.LOG: "record"}.get(o.part, "event")
    yield kind, scope, plain(o.name)
    for key, value in o.attributes.items():
        yield f"attribute of a {kind}", scope, plain(key)
        if with_values and key in _KINDS:
            yield "value", scope, f"{key} = {value}"
    for key in o.origin.resource:
        yield "attribute of the resource", "", plain(key)


def compared(old: set[Name], new: set[Name]) -> list[str]:
    """Return a line for each difference: ``-`` gone, ``+`` added. A scope that is gone is one line."""
    lines = []
    for sign, here, there in (("-", old, new), ("+", new, old)):
        alone = {name for kind, _, name in here - there if kind == "scope"}
        for kind, scope, name in sorted(here - there):
            if scope not in alone or kind == "scope":
                lines.append(f"{sign} {kind} {name}" + (f"  [{scope}]" if scope else ""))
    return lines


def main(arguments: list[str]) -> int:
    places = [Path(argument) for argument in arguments if not argument.startswith("--")]
    if len(places) != 2 or set(arguments) - {"--values", *map(str, places)}:
        print(__doc__, file=sys.stderr)
        return 2
    old, new = (names(place, "--values" in arguments) for place in places)
    for place, found in zip(places, (old, new), strict=True):
        if not found:
            print(f"{place}: there is no recording (*.pb, *.pb.gz) in it", file=sys.stderr)
            return 2
    lines = compared(old, new)
    print("\n".join(lines) if lines else "the same names")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
