"""Traceloop (OpenLLMetry): ``traceloop.span.kind``, as opentelemetry-semantic-conventions-ai 0.5.1 has it.

Its workflow and task spans also say ``gen_ai.operation.name = invoke_agent``; the kind must be asked first.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan
from spanpost.readers.values import name, name_of_span

#: Bound once: an enum's members are looked up slowly (0.2 µs each in CPython 3.11).
_STEP = Role.STEP
_TOOL = Role.TOOL
_AGENT = Role.AGENT
_WORKFLOW = Role.WORKFLOW

_AGENT_OF = "traceloop.association.properties.lc_agent_name"


def _refine(span: ReadSpan) -> None:
    if span.rule != "traceloop.span.kind":
        return
    given = span.attributes.get("traceloop.entity.name")
    entity = name_of_span(given) if type(given) is str else None
    label = name(span.attributes.get(_AGENT_OF))
    if span.role is _AGENT and entity is not None:
        span.inner.setdefault("agent", entity)
    elif span.role is _WORKFLOW and entity is not None:
        span.inner.setdefault("workflow", entity)
    elif span.role is _TOOL and entity is not None:
        span.said.setdefault("tool_name", entity)
    elif span.role is _STEP and "tool_name" in span.said:
        span.role, span.rule = _TOOL, "traceloop: task with a tool's name"
    elif span.role is _STEP and label is not None:
        if label == entity:
            span.role, span.rule = _AGENT, _AGENT_OF
        span.inner["agent"] = label


TRACELOOP = Dialect(
    name="traceloop",
    source="opentelemetry-semantic-conventions-ai 0.5.1",
    cannot_tell=("the target of a handoff", "ids of tool calls", "tokens of streams without usage"),
    kind="traceloop.span.kind",
    roles={"workflow": Role.WORKFLOW, "agent": Role.AGENT, "tool": Role.TOOL, "task": Role.STEP},
    fields={
        "workflow": ("traceloop.workflow.name",),
        "conversation_id": (
            "traceloop.association.properties.thread_id",
            "traceloop.association.properties.session_id",
        ),
    },
    refine=_refine,
)
