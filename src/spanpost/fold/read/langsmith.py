"""LangSmith's OpenTelemetry export, langsmith 0.14.17: ``langsmith.span.kind`` and ``langsmith.metadata.*``."""

from __future__ import annotations

from spanpost.domain.readings import Role
from spanpost.fold.read.dialect import Dialect, Look
from spanpost.fold.read.langchain import refine_by_agent

_PARTS = frozenset({"prompt", "retriever", "embedding", "parser"})


def _refine(look: Look) -> None:
    look.is_leaf = look.attributes.get("langsmith.span.kind") in _PARTS
    refine_by_agent(look, look.attributes.get("langsmith.metadata.lc_agent_name"), "langsmith.metadata.lc_agent_name")


LANGSMITH = Dialect(
    name="langsmith",
    source="langsmith[otel] 0.14.17",
    cannot_tell=("a failed run by its status: its exception says it", "roots that were in its queue when the process ended"),
    kind="langsmith.span.kind",
    roles={"llm": Role.LLM, "tool": Role.TOOL, "chain": Role.STEP},
    otherwise=Role.STEP,
    fields={
        "conversation_id": ("langsmith.metadata.thread_id", "langsmith.metadata.session_id"),
        "used": ("langsmith.metadata.usage_metadata",),
    },
    refine=_refine,
)
