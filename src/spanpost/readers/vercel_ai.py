"""Vercel's AI SDK:

``ai.operationId``, as ai 4 to 6 write it, and ai 7 with its `LegacyOpenTelemetry`; ai 7's own is
``gen_ai.*``.

A run is ``ai.generateText`` or the like, with the name that the application gave as `functionId`. It
repeats the usage of its calls as a total.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan

_LEAVES = frozenset({"ai.embed", "ai.embedMany", "ai.rerank"})


def _refine(span: ReadSpan) -> None:
    operation = span.attributes.get("ai.operationId")
    if span.rule != "ai.operationId":
        return
    if type(operation) is str and operation.startswith(tuple(_LEAVES)):
        span.is_leaf = True
    elif span.role is Role.AGENT:
        if "agent" not in span.inner:
            span.role = Role.WORKFLOW  # a run without a name
    elif span.role is Role.STEP and type(operation) is str and operation.endswith((".doGenerate", ".doStream")):
        span.role = Role.LLM


VERCEL_AI = Dialect(
    name="vercel-ai",
    source="ai 5.0.277, 7.0.173 with @ai-sdk/otel",
    cannot_tell=(
        "an agent's name, unless `functionId` is set",
        "a wait for a person: it is concluded from an open tool call",
    ),
    kind="ai.operationId",
    roles={
        "ai.generateText": Role.AGENT,
        "ai.streamText": Role.AGENT,
        "ai.generateObject": Role.AGENT,
        "ai.streamObject": Role.AGENT,
        "ai.toolCall": Role.TOOL,
        "ai.generateText.doGenerate": Role.LLM,
        "ai.streamText.doStream": Role.LLM,
        "ai.generateObject.doGenerate": Role.LLM,
        "ai.streamObject.doStream": Role.LLM,
    },
    otherwise=Role.STEP,
    fields={
        "agent": ("ai.telemetry.functionId",),
        "conversation_id": (
            "ai.telemetry.metadata.sessionId",
            "ai.telemetry.metadata.conversationId",
            "ai.telemetry.metadata.threadId",
            "ai.telemetry.metadata.chatId",
            "ai.telemetry.metadata.session_id",
        ),
        "provider": ("ai.model.provider",),
        "model_answered": ("ai.response.model",),
        "model_asked": ("ai.model.id",),
        "response": ("ai.response.id",),
        "finish": ("ai.response.finishReason", "ai.finishReason"),
        "tool_name": ("ai.toolCall.name",),
        "tool_call_id": ("ai.toolCall.id",),
        "input": ("ai.usage.inputTokens", "ai.usage.promptTokens"),
        "output": ("ai.usage.outputTokens", "ai.usage.completionTokens"),
        "cache_read": ("ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
        "cache_write": ("ai.usage.inputTokenDetails.cacheWriteTokens",),
        "reasoning": ("ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
    },
    refine=_refine,
)
