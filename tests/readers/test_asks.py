"""What was asked and answered, of recorded runs and of hostile values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spanpost.model.observations import Observation, Part
from spanpost.model.tasks import Task
from spanpost.readers import read
from spanpost.readers.asks import ANSWER, ASK, answered_in, asked_in, headline, with_words
from spanpost.tasks import batches
from spanpost.tasks.stall import NO_STALL
from tests.tasks.histories import Twin, feed
from tests.tasks.recorded_runs import COMMITTED, observations

RAIN, SUN = "It is 4 degrees and raining in Oslo.", "It is 21 C (69.8 F) and sunny in Paris."
PARIS, OSLO = "weather in Paris?", "Weather in Oslo?"
#: Of a run of each dialect: what was asked and answered; None: it is not on the wire.
RUNS: dict[str, tuple[str | None, str | None]] = {
    "ag2/ok": ("Weather in Paris?", "It is sunny in Paris, 21 degrees."),
    "agno/ok": (OSLO, RAIN),
    "agentscope/llmfail": ("FAIL-MODEL", None),
    "anthropic-openinference/wrapped": (PARIS, SUN),
    "autogen/ok": (None, None),
    "claude-code/logsonly": ("Read hello.txt and echo", SUN),
    "claude-code/ok": ("Read hello.txt and echo", SUN),
    "crewai-openinference/ok": (PARIS, SUN),
    "dspy/ok": (OSLO, RAIN),
    "genkit/ok": ("Weather?", RAIN),
    "google-adk/ok": (PARIS, SUN),
    "haystack/ok": ("Weather?", RAIN),
    "langfuse/ok": ("weather?", RAIN),
    "langgraph-openinference/recursion": ("weather", None),
    "langgraph-traceloop/ok": ("weather in Paris in F?", SUN),
    "langsmith/chain": (OSLO, RAIN),
    "llama-index/nostream": (PARIS, SUN),
    "mastra/ok": (OSLO, RAIN),
    "mlflow/ok": ("Weather?", RAIN),
    "openai-agents-genai/ok": (None, None),
    "openai-agents-openinference/approval": ("Delete the report", None),
    "openai-agents-otelv2/llmfail": ("Book me a flight", None),
    "openai-v2/wrapped": (PARIS, SUN),
    "pydantic-ai/toolfail": ("Book me a flight to Paris", None),
    "smolagents/ok": (OSLO, "Oslo"),
    "strands/ok": (PARIS, SUN),
    "vercel-ai-7/ok": (OSLO, RAIN),
}


def tasks_of(run: str, *, keeps_content: bool) -> dict[object, Task]:
    history = batches.prepare(observations(COMMITTED / run), keeps_content=keeps_content)
    return dict(feed(history, None, Twin(msgspec.structs.replace(Twin().rules, stall_rules=NO_STALL))).tasks)


@pytest.mark.parametrize("run", RUNS)
def test_a_recorded_run_says_what_was_asked_and_what_came_of_it(run: str) -> None:
    """Where content is kept the root has both, else neither; nothing else about any task differs."""
    kept, bare = tasks_of(run, keeps_content=True), tasks_of(run, keeps_content=False)
    roots = sorted((t for t in kept.values() if t.parent_uid is None), key=lambda t: str(t.started_at))
    assert (roots[0].ask, roots[0].answer) == RUNS[run]
    assert {(t.ask, t.answer) for t in bare.values()} == {(None, None)}
    for uid, task in kept.items():
        assert msgspec.structs.replace(task, ask=None, answer=None) == bare[uid]
    assert kept.keys() == bare.keys()


@pytest.mark.parametrize(
    ("value", "asked", "answered"),
    [
        ("Hello", "Hello", "Hello"),
        ("StopEvent(result=x)", None, None),
        ('{"question": "Why?", "x": 1}', "Why?", None),
        ('[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]', "a", "b"),
        ('[{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": []}]', "a", ""),
        ("[" * 2000, None, None),
        ('{"messages": ' * 100 + "1" + "}" * 100, None, None),
        ([[], {}, None, 7, {"role": 5, "content": {}}], None, None),
        ({"role": "user", "content": [{"type": "image", "text": "x"}, 5]}, None, ""),
    ],
)
def test_words_are_found_in_any_value_and_nothing_raises(value: Any, asked: str | None, answered: str | None) -> None:
    """Documents, messages, plain text and nonsense come to words or to none."""
    assert (asked_in(value), answered_in(value)) == (asked, answered)


def test_the_words_are_one_short_line() -> None:
    """Headings, labels and all but the first line are left out, and the rest is cut."""
    assert headline("\n[[ ## question ## ]]\nCurrent Task: weather?\nmore", ASK) == "weather?"
    assert headline("New task:\nBook it", ASK) == "Book it"
    assert headline("Notes:", ASK) == "Notes:"
    assert len(headline("word " * 500, ANSWER)) <= ANSWER


def test_a_call_beside_the_conversation_and_a_tool_say_nothing() -> None:
    """Only model calls and runs are read: a tool's input is no question."""
    attributes = {"openinference.span.kind": "TOOL", "input.value": "Hello", "output.value": "World"}
    o = Observation(part=Part.ENDED, trace_id=b"t" * 16, span_id=b"s" * 8, parent_id=b"p" * 8, attributes=attributes)
    assert with_words(o, read(o)) is read(o) or with_words(o, read(o)).ask is None
