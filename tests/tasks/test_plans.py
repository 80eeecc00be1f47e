"""The plan that an agent writes down by a tool: the current step and the count; texts only where content is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanpost.model.queries import TaskQuery
from spanpost.sinks import labels
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.builders import SECOND, a_span

TODOS = [
    {"content": "Look at the weather", "activeForm": "Looking at the weather", "status": "completed"},
    {"content": "Write the answer", "activeForm": "Writing the answer", "status": "in_progress"},
    {"content": "Check it", "activeForm": "Checking it", "status": "pending"},
]
PLAN = [{"step": "Look at the weather", "status": "completed"}, {"step": "Write the answer", "status": "pending"}]


def shown(*tools: dict[str, Any], keeps_content: bool = False) -> Any:
    """Return the task of an agent that called these tools, one after the other, and goes on."""
    store = MemoryStore(FoldRules(keeps_content=keeps_content))
    root_span = a_span(
        span=1, end=None, attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
    )
    said = {"gen_ai.operation.name": "execute_tool"}
    calls = [
        a_span(span=n + 2, parent=1, start=n * SECOND, end=n * SECOND + 1, attributes={**said, **tool})
        for n, tool in enumerate(tools)
    ]
    store.record_now([root_span, *calls])
    (task,) = store.tasks_now(TaskQuery(limit=10))
    return task


@pytest.mark.parametrize(
    "tool",
    [
        {"gen_ai.tool.name": "TodoWrite", "gen_ai.tool.call.arguments": json.dumps({"todos": TODOS})},
        {"gen_ai.tool.name": "write_todos", "input.value": str({"todos": TODOS})},
        {"gen_ai.tool.name": "write_todos", "langfuse.observation.input": json.dumps(json.dumps({"todos": TODOS}))},
    ],
)
def test_a_plan_says_which_step_of_how_many(tool: dict[str, Any]) -> None:
    """Only the states of a plan are read from JSON, Python text or nested JSON; its texts are not kept."""
    task = shown(tool)
    assert (task.step_name, task.step_index, task.step_count) == (None, 2, 3)
    assert "weather" not in repr(task)
    assert labels.percent(task) == pytest.approx(100 / 3)
    assert [step.name for step in task.steps] == [tool["gen_ai.tool.name"]]


def test_where_content_is_kept_the_step_has_its_words() -> None:
    """With content kept, the step has the plan's name for it, and is listed."""
    task = shown(
        {"gen_ai.tool.name": "TodoWrite", "gen_ai.tool.call.arguments": json.dumps({"todos": TODOS})},
        keeps_content=True,
    )
    assert (task.step_name, task.step_index, task.step_count) == ("Writing the answer", 2, 3)
    assert [step.name for step in task.steps] == ["Writing the answer"]


def test_the_newest_plan_stands_and_other_tools_have_none() -> None:
    """Without a begun step, the first that is not done is current; arguments that are no plan are ignored."""
    first = {"gen_ai.tool.name": "update_plan", "gen_ai.tool.call.arguments": json.dumps({"plan": PLAN})}
    last = {
        "gen_ai.tool.name": "update_plan",
        "gen_ai.tool.call.arguments": json.dumps({"plan": [{**p, "status": "completed"} for p in PLAN]}),
    }
    other = {"gen_ai.tool.name": "get_order", "gen_ai.tool.call.arguments": json.dumps({"status": "in_progress"})}
    assert (shown(first).step_index, shown(first, last).step_index, shown(first, other).step_index) == (2, 2, 2)
    assert shown(other).step_index is None
