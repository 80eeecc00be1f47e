"""MLflow's tracing: ``mlflow.spanType``; every value is JSON, text in its quotes."""

from __future__ import annotations

from typing import Any

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.values import conversation, doing, name_of_span, text


def _unquoted(value: Any) -> str | None:
    found = text(value)
    return found.strip('"') or None if found is not None else None


def _refine(span: ReadSpan) -> None:
    if span.rule != "mlflow.spanType":
        return
    span.rule = "mlflow.spanType"
    a, inner, said = span.attributes, span.inner, span.said
    if span.role is Role.LLM:
        model = _unquoted(a.get("mlflow.llm.model")) or _unquoted(a.get("model"))
        if model is not None:
            inner.setdefault("model_answered", model)
    elif span.role is Role.AGENT:
        found = name_of_span(span.observation.name)
        if found is not None:
            inner.setdefault("agent", found)
    elif span.role is Role.TOOL:
        found = doing(span.observation.name)
        if found is not None:
            said.setdefault("tool_name", found)
    session = conversation(_unquoted(a.get("mlflow.trace.session")))
    if session is not None:
        said.setdefault("conversation_id", session)


_ROLES = {
    "AGENT": Role.AGENT,
    "LLM": Role.LLM,
    "CHAT_MODEL": Role.LLM,
    "TOOL": Role.TOOL,
    "CHAIN": Role.STEP,
    "WORKFLOW": Role.WORKFLOW,
    "TASK": Role.STEP,
}

MLFLOW = Dialect(
    name="mlflow",
    source="mlflow 3.17",
    cannot_tell=("ids of tool calls", "the finish reason", "an agent's name, except as its span's name"),
    kind="mlflow.spanType",
    roles={**{f'"{word}"': role for word, role in _ROLES.items()}, **_ROLES},
    fields={"used": ("mlflow.chat.tokenUsage",)},
    marks=frozenset({"mlflow.llm.model", "mlflow.trace.session"}),
    refine=_refine,
)
