"""A run that may resume a waiting run, observed while it begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanpost.model.observations import Observation
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.testing.builders import SECOND, a_span

TALK = {"gen_ai.conversation.id": "c-1"}


def root_span(trace: int, start: int, end: int | None) -> Observation:
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann", **TALK}
    return a_span(trace=trace, start=start * SECOND, end=None if end is None else end * SECOND, attributes=said)


def part(trace: int, span: int, start: int, operation: str, **said: Any) -> Observation:
    attributes = {"gen_ai.operation.name": operation, **TALK, **said}
    return a_span(trace=trace, span=span, parent=1, start=start * SECOND, end=start * SECOND + 1, attributes=attributes)


@pytest.mark.parametrize("is_resumed", [True, False])
def test_it_has_no_message_until_its_first_call_says_which(is_resumed: bool) -> None:
    """The first call of a new run decides whether it resumes the waiting run of its conversation."""
    asks = part(1, 2, 1, "chat", **{"gen_ai.response.finish_reasons": ["tool_calls"], "gen_ai.usage.input_tokens": 3})
    store = MemoryStore()
    store.record_now([root_span(1, 0, 2), asks])
    for days in (1, 2):  # nothing more comes
        store.elapse_now(datetime.now(UTC) + timedelta(days=days))
    store.record_now([root_span(2, 10, None)])
    tasks = store.tasks_now(TaskQuery(limit=9))
    assert sorted((t.status, t.is_announced) for t in tasks) == [("starting", False), ("waiting", True)]

    tool = {"gen_ai.tool.name": "book", "gen_ai.tool.call.id": "call-1"}
    first = (
        part(2, 3, 11, "execute_tool", **tool)
        if is_resumed
        else part(2, 3, 11, "chat", **{"gen_ai.usage.input_tokens": 3})
    )
    store.record_now([first])
    tasks = store.tasks_now(TaskQuery(limit=9))
    assert all(t.is_announced for t in tasks)
    assert [t.runs for t in tasks] == ([2] if is_resumed else [1, 1])


def test_a_response_reported_in_two_traces_without_an_agent_is_one_task() -> None:
    """A response that two instrumentations report in two traces is counted once, in one row."""
    said = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "r-1", "gen_ai.usage.input_tokens": 5}
    copies = [
        a_span(trace=1, attributes=said, name="chat"),
        a_span(trace=2, attributes=said, name="openai.chat", start=1),
    ]
    for order in (copies, copies[::-1]):
        store = MemoryStore()
        for copy in order:
            store.record_now([copy])
        (task,) = store.tasks_now(TaskQuery(limit=9))
        assert (task.llm_calls, task.input_tokens) == (1, 5)
