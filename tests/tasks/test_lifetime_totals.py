"""Agents whose span reports what they used in all their life: the difference is what the run used."""

from __future__ import annotations

from itertools import permutations

from spanpost.model.observations import Observation, Origin
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.testing.builders import SECOND, a_span

STRANDS = Origin(resource={"service.name": "an-agent", "service.instance.id": "i-1"}, scope="strands.telemetry.tracer")
SMOLAGENTS = Origin(resource={"service.name": "an-agent"}, scope="openinference.instrumentation.smolagents")
#: As `strands/conv` was recorded: what the agent's spans say, and what its runs used.
SAID, USED = (1731, 5465, 11203), (1731, 3734, 5738)


def run(number: int, total: int, *, origin: Origin = STRANDS, name: str = "ann") -> Observation:
    said = {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, "gen_ai.usage.input_tokens": total,
        "gen_ai.usage.output_tokens": total // 10,
    }  # fmt: skip
    return a_span(
        trace=number, start=number * 10 * SECOND, end=(number * 10 + 5) * SECOND, attributes=said, origin=origin
    )


def used(*spans: Observation) -> set[tuple[int | None, ...]]:
    """Return what the runs used, in order of time, for any order of arrival, each span a batch of its own."""
    out = set()
    for order in permutations(spans):
        store = MemoryStore()
        for one in order:
            store.record_now([one])
        tasks = sorted(store.tasks_now(TaskQuery(limit=100)), key=lambda t: t.trace_id)
        out.add(tuple(t.input_tokens for t in tasks))
    return out


def test_the_run_before_is_taken_off() -> None:
    """Three runs of one agent each show their own use, in any order of arrival."""
    assert used(*(run(n, total) for n, total in enumerate(SAID, 1))) == {USED}


def test_other_agents_and_other_lives_are_no_run_before() -> None:
    """Totals of another agent, a total that fell (a new agent), and totals of a single run are not subtracted."""
    assert used(run(1, 500), run(2, 700, name="bob")) == {(500, 700)}
    assert used(run(1, 500), run(2, 300), run(3, 800)) == {(500, 300, 500)}
    other = Origin(resource=STRANDS.resource, scope="another.framework")
    assert used(run(1, 500, origin=other), run(2, 700, origin=other)) == {(500, 700)}


def test_calls_that_report_their_tokens_need_no_total() -> None:
    """Calls that are reported are counted, whatever the agent's span says."""
    call = a_span(
        trace=2, span=2, parent=1, start=21 * SECOND, end=22 * SECOND, origin=STRANDS,
        attributes={"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 33, "gen_ai.usage.output_tokens": 1},
    )  # fmt: skip
    assert used(run(1, 500), run(2, 700), call) == {(500, 33)}
