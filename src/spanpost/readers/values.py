"""Conversions of attribute values: each function returns None for an unusable value, and none raises."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from spanpost import semconv as c
from spanpost.model.readings import Finish

_LINE = 512
_INT64 = 2**63 - 1


def text(value: Any) -> str | None:
    """Return a text that is not blank; a number becomes its text."""
    if type(value) is str:
        if value and len(value) <= _LINE:
            return value if not value.isspace() else None
        return value[:_LINE] or None
    return str(value) if type(value) is int or type(value) is float else None


def long_text(value: Any) -> str | None:
    """Return text of any length."""
    return value or None if type(value) is str else None


def identifier(value: Any) -> str | None:
    """Return an id of at most 256 bytes, for index rows; a longer one is cut and completed by a hash."""
    if type(value) is str and 0 < len(value) <= 64 and value.isascii() and not value.isspace():
        return value  # as good as all are
    found = text(value)
    if found is None or (len(found) <= 64 and found.isascii()):
        return found
    raw = value.encode("utf-8", "replace")
    if len(raw) <= 256:
        return found
    return str(raw[:220].decode("utf-8", "ignore") + "#" + blake2b(raw, digest_size=16).hexdigest())


def count(value: Any) -> int | None:
    """Return a number of tokens or steps: not negative, no fraction, inside 64 bits."""
    if type(value) is int:
        return value if 0 <= value <= _INT64 else None
    if type(value) is str:
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None
    if type(value) is float and 0 <= value < _INT64 and value.is_integer():
        return int(value)
    return None


def number(value: Any) -> float | None:
    """Return a finite number, from text too."""
    if type(value) is int or type(value) is float:
        try:
            found = float(value)
        except OverflowError:
            return None
    elif type(value) is str:
        try:
            found = float(value.rstrip("% "))
        except ValueError:
            return None
    else:
        return None
    return found if found - found == 0.0 else None


def percent(value: Any) -> float | None:
    """Return percent done, held between 0 and 100."""
    found = number(value)
    return None if found is None else min(max(found, 0.0), 100.0)


def money(value: Any) -> Decimal | None:
    """Return dollars, exact as written, not negative."""
    found = number(value)
    if found is None or not 0 <= found < 1e12:
        return None
    try:
        return Decimal(str(value).strip())
    except InvalidOperation:
        return None


def truth(value: Any) -> bool | None:
    """Return a boolean, from its text too (Claude Code's logs say "true")."""
    if type(value) is bool:
        return value
    if type(value) is str:
        return {"true": True, "false": False}.get(value.lower())
    return None


#: Other names of the nine statuses: A2A, MCP, and common words.
_STATUSES = {
    **{s: s for s in c.STATUSES},
    "submitted": c.STARTING,
    "started": c.STARTING,
    "queued": c.STARTING,
    "pending": c.STARTING,
    "running": c.WORKING,
    "in_progress": c.WORKING,
    "active": c.WORKING,
    "input_required": c.WAITING,
    "auth_required": c.WAITING,
    "blocked": c.WAITING,
    "failed": c.ERROR,
    "failure": c.ERROR,
    "errored": c.ERROR,
    "rejected": c.ERROR,
    "completed": c.COMPLETE,
    "done": c.COMPLETE,
    "success": c.COMPLETE,
    "succeeded": c.COMPLETE,
    "finished": c.COMPLETE,
    "canceled": c.CANCELLED,
    "aborted": c.CANCELLED,
    "stopped": c.CANCELLED,
}


def status(value: Any) -> str | None:
    """Return one of the nine statuses, from its synonyms too."""
    if type(value) is not str or len(value) > 40:
        return None
    found = _STATUSES.get(value)
    return found if found is not None else _STATUSES.get(value.strip().lower().replace("-", "_").replace(" ", "_"))


_FINISHES = {
    "stop": Finish.STOP,
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "completed": Finish.STOP,
    "complete": Finish.STOP,
    "tool_call": Finish.TOOLS,
    "tool_calls": Finish.TOOLS,
    "tool_use": Finish.TOOLS,
    "function_call": Finish.TOOLS,
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "max_output_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,
    "content_filter": Finish.FILTER,
    "content_filtered": Finish.FILTER,
    "safety": Finish.FILTER,
    "blocklist": Finish.FILTER,
    "prohibited_content": Finish.FILTER,
    "spii": Finish.FILTER,
    "refusal": Finish.REFUSAL,
    "refused": Finish.REFUSAL,
    "guardrail_intervened": Finish.GUARDRAIL,
    "max_steps": Finish.STEPS,
    "max_turns": Finish.STEPS,
    "max_iterations": Finish.STEPS,
    "error_max_turns": Finish.STEPS,
    "limit_turns": Finish.STEPS,
    "error": Finish.ERROR,
}


def finish(value: Any) -> Finish | None:
    """Return why a model stopped; a list is read for its strongest word, because each choice has one."""
    if type(value) is list or type(value) is tuple:
        if len(value) == 1:
            return finish(value[0]) if type(value[0]) is str else None
        found = [f for f in map(finish, value[:16]) if f is not None]
        return Finish.TOOLS if Finish.TOOLS in found else found[0] if found else None
    if type(value) is not str or len(value) > 200:
        return None
    known = _FINISHES.get(value)
    if known is None:
        # "FinishReason.TOOL_CALLS", '["tool_calls"]', "STOP", "tool-calls"
        word = value.strip("[]\"' ").rpartition(".")[2].lower().replace("-", "_")
        known = _FINISHES.get(word)
    return known


_ID = re.compile(
    r"[-_. ]?\b(?:[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{16,})\b"
    r"|_[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}"
)
_VERB = re.compile(
    r"^(?:invoke_agent|invoke_workflow|invoke_swarm|invoke_graph|agent run:?|create_agent)\s+", re.IGNORECASE
)
_TAIL = re.compile(r"(?:\._execute_core|\.kickoff|\.workflow|\.agent|\.run|\.a?forward|\.acall|\.__call__)$")
#: Constants that instrumentations write where they do not know the name (opentelemetry openai-agents-v2
#: 0.1.0 among them).
_NO_NAMES = frozenset(
    {"openai agent", "agent", "unknown", "none", "null", "default", "n/a", "invoke_agent", "invoke_workflow"}
    # names that frameworks give to an unnamed run
    | {"agent workflow", "agent run", "langgraph", "runnablesequence", "spring_ai chat_client"}
)


def name(value: Any) -> str | None:
    """Return a name that a person reads: without ids, no template, no placeholder, one line of at most 80
    characters.
    """
    return _name(value) if type(value) is str and len(value) <= 400 else None


@lru_cache(maxsize=4096)
def _name(value: str) -> str | None:
    if "{" in value:
        return None
    if not value.isascii() or not value.isidentifier() or len(value) > 24:
        value = " ".join(_ID.sub("", value).split())
    if not value or value.lower() in _NO_NAMES:
        return None
    return str(value) if len(value) <= 80 else value[:79] + "…"


def agent_id(value: Any) -> str | None:
    """Return an agent's id, unless it is a constant."""
    return _agent_id(value) if type(value) is str and len(value) <= 64 else _agent_id.__wrapped__(value)


@lru_cache(maxsize=1024)
def _agent_id(value: Any) -> str | None:
    found = identifier(value)
    return None if found is None or found.lower() in _NO_NAMES else found


def name_of_span(span_name: str) -> str | None:
    """Return the name within a span's name: "invoke_agent planner", "crew.kickoff"."""
    return _name_of_span(span_name[:400])


@lru_cache(maxsize=4096)
def _name_of_span(span_name: str) -> str | None:
    return _name(_TAIL.sub("", _VERB.sub("", span_name)))


#: Names of a framework's classes and operations: they say how a run is made, not which one it is.
_FRAMEWORK_NAMES = frozenset(
    {
        "AgentExecutor",
        "AgentWorkflow",
        "CodeAct",
        "CodeActAgent",
        "FunctionAgent",
        "LangGraph",
        "ReAct",
        "ReActAgent",
        "RunnableSequence",
        "invoke_graph",
        "invoke_swarm",
    }
)


def is_of_framework(title: str | None) -> bool:
    """Tell whether a name is that of a framework's class or operation."""
    return title in _FRAMEWORK_NAMES


_DOING = re.compile(
    r"^(?:(?:execute_tool|execute_task|running tools?:?|tools/call|tool_call|chat)\s+|Tool\.)", re.IGNORECASE
)
_DONE_BY = re.compile(r"\.(?:run|tool|task|chat|_execute_core|kickoff|a?forward|acall|__call__)$")


#: Spans of an agent's machinery, whatever the agent does.
_WHEELS = re.compile(
    r"(?:agent|graph|model|tools?|turn|step|loop|cycle|iteration|running tools?|\w+_cycle|\w+Loop)(?: ?\d+)?",
    re.IGNORECASE,
)


def doing(span_name: str) -> str | None:
    """Return the action of a span that has only a name: "tools/call search", "search.run"."""
    return _doing(span_name[:400])


@lru_cache(maxsize=4096)
def _doing(span_name: str) -> str | None:
    found = _name(_DONE_BY.sub("", _DOING.sub("", span_name)))
    return None if found is None or _WHEELS.fullmatch(found) else found


def conversation(value: Any) -> str | None:
    """Return a conversation id; a response id in its place (MS agent-framework) changes at every call and is none."""
    return _conversation(value) if type(value) is str and len(value) <= 64 else _conversation.__wrapped__(value)


@lru_cache(maxsize=1024)
def _conversation(value: Any) -> str | None:
    found = identifier(value)
    return None if found is None or found.startswith("resp_") or found.lower() in _NO_NAMES else found


def response(value: Any) -> str | None:
    """Return the provider's id of a response; a request id differs in every copy."""
    found = identifier(value)
    return None if found is None or found.startswith("req_") else found
