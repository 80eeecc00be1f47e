"""What a person who sees only the final message of each framework's ordinary run can say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spanpost.model.tasks import Task
from spanpost.runtime import replay
from spanpost.settings import load
from spanpost.sinks.slack import render
from spanpost.sinks.slack.style import SlackStyle
from tests.tasks.recorded_runs import bodies, runs, shared

CAPTURES = shared()
RUNS = [run for run in runs(CAPTURES) if run.endswith("/ok")]
#: Their telemetry has no prompt and no answer, or spans of single calls alone.
SILENT = {"autogen", "openai-agents-genai", "openai-agents-zerocode", "semantic-kernel"}
#: What stands elsewhere on the wire, and is not read.
NOT_ASKED = SILENT | {"crewai-oi-only", "llama-index-traceloop"}
#: The answer of instructor is an object, whose quotation marks the message shows in another form.
NOT_ANSWERED = SILENT | {"llama-index-traceloop", "langgraph-langsmith-noflush", "instructor"}
#: Without content: their runs have no tools, or have not ended.
WITHOUT_TOOLS = {"claude-code", "instructor", "langgraph-langsmith-noflush"}


def words(shown: Any) -> str:
    """Return all words of blocks."""
    if isinstance(shown, dict):
        return shown["text"] if isinstance(shown.get("text"), str) else "".join(map(words, shown.values()))
    return "\n".join(map(words, shown)) if isinstance(shown, list) else ""


def test_a_message_says_what_was_asked_and_what_came_of_it(clean_environment: Path) -> None:
    """With content each run is titled by what was asked and ends with its answer, where its telemetry has them; without
    it, it names the tools that were called, and no word of either.
    """
    not_asked, not_answered, without_tools = set[str](), set[str](), set[str]()
    for run in RUNS:
        name = run.split("/")[0]
        found = replay.replay(bodies(CAPTURES / run), load(intake={"capture_content": True})).tasks
        tops: list[Task] = [task for task in found if task.is_announced and task.root_uid in (None, task.uid)]
        if not tops:
            continue  # calls without an agent have no message
        top = tops[0]
        below = [task for task in found if task.root_uid == top.uid and task.uid != top.uid]
        off, on = (
            words(render.root(top, below, key="k", slack_style=SlackStyle(shows_content=is_on)).blocks)
            for is_on in (False, True)
        )
        not_asked |= {name} if not (top.ask and top.ask in on) else set()
        not_answered |= {name} if not (top.answer and top.answer[:100] in on) else set()
        without_tools |= {name} if "tool: " not in off else set()
        assert not any(said and said in off for said in (top.ask, top.answer)), run
    assert (not_asked, not_answered) == (NOT_ASKED, NOT_ANSWERED)
    assert without_tools == WITHOUT_TOOLS
