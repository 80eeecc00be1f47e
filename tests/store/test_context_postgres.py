"""Contexts and costs in PostgreSQL: conversations, the columns and the view."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.observations import Observation
from spanpost.runtime.prices import Prices
from spanpost.store.postgres import PostgresStore
from spanpost.tasks.prices import ModelPrice
from spanpost.testing.builders import SECOND, a_span
from spanpost.testing.exercise_store import ROUTED_RULES

pytestmark = pytest.mark.slow

RULES = msgspec.structs.replace(
    ROUTED_RULES, windows={"m": 1000}, prices=Prices({"m": ModelPrice(Decimal(1), Decimal(10))}, is_published=False)
)


def a_turn(
    n: int, used: int, *, model: str = "m", parent: int | None = None, trace: int | None = None
) -> list[Observation]:
    """Return a turn of a conversation: an agent and its one call."""
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
    call = {
        "gen_ai.operation.name": "chat", "gen_ai.response.model": model, "gen_ai.usage.input_tokens": used,
        "gen_ai.usage.output_tokens": 10, "gen_ai.conversation.id": "talk",
    }  # fmt: skip
    start, place = n * 10 * SECOND, n if trace is None else trace
    return [
        a_span(
            trace=place, span=n * 10 + 1, parent=n * 10, name="chat", start=start, end=start + SECOND, attributes=call
        ),
        a_span(trace=place, span=n * 10, parent=parent, start=start, end=start + 2 * SECOND, attributes=agent),
    ]


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Any]:
    """A separate connection to the test's database."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def test_a_conversation_over_traces_is_one_climb(postgres_dsn: str, database: Any) -> None:
    """Turns as traces of their own, recorded by two replicas, cause one warning and one forecast."""
    stores = [PostgresStore(postgres_dsn, rules=RULES, pool_size=2) for _ in range(2)]
    await asyncio.gather(*(one.open() for one in stores))
    for n, used in enumerate((200, 350, 500, 650, 800, 950, 980), 1):
        turn = a_turn(n, used)
        await asyncio.gather(*(one.record(turn) for one in stores))
    found = [(c.kind, c.ref) for c in await stores[0].reader.checkpoints() if c.kind not in (Kind.START, Kind.END)]
    assert sorted(found) == [(Kind.CONTEXT_FORECAST, "85"), (Kind.CONTEXT_WARNING, "70"), (Kind.CONTEXT_WARNING, "85")]
    rows = await database.fetch(
        "SELECT context_used_tokens, context_window_source FROM agent_tasks ORDER BY started_at"
    )
    assert [(row[0], row[1]) for row in rows][-1] == (980, "table")
    await asyncio.gather(*(one.close() for one in stores))


async def test_forecast_and_costs_are_columns(postgres_dsn: str, database: Any) -> None:
    """A running task's forecast and its number of unpriced calls are columns; the view adds up its children."""
    store = PostgresStore(postgres_dsn, rules=RULES)
    await store.open()
    root = a_span(span=1, end=None, attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bob"})
    calls = [
        o for n, used in enumerate((100, 200, 300, 400, 500, 600), 2) for o in a_turn(n, used, parent=1, trace=1)[:1]
    ]
    calls = [msgspec.structs.replace(o, parent_id=root.span_id) for o in calls]
    child = a_turn(9, 1000, model="another", parent=3, trace=1)
    tool = a_span(
        span=3, parent=1, end=None, attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "ask"}
    )
    await store.record([root, *calls, tool, *child])
    row = await database.fetchrow(
        "SELECT context_forecast, unpriced_calls, cost_usd FROM agent_tasks WHERE agent_name = 'bob'"
    )
    assert json.loads(row[0])["limit"] == "85 %"
    assert (row[1], row[2]) == (0, Decimal("0.0027"))
    assert await database.fetchval("SELECT unpriced_calls FROM agent_tasks WHERE agent_name = 'ann'") == 1
    totals = await database.fetchrow(
        "SELECT s.tasks, s.llm_calls, s.input_tokens, s.cost_usd, s.unpriced_calls FROM agent_task_totals s"
        " JOIN agent_tasks t USING (uid) WHERE t.agent_name = 'bob'"
    )
    assert tuple(totals) == (2, 7, 3100, Decimal("0.0027"), 1)
    await store.close()
