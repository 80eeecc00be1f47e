"""Genkit: ``genkit:type`` and the subtype of an action; a model's usage is in the JSON of its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from spanpost.model.readings import Finish, Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.used import used
from spanpost.readers.values import finish, identifier, name, text

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
#: The message of tools in a model's input, other messages, and the id of a result.
_OF_TOOLS = '{"role":"tool",'
_OF_OTHERS = re.compile(r'\{"role":"(?:user|model|system)"')
_RESULT = re.compile(r'"toolResponse":\{[^{}]{0,400}?"ref":"([^"\\]{1,200})"')
#: Characters of that message that are searched.
_GLANCE = 65536


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
            asked = _asked_tools(output)
            if asked is not None:
                inner["finish"] = Finish.TOOLS
                span.said["asked_ids"] = _ids(asked)
        given = a.get("genkit:input")
        if type(given) is str and (answered := _ids(_answered(given))):
            span.said["answered_ids"] = answered


def _asked_tools(output: str) -> list[Any] | None:
    """Return the ids of the tool calls that an answer asks for, not the request with what was asked before.

    None: it asks for none.
    """
    if _ASKS.search(output) is None:
        return None
    try:
        document = msgspec.json.decode(output)
    except (ValueError, RecursionError):
        return [] if _ASKS.search(output.partition('"request"')[0]) is not None else None
    answer = document.get("message") if isinstance(document, dict) else None
    if answer is None and isinstance(document, dict) and isinstance(choices := document.get("candidates"), list):
        answer = choices[0].get("message") if choices and isinstance(choices[0], dict) else None  # before 1.0
    parts = answer.get("content") if isinstance(answer, dict) else None
    asked = [part.get("toolRequest") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [one.get("ref") if isinstance(one, dict) else None for one in asked if one] or None


def _answered(given: str) -> list[str]:
    """Return the ids of the tool results that are the last message of an input."""
    _, mark, last = given.rpartition(_OF_TOOLS)
    return _RESULT.findall(last[:_GLANCE]) if mark and _OF_OTHERS.search(last) is None else []


def _ids(found: Iterable[Any]) -> tuple[str, ...]:
    """Return the ids that differ between runs: a place in an answer does not."""
    known = dict.fromkeys(map(identifier, found))
    return tuple(one for one in known if one is not None and len(one) > 3 and len(one.split()) == 1)[:16]


GENKIT = Dialect(
    name="genkit",
    source="genkit 1.42 (JavaScript)",
    cannot_tell=(
        "an agent's name",
        "ids of tool calls in their spans: the messages of model calls have them",
        "tokens and the finish reason, if the output is redacted",
    ),
    kind="genkit:type",
    otherwise=Role.STEP,
    fields={"conversation_id": ("genkit:metadata:sessionId", "genkit:sessionId", "genkit:metadata:threadName")},
    weak=frozenset({"genkit:metadata:sessionId", "genkit:sessionId", "genkit:metadata:threadName"}),
    refine=_refine,
)
