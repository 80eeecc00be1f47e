"""What is said of a run while it goes on is not taken back: of no prefix of its telemetry, in order of time."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from spanpost.tasks import batches
from tests.tasks import recorded_runs as rec
from tests.tasks.lives import life
from tests.tasks.taken_back import Said, live
from tests.thorough import by_seeds

#: Programs that report their spans at the end alone, beside records of the same calls: no start of them is known.
_AT_END = ("claude-agent-sdk-ts/", "claude-code/", "mastra/", "mastra-bridge/")
#: What a recorded run takes back, by words of the line.
KNOWN = {
    # The program counts its session half a second after the prompt that began it.
    "claude-agent-sdk-ts/conv": ("went back to its start",),
    "claude-agent-sdk-ts/maxsteps": ("went back to its start",),
    # A sub-agent's calls are spans of the session until the span of the tool that started it has ended.
    "claude-agent-sdk-ts/subagent": ("tool_calls fell from 1 to 0",),
    "claude-code/subagent": ("tool_calls fell from 1 to 0",),
    # A step whose start does not say what it is counts its calls by itself until it ends: a call that asked, and is
    # made again in another step, is two until then.
    "genkit-go/approval": ("tool_calls fell from 2 to 1",),
    "llama-index/approval": ("tool_calls fell from 3 to 2",),
    # Runs of OpenAI's SDK for JavaScript name their conversation, and the call that they answer, after their start.
    "openai-agents-js/approval": ("ops_agent is gone",),
    "openai-agents-js/conv": ("weather_agent is gone", "'Started: weather_agent' is retracted"),
}


@pytest.mark.parametrize("run", list(rec.runs(rec.COMMITTED)))
def test_nothing_is_taken_back(run: str) -> None:
    """A recorded run takes nothing back that was said of it: neither ends, waits, errors and answers nor figures."""
    said, seen = Said(), rec.observations(rec.COMMITTED / run)
    in_time = sorted(seen, key=lambda o: (o.at_ns, o.part)) if run.startswith(_AT_END) else live(seen)
    for p in batches.prepare(in_time):
        said.take([p])
    assert [line for line in said.taken_back if not line.endswith(KNOWN.get(run, ("nothing",)))] == []


@pytest.mark.slow
@by_seeds(
    60,
    (5088, 5088),  # a run that ended with an open question, before the next turn
)
def test_no_prefix_of_a_live_history_says_what_a_later_one_takes_back(seed: int, order: int) -> None:
    """Whatever agents do, reported live, and however long nothing comes between, what was said of them stands."""
    random, said = Random(order), Said()
    for batch in life(Random(seed), is_live=True):
        said.take(batches.prepare(batch))
        if random.random() < 0.05:
            said.elapse()
    assert said.taken_back == []


@pytest.mark.slow
@by_seeds(60)
def test_no_prefix_of_ends_says_what_a_later_one_takes_back(seed: int, order: int) -> None:
    """The same of spans that are known when they end, while the agents above them are at work."""
    said = Said()
    for batch in life(Random(seed), is_live=False):
        said.take(batches.prepare(batch))
    assert said.taken_back == []


@pytest.mark.slow
def test_the_lives_hold_what_the_property_is_about() -> None:
    """The random lives hold each kind of checkpoint, sub-agents, later turns, and each way to end."""
    kinds: Counter[str] = Counter()
    for seed in range(60):
        said = Said()
        for batch in life(Random(seed), is_live=True):
            said.take(batches.prepare(batch))
        kinds.update(str(one.kind) for one in said.twin.checkpoints.values())
        kinds.update(task.status for task in said.twin.tasks.values())
        kinds["turns"] += sum(task.runs > 1 for task in said.twin.tasks.values())
        kinds["below"] += sum(task.parent_uid is not None for task in said.twin.tasks.values())
    reported = ["artifact", "checkpoint", "error", "approval_requested", "approval_resolved", "compaction"]
    others = ["context_warning", "loop", "complete", "waiting", "turns", "below"]
    assert {one for one in (*reported, *others) if not kinds[one]} == set()
