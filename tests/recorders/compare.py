"""Says what changed between two recordings of a framework: ``python -m tests.recorders.compare OLD NEW``.

OLD and NEW hold a directory for each run. Of each run in both, the lines name what only one of them has: sorts of
spans and events by scope, name and role, their attributes and those attributes' types, and what is read of the run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from spanpost.model.observations import Observation
from spanpost.readers import read
from spanpost.runtime import replay
from tests.tasks.recorded_runs import bodies, observations, runs

#: Parts of names that differ from run to run: versions of models, numbers and ids.
_VARIES = re.compile(r"\b[0-9a-f]{8,}\b|\d+")


def changes(old: Path, new: Path) -> Iterator[str]:
    """Yield a line for each difference, "-" of the old recording and "+" of the new one."""
    before, after = set(runs(old.parent)), set(runs(new.parent))
    names = sorted(
        {run.partition("/")[2] for run in before if run.startswith(f"{old.name}/")}
        & {run.partition("/")[2] for run in after if run.startswith(f"{new.name}/")}
    )
    for name in names:
        was, now = _facts(old / name), _facts(new / name)
        for sign, facts in (("-", was - now), ("+", now - was)):
            yield from (f"{sign} {name}: {fact}" for fact in sorted(facts))


def _facts(run: Path) -> set[str]:
    found: set[str] = set()
    for o in observations(run):
        sort = f"{o.part.name.lower()} {o.origin.scope} {_VARIES.sub('#', o.name)}"
        found.add(f"{sort} is {read(o).role.name.lower()}")
        found |= {f"{sort} has {attribute}" for attribute in _attributes(o)}
    for task in replay.replay(bodies(run)).tasks:
        tokens = "with" if task.input_tokens is not None else "without"
        found.add(f"task {task.name}: {task.status}, {task.llm_calls} calls, {task.tool_calls} tools, {tokens} tokens")
    return found


def _attributes(o: Observation) -> Iterator[str]:
    for name, value in o.attributes.items():
        yield f"{_VARIES.sub('#', name)} ({type(value).__name__})"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for line in changes(Path(sys.argv[1]), Path(sys.argv[2])):
        print(line)
