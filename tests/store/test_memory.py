"""Behaviour of the memory store alone: it lives in an agent's process, stays small, and repairs a failed
fold.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.store.memory_tables import Timers
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import StallRules
from spanpost.testing.observed import a_run, started


@pytest.mark.slow
async def test_finished_traces_are_let_go_oldest_first() -> None:
    """After a thousand finished runs the newest tasks are kept, and nothing grows."""
    store = MemoryStore(keep=50)
    for i in range(1, 1001):
        recorded = await store.record(a_run(f"run {i}", trace=i))
        assert recorded.dropped == {}
    tasks = await store.tasks(TaskQuery(limit=1000))
    assert 20 <= len(tasks) <= 63  # a run with its own id counts as two: its trace and its task
    assert "run 1000" in {t.name for t in tasks}
    assert len(store._tables.records.by_key) < 50 * 30
    counts = await store.counts()
    assert counts["agent_checkpoints"] < 50 * 12


async def test_a_task_under_way_is_kept_while_others_come_and_go() -> None:
    """A running task is kept although many short ones ended since; its late end still belongs to it."""
    store = MemoryStore(keep=20)
    await store.record([started(trace=9_999, span=1, name="long", attributes={"agent.task.name": "the long one"})])
    for i in range(1, 200):
        await store.record(a_run(f"short {i}", trace=i))
    names = {t.name for t in await store.tasks(TaskQuery(limit=1000))}
    assert "the long one" in names


async def test_beyond_all_bounds_what_is_let_go_is_counted() -> None:
    """Tasks that never end are dropped at ten times the limit, and counted as dropped."""
    store = MemoryStore(keep=5)
    dropped = 0
    for i in range(1, 120):
        recorded = await store.record(
            [started(trace=i, span=1, name="endless", attributes={"agent.task.name": f"endless {i}"})]
        )
        dropped += recorded.dropped.get("memory", 0)
    tasks = await store.tasks(TaskQuery(limit=1000))
    assert len(tasks) <= 63
    assert dropped == 119 - len(tasks)


class Broken(dict[str, int]):
    """A table of windows that raises once: a fault of ours during a fold."""

    def __init__(self) -> None:
        self.faults = 1

    def get(self, key: object, default: object = None) -> int:  # type: ignore[override]
        if self.faults:
            self.faults -= 1
            raise RuntimeError("a fault")
        return 1000


@pytest.mark.proves("one-transaction")
def test_a_fold_that_fails_half_way_is_made_good() -> None:
    """After a fault in the middle of a batch nothing is lost, doubled or half counted."""
    batch = [*a_run("a"), *a_run("b", trace=2)]
    whole, broken = MemoryStore(FoldRules(windows={})), MemoryStore(FoldRules(windows=Broken()))
    whole.record_now(batch)
    recorded = broken.record_now(batch)
    assert (recorded.events, recorded.dropped) == (len(batch), {})
    figures = [(t.task_id, t.status, t.input_tokens, t.llm_calls, t.tool_calls) for t in whole.tasks_now(TaskQuery())]
    assert figures == [
        (t.task_id, t.status, t.input_tokens, t.llm_calls, t.tool_calls) for t in broken.tasks_now(TaskQuery())
    ]
    assert broken.record_now(batch).events == 0


class Clock:
    """A settable clock."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.mark.proves("stall-waits")
async def test_after_a_freeze_the_whole_stall_timeout_passes_first() -> None:
    """A process that was frozen for an hour reports no stalled task at once, and every quiet one after the
    timeout.
    """
    clock = Clock()
    store = MemoryStore(
        FoldRules(stall_rules=StallRules(stall_after=timedelta(minutes=5)), outage=timedelta(seconds=30)), clock=clock
    )
    await store.record([started(trace=1, span=1, name="agent", attributes={"agent.task.name": "job"})])
    clock.now += timedelta(hours=1)
    assert [t.status for t in await store.tasks(TaskQuery())] == ["starting"]
    await store.outbox.due_in()  # the first timer after the freeze
    await store.elapse()
    for seconds in range(0, 290, 10):
        clock.now += timedelta(seconds=10)
        await store.outbox.due_in()
        await store.elapse()
        assert [t.status for t in await store.tasks(TaskQuery())] == ["starting"], seconds
    for _ in range(2):
        clock.now += timedelta(seconds=10)
        await store.outbox.due_in()
        await store.elapse()
    assert [t.status for t in await store.tasks(TaskQuery())] == ["stalled"]
    assert {c.kind for c in await store.reader.checkpoints()} == {"start", "stalled"}


def test_the_next_timer_is_found_without_a_scan() -> None:
    """Timers come due in order of time, whatever was set, moved or dropped before."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    dice, timers, known = random.Random(5), Timers(), dict[bytes, datetime]()
    for _ in range(2_000):
        key, at = bytes([dice.randrange(50)]), began + timedelta(seconds=dice.randrange(100))
        match dice.randrange(4):
            case 0:
                timers.pop(key, None), known.pop(key, None)
            case 1:
                timers.setdefault(key, at), known.setdefault(key, at)
            case 2:
                timers[key] = known[key] = at
            case _:
                due = sorted(key for key, at in known.items() if at <= began + timedelta(seconds=5))
                assert timers.take_due(began + timedelta(seconds=5)) == due
                known = {key: at for key, at in known.items() if key not in due}
        assert timers == known
        assert timers.first() == min(known.values(), default=None)
