"""Microsoft Agent Framework 1.23: workflows have names of their own; agents, model and tool calls use
``gen_ai.*``.

``invoke_agent`` repeats the ``gen_ai.usage.*`` of its calls as a total. With the Responses API
``gen_ai.conversation.id`` holds a response id, which is not used as a conversation.
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
