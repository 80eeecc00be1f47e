"""OpenInference:

``openinference.span.kind`` and ``llm.*``, as openinference-semantic-conventions 0.1.42 has them.

Seen with instrumentors of openai-agents 2.6.0, langchain 0.1.80, anthropic 3.1.0, crewai 1.1.21, llama-index
4.6.1; in JavaScript of openai-agents 0.2.15, langchain 4.1.1, claude-agent-sdk 0.3.1.
"""

from __future__ import annotations

import re

from spanpost.model.observations import Part, Status
from spanpost.model.readings import Finish, Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.langchain import refine_by_agent
from spanpost.readers.values import doing, identifier, name, name_of_span

#: Bound once: an enum's members are looked up slowly (0.2 µs each in CPython 3.11).
_OTHER = Role.OTHER
_STEP = Role.STEP
_LLM = Role.LLM
_TOOL = Role.TOOL
_AGENT = Role.AGENT
_WORKFLOW = Role.WORKFLOW
_HANDOFF = Role.HANDOFF
_STATUS_ERROR = Status.ERROR
_PART_STARTED = Part.STARTED
_PART_ENDED = Part.ENDED
_FINISH_STOP = Finish.STOP
_FINISH_TOOLS = Finish.TOOLS

#: Scopes of Python and of JavaScript.
_JS = "@arizeai/openinference-instrumentation-"
_OPENAI_AGENTS_JS, _LANGCHAIN_JS, _CLAUDE_JS = f"{_JS}openai-agents", f"{_JS}langchain", f"{_JS}claude-agent-sdk"
_OPENAI_AGENTS = frozenset({"openinference.instrumentation.openai_agents", _OPENAI_AGENTS_JS})
_LANGCHAIN = frozenset({"openinference.instrumentation.langchain", _LANGCHAIN_JS})
_CLAUDE = "openinference.instrumentation.claude_agent_sdk"
_WITH_RESULTS = _OPENAI_AGENTS | _LANGCHAIN
_LLAMA_INDEX = "openinference.instrumentation.llama_index"
#: llama-index names the working agent only in the text of its steps' results.
_CURRENT_AGENT = re.compile(r"current_agent_name='([^'\\]{1,100})'")
_LEAVES = frozenset({"EMBEDDING", "RETRIEVER", "RERANKER", "GUARDRAIL", "EVALUATOR", "PROMPT"})
_AGENT_OF = re.compile(r'"lc_agent_name": ?"((?:[^"\\]|\\.){1,200})"')
_THREAD_OF = re.compile(r'"thread_id": ?"([^"\\]{1,200})"')
#: A provider's id of a response, in the JSON of ``output.value``.
_RESPONSE = re.compile(r'"id": ?"((?:chatcmpl-|resp_|msg_|cmpl-)[\w.-]{4,120})"')
#: Characters of a long output that are searched at either end.
_GLANCE = 4096
_ASKS_FOR_TOOLS = (
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.name",
    "llm.output_messages.0.message.tool_calls.0.tool_call.id",
    "llm.output_messages.1.message.tool_calls.0.tool_call.function.name",
)


def _refine(span: ReadSpan) -> None:
    if span.rule != "openinference.span.kind":
        return
    attributes, scope, role = span.attributes, span.observation.origin.scope, span.role
    if role is _LLM:
        _refine_call(span, scope)
    elif role is _TOOL:
        if scope in _OPENAI_AGENTS and span.observation.name.lower().startswith("handoff to "):
            span.role = _HANDOFF
        elif (
            # These two always write a tool's result; without one the tool waits for a person.
            scope in _WITH_RESULTS
            and "output.value" not in attributes
            and span.observation.part is _PART_ENDED
            and span.observation.status is not _STATUS_ERROR
        ):
            span.said["has_no_result"] = True
        if "tool_name" not in span.said and (called := doing(span.observation.name)) is not None:
            span.said["tool_name"] = called
    elif role is _STEP and scope == _LLAMA_INDEX and "agent" not in span.inner:
        for text in (attributes.get("output.value"), attributes.get("input.value")):
            found_agent = _CURRENT_AGENT.search(text, 0, _GLANCE) if type(text) is str else None
            if found_agent is None:
                continue
            span.inner["agent"] = name(found_agent.group(1))
            break
    elif attributes.get("openinference.span.kind") in _LEAVES:
        span.is_leaf = True
    elif role is _AGENT and scope in _OPENAI_AGENTS and "agent" not in span.inner:
        _refine_run(span, scope)
    metadata = attributes.get("metadata")
    if type(metadata) is str:
        _refine_langchain(span, metadata[:65536])
    if span.role is _AGENT and (
        scope == _CLAUDE_JS or (scope == _CLAUDE and span.observation.name.endswith((".query", ".receive_response")))
    ):
        span.inner["agent"] = "Claude Agent"  # the span is named after the function
    elif span.role is _AGENT and "agent" not in span.inner:
        found = name(attributes.get("graph.node.id")) or name_of_span(span.observation.name)
        if found is not None:
            span.inner["agent"] = found


