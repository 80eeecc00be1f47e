"""Undeclared instrumentations, and ones known from documentation alone, are read by their names' shape."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.model.observations import Observation, Origin, Part
from spanpost.model.readings import Finish, Reading, Role
from spanpost.readers import NOTHING, is_silent, read


def span(name: str, attributes: dict[str, Any], *, parent: bytes = b"p" * 8) -> Reading:
    return read(
        Observation(
            part=Part.ENDED, trace_id=b"t" * 16, span_id=b"s" * 8, parent_id=parent, name=name,
            origin=Origin(scope="unheard.of"), attributes=attributes,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "role"),
    [
        ({"acme.span.kind": "AGENT"}, Role.AGENT),
        ({"fi.span.kind": "LLM"}, Role.LLM),
        ({"lmnr.span.type": "TOOL"}, Role.TOOL),
        ({"respan.observation.type": "generation"}, Role.LLM),
        ({"acme:node:type": "workflow_step"}, Role.STEP),
        ({"acme.run_type": "ToolCall"}, Role.TOOL),
    ],
)
def test_a_kind_is_known_by_its_name_and_its_word(attributes: dict[str, Any], role: Role) -> None:
    """Any prefix before ``span.kind`` and its like: a common word in it gives the span's kind."""
    assert span("a span", attributes).role is role


@pytest.mark.proves("each-call-once", "other-versions")
@pytest.mark.parametrize(
    "attributes",
    [
        {"acme.llm.usage.input_tokens": 12, "acme.llm.usage.output_tokens": 3, "acme.llm.cached_tokens": 5},
        {"acme.usage.promptTokens": 12, "acme.usage.completionTokens": 3, "acme.usage.cacheReadInputTokens": 5},
        {"acme.token_count.prompt": 12, "acme.token_count.completion": 3, "acme.cache_read.input_tokens": 5},
        {"acme.span.kind": "llm", "acme.token_usage": '{"input_tokens": 12, "output_tokens": 3, "cached_tokens": 5}'},
    ],
)
def test_tokens_are_known_by_their_names(attributes: dict[str, Any]) -> None:
    """Prompt or input, completion or output, in snake or camel case, or as JSON."""
    reading = span("a call", {**attributes, "acme.request.model": "gpt-4o", "acme.finish_reason": "tool-calls"})
    assert (reading.role, reading.model, reading.finish) == (Role.LLM, "gpt-4o", Finish.TOOLS)
    assert reading.usage is not None
    assert (reading.usage.input, reading.usage.output, reading.usage.cache_read) == (12, 3, 5)


def test_what_is_declared_stands_above_a_likeness() -> None:
    """A second vocabulary beside a known one adds nothing to it and takes nothing from it."""
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 7,
        "acme.span.kind": "TOOL",
        "acme.usage.input_tokens": 9,
    }
    reading = span("chat", said)
    assert (reading.role, reading.usage and reading.usage.input) == (Role.LLM, 7)


@pytest.mark.parametrize(
    "attributes",
    [
        {"span.kind": "server", "span.type": "web", "http.response.status_code": 200},
        {"logfire.span_type": "span", "code.function": "f"},
        {"messaging.operation.type": "process", "messaging.message.conversation_id": "c"},
        {"session.id": "s", "enduser.id": "u", "http.request.header.content_type": "x"},
        {"ci.tool.name": "ruff", "acme.model": "T"},
    ],
)
def test_other_spans_are_skipped_by_their_names_alone(attributes: dict[str, Any]) -> None:
    """Common names make no span an agent's: not even their values are read."""
    assert is_silent("unheard.of", tuple(attributes))
    assert span("GET /", attributes) is NOTHING


def test_spring_ai() -> None:
    """Spring AI, according to its reference: Micrometer writes all values as text, tools and clients give
    their kind.
    """
    call = span("chat gpt-4o", {"gen_ai.operation.name": "chat", "gen_ai.system": "openai",
                                "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.finish_reasons": '["TOOL_CALLS"]', "gen_ai.usage.input_tokens": "12",
        "gen_ai.usage.output_tokens": "3",
        "gen_ai.usage.total_tokens": "15"})  # fmt: skip
    assert (call.role, call.finish) == (Role.LLM, Finish.TOOLS)
    assert call.usage is not None
    assert (call.usage.input, call.usage.output) == (12, 3)
    tool = span("tool_call get_weather", {"gen_ai.operation.name": "framework", "gen_ai.system": "spring_ai",
        "spring.ai.kind": "tool_call", "spring.ai.tool.definition.name": "get_weather"})  # fmt: skip
    assert (tool.role, tool.tool_name) == (Role.TOOL, "get_weather")
    client = {
        "gen_ai.operation.name": "framework",
        "spring.ai.kind": "chat_client",
        "spring.ai.chat.client.conversation.id": "c-1",
    }
    reading = span("spring_ai chat_client", client, parent=b"")
    assert (reading.role, reading.task_name, reading.conversation_id) == (Role.WORKFLOW, None, "c-1")


def test_langfuse_keeps_cached_tokens_outside_of_input_and_output() -> None:
    """Cached input and reasoning are beside `input` and `output`, or within them as OpenAI's client writes."""
    usage = '{"input": 247, "output": 10, "total": 392, "input_cache_read": 128, "output_reasoning": 7}'
    apart = span(
        "ChatOpenAI", {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": usage}
    ).usage
    assert apart is not None
    assert (apart.input, apart.output, apart.cache_read, apart.reasoning) == (375, 17, 128, 7)
    usage = '{"completion_tokens": 17, "prompt_tokens": 375, "prompt_tokens_details": {"cached_tokens": 128}}'
    whole = span(
        "OpenAI", {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": usage}
    ).usage
    assert whole is not None
    assert (whole.input, whole.output, whole.cache_read) == (375, 17, 128)
