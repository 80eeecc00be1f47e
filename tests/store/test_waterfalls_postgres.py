"""Waterfalls out of audit rows: each call with its figures, and a bounded number of bars for very many calls."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from spanpost.model.observations import Observation, Status
from spanpost.model.tasks import Task
from spanpost.store import waterfalls
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_browse import at_work_on
from spanpost.testing.observed import ended, started

pytestmark = pytest.mark.acceptance


def a_tool(span: int, at: float, status: Status = Status.OK) -> Observation:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
    return ended(
        trace=1, span=span, parent=1, name="execute_tool grep", attributes=said, at=at, seconds=1, status=status
    )


def a_model_call(span: int, at: float, response: str = "") -> Observation:
    said = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 100 * span,
        "gen_ai.usage.output_tokens": 7, "gen_ai.response.id": response or f"r{span}", "agent.cost_usd": 0.5,
        "gen_ai.input.messages": "secret " * 100,
    }  # fmt: skip
    return ended(trace=1, span=span, parent=1, name="chat m", attributes=said, at=at, seconds=1)


async def the_task(store: PostgresStore) -> Task:
    task = await store.reader.task("default", f"{1:032x}")
    assert task is not None
    return task


async def test_each_call_is_a_bar(store: PostgresStore) -> None:
    """A call has its name, time, tokens and cost; one that has not ended has no end; the line of cost ends at the
    task's cost.
    """
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "bash"}
    await store.record([at_work_on(1), a_model_call(2, 1.0), a_tool(3, 2.0, Status.ERROR), a_model_call(4, 3.0)])
    await store.record([started(trace=1, span=5, parent=1, name="execute_tool bash", attributes=tool, at=4.0)])
    task = await the_task(store)
    found = await store.reader.waterfall(task.uid, None, None)
    assert [(one.kind, one.name, one.errors, one.ended_at is None) for one in found.bars] == [
        ("llm", "m", 0, False), ("tool", "grep", 1, False), ("llm", "m", 0, False), ("tool", "bash", 0, True),
    ]  # fmt: skip
    assert (found.bars[0].input_tokens, found.bars[0].cost_usd) == (200, Decimal("0.5"))
    assert [(one.used_tokens, one.cost_usd) for one in found.uses] == [(200, Decimal("0.5")), (400, Decimal("1.0"))]
    assert task.cost_usd == found.uses[-1].cost_usd
    assert "secret" not in str(found)
    until = found.bars[0].started_at + timedelta(seconds=0.5)
    part = await store.reader.waterfall(task.uid, None, until)
    assert [one.kind for one in part.bars if one.ended_at] == ["llm"]
    assert part.uses == []


async def test_a_response_counts_once(store: PostgresStore) -> None:
    """Two spans of one response are two bars and one step of the cost."""
    await store.record([at_work_on(1), a_model_call(2, 1.0, "same"), a_model_call(3, 1.1, "same")])
    found = await store.reader.waterfall((await the_task(store)).uid, None, None)
    assert (len(found.bars), [one.cost_usd for one in found.uses]) == (2, [Decimal("0.5")])


async def test_very_many_calls_are_folded(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound bars stand for several calls, which are all counted; a narrow window has each again."""
    calls = [a_tool(10 + n, n / 2, Status.ERROR if n % 10 == 0 else Status.OK) for n in range(waterfalls.MOST + 200)]
    await store.record([at_work_on(1), *calls])
    task = await the_task(store)
    found = await store.reader.waterfall(task.uid, None, None)
    assert found.is_folded
    assert len(found.bars) <= waterfalls.SLICES + 1
    assert sum(one.count for one in found.bars) == len(calls)
    assert sum(one.errors for one in found.bars) == len(calls) // 10
    assert task.started_at is not None
    part = await store.reader.waterfall(task.uid, task.started_at, task.started_at + timedelta(seconds=20))
    assert not part.is_folded
    assert {one.count for one in part.bars} == {1}


async def test_another_task_is_not_in_it(store: PostgresStore) -> None:
    """Calls of other tasks are left out, also within the same window."""
    await store.record([at_work_on(1), a_tool(3, 1.0), at_work_on(2)])
    other = await store.reader.task("default", f"{2:032x}")
    assert other is not None
    assert (await store.reader.waterfall(other.uid, None, None)).bars == []
