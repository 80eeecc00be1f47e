"""Frameworks' own attribute names, as in their spans; those without a committed recording."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.model.readings import Finish, Reading, Role
from spanpost.readers import read
from spanpost.store.memory import MemoryStore

LOGFIRE = "logfire.openai_agents"


def span(
    scope: str, name: str, attributes: dict[str, Any], *, parent: bytes = b"", status: Status = Status.UNSET
) -> Reading:
    return read(
        Observation(
            part=Part.ENDED,
            trace_id=b"t" * 16,
            span_id=b"s" * 8,
            parent_id=parent,
            name=name,
            status=status,
            origin=Origin(scope=scope),
            attributes=attributes,
        )
    )


@pytest.mark.parametrize(
    ("name", "attributes", "role"),
    [
        ("OpenAI Agents trace: {name}", {"name": "Weather desk", "group_id": "thread-1"}, Role.WORKFLOW),
        ("Task: Agent workflow", {"name": "Agent workflow", "usage": "{}"}, Role.STEP),
        ("Turn {turn} for agent a", {"name": "turn", "agent_name": "a"}, Role.STEP),
        ("Agent run: {name!r}", {"name": "weather_agent"}, Role.AGENT),
        ("Function: {name}", {"name": "get_weather", "input": "{}", "output": "sunny"}, Role.TOOL),
    ],
)
def test_logfire_names_openai_agents_by_templates(name: str, attributes: dict[str, Any], role: Role) -> None:
    """logfire's span names are templates: the word before the colon is the kind of the span, `name` its
    owner.
    """
    reading = span(LOGFIRE, name, attributes, parent=b"p" * 8)
    assert reading.role is role
    assert (reading.task_name, reading.conversation_id) == (
        ("Weather desk", "thread-1") if role is Role.WORKFLOW else (None, None)
    )
    assert reading.agent_name == ("weather_agent" if role is Role.AGENT else None)
    assert reading.tool_name == ("get_weather" if role is Role.TOOL else None)


def test_a_group_that_is_null_is_no_conversation() -> None:
    """logfire writes null as text; runs without a group share no conversation."""
    assert span(LOGFIRE, "OpenAI Agents trace: {name}", {"name": "x", "group_id": "null"}).conversation_id is None


def test_logfire_has_cached_tokens_in_the_raw_usage() -> None:
    """Cached tokens are in `gen_ai.usage.raw` alone."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.raw": '{"input_tokens":10,"input_tokens_details":{"cached_tokens":2}}',
    }
    usage = span(LOGFIRE, "Responses API with {gen_ai.request.model!r}", attributes).usage
    assert usage is not None
    assert (usage.input, usage.cache_read) == (10, 2)


def test_tools_that_wait_are_known_by_what_is_missing() -> None:
    """openai-agents: a tool with arguments and no result waits; equal arguments make it the same call."""
    scope = "opentelemetry.instrumentation.genai.openai_agents"
    asked = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "rm",
        "gen_ai.tool.call.arguments": '{"path":"x"}',
    }
    waits, done = (
        span(scope, "execute_tool rm", asked),
        span(scope, "execute_tool rm", {**asked, "gen_ai.tool.call.result": "ok"}),
    )
    other = span(scope, "execute_tool rm", {**asked, "gen_ai.tool.call.arguments": '{"path":"y"}'})
    assert (waits.has_no_result, done.has_no_result) == (True, False)
    assert waits.tool_call_id == done.tool_call_id != other.tool_call_id


def test_an_agent_within_a_graph_is_counted_once() -> None:
    """Traceloop's langchain: `invoke_agent` within a run is empty and no agent; at the top it is one."""
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
    scope = "opentelemetry.instrumentation.langchain"
    assert span(scope, "invoke_agent planner", attributes).role is Role.AGENT
    assert span(scope, "invoke_agent planner", attributes, parent=b"p" * 8).role is Role.PLUMBING


def test_workflows_of_agent_framework_are_runs() -> None:
    """`workflow.run` is the run, its executors are steps, its build and send spans are ignored."""
    run = span("agent_framework", "workflow.run", {"workflow.id": "w", "workflow.name": "review"})
    assert (run.role, run.task_name) == (Role.WORKFLOW, "review")
    assert span("agent_framework", "executor.process writer", {"executor.id": "w"}, parent=b"p" * 8).role is Role.STEP
    assert span("agent_framework", "edge_group.process", {"edge_group.id": "e"}).role is Role.PLUMBING


