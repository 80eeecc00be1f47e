"""Other coding CLIs by their log records alone, after their documentation and sources; none of them was
recorded yet.

Gemini CLI (google-gemini/gemini-cli, docs/cli/telemetry.md, 2026-11): ``session.id`` and ``prompt_id``;
input includes tokens read from the cache, output excludes thoughts. Codex CLI (openai/codex,
docs/config.md, ``[otel]``, 2026-11): ``conversation.id`` and no prompt id; tokens stand on the stream's
last event. Neither has a record for its answer, so a session ends with its next record, or stalls.
"""

from __future__ import annotations

from spanpost.readers.session_records import Cli, SessionPart

GEMINI_CLI = Cli(
    name="gemini-cli",
    agent="Gemini CLI",
    heads=("gemini_cli",),
    events={
        "user_prompt": SessionPart.PROMPT,
        "api_response": SessionPart.CALL,
        "api_error": SessionPart.CALL_FAILED,
        "tool_call": SessionPart.TOOL,
        "chat_compression": SessionPart.COMPACTION,
        "agent.finish": SessionPart.SUBAGENT,
    },
    fields={
        "session": ("session.id", "sessionId"),
        "prompt": ("prompt_id",),
        "length": ("prompt_length",),
        "model": ("model", "model_name"),
        "input": ("input_token_count",),
        "output": ("output_token_count",),
        "cache_read": ("cached_content_token_count",),
        "reasoning": ("thoughts_token_count",),
        "finish": ("finish_reasons",),
        "duration_ms": ("duration_ms",),
        "status_code": ("status_code",),
        "error_type": ("error_type", "error.type"),
        "error_message": ("error", "error.message"),
        "tool_name": ("function_name",),
        "tool_call_id": ("call_id", "tool_call_id"),
        "success": ("success",),
        "before": ("tokens_before",),
        "after": ("tokens_after",),
        "subagent": ("agent_name",),
    },
    excludes_reasoning=True,
    unattended=("interactive", "false"),
)

CODEX_CLI = Cli(
    name="codex-cli",
    agent="Codex",
    heads=("codex",),
    events={
        "user_prompt": SessionPart.PROMPT,
        "sse_event": SessionPart.CALL,
        "websocket_event": SessionPart.CALL,
        "tool_decision": SessionPart.DECISION,
        "tool_result": SessionPart.TOOL,
    },
    only={
        "sse_event": ("event.kind", "response.completed"),
        "websocket_event": ("event.kind", "response.completed"),
    },
    fields={
        "session": ("conversation.id",),
        "length": ("prompt_length",),
        "model": ("model", "slug"),
        "input": ("input_token_count",),
        "output": ("output_token_count",),
        "cache_read": ("cached_token_count",),
        "cache_write": ("cache_write_token_count",),
        "reasoning": ("reasoning_token_count",),
        "duration_ms": ("duration_ms",),
        "error_type": ("error.type",),
        "error_message": ("error.message",),
        "tool_name": ("tool_name", "tool"),
        "tool_call_id": ("call_id",),
        "success": ("success",),
        "decision": ("decision",),
        "decided_by": ("source",),
    },
    unattended=("service.name", "codex_exec"),
)
