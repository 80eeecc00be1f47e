"""Recorded runs as the tests take them, and a simple oracle of what a run used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Reading, Role
from spanpost.readers import read
from spanpost.receivers.recordings import read_recording

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "tests" / "captures"


#: Dialects and runs whose tokens are not on the wire: unknown, never 0.
UNSAID = {
    "autogen",
    "crewai-oi-only",
    "openai-agents-genai",
    "mcp-native",
    "langgraph-openinference/streamnousage",
    "langgraph-traceloop/streamnousage",
    "llama-index/llmfail",
    "llama-index/ok",
    "llama-index/toolfail",
    "openai-v2/stream",
    "openai-agents-openinference/guardrail",
    "openai-agents-otelv2/guardrail",
    "dspy",
    "llama-index-traceloop",
    "smolagents/llmfail",
    "vercel-ai-5/llmfail",
    "ag2/llmfail",
    "agentscope/llmfail",
    "openlit-langgraph/llmfail",
    "spring-ai/guardrail",  # no model was called
    "mastra/guardrail",
    "mastra-bridge/guardrail",
    "openai-agents-js/guardrail",
    "mastra-bridge/cancel",  # the sum of a run is written at its good end
    "claude-agent-sdk-openinference/cancel",
}
#: Runs whose telemetry is wrong, checked in the recording: input and output as reported.
REPORTED_OTHERWISE = {
    "google-adk/litellm": (751, 68),  # reasoning is counted twice
    "langgraph-langsmith-noflush/ok": (331, 36),  # the rest was lost with the process
    "langgraph-langsmith-noflush/toolfail": (107, 17),
    "openai-agents-openinference/approval": (384, 36),  # the resumed run was never reported
    # Cached tokens are left out.
    "claude-agent-sdk-openinference/approval": (15518, 33),
    "claude-agent-sdk-openinference/deny": (15514, 34),
    "claude-agent-sdk-openinference/maxsteps": (15509, 40),
    "claude-agent-sdk-openinference/ok": (15509, 30),
    "claude-agent-sdk-openinference/toolfail": (15522, 35),
    "claude-agent-sdk-openinference/conv": (39366, 71),
    "claude-agent-sdk-openinference/subagent": (8450, 8),  # and the sub-agent's and the first calls
    "langsmith-js/stream": (72, 15),  # the stream took its caller's span for its own
    "pydantic-ai/testmodel": (110, 31),  # the framework's own test model counts for itself
}


def reported_tokens(root: Path, run: str) -> tuple[int | None, int | None]:
    """Return input and output tokens as a run's telemetry reports them: those served, where they are on the wire."""
    if run in UNSAID or run.partition("/")[0] in UNSAID:
        return None, None
    if run in REPORTED_OTHERWISE:
        return REPORTED_OTHERWISE[run]
    served = totals(root / run)
    return served["input"], served["output"]


def shared() -> Path:
    """Return the directory with all recordings: `SPANPOST_CAPTURES`, else the committed ones."""
    named = os.environ.get("SPANPOST_CAPTURES")
    return Path(named) if named else COMMITTED


def runs(root: Path) -> Iterator[str]:
    """Yield "<dialect>/<run>" of each recorded run."""
    for path in sorted({path.parent for path in root.glob("*/*/*.pb*")}):
        yield str(path.relative_to(root))


def bodies(run: Path) -> list[Path]:
    """Return the files of a run: request bodies in order of arrival, or all of one signal in one file."""
    return sorted(run.glob("*.pb*"))


def observations(run: Path) -> list[Observation]:
    """Return all that was recorded of a run, in order of arrival."""
    return [o for path in bodies(run) for decoded in read_recording(path) for o in decoded.observations]


def totals(run: Path) -> dict[str, Any]:
    """Return the tokens that the model really served; empty where no model was called."""
    truth = run / "truth.json"
    found: dict[str, Any] = json.loads(truth.read_text())["totals"] if truth.exists() else {}
    return found


def tokens(seen: Iterable[Observation]) -> tuple[int | None, int | None]:
    """Return input and output of a run's model calls: none under another of its agent, one for each response id.

    Where no call has tokens, the totals of the topmost agents count.
    """
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
            if outer.role.is_root_span:
                break  # another agent's call
            covered = outer.role is Role.LLM and outer.usage is not None and outer.usage.is_known
            above = up
        if not covered:
            used[reading.call_key or reading.response_id or span_id] = (reading.usage.input, reading.usage.output)
    if not used:
        totals_of = ((up, r.aggregate) for up, r in spans.values() if r.aggregate is not None and up not in spans)
        used = {place: (total.input, total.output) for place, (_, total) in enumerate(totals_of)}
    inputs = [i for i, _ in used.values() if i is not None]
    outputs = [o for _, o in used.values() if o is not None]
    return (sum(inputs) if inputs else None), (sum(outputs) if outputs else None)
