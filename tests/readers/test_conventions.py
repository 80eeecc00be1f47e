"""The GenAI conventions as they move: each operation has a role, and old and new names are read side by side."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.model.observations import Observation, Origin, Part
from spanpost.model.queries import TaskQuery
from spanpost.model.readings import Reading, Role
from spanpost.readers import read
from spanpost.store.memory import MemoryStore

#: The operations of semantic-conventions-genai 0.1.0 and of its open proposals, looked up on 2026-11-23.
OPERATIONS = {
    "chat": Role.LLM,
    "text_completion": Role.LLM,
    "generate_content": Role.LLM,
    "invoke_agent": Role.AGENT,
    "invoke_workflow": Role.WORKFLOW,
    "create_agent": Role.PLUMBING,
    "execute_tool": Role.TOOL,
    "plan": Role.STEP,
    "handle_conversation_turn": Role.STEP,
    "embeddings": Role.STEP,
    "retrieval": Role.STEP,
    "create_memory_store": Role.STEP,
    "delete_memory_store": Role.STEP,
    "create_memory": Role.STEP,
    "update_memory": Role.STEP,
    "upsert_memory": Role.STEP,
    "search_memory": Role.STEP,
    "delete_memory": Role.STEP,
    "run_guardrail": Role.STEP,
    "fetch_response": Role.STEP,
}
#: Those that are a run when they stand at the top of a trace.
RUNS = {
    "invoke_agent",
    "invoke_workflow",
    "plan",
    "handle_conversation_turn",
    "chat",
    "text_completion",
    "generate_content",
    "execute_tool",
}


def ended(name: str, attributes: dict[str, Any], *, id: int = 1, parent: int = 0, scope: str = "x") -> Observation:
    return Observation(
        part=Part.ENDED,
        trace_id=b"t" * 16,
        span_id=bytes([id]) * 8,
        parent_id=bytes([parent]) * 8 if parent else b"",
        name=name,
        start_ns=id,
        end_ns=100 - id,
        at_ns=100 - id,
        origin=Origin(scope=scope),
        attributes=attributes,
    )


def reading(**attributes: Any) -> Reading:
    return read(ended("x", {name.replace("__", "."): value for name, value in attributes.items()}, parent=9))


@pytest.mark.parametrize(("operation", "role"), OPERATIONS.items())
def test_each_operation_has_a_role(operation: str, role: Role) -> None:
    """Every operation of the conventions has its role, under an agent's span and without other attributes."""
    named = {"gen_ai__agent__name": "a"} if operation == "invoke_agent" else {}
    assert reading(gen_ai__operation__name=operation, **named).role is role


@pytest.mark.parametrize("operation", OPERATIONS)
def test_only_runs_become_tasks(operation: str) -> None:
    """A guardrail, a search in a memory or an embedding at the top of a trace is no task of its own."""
    store = MemoryStore(keep=None)
    attributes = {"gen_ai.operation.name": operation, "gen_ai.agent.name": "a", "gen_ai.request.model": "m"}
    store.record_now([ended(operation, attributes)])
    assert bool(store.tasks_now(TaskQuery())) is (operation in RUNS)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("gen_ai.system", "gen_ai.provider.name", "provider"),
        ("gen_ai.usage.prompt_tokens", "gen_ai.usage.input_tokens", "usage"),
        ("gen_ai.usage.completion_tokens", "gen_ai.usage.output_tokens", "usage"),
        ("gen_ai.tool_call.id", "gen_ai.tool.call.id", "tool_call_id"),
    ],
)
def test_old_and_new_names_say_the_same(old: str, new: str, field: str) -> None:
    """An old name is read as its new one, and where both are sent the new one counts."""
    value: Any = 7 if field == "usage" else "seven"
    said = {"gen_ai.operation.name": "execute_tool" if field == "tool_call_id" else "chat"}
    readings = [read(ended("x", {**said, **more}, parent=9)) for more in ({old: value}, {new: value})]
    assert getattr(readings[0], field) == getattr(readings[1], field) is not None
    both = read(ended("x", {**said, old: 9 if field == "usage" else "other", new: value}, parent=9))
    assert getattr(both, field) == getattr(readings[1], field)


def test_a_workflow_is_named_by_either_name() -> None:
    """Since 0.1.0 a workflow's name is `gen_ai.agent.name`, before it was `gen_ai.workflow.name`."""
    for name in ("gen_ai.workflow.name", "gen_ai.agent.name"):
        store = MemoryStore(keep=None)
        attributes = {"gen_ai.operation.name": "invoke_workflow", name: "desk"}
        store.record_now([ended("invoke_workflow", attributes)])
        [task] = store.tasks_now(TaskQuery())
        assert task.name == "desk"


def test_a_tool_of_an_mcp_server_counts_once() -> None:
    """The context in `_meta` puts a server's span below the client's, and both below the agent's tool: one call."""
    call = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_weather"}
    store = MemoryStore(keep=None)
    store.record_now(
        [
            ended("invoke_agent a", {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}),
            ended(
                "execute_tool",
                {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_weather"},
                id=2,
                parent=1,
            ),
            ended("tools/call get_weather", call, id=3, parent=2, scope="mcp.client"),
            ended("tools/call get_weather", call, id=4, parent=3, scope="mcp.server"),
        ]
    )
    [task] = store.tasks_now(TaskQuery())
    assert task.tool_calls == 1
