"""Claude Code (CLI 2.1.329): beta traces, and logs alone.

Spans say ``span.type``; tokens are un-prefixed and `input_tokens` leaves out what came from and went to the cache. A
session's prompts are one task, known by ``session.id``. Without beta traces there are log records without trace ids: the
prompt, its model calls and its tools are then given ids made of session, prompt and sequence, so that they fold as spans.
With traces the same records carry a trace id, and the spans alone are counted.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from spanpost.domain.observations import Observation
from spanpost.domain.readings import Failure, Reading, Role
from spanpost.domain.usage import Usage
from spanpost.fold.read import values as v
from spanpost.fold.read.dialect import Dialect, Look

AGENT_NAME = "Claude Code"
EVENTS_SCOPE = "com.anthropic.claude_code.events"


def _refine(look: Look) -> None:
    attributes, said, inner = look.attributes, look.said, look.inner
    session = v.identifier(attributes.get("session.id"))
    if session is not None:
        said.setdefault("task_id", session)
    kind = look.attributes.get("span.type")
    if kind == "interaction":
        inner.setdefault("agent", AGENT_NAME)
        said["is_session"] = attributes.get("terminal.type") != "non-interactive"
    elif kind == "llm_request":
        look.excludes_cache = True
    elif kind == "tool.execution":
        # Where a tool's failure is told. Nameless: it is the call above it, not another.
        said.pop("tool_name", None)
    elif kind == "tool.blocked_on_user":
        look.is_leaf = True
    if v.truth(attributes.get("success")) is False:
        said["failure"] = _failure(attributes)
    agent = v.name(attributes.get("agent_id"))
    if agent is not None and kind != "interaction":
        inner["agent"] = agent


def _failure(attributes: dict[str, Any] | Any) -> Failure:
    kind = v.text(attributes.get("error_class")) or v.text(attributes.get("error.type")) or v.text(attributes.get("error_type"))
    return Failure(type=kind or "", message=v.text(attributes.get("error")) or "")


CLAUDE_CODE = Dialect(
    name="claude-code",
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


def read_record(o: Observation) -> Reading | None:
    """Return what one of Claude Code's log records means; None for what is said by spans or means nothing here."""
    a = o.attributes
    session = v.identifier(a.get("session.id"))
    if session is None or o.span_id:
        return None
    name, prompt = o.name.removeprefix("claude_code."), v.identifier(a.get("prompt.id")) or ""
    trace = _hash(16, "session", session)
    box = _hash(8, "prompt", session, prompt)
    if name in ("user_prompt", "assistant_response"):
        is_open = name == "user_prompt"
        return Reading(
            role=Role.AGENT,
            rule="claude-code: log records",
            task_id=session,
            conversation_id=session,
            agent_name=AGENT_NAME,
            service=v.text(o.origin.resource.get("service.name")),
            is_session=a.get("terminal.type") != "non-interactive",
            stands_for=(trace, box, b"", o.at_ns if is_open else 0),
            is_open=is_open,
        )
    if name not in ("api_request", "api_error", "tool_result"):
        return None
    duration = v.count(a.get("duration_ms")) or 0
    number = v.text(a.get("event.sequence")) or str(o.index)
    failure = _failure(a) if name == "api_error" or v.truth(a.get("success")) is False else None
    span = _hash(8, name, session, prompt, v.text(a.get("tool_use_id")) or number)
    common: dict[str, Any] = {
        "rule": "claude-code: log records",
        "task_id": session,
        "conversation_id": session,
        "failure": failure,
        "stands_for": (trace, span, box, max(o.at_ns - duration * 1_000_000, 0)),
    }
    if name == "tool_result":
        tool, call = v.text(a.get("tool_name")), v.identifier(a.get("tool_use_id"))
        return Reading(role=Role.TOOL, tool_name=tool, tool_call_id=call, **common)
    return Reading(role=Role.LLM, model=v.text(a.get("model")), usage=_usage(a) if name == "api_request" else None, **common)


def _usage(a: dict[str, Any]) -> Usage | None:
    said, read, write = v.count(a.get("input_tokens")), v.count(a.get("cache_read_tokens")), v.count(a.get("cache_creation_tokens"))
    usage = Usage(
        input=None if said is None else said + (read or 0) + (write or 0),
        output=v.count(a.get("output_tokens")),
        cache_read=read,
        cache_write=write,
        cost_usd=v.money(a.get("cost_usd")),
    )
    return usage if usage.is_known or usage.cost_usd is not None else None


def _hash(size: int, *parts: str) -> bytes:
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=size, person=b"claude-code").digest()