def test_the_loop_around_calls_of_semantic_kernel_reports_no_failure() -> None:
    """The exception event of its loop is the failure of the model call within on its way up: one error is reported."""
    loop = Observation(
        part=Part.ENDED,
        trace_id=b"t" * 16,
        span_id=b"l" * 8,
        parent_id=b"s" * 8,
        name="AutoFunctionInvocationLoop",
        status=Status.ERROR,
        start_ns=1,
        at_ns=9,
        end_ns=9,
        origin=Origin(scope="semantic_kernel.connectors.ai.chat_completion_client_base"),
    )
    said = {"exception.type": "BadRequestError", "exception.message": "no"}
    event = msgspec.structs.replace(loop, part=Part.EVENT, name="exception", at_ns=8, attributes=said)
    failed = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "error.type": "BadRequestError"}
    call = msgspec.structs.replace(loop, span_id=b"c" * 8, parent_id=b"l" * 8, name="chat gpt-4o", attributes=failed)
    invoked = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann"}
    agent = msgspec.structs.replace(loop, span_id=b"s" * 8, parent_id=b"", name="invoke_agent ann", attributes=invoked)
    store = MemoryStore()
    store.record_now([call, event, loop, agent])
    assert [one.text for one in store.checkpoints_now(limit=9) if one.kind is Kind.ERROR] == ["gpt-4o: BadRequestError"]


@pytest.mark.parametrize(("tool", "finish"), [("handoff_to_expert", Finish.UNKNOWN), ("delete_file", Finish.TOOLS)])
def test_an_agent_that_hands_over_asks_nobody(tool: str, finish: Finish) -> None:
    """Agent Framework's workflow takes the call of a tool that hands over: the agent's run has no open call."""
    said = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "triage",
        "gen_ai.response.finish_reasons": '["tool_calls"]',
        "gen_ai.tool.definitions": f'[{{"type": "function", "name": "{tool}"}}]',
    }
    assert span("agent_framework", "invoke_agent triage", said).finish is finish


@pytest.mark.parametrize(("scope", "is_call"), [("litellm", True), ("openai", True), ("openai_agents", False)])
def test_a_running_span_of_a_models_client_is_a_call(scope: str, is_call: bool) -> None:
    """LiteLLM's `completion` has no kind before its end: without a parent it is a lone call, and no run."""
    started = Observation(
        part=Part.STARTED,
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        name="completion",
        origin=Origin(scope=f"openinference.instrumentation.{scope}"),
    )
    assert (read(started).role is not Role.WORKFLOW) == is_call


def test_a_session_of_claudes_sdk_is_not_named_after_a_function() -> None:
    """Its spans are named after the SDK's functions; a sub-agent's is named after the agent."""
    scope, kind = "openinference.instrumentation.claude_agent_sdk", {"openinference.span.kind": "AGENT"}
    assert span(scope, "ClaudeAgentSDK.query", kind).agent_name == "Claude Agent"
    sub = span(scope, "ClaudeAgentSDK.Task", {**kind, "agent.name": "weather_expert"}, parent=b"p" * 8)
    assert sub.agent_name == "weather_expert"


def test_a_crew_has_its_tokens_as_text() -> None:
    """Traceloop's crewAI: the crew's tokens are a total, never usage of a call."""
    attributes = {
        "traceloop.span.kind": "workflow",
        "gen_ai.operation.name": "invoke_agent",
        "crewai.crew.token_usage": "total_tokens=894 prompt_tokens=841 cached_prompt_tokens=0 "
        "completion_tokens=53 successful_requests=3",
    }
    crew = span("opentelemetry.instrumentation.crewai", "crewai.workflow", attributes)
    assert crew.role is Role.WORKFLOW
    assert crew.usage is None
    assert crew.aggregate is not None
    assert (crew.aggregate.input, crew.aggregate.output) == (841, 53)


def test_haystack_is_known_by_the_names_of_its_spans() -> None:
    """Names give a span's kind, the answer's JSON its usage, and `haystack.tool.error` a tool's failure."""
    output = (
        '{"replies": [{"content": [{"text": "sunny"}], "meta": {"model": "gpt-4o", "finish_reason": "stop", '
        '"usage": {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}}}]}'
    )
    call = span(
        "my_application", "haystack.agent.step.llm", {"haystack.agent.step.llm.output": output}, parent=b"p" * 8
    )
    assert (call.role, call.model, call.finish) == (Role.LLM, "gpt-4o", Finish.STOP)
    assert call.usage is not None
    assert (call.usage.input, call.usage.output, call.usage.cache_read) == (20, 5, 2)
    assert span("my_application", "haystack.agent.step.llm", {}, parent=b"p" * 8).usage is None
    tool = {"haystack.tool.name": "get_weather", "haystack.tool.error": True}
    failed = span("my_application", "haystack.agent.step.tool", tool, parent=b"p" * 8)
    assert (failed.role, failed.tool_name, failed.failure is not None) == (Role.TOOL, "get_weather", True)
    assert span("my_application", "haystack.agent.run", {"haystack.agent.max_steps": 9}).role.is_root_span
    assert span("my_application", "haystack.pipeline.run", {}).role is Role.OTHER


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("*errors.errorString", ""), ("*fmt.wrapError", ""), ("*status.Error", "*status.Error")],
)
def test_a_go_type_that_says_nothing_is_not_shown(kind: str, shown: str) -> None:
    """Go's errors of any text have a type that no person needs; others keep theirs."""
    attributes = {"gen_ai.operation.name": "chat", "exception.type": kind}
    failure = span("gcp.vertex.agent", "chat", attributes, status=Status.ERROR).failure
    assert failure is not None
    assert failure.type == shown
