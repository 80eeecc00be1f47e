"""LangSmith's OpenTelemetry export, langsmith 0.14.17: ``langsmith.span.kind`` and ``langsmith.metadata.*``."""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.langchain import refine_by_agent

_PARTS = frozenset({"prompt", "retriever", "embedding", "parser"})


def _refine(span: ReadSpan) -> None:
    span.is_leaf = span.attributes.get("langsmith.span.kind") in _PARTS
    refine_by_agent(span, span.attributes.get("langsmith.metadata.lc_agent_name"), "langsmith.metadata.lc_agent_name")


LANGSMITH = Dialect(
    name="langsmith",
    source="langsmith[otel] 0.14.17",
    cannot_tell=(
        "a failed run by its status: its exception shows it",
        "roots that were queued when the process ended",
    ),
    kind="langsmith.span.kind",
    roles={"llm": Role.LLM, "tool": Role.TOOL, "chain": Role.STEP},
    otherwise=Role.STEP,
    fields={
        "conversation_id": ("langsmith.metadata.thread_id", "langsmith.metadata.session_id"),
        "used": ("langsmith.metadata.usage_metadata",),
    },
    refine=_refine,
)
