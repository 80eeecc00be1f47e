"""Mastra's spans, in recorded runs."""

from __future__ import annotations

from spanpost.model.observations import Part
from spanpost.model.readings import Reading, Role
from spanpost.readers import read
from tests.tasks.recorded_runs import COMMITTED, observations


def calls(run: str) -> list[Reading]:
    ended = [read(o) for o in observations(COMMITTED / run) if o.part is Part.ENDED]
    return [reading for reading in ended if reading.role is Role.LLM]


def test_the_sum_of_a_run_is_no_context() -> None:
    """The bridge's one call is the sum of two: it counts, and is not taken for the agent's context."""
    [total] = calls("mastra-bridge/stream")
    assert total.is_aside
    assert total.usage is not None
    both = [call.usage.input for call in calls("mastra/stream") if call.usage is not None and not call.is_aside]
    assert len(both) == 2
    assert total.usage.input == sum(one or 0 for one in both)


def test_a_call_in_which_the_run_was_suspended_counts_once() -> None:
    """The suspended run shows a call without tokens, which the resumed run reports whole: two calls, not three."""
    assert [call.usage is not None for call in calls("mastra/approval")] == [True, True]
