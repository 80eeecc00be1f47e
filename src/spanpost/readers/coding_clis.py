"""Codex CLI, Gemini CLI, Qwen Code and opencode: their records, spans and data points, as recorded in November 2026.

The session is the task. Records are joined by the session's id (and the prompt's, where they have one), and the few
spans that mean something are read as the records that they repeat; all other spans are machinery and are not read.

Codex 0.169: a record's name is its attribute ``event.name``, its own name is the place in the program; the same events
lie on spans. The tokens of a call are on the second ``response.completed`` of its stream. Spans sum up each turn. A
prompt has no id, data points have no session.
Gemini CLI 0.61: input includes tokens read from the cache, output excludes thoughts; spans know neither thoughts nor
cache, so that the output of a call is not known from them, and nothing without ``telemetry.traces``. A sub-agent has an
id, which its prompts begin with. At a terminal a span ends with each round of a model call and its tools; a round
without a tool is the prompt's last. The last record of a process says how long its approval mode was on.
Qwen Code 0.24 is a fork of Gemini CLI, with spans of its own: one for each prompt, call and tool. Its output includes
thoughts. Only its first record says whether there is a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from spanpost.model.readings import Role
from spanpost.readers import values as v
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.session_records import Cli, SessionPart, TokenMeter
from spanpost.readers.sessions import read_session_span


def _gemini_call(session: str, attributes: Mapping[str, Any]) -> str:
    """Return the key of a call: what both its record and its span have. Equal calls differ by their time."""
    prompt = attributes.get("prompt_id") or attributes.get("gen_ai.prompt.name")
    model = attributes.get("model") or attributes.get("gen_ai.request.model")
    tokens = attributes.get("input_token_count", attributes.get("gen_ai.usage.input_tokens"))
    return "\0".join(("call", session, str(prompt), str(model), str(tokens)))


def _gemini_agent(attributes: Mapping[str, Any]) -> str:
    """Return the sub-agent's id: records of its run have it, and its prompts' ids begin with it."""
    own = v.identifier(attributes.get("agent_id"))
    if own is not None:
        return own
    prompt, session = attributes.get("prompt_id"), attributes.get("session.id")
    if type(prompt) is not str or type(session) is not str or prompt.startswith(session):
        return ""
    agent, mark, number = prompt.rpartition("#")
    return (v.identifier(agent) or "") if mark and number.isdecimal() else ""


def _gemini_prompt(session: str, prompt: str) -> str:
    """Return the prompt of a record: that of a run without a person has the session's id."""
    return prompt or session


#: What a person types to leave a session at a terminal; Gemini's and Qwen's CLI report both as ``quit``.
_LEAVES: Final = ("command", {"quit": SessionPart.SESSION_ENDED, "exit": SessionPart.SESSION_ENDED})

GEMINI_CLI = Cli(
    name="gemini-cli",
    agent="Gemini CLI",
    heads=("gemini_cli",),
    events={
        "user_prompt": SessionPart.PROMPT,
        "api_request": SessionPart.CALL_BEGAN,
        "api_response": SessionPart.CALL,
        "api_error": SessionPart.CALL_FAILED,
        "tool_call": SessionPart.TOOL,
        "chat_compression": SessionPart.COMPACTION,
        "agent.start": SessionPart.AGENT_BEGAN,
        "agent.finish": SessionPart.AGENT_ENDED,
        "plan.approval_mode_duration": SessionPart.PROMPT_ENDED,
        "slash_command": SessionPart.SESSION_ENDED,
    },
    only={
        "plan.approval_mode_duration": ("interactive", {"False": SessionPart.PROMPT_ENDED}),
        "slash_command": _LEAVES,
        "api_request": ("role", {"main": SessionPart.CALL_BEGAN}),
    },
    spans={
        "llm_call": SessionPart.CALL,
        "tool_call": SessionPart.GOES_ON,
        # At a terminal: a model call with the tools that it asked for. The last one has none.
        "user_prompt": SessionPart.PROMPT_ENDED,
        "system_prompt": SessionPart.PROMPT_ENDED,
    },
    span_scopes=("gemini-cli",),
    meters={"gemini_cli.token.usage": TokenMeter.TOKENS, "gemini_cli.session.count": TokenMeter.SESSION},
    sorts={"input": "input", "output": "output", "cache": "cache_read", "thought": "reasoning"},
    fields={
        "session": ("session.id", "sessionId", "gen_ai.conversation.id"),
        "prompt": ("prompt_id", "gen_ai.prompt.name"),
        "length": ("prompt_length",),
        "model": ("model", "model_name", "gen_ai.request.model"),
        "input": ("input_token_count", "gen_ai.usage.input_tokens"),
        "output": ("output_token_count",),
        "cache_read": ("cached_content_token_count",),
        "reasoning": ("thoughts_token_count",),
        "duration_ms": ("duration_ms",),
        "status_code": ("status_code",),
        "error_type": ("error_type", "error.type"),
        "error_message": ("error", "error.message"),
        "source": ("role",),
        "tool_name": ("function_name",),
        "tool_call_id": ("call_id", "tool_call_id"),
        "success": ("success",),
        "decision": ("decision",),
        "before": ("tokens_before",),
        "after": ("tokens_after",),
        "subagent": ("agent_name",),
    },
    excludes_reasoning=True,
    needs_figures=True,  # without `telemetry.traces`
    unattended=("interactive", "false"),
    prompt_of=_gemini_prompt,
    main=("main",),
    refuses_by="user",
    call_key=_gemini_call,
    agent_of=_gemini_agent,
)


