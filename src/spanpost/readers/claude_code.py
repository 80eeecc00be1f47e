"""Claude Code (CLI 2.1.329; https://code.claude.com/docs/en/monitoring-usage, 2026-11): beta traces, records
and data points.

Spans have ``span.type``; token names have no prefix, and `input_tokens` excludes tokens read from and
written to the cache. A session's prompts are one task, known by ``session.id``. Without beta traces there
are log records without trace ids, joined by ``session.id`` and ``prompt.id``. With traces the records lie
in the prompt's span and report two facts that no span has: the start of a prompt, at once, and the cost of
a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanpost.model.observations import Part
from spanpost.model.readings import Failure, Role
from spanpost.readers import values as v
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.session_records import Cli, SessionPart, TokenMeter
from spanpost.readers.sessions import approval_of, failure_key, prompt
from spanpost.text.wording import worded

_PART_ENDED = Part.ENDED
#: Names of the tool that runs a sub-agent: the current one and the former one.
_DELEGATES = frozenset({"Agent", "Task"})
AGENT_NAME = "Claude Code"
_REQUEST = ("request_id", "client_request_id")
_USED = ("model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens", "status_code")


def call_key(session: str, attributes: Mapping[str, Any]) -> str:
    """Return the key of a model call, the same in its span and its record: the request's id, else its
    usage.

    Calls of one session with equal usage are distinguished by their time.
    """
    for name in _REQUEST:
        found = v.identifier(attributes.get(name))
        if found is not None:
            return f"request\0{found}"
    return "\0".join(("call", session, *(str(attributes.get(name, "")) for name in _USED)))


def _refine(span: ReadSpan) -> None:
    attributes, said, inner = span.attributes, span.said, span.inner
    session = v.identifier(attributes.get("session.id"))
    if session is not None:
        said.setdefault("task_id", session)
    kind = span.attributes.get("span.type")
    has_failed = v.truth(attributes.get("success")) is False
    if kind == "interaction":
        inner.setdefault("agent", AGENT_NAME)
        said["is_session"] = attributes.get("terminal.type") != "non-interactive"
        length = v.count(attributes.get("user_prompt_length"))
        said["step_name"], said["step_message"] = worded(prompt(length))
        said["step_key"] = span.observation.span_id.hex()
        repo = v.text(attributes.get("vcs.repository.name"))
        if repo is not None:
            said.setdefault("repo", repo)
    elif kind == "llm_request":
        span.excludes_cache = True
        inner.pop("finish", None)  # a tool may end before the call that asks for it, and a wait has a span of its own
        if session is not None:
            said["call_key"] = call_key(session, attributes)
        source = attributes.get("query_source_safe") or attributes.get("query_source")
        said["is_aside"] = CLAUDE_CODE_CLI.is_aside(source)
        if source == CLAUDE_CODE_CLI.unattended_source:
            said["is_unattended"] = True
        if has_failed:
            said["occurrence"] = failure_key(
                session or "", next(filter(None, (v.identifier(attributes.get(n)) for n in _REQUEST)), None)
            )
    elif kind == "tool":
        call = said.get("tool_call_id")
        if call is not None and session is not None:
            said["call_key"] = f"tool\0{session}\0{call}"
        if said.get("tool_name") in _DELEGATES or "subagent_type" in attributes:
            # The call of a sub-agent is its run: a task of its own, below the session's.
            span.role, span.rule = Role.AGENT, "span.type: tool that runs a sub-agent"
            said.pop("task_id", None)
            said.pop("tool_name", None)
    elif kind == "tool.execution":
        # The span of a tool's failure: it belongs to the call above it.
        said.pop("tool_name", None)
        said["is_same_call"] = True
        if has_failed:
            said["occurrence"] = failure_key(session or "", said.get("tool_call_id"))
    elif kind == "tool.blocked_on_user":
        span.is_leaf = True
        decision = v.text(attributes.get("decision"))
        if decision is not None and span.observation.part is _PART_ENDED:
            source = v.text(attributes.get("source")) or ""
            said.update(approval_of(span.observation.span_id.hex(), decision == "accept", source, ""))
    if has_failed:
        said["failure"] = _failure(attributes)
    agent = v.name(attributes.get("agent_id"))
    if span.role is Role.AGENT and kind == "tool":
        inner["agent"] = v.name(attributes.get("subagent_type")) or "Sub-agent"
    elif agent is not None and kind != "interaction":
        inner["agent"] = agent


def _failure(attributes: dict[str, Any] | Any) -> Failure:
    kind = (
        v.text(attributes.get("error_class"))
        or v.text(attributes.get("error.type"))
        or v.text(attributes.get("error_type"))
    )
    return Failure(type=kind or "", message=v.text(attributes.get("error")) or "")


CLAUDE_CODE = Dialect(
    name="claude-code",
    source="Claude Code CLI 2.1.329",
    cannot_tell=(
        "the failure of a run on its root: the status is never set",
        "a maximum of turns, or a program that stopped it (the Agent SDK's `maxTurns` and `abortController`)",
    ),
    scopes=("com.anthropic.claude_code",),
    kind="span.type",
    roles={
        "interaction": Role.AGENT,
        "llm_request": Role.LLM,
        "tool": Role.TOOL,
        "tool.execution": Role.TOOL,
        "tool.blocked_on_user": Role.STEP,
    },
    otherwise=Role.STEP,
    fields={
        "conversation_id": ("session.id",),
        "model_answered": ("model",),
        "finish": ("stop_reason",),
        "tool_name": ("tool_name",),
        "tool_call_id": ("tool_use_id",),
        "input": ("input_tokens",),
        "output": ("output_tokens",),
        "cache_read": ("cache_read_tokens",),
        "cache_write": ("cache_creation_tokens",),
        "cost": ("cost_usd",),
        "error_type": ("error_class",),
        "error_message": ("error",),
    },
    refine=_refine,
)

CLAUDE_CODE_CLI = Cli(
    name="claude-code",
    agent=AGENT_NAME,
    scopes=("com.anthropic.claude_code.events", "com.anthropic.claude_code"),
    heads=("claude_code",),
    events={
        "user_prompt": SessionPart.PROMPT,
        "api_request": SessionPart.CALL,
        "api_error": SessionPart.CALL_FAILED,
        "api_retries_exhausted": SessionPart.GAVE_UP,
        "tool_decision": SessionPart.DECISION,
        "tool_result": SessionPart.TOOL,
        "assistant_response": SessionPart.ANSWER,
        "compaction": SessionPart.COMPACTION,
        "subagent_completed": SessionPart.SUBAGENT,
        "hook_execution_start": SessionPart.HOOK,
    },
    meters={
        "claude_code.token.usage": TokenMeter.TOKENS,
        "claude_code.cost.usage": TokenMeter.COST,
        "claude_code.session.count": TokenMeter.SESSION,
        "claude_code.active_time.total": TokenMeter.WORKED,
    },
    fields={
        "session": ("session.id",),
        "prompt": ("prompt.id",),
        "sequence": ("event.sequence",),
        "command": ("command_name",),
        "length": ("prompt_length",),
        "repo": ("vcs.repository.name",),
        "model": ("model",),
        "input": ("input_tokens",),
        "output": ("output_tokens",),
        "cache_read": ("cache_read_tokens",),
        "cache_write": ("cache_creation_tokens",),
        "cost": ("cost_usd",),
        "request": _REQUEST,
        "duration_ms": ("duration_ms",),
        "status_code": ("status_code",),
        "error_type": ("error_class", "error.type", "error_type"),
        "error_message": ("error",),
        "agent": ("agent.name",),
        "source": ("query_source",),
        "tool_name": ("tool_name",),
        "tool_call_id": ("tool_use_id",),
        "success": ("success",),
        "decision": ("decision",),
        "decided_by": ("source",),
        "before": ("pre_tokens",),
        "after": ("post_tokens",),
        "subagent": ("agent_type",),
        "tools": ("total_tool_uses",),
        "hook": ("hook_event",),
        "hook_name": ("hook_name",),
    },
    sorts={"input": "input", "output": "output", "cacheRead": "cache_read", "cacheCreation": "cache_write"},
    excludes_cache=True,
    unattended=("terminal.type", "non-interactive"),
    unattended_source="sdk",
    main=("repl_main_thread", "sdk", "main"),
    is_traced=True,
    call_key=call_key,
)
