"""LangSmith's OpenTelemetry export, langsmith 0.14.17: ``langsmith.span.kind`` and ``langsmith.metadata.*``."""

from __future__ import annotations

from spanpost.domain.readings import Role
from spanpost.fold.read.dialect import Dialect, Look
from spanpost.fold.read.values import name


def _refine(look: Look) -> None:
    agent = look.attributes.get("langsmith.metadata.lc_agent_name")
    clean = name(agent)
    if clean is None:
        return
    look.inner.setdefault("agent", clean)
    if look.role is Role.STEP and look.observation.name == agent:
        look.role, look.rule = Role.AGENT, "langsmith.metadata.lc_agent_name"


LANGSMITH = Dialect(
    name="langsmith",
    source="langsmith[otel] 0.14.17",
    cannot_tell=("a failed run by its status: its exception says it", "roots that were in its queue when the process ended"),
    kind="langsmith.span.kind",
    roles={"llm": Role.LLM, "tool": Role.TOOL, "chain": Role.STEP},
    fields={"conversation_id": ("langsmith.metadata.thread_id", "langsmith.metadata.session_id")},
    refine=_refine,
)
