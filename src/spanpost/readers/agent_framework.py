"""Microsoft Agent Framework 1.23: workflows have names of their own; agents, model and tool calls speak
``gen_ai.*``.

``invoke_agent`` carries the same ``gen_ai.usage.*`` as its calls: as a box, it is a total. Over the
Responses API a response id stands in ``gen_ai.conversation.id``; it is not taken for one.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan


def _refine(span: ReadSpan) -> None:
    name = span.observation.name
    if "gen_ai.operation.name" in span.attributes:
        return
    if name.startswith("workflow.run"):
        span.role, span.rule = Role.WORKFLOW, "agent-framework: workflow.run"
    elif name.startswith("executor.process"):
        span.role, span.rule = Role.STEP, "agent-framework: executor.process"


AGENT_FRAMEWORK = Dialect(
    name="agent-framework",
    source="agent-framework 1.23.0",
    cannot_tell=(
        "a conversation, with chat completions",
        "a wait for a person: it is concluded from an open tool call",
    ),
    scopes=("agent_framework",),
    fields={"workflow": ("workflow.name",)},
    refine=_refine,
)