def _qwen_call(session: str, attributes: Mapping[str, Any]) -> str:
    """Return the key of a call: its response's id, else its prompt (of a call that failed)."""
    response = v.response(attributes.get("response_id") or attributes.get("gen_ai.response.id"))
    prompt = attributes.get("prompt_id") or attributes.get("qwen-code.prompt_id")
    return "\0".join(("response", session, response) if response else ("call", session, str(prompt)))


def _qwen_prompt(session: str, prompt: str) -> str:
    """Return the prompt of a record: what the CLI does by itself after one (``/automatic/3``) belongs to it."""
    return prompt.partition("/")[0]


def _is_qwen_aside(attributes: Mapping[str, Any]) -> bool:
    """Return whether a record is of a sub-agent, or of calls that the CLI makes for itself."""
    prompt, session = attributes.get("prompt_id") or attributes.get("qwen-code.prompt_id"), attributes.get("session.id")
    return type(prompt) is str and type(session) is str and not prompt.startswith(f"{session}########")


QWEN_CLI = Cli(
    name="qwen-code",
    agent="Qwen Code",
    heads=("qwen-code",),
    scopes=("qwen-code",),
    events={
        "config": SessionPart.SESSION_BEGAN,
        "user_prompt": SessionPart.PROMPT,
        "api_response": SessionPart.CALL,
        "api_error": SessionPart.CALL_FAILED,
        "tool_call": SessionPart.TOOL,
        "chat_compression": SessionPart.COMPACTION,
        "subagent_execution": SessionPart.SUBAGENT,
        "session.end": SessionPart.PROMPT_ENDED,
        "slash_command": SessionPart.SESSION_ENDED,
    },
    only={
        "slash_command": _LEAVES,
        "subagent_execution": ("status", {"completed": SessionPart.SUBAGENT, "failed": SessionPart.SUBAGENT}),
        "qwen-code.interaction": (
            "qwen-code.message_type",
            {"userQuery": SessionPart.PROMPT, "*": SessionPart.PROMPT_ENDED},
        ),
    },
    spans={
        "qwen-code.interaction": SessionPart.PROMPT,
        "qwen-code.llm_request": SessionPart.CALL,
        "qwen-code.tool": SessionPart.TOOL,
    },
    span_scopes=("qwen-code",),
    meters={"qwen-code.token.usage": TokenMeter.TOKENS, "qwen-code.session.count": TokenMeter.SESSION},
    sorts={"input": "input", "output": "output", "cache": "cache_read"},
    fields={
        "session": ("session.id", "gen_ai.conversation.id"),
        "prompt": ("prompt_id", "qwen-code.prompt_id"),
        "length": ("prompt_length",),
        "request": ("response_id", "gen_ai.response.id"),
        "model": ("model", "gen_ai.response.model", "gen_ai.request.model"),
        "input": ("input_token_count", "gen_ai.usage.input_tokens"),
        "output": ("output_token_count", "gen_ai.usage.output_tokens"),
        "cache_read": ("cached_content_token_count", "gen_ai.usage.cache_read.input_tokens"),
        "reasoning": ("thoughts_token_count",),
        "duration_ms": ("duration_ms",),
        "status_code": ("status_code",),
        "error_type": ("error_type", "error.type"),
        "error_message": ("error_message", "error"),
        "tool_name": ("function_name", "gen_ai.tool.name"),
        "tool_call_id": ("call_id", "gen_ai.tool.call.id"),
        "success": ("success",),
        "decision": ("decision", "tool.failure_kind"),
        "before": ("tokens_before",),
        "after": ("tokens_after",),
        "subagent": ("subagent_name",),
    },
    attended=("interactive_shell_enabled", "true"),
    prompt_of=_qwen_prompt,
    refuses_by="user",
    is_quiet=_is_qwen_aside,
    call_key=_qwen_call,
)


def _is_opencode_aside(attributes: Mapping[str, Any]) -> bool:
    """Return whether a call is for the session's title: it offers no tools."""
    return attributes.get("ai.operationId") == "ai.streamText.doStream" and not attributes.get("ai.prompt.tools")


