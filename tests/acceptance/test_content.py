"""Content of people and models is not kept, in any recorded dialect, unless settings ask for it."""

from __future__ import annotations

import json

import msgspec
import pytest

from spanpost.model.observations import Observation
from spanpost.tasks import batches
from tests.acceptance.test_captures import RUNS, files_of, made_of, recordings
from tests.tasks.recorded_runs import observations

__all__ = ["recordings"]

#: Phrases of the recorded prompts, answers, tool arguments and results.
SAID = ("What is the weather", "weather in", "Oslo", "Lisbon", "sunny", "You are", "degrees")


def text_of(o: Observation) -> str:
    return json.dumps(msgspec.to_builtins((o.name, o.attributes, o.body, o.status_message)), default=str)


#: The error of a recorded tool: what an exception says is kept, and shown.
THROWN = "no station in Oslo"


def phrases(value: str) -> set[str]:
    return {phrase for phrase in SAID if phrase in value.replace(THROWN, "")}


@pytest.mark.proves("content")
@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS or [pytest.param("", id="no recordings")])
def test_nothing_that_was_said_is_kept(run: str) -> None:
    """No audit row and no checkpoint holds text of the conversation unless `capture_content` is on."""
    seen = observations(files_of(run)[0].parent)
    kept = "".join(text_of(p.source) for p in batches.prepare(seen))
    assert phrases(kept) == set()
    assert phrases(json.dumps(made_of(run)["checkpoints"])) == set()
    whole = "".join(text_of(p.source) for p in batches.prepare(seen, keeps_content=True))
    assert phrases(whole) == phrases("".join(map(text_of, seen)))