def _refine_run(span: ReadSpan, scope: str) -> None:
    o, a = span.observation, span.attributes
    if scope != _OPENAI_AGENTS_JS:
        span.role, span.rule = _WORKFLOW, "openai_agents: AGENT without agent.name"
    elif "graph.node.id" not in a:
        span.role, span.rule = _WORKFLOW, "openai_agents: AGENT without graph.node.id"
        # A run that has ended has an output; without one, a person is asked about its last tool call.
        if o.part is _PART_ENDED and o.status is not _STATUS_ERROR and "input.value" in a and "output.value" not in a:
            span.said["is_interrupt"] = True


def _refine_langchain(span: ReadSpan, metadata: str) -> None:
    found = _AGENT_OF.search(metadata)
    if found is not None:
        refine_by_agent(span, found.group(1), "metadata.lc_agent_name")
    if "conversation_id" not in span.said:
        thread = _THREAD_OF.search(metadata)
        if thread is not None:
            span.said["conversation_id"] = identifier(thread.group(1))


def _refine_call(span: ReadSpan, scope: str) -> None:
    attributes, inner = span.attributes, span.inner
    if span.observation.name.endswith("_prepare_chat_with_tools"):
        span.role, span.is_leaf = _STEP, True
        return
    output = attributes.get("output.value")
    if type(output) is not str:
        output = ""
    if "response" not in inner and output:
        found = _RESPONSE.search(output, 0, _GLANCE)
        if found is None and len(output) > _GLANCE:
            found = _RESPONSE.search(output, len(output) - _GLANCE)
        if found is not None:
            inner["response"] = found.group(1)
    # openai-agents always says "stop", so the answer itself decides.
    if inner.get("finish", _FINISH_STOP) is _FINISH_STOP and (
        any(key in attributes for key in _ASKS_FOR_TOOLS)
        or (scope in _OPENAI_AGENTS and ('"type":"function_call"' in output or '"type": "function_call"' in output))
    ):
        inner["finish"] = _FINISH_TOOLS
    if scope == _LANGCHAIN_JS and inner.get("finish") is _FINISH_TOOLS:
        inner.pop("finish")  # a wait is an interrupt; a structured answer is a tool's call that no tool runs


#: LangChain names a model's run by its class. Without a parent it is a lone call, no run.
_OF_A_MODEL = re.compile(r"Chat[A-Z]|LLM|OpenAI|Embeddings|Retriever")
#: Instrumentations of models' clients: each of their spans is a call, though its kind is said at its end.
_CLIENTS = re.compile(
    r"openinference\.instrumentation\."
    r"(?:anthropic|bedrock|google_genai|groq|instructor|litellm|mistralai|openai|portkey|vertexai)"
)


def _refine_unsaid(span: ReadSpan) -> None:
    # LangChain's instrumentation sets the kind of a span at its end. Until then the span is a step.
    if (
        span.role is _OTHER
        and span.observation.part is _PART_STARTED
        and "openinference.span.kind" not in span.attributes
    ):
        span.role, span.rule = _STEP, "openinference: not said yet"
        o = span.observation
        span.is_leaf = _CLIENTS.fullmatch(o.origin.scope) is not None or _OF_A_MODEL.search(o.name) is not None


#: All spans of these scopes are an agent's, whatever attributes they have so far.
OPENINFERENCE_LIVE = Dialect(
    name="openinference, live",
    scopes=("openinference.instrumentation.", _JS),
    source="openinference-instrumentation-langchain 0.1.80 and (JavaScript) 4.1.1, spans that have not ended",
    refine=_refine_unsaid,
)

OPENINFERENCE = Dialect(
    name="openinference",
    source="openinference-semantic-conventions 0.1.42",
    cannot_tell=(
        "ids of tool calls",
        "tokens of streams without usage",
        "a request for a tool in `llm.finish_reason`: it is read from the answer",
        "an agent's name within llama-index",
    ),
    kind="openinference.span.kind",
    roles={"AGENT": Role.AGENT, "CHAIN": Role.STEP, "LLM": Role.LLM, "TOOL": Role.TOOL},
    otherwise=Role.STEP,
    fields={
        "agent": ("graph.node.name",),
        "conversation_id": ("session.id",),
        "provider": ("llm.provider", "llm.system"),
        "model_answered": ("llm.response.model_name", "llm.model_name"),
        "model_asked": ("llm.request.model_name",),
        "finish": ("llm.finish_reason",),
        "tool_name": ("tool.name", "tool_call.function.name"),
        "tool_call_id": ("tool.id", "tool_call.id"),
        "input": ("llm.token_count.prompt",),
        "output": ("llm.token_count.completion",),
        "cache_read": ("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
        "cache_write": ("llm.token_count.prompt_details.cache_write",),
        "reasoning": ("llm.token_count.completion_details.reasoning",),
        "cost": ("llm.cost.total",),
    },
    weak=frozenset({"session.id", "llm.provider", "llm.system"}),
    refine=_refine,
)
