"""``gen_ai.*``: OpenTelemetry's GenAI conventions, as they are and as they were.

Sources: open-telemetry/semantic-conventions-genai 0.1.0 (looked up 2026-11-23, Development) and its open proposals
(a guardrail's run, #427; a conversation's turn), semantic-conventions 1.36 and 1.41. ADK for Java 1.8 writes
``call_llm`` and ``gen_ai.tool_call.id``, ADK for Go 2.2 ``invoke_node``. strands-agents 1.62 writes old and new names
side by side. pydantic-ai 2.68 adds ``gen_ai.aggregated_usage`` and ``gen_ai.agent.call.id``.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan

#: Bound once: an enum's members are looked up slowly (0.2 µs each in CPython 3.11).
_AGENT = Role.AGENT
_WORKFLOW = Role.WORKFLOW
_LLM = Role.LLM

#: Operations that are never a run of their own, even at the top of a trace.
_LEAVES = (
    "embeddings",
    "retrieval",
    "rerank",
    "create_memory_store",
    "delete_memory_store",
    "create_memory",
    "update_memory",
    "upsert_memory",
    "search_memory",
    "delete_memory",
    "run_guardrail",
    "apply_guardrail",
    "guardrail_check",
    # It fetches the answer of an earlier call: its tokens were used there.
    "fetch_response",
)
#: Phases of a run: they hold its calls. At the top of a trace they are the run.
_PHASES = ("plan", "handle_conversation_turn", "invoke_node")
_IS_LEAF = frozenset(_LEAVES)


def _refine(span: ReadSpan) -> None:
    operation = span.attributes.get("gen_ai.operation.name")
    if span.role is _LLM:
        if span.inner.get("model_answered") == "none":
            del span.inner["model_answered"]  # Micrometer's word for a value that is not known
    elif operation in _IS_LEAF:
        span.is_leaf = True
    elif span.role is _AGENT and span.rule == "gen_ai.operation.name" and "agent" not in span.inner:
        span.role = _WORKFLOW  # an invocation without an agent: the run around the agents


GENAI = Dialect(
    name="gen_ai",
    source="OpenTelemetry GenAI conventions 0.1.0 (looked up 2026-11-23), and semantic-conventions 1.36 to 1.41",
    cannot_tell=(
        "a wait for a person: it is concluded from an open tool call",
        "context windows",
        "tokens of streams without usage",
        "the start and the end of a team of AutoGen: each message has a trace of its own",
    ),
    kind="gen_ai.operation.name",
    roles={
        "invoke_agent": Role.AGENT,
        "invoke_workflow": Role.WORKFLOW,
        "invoke_swarm": Role.WORKFLOW,
        "invoke_graph": Role.WORKFLOW,
        "chat": Role.LLM,
        "generate_content": Role.LLM,
        "text_completion": Role.LLM,
        "call_llm": Role.LLM,
        "execute_tool": Role.TOOL,
        "handoff": Role.HANDOFF,
        "agent_handoff": Role.HANDOFF,
        "create_agent": Role.PLUMBING,
        **dict.fromkeys(_PHASES, Role.STEP),
        **dict.fromkeys(_LEAVES, Role.STEP),
    },
    otherwise=Role.STEP,
    fields={
        "task_alias": ("gen_ai.agent.call.id",),
        "agent": ("gen_ai.agent.name",),
        "agent_id": ("gen_ai.agent.id",),
        "agent_version": ("gen_ai.agent.version",),
        "workflow": ("gen_ai.workflow.name",),
        "conversation_id": ("gen_ai.conversation.id",),
        "provider": ("gen_ai.provider.name", "gen_ai.system"),
        "model_answered": ("gen_ai.response.model",),
        "model_asked": ("gen_ai.request.model",),
        "response": ("gen_ai.response.id", "response_id"),
        "finish": ("gen_ai.response.finish_reasons", "gen_ai.response.finish_reason", "llm.response.stop_reason"),
        "tool_name": ("gen_ai.tool.name",),
        "tool_call_id": ("gen_ai.tool.call.id", "gen_ai.tool_call.id"),
        "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens"),
        "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens"),
        "cache_read": (
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.details.cache_read_tokens",
        ),
        "cache_write": (
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.cache_write_input_tokens",
            "gen_ai.usage.details.cache_write_tokens",
        ),
        "reasoning": (
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "gen_ai.usage.details.reasoning_tokens",
            "llm.usage.reasoning_tokens",
        ),
        "cost": ("operation.cost",),
        "compacted": ("gen_ai.conversation.compacted",),
        "total_input": ("gen_ai.aggregated_usage.input_tokens",),
        "total_output": ("gen_ai.aggregated_usage.output_tokens",),
        "total_cache_read": ("gen_ai.aggregated_usage.cache_read.input_tokens",),
        "total_cache_write": ("gen_ai.aggregated_usage.cache_write.input_tokens",),
        "total_reasoning": ("gen_ai.aggregated_usage.details.reasoning_tokens",),
        "error_type": ("error.type", "exception.type"),
        "error_message": ("exception.message", "error.message"),
    },
    weak=frozenset(
        {
            "gen_ai.provider.name",
            "gen_ai.system",
            "error.type",
            "exception.type",
            "exception.message",
            "error.message",
            "response_id",
        }
    ),
    refine=_refine,
)
