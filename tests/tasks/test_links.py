"""Runs of different traces that a span link joins, and runs that it does not join."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.memory import MemoryStore

SECOND = 10**9


def trace(number: int) -> bytes:
    return bytes(15) + bytes([number])


def span(
    number: int, span_id: int, start: int, end: int, *, parent: int = 0, links: tuple[int, ...] = (), **said: Any
) -> Observation:
    return Observation(
        part=Part.ENDED,
        trace_id=trace(number),
        span_id=bytes(7) + bytes([span_id]),
        parent_id=bytes(7) + bytes([parent]) if parent else b"",
        name="a span",
        start_ns=start * SECOND,
        end_ns=end * SECOND,
        at_ns=end * SECOND,
        attributes=said,
        links=tuple((trace(other), bytes(7) + b"\2") for other in links),
    )


def agent(number: int, span_id: int, start: int, end: int, name: str, **more: Any) -> Observation:
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
    return span(number, span_id, start, end, **more, **said)


def trees(*spans: Observation) -> set[tuple[tuple[str, str, int], ...]]:
    """Return the tasks of the spans in any order, each a batch of its own, as (name, name of the parent, runs)."""
    out = set()
    for order in permutations(spans):
        store = MemoryStore()
        for one in order:
            assert not store.record_now([one]).dropped
        tasks: list[Task] = store.tasks_now(TaskQuery(limit=100))
        names = {task.uid: task.name for task in tasks}
        out.add(tuple(sorted((t.name, names.get(t.parent_uid, "") if t.parent_uid else "", t.runs) for t in tasks)))
    return out


def test_what_a_queue_starts_hangs_below_who_asked_for_it() -> None:
    """Agents below a consumer's span are child tasks of the agent that queued the job, by the span's link."""
    asks, puts = agent(1, 1, 0, 9, "planner"), span(1, 2, 1, 2, parent=1)
    takes, works = span(2, 3, 3, 8, links=(1,)), agent(2, 4, 4, 7, "writer", parent=3)
    assert trees(asks, puts, takes, works) == {(("planner", "", 1), ("writer", "planner", 1))}


def test_each_worker_of_a_queue_is_a_task_of_its_own() -> None:
    """Three jobs of one agent, each with its own link, are three tasks below the task that queued them."""
    jobs = [agent(number, 4, number, 9, "writer", links=(1,)) for number in (2, 3, 4)]
    assert trees(agent(1, 1, 0, 9, "planner"), *jobs) == {(("planner", "", 1), *[("writer", "planner", 1)] * 3)}


def test_the_same_agent_goes_on_with_its_task() -> None:
    """An agent whose messages each have a trace that links to the first is one task."""
    runs = [
        agent(number, 4, number * 2, number * 2 + 1, "writer", links=(1,) if number > 1 else ()) for number in (1, 2, 3)
    ]
    assert trees(*runs) == {(("writer", "", 3),)}


def test_a_batch_of_messages_joins_nothing() -> None:
    """A consumer that takes messages of two tasks at once belongs to neither, and joins nothing."""
    batch, works = span(3, 3, 3, 8, links=(1, 2)), agent(3, 4, 4, 7, "writer", parent=3)
    tasks = [agent(1, 1, 0, 9, "planner"), agent(2, 1, 0, 9, "buyer")]
    assert trees(*tasks, batch, works) == {(("buyer", "", 1), ("planner", "", 1), ("writer", "", 1))}


def test_a_task_that_names_itself_is_not_joined() -> None:
    """A run with its own task id, or with a link to a later trace, is not joined."""
    named = agent(2, 4, 4, 7, "writer", links=(1,), **{"agent.task.id": "t-1"})
    assert trees(agent(1, 1, 0, 9, "planner"), named) == {(("planner", "", 1), ("writer", "", 1))}
    assert trees(agent(1, 1, 5, 9, "planner"), agent(2, 4, 4, 7, "writer", links=(1,))) == {
        (("planner", "", 1), ("writer", "", 1))
    }
