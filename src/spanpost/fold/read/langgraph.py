"""LangGraph as Traceloop's langchain instrumentation 0.62.4 tells it: an agent within a graph is told by two spans side by side.

``invoke_agent X`` is empty, and ``execute_task X`` beside it holds what X did. At the top of a run the former holds the latter.
"""

from __future__ import annotations

from spanpost.domain.readings import Role
from spanpost.fold.read.dialect import Dialect, Look


def _refine(look: Look) -> None:
    if look.role is Role.AGENT and look.rule == "gen_ai.operation.name" and look.observation.parent_id:
        look.role, look.rule = Role.PLUMBING, "langgraph by traceloop: told by execute_task beside it"


LANGGRAPH_TRACELOOP = Dialect(
    name="langgraph by traceloop",
    scopes=("opentelemetry.instrumentation.langchain",),
    source="opentelemetry-instrumentation-langchain 0.62.4",
    cannot_tell=("ids of tool calls", "an agent within a graph, by its own span: the task beside it holds what it did"),
    refine=_refine,
)
