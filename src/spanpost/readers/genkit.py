"""Genkit: ``genkit:type`` and the subtype of an action; a model's usage is in the JSON of its answer."""

from __future__ import annotations

import re

import msgspec

from spanpost.model.readings import Finish, Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.used import used
from spanpost.readers.values import finish, name, text

_SUBTYPES = {
    "model": Role.LLM,
    "background-model": Role.LLM,
    "tool": Role.TOOL,
    "tool.v2": Role.TOOL,
    "flow": Role.WORKFLOW,
    "agent": Role.AGENT,
}
_LEAVES = frozenset({"embedder", "indexer", "retriever", "reranker", "evaluator", "prompt", "resource"})
_USAGE = re.compile(r'"usage": ?(\{[^{}]{2,1000}\})')
_FINISH = re.compile(r'"finishReason": ?"([^"\\]{1,40})"')
_ASKS = re.compile(r'"toolRequest": ?\{')


def _refine(span: ReadSpan) -> None:
    if span.rule != "genkit:type":
        return
    a, said, inner = span.attributes, span.said, span.inner
    subtype = a.get("genkit:metadata:subtype")
    role = _SUBTYPES.get(subtype) if type(subtype) is str else None
    if role is not None:
        span.role, span.rule = role, "genkit:metadata:subtype"
    span.is_leaf = subtype in _LEAVES
    called = name(a.get("genkit:name"))
    if span.role is Role.WORKFLOW and called is not None:
        inner.setdefault("workflow", called)
    elif span.role is Role.AGENT and called is not None:
        inner.setdefault("agent", called)
    elif span.role is Role.TOOL and called is not None:
        said.setdefault("tool_name", called)
    elif span.role is Role.LLM:
        model = text(a.get("genkit:name"))
        if model is not None:
            inner.setdefault("model_asked", model)
        output = a.get("genkit:output")
        if type(output) is str:
            found = _USAGE.findall(output[-65536:])
            for field, count in (used(found[-1]) or {}).items() if found else ():
                inner.setdefault(field, count)
            why = _FINISH.search(output)
            if why is not None:
                inner.setdefault("finish", finish(why.group(1)))
            if _asks_for_tool(output):
                inner["finish"] = Finish.TOOLS


def _asks_for_tool(output: str) -> bool:
    """Tell whether the answer asks for a tool: its message, not the request with what was asked before."""
    if _ASKS.search(output) is None:
        return False
    try:
        document = msgspec.json.decode(output)
    except (ValueError, RecursionError):
        return _ASKS.search(output.partition('"request"')[0]) is not None
    answer = document.get("message") if isinstance(document, dict) else None
    if answer is None and isinstance(document, dict) and isinstance(choices := document.get("candidates"), list):
        answer = choices[0].get("message") if choices and isinstance(choices[0], dict) else None  # before 1.0
    parts = answer.get("content") if isinstance(answer, dict) else None
    return isinstance(parts, list) and any(isinstance(part, dict) and part.get("toolRequest") for part in parts)


GENKIT = Dialect(
    name="genkit",
    source="genkit 1.42 (JavaScript)",
    cannot_tell=(
        "an agent's name",
        "ids of tool calls; a run that is resumed in another trace is a task of its own, in JavaScript",
        "tokens and the finish reason, if the output is redacted",
    ),
    kind="genkit:type",
    otherwise=Role.STEP,
    fields={"conversation_id": ("genkit:metadata:sessionId", "genkit:sessionId", "genkit:metadata:threadName")},
    weak=frozenset({"genkit:metadata:sessionId", "genkit:sessionId", "genkit:metadata:threadName"}),
    refine=_refine,
)
