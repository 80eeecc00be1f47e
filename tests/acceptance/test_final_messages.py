"""What a person who sees only the final message of each framework's ordinary run can say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spanpost.model.tasks import Task
from spanpost.runtime import replay
from spanpost.settings import load
from spanpost.sinks.slack import render
from spanpost.sinks.slack.style import SlackStyle
from tests.tasks.recorded_runs import bodies, runs, shared

CAPTURES = shared()
RUNS = [run for run in runs(CAPTURES) if run.endswith("/ok")]
#: Messages at least that say what was asked, what was answered, and without content which tools were called.
ASKED, ANSWERED, TOOLS = 38, 37, 42


def words(shown: Any) -> str:
    """Return all words of blocks."""
    if isinstance(shown, dict):
        return shown["text"] if isinstance(shown.get("text"), str) else "".join(map(words, shown.values()))
    return "\n".join(map(words, shown)) if isinstance(shown, list) else ""


@pytest.mark.slow
def test_a_message_says_what_was_asked_and_what_came_of_it(clean_environment: Path) -> None:
    """With content each run is titled by what was asked and ends with its answer, where its telemetry has them; without
    it, it names the tools that were called, and says neither.
    """
    asked = answered = tools = 0
    for run in RUNS:
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
        said = [one.replace('"', "'") for one in (top.ask, top.answer) if one]
        assert not any(one in off for one in said), run
        asked += bool(top.ask and top.ask in on)
        answered += bool(top.answer and top.answer.replace('"', "'")[:100] in on.replace('"', "'"))
        tools += "tool: " in off
    assert asked >= ASKED
    assert answered >= ANSWERED
    assert tools >= TOOLS
