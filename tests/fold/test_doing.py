"""What a task is doing while it runs: read from spans that have only begun."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest

from spanpost.domain.observations import Observation, Origin
from spanpost.domain.readings import Role
from spanpost.domain.tasks import Task
from spanpost.fold.batch import Rules
from spanpost.fold.read import read
from spanpost.fold.read.values import doing
from spanpost.ledger.base import TaskQuery
from spanpost.ledger.memory import MemoryLedger
from spanpost.testing.builders import SECOND, a_span

LANGCHAIN = Origin(resource={}, scope="openinference.instrumentation.langchain", scope_version="0.1.80")
CHAT, TOOL = {"gen_ai.operation.name": "chat"}, {"gen_ai.operation.name": "execute_tool"}
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}


def started(span: int, parent: int | None, name: str, start: int, **more: Any) -> Observation:
    """Return a span that has begun and not ended."""
    return a_span(span=span, parent=parent, name=name, start=start * SECOND, end=None, **more)


def task(*observations: Observation) -> Task:
    """Return the one task that they come to."""
    ledger = MemoryLedger(Rules())
    for observation in observations:
        ledger.record_now([observation])
    ledger.elapse_now(datetime(2027, 1, 1, tzinfo=UTC))
    [found] = ledger.tasks_now(TaskQuery())
    return found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("execute_tool search", "search"),
        ("tools/call search", "search"),
        ("search.run", "search"),
        ("running tool: search", "search"),
        ("fetch_orders", "fetch_orders"),
        ("turn", None),
        ("Step 3", None),
        ("execute_event_loop_cycle", None),
        ("Agent run: {name!r}", None),
        ("", None),
    ],
)
def test_a_name_says_what_is_done_or_nothing(name: str, said: str | None) -> None:
    """Of a span's name what tells a person something is left."""
    assert doing(name) == said


def test_the_newest_start_is_what_is_done() -> None:
    """The tool stands while it runs, the model after it, in any order of arrival."""
    agent = started(1, None, "invoke_agent ann", 0, attributes=AGENT)
    tool = started(2, 1, "search", 1, attributes=TOOL)
    model = started(3, 1, "chat gpt-4o", 2, attributes={**CHAT, "gen_ai.request.model": "gpt-4o"})
    assert task(agent, tool).action == "tool: search"
    for order in permutations([agent, tool, model]):
        assert (found := task(*order)).action == "model: gpt-4o"
        assert found.status == "working"


def test_what_the_agent_says_stands_above_what_is_seen() -> None:
    """An action of the agent's own is not replaced by a start."""
    agent = started(1, None, "invoke_agent ann", 0, attributes={**AGENT, "agent.action": "reading the orders"})
    assert task(agent, started(2, 1, "search", 1, attributes=TOOL)).action == "reading the orders"


def test_a_task_that_has_ended_is_as_if_it_had_not_been_seen_live() -> None:
    """The starts leave nothing in the final row: the last tool call is the action, as from the ended spans alone."""
    tool = {**TOOL, "gen_ai.tool.name": "search"}
    live = [
        started(1, None, "invoke_agent ann", 0, attributes=AGENT),
        started(2, 1, "execute_tool search", 1, attributes=tool),
        started(3, 1, "chat", 3, attributes=CHAT),
    ]
    ended = [
        a_span(span=2, parent=1, name="execute_tool search", start=SECOND, end=2 * SECOND, attributes=tool),
        a_span(span=3, parent=1, name="chat", start=3 * SECOND, end=4 * SECOND, attributes=CHAT),
        a_span(span=1, name="invoke_agent ann", end=5 * SECOND, attributes=AGENT),
    ]
    assert task(*live, *ended) == task(*ended)


def test_a_span_of_openinference_that_has_not_said_what_it_is() -> None:
    """The top of a trace is a run, whatever lies below is a part of it; a model called alone is no run."""
    assert read(started(1, None, "concierge", 0, origin=LANGCHAIN)).role is Role.WORKFLOW
    assert read(started(2, 1, "look_up", 0, origin=LANGCHAIN)).role is Role.STEP
    assert read(started(1, None, "ChatOpenAI", 0, origin=LANGCHAIN)).role is Role.STEP
    assert read(a_span(name="concierge", origin=LANGCHAIN)).role is Role.OTHER
    shown = task(started(1, None, "concierge", 0, origin=LANGCHAIN), started(2, 1, "look_up", 1, origin=LANGCHAIN))
    assert (shown.name, shown.status, shown.action, shown.is_announced) == ("concierge", "working", "look_up", True)
