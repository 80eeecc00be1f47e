"""LangGraph with Traceloop's langchain instrumentation 0.62.4: an agent in a graph has two sibling spans.

``invoke_agent X`` is empty, and its sibling ``execute_task X`` holds X's work. At the top of a run the
former is the parent of the latter.
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