#: opencode 1.18 with ``experimental.openTelemetry``: the Vercel AI SDK's spans, each with the session, among a thousand
#: others. A run without a terminal ends before its last spans are sent.
OPENCODE_CLI = Cli(
    name="opencode",
    agent="opencode",
    spans={"ai.streamText.doStream": SessionPart.CALL, "ai.toolCall": SessionPart.TOOL},
    span_scopes=("opencode",),
    fields={
        "session": ("session.id", "ai.telemetry.metadata.sessionId"),
        "request": ("gen_ai.response.id", "ai.response.id"),
        "model": ("gen_ai.response.model", "gen_ai.request.model"),
        "input": ("gen_ai.usage.input_tokens",),
        "output": ("gen_ai.usage.output_tokens",),
        "cache_read": ("ai.usage.cachedInputTokens",),
        "reasoning": ("ai.usage.reasoningTokens",),
        "finish": ("ai.response.finishReason",),
        "tool_name": ("ai.toolCall.name",),
        "tool_call_id": ("ai.toolCall.id",),
    },
    rests_after_answers=True,
    is_quiet=_is_opencode_aside,
)


def _is_codex_title(attributes: Mapping[str, Any]) -> bool:
    """Return whether a conversation begins that the terminal's interface has for a title: without servers of tools."""
    if attributes.get("originator") != "codex-tui" or attributes.get("sandbox_policy") != "read-only":
        return False
    return attributes.get("mcp_servers") == "" or str(attributes.get("mcp_server_count")) == "0"


CODEX_CLI = Cli(
    name="codex-cli",
    agent="Codex",
    heads=("codex",),
    scopes=("codex_otel.log_only",),
    event_name="event.name",
    events={
        "conversation_starts": SessionPart.BESIDE,
        "user_prompt": SessionPart.PROMPT,
        "api_request": SessionPart.CALL_FAILED,
        "sse_event": SessionPart.CALL,
        "websocket_event": SessionPart.CALL,
        "tool_decision": SessionPart.DECISION,
        "tool_result": SessionPart.TOOL,
        "turn_profile": SessionPart.PROMPT_ENDED,
    },
    only={
        "api_request": ("http.response.status_code", {"200": None, "*": SessionPart.CALL_FAILED}),
        **dict.fromkeys(
            ("sse_event", "websocket_event"),
            (
                "event.kind",
                {
                    "response.completed": SessionPart.CALL,
                    "response.function_call_arguments.done": SessionPart.CALLS_TOOL,
                    "response.custom_tool_call_input.done": SessionPart.CALLS_TOOL,
                },
            ),
        ),
    },
    spans={"session_task.turn": SessionPart.TURN},
    span_scopes=("codex_exec", "codex-app-server", "codex_cli_rs", "codex-tui"),
    fields={
        "session": ("conversation.id", "thread.id"),
        "length": ("prompt_length",),
        "model": ("model", "slug"),
        "input": ("input_token_count", "codex.turn.token_usage.input_tokens"),
        "output": ("output_token_count", "codex.turn.token_usage.output_tokens"),
        "cache_read": ("cached_token_count", "codex.turn.token_usage.cached_input_tokens"),
        "cache_write": ("cache_write_token_count", "codex.turn.token_usage.cache_write_input_tokens"),
        "reasoning": ("reasoning_token_count", "codex.turn.token_usage.reasoning_output_tokens"),
        "duration_ms": ("duration_ms",),
        "status_code": ("http.response.status_code",),
        "error_type": ("error.type",),
        "error_message": ("error.message",),
        "tool_name": ("tool_name", "tool"),
        "tool_call_id": ("call_id",),
        "success": ("success",),
        "decision": ("decision",),
        "decided_by": ("source",),
    },
    unattended=("originator", "codex_exec"),
    rests_after_calls=True,
    is_beside=_is_codex_title,
)


def _dialect(cli: Cli, source: str, *cannot_tell: str) -> Dialect:
    return Dialect(
        name=cli.name,
        source=source,
        cannot_tell=cannot_tell,
        scopes=cli.span_scopes,
        reads=partial(read_session_span, cli),
    )


def _name_copilot(span: ReadSpan) -> None:
    if span.role.is_root_span and "agent" not in span.inner:  # without a name the conventions take it for a workflow
        span.role, span.inner["agent"] = Role.AGENT, "Copilot"


#: Spans of the GenAI conventions, whose main agent has no name.
COPILOT = Dialect(
    name="copilot-cli",
    source="GitHub Copilot CLI 1.0.102",
    cannot_tell=("that prompts are of one session at a terminal: each is a task",),
    scopes=("github.copilot",),
    refine=_name_copilot,
)
CODEX = _dialect(
    CODEX_CLI,
    "Codex CLI 0.169.0",
    "the session of a data point",
    "single model calls in spans: only the sum of a turn, and nothing of one that was broken off",
    "the parent of a sub-agent: a task of its own",
)
GEMINI = _dialect(
    GEMINI_CLI,
    "Gemini CLI 0.61.0",
    "in spans: the output, cached tokens and tools of a call",
    "in records alone: that a prompt at a terminal is answered",
)
OPENCODE = _dialect(
    OPENCODE_CLI,
    "opencode 1.18.33",
    "prompts, the end of a session, and whether there is a person at the terminal",
    "the last calls of a run without a terminal: it does not wait for its exporter",
)
QWEN = _dialect(
    QWEN_CLI,
    "Qwen Code 0.24.4",
    "in spans: whether there is a person at the terminal",
    "the session of a data point, without a setting",
)
