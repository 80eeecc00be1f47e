"""Langfuse's SDK:

``langfuse.observation.type``; usage is JSON, whose `input` excludes the cached tokens listed beside it.
"""

from __future__ import annotations

from spanpost.model.readings import Failure, Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.langchain import refine_by_agent
from spanpost.readers.values import doing, identifier, name_of_span, text

_USAGE = "langfuse.observation.usage_details"
_LEAVES = frozenset({"event", "embedding", "retriever", "evaluator", "guardrail"})


def _refine(span: ReadSpan) -> None:
    if span.rule != "langfuse.observation.type":
        return
    a, said, inner = span.attributes, span.said, span.inner
    if a.get("langfuse.observation.type") in _LEAVES:
        span.is_leaf = True
    refine_by_agent(span, a.get("langfuse.observation.metadata.lc_agent_name"), "langfuse: lc_agent_name")
    if span.role is Role.AGENT and "agent" not in inner:
        found = name_of_span(span.observation.name)
        if found is not None:
            inner["agent"] = found
    elif span.role is Role.TOOL:
        found = doing(span.observation.name)
        if found is not None:
            said.setdefault("tool_name", found)
        call = identifier(a.get("langfuse.observation.metadata.tool_call_id"))
        if call is not None:
            said.setdefault("tool_call_id", call.strip('"'))
    elif span.role is Role.LLM:
        usage = a.get(_USAGE)
        # Kinds of input listed separately, which `input` excludes.
        span.excludes_cache = type(usage) is str and '"input_cache' in usage
        if type(usage) is str and '"output_reasoning' in usage and "output" in inner:
            inner["output"] += inner.get("reasoning", 0)
    if a.get("langfuse.observation.level") == "ERROR":
        message = text(a.get("langfuse.observation.status_message"))
        said.setdefault("failure", Failure(message=message or span.observation.status_message))


LANGFUSE = Dialect(
    name="langfuse",
    source="langfuse 4 (Python), its callback for LangChain and its OpenAI client",
    cannot_tell=("the finish reason", "the type of an error"),
    kind="langfuse.observation.type",
    roles={
        "agent": Role.AGENT,
        "generation": Role.LLM,
        "tool": Role.TOOL,
        "chain": Role.STEP,
        "span": Role.STEP,
    },
    otherwise=Role.STEP,
    fields={
        "conversation_id": ("langfuse.session.id",),
        "model_answered": ("langfuse.observation.model.name",),
        "used": (_USAGE,),
    },
    refine=_refine,
)
