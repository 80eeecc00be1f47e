"""The work for one observation does not grow with the recorded data, and depth is no error."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec
import pytest

from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.tasks import batches
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.records import DEPTH
from spanpost.tasks.work import Key, R
from tests.tasks.histories import BASE, NOW, SECOND
from tests.tasks.hostile_traces import ORDERS, SHAPES, Trace

AGENT = {"gen_ai.operation.name": "invoke_agent"}


class Counting:
    """A `Work` that counts how often it is asked."""

    def __init__(self) -> None:
        self.records: dict[Key, Any] = {}
        self.asked = 0

    def get(self, key: Key, kind: type[R]) -> R | None:
        self.asked += 1
        return self.records.get(key)

    def want(self, keys: Iterable[Key]) -> None:
        """Do nothing: all records are in memory."""

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self.records[key] = record

    def drop(self, key: Key) -> None:
        self.records.pop(key, None)


def root_span(number: int, parent: int, name: str, part: Part = Part.ENDED) -> Observation:
    start, end = BASE + number, BASE + SECOND - number
    return Observation(
        part=part,
        trace_id=b"t" * 16,
        span_id=number.to_bytes(8, "big"),
        parent_id=parent.to_bytes(8, "big") if parent else b"",
        name=f"invoke_agent {name}",
        start_ns=start,
        end_ns=end if part is Part.ENDED else 0,
        at_ns=end if part is Part.ENDED else start,
        attributes={**AGENT, "gen_ai.agent.name": name},
    )


@pytest.mark.slow
@pytest.mark.proves("bounded-work")
@pytest.mark.parametrize("is_root_first", [True, False], ids=["root first", "root last"])
def test_the_thousandth_sub_agent_costs_what_the_tenth_cost(is_root_first: bool) -> None:
    """One more sub-agent reads as many records among a thousand sub-agents as among ten."""
    work = Counting()
    lookups = []
    children = [root_span(n, 1, f"agent-{n}") for n in range(2, 1002)]
    for o in [root_span(1, 0, "lead", Part.STARTED), *children] if is_root_first else children:
        work.asked = 0
        batches.fold(work, batches.prepare([o]), FoldRules(), NOW)
        lookups.append(work.asked)
    assert max(lookups[900:]) <= max(lookups[5:50])


def ticks(parts: list[Trace]) -> int:
    """Return how many loop steps the fold of these batches took, one batch after the other."""
    work, count = Counting(), 0

    def tick() -> None:
        nonlocal count
        count += 1

    for part in parts:
        batches.fold(work, batches.prepare(part), FoldRules(), NOW, tick)
    return count


@pytest.mark.proves("bounded-work")
@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_for_a_batch_is_linear_in_its_spans(shape: str, order: str) -> None:
    """A body four times as large takes four times the work, in any shape and order; each span costs little."""
    small, large = (ORDERS[order](SHAPES[shape](n)) for n in (100, 400))
    first, second = ticks([small]) / len(small), ticks([large]) / len(large)
    assert second < max(1.5 * first, first + 1)
    assert second < 100


@pytest.mark.slow
@pytest.mark.proves("bounded-work")
@pytest.mark.parametrize(
    "shape", ["ordinary", "star, calls", "orphans, calls of one parent", "star, as many tools", "checkpoints"]
)
def test_a_trace_that_grows_costs_the_same_for_each_request(shape: str) -> None:
    """The cost of a request of a long-lived trace does not depend on how much was recorded before."""
    trace = SHAPES[shape](2000)
    parts = [trace[start : start + 20] for start in range(0, len(trace), 20)]
    assert ticks(parts) < 1.5 * (len(parts) / 10) * ticks(parts[:10])


@pytest.mark.proves("bounded-work", "cycles")
@pytest.mark.slow
def test_nested_root_spans_are_one_task_down_to_a_depth() -> None:
    """The first 64 of a thousand nested root spans of one agent are one task; deeper ones are their own tasks."""
    chain = [root_span(n, n - 1, "deep") for n in range(1, 1001)]
    shuffled = Random(1).sample(chain, len(chain))
    kept = []
    for parts in ([chain], [chain[::-1]], [shuffled], [shuffled[start : start + 50] for start in range(0, 1000, 50)]):
        store = MemoryStore()
        for part in parts:
            assert not store.record_now(part).dropped
        tasks = sorted((t.task_id, str(t.parent_uid), str(t.root_uid)) for t in store.tasks_now(TaskQuery(limit=2000)))
        kept.append(tasks)
    assert len(kept[0]) == 1000 - DEPTH + 1
    assert kept == [kept[0]] * len(kept)
