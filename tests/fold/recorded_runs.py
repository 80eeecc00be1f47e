"""Recorded runs as the tests take them, and a simple oracle of what a run used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spanpost.domain.observations import Observation, Part
from spanpost.domain.readings import Reading, Role
from spanpost.fold.read import read
from spanpost.intake.recordings import read_recording

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "tests" / "captures"
SIX = (
    "anthropic-openinference",
    "claude-code",
    "langgraph-openinference",
    "openai-agents-openinference",
    "pydantic-ai",
    "strands",
)


def shared() -> Path | None:
    """Return the directory with all recordings: `SPANPOST_CAPTURES`, else ``shared/captures`` beside the checkout."""
    named = os.environ.get("SPANPOST_CAPTURES")
    candidates = [Path(named)] if named else [ROOT.parent / "shared" / "captures"]
    return next((path for path in candidates if path.is_dir()), None)


def runs(root: Path) -> Iterator[str]:
    """Yield "<dialect>/<run>" of each recorded run."""
    for path in sorted(root.glob("*/*/truth.json")):
        yield str(path.parent.relative_to(root))


def observations(run: Path) -> list[Observation]:
    """Return all that was recorded of a run, in order of arrival."""
    return [o for path in sorted(run.glob("*.pb")) for decoded in read_recording(path) for o in decoded.observations]


def totals(run: Path) -> dict[str, Any]:
    """Return what the model really served."""
    found: dict[str, Any] = json.loads((run / "truth.json").read_text())["totals"]
    return found


def tokens(seen: Iterable[Observation]) -> tuple[int | None, int | None]:
    """Return input and output of a run's model calls: none under another call, one for each response id."""
    spans: dict[bytes, tuple[bytes, Reading]] = {}
    for o in seen:
        reading = read(o)
        if reading.stands_for is not None:
            spans[reading.stands_for[1]] = (reading.stands_for[2], reading)
        elif o.part is Part.ENDED:
            spans[o.span_id] = (o.parent_id, reading)
    used: dict[object, tuple[int | None, int | None]] = {}
    for span_id, (parent, reading) in spans.items():
        if reading.role is not Role.LLM or reading.usage is None or reading.is_metered:
            continue
        above, covered = parent, False
        while above in spans and not covered:
            up, outer = spans[above]
            covered = outer.role is Role.LLM and outer.usage is not None and outer.usage.is_known
            above = up
        if not covered:
            used[reading.call_key or reading.response_id or span_id] = (reading.usage.input, reading.usage.output)
    inputs = [i for i, _ in used.values() if i is not None]
    outputs = [o for _, o in used.values() if o is not None]
    return (sum(inputs) if inputs else None), (sum(outputs) if outputs else None)
