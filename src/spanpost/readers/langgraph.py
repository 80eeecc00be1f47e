"""LangGraph as Traceloop's langchain instrumentation 0.62.4 tells it: an agent within a graph is told by two
spans side by side.

``invoke_agent X`` is empty, and ``execute_task X`` beside it holds what X did. At the top of a run the
former holds the latter.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan


def _refine(span: ReadSpan) -> None:
    if span.role is Role.AGENT and span.rule == "gen_ai.operation.name" and span.observation.parent_id:
        span.role, span.rule = Role.PLUMBING, "langgraph by traceloop: told by execute_task beside it"


LANGGRAPH_TRACELOOP = Dialect(
    name="langgraph by traceloop",
    scopes=("opentelemetry.instrumentation.langchain",),
    source="opentelemetry-instrumentation-langchain 0.62.4",
    cannot_tell=(
        "ids of tool calls",
        "the activity of an agent within a graph on its own span: the task span beside it has it",
    ),
    refine=_refine,
)
