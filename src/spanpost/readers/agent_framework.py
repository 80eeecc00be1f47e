"""Microsoft Agent Framework 1.23: workflows have names of their own; agents, model and tool calls use
``gen_ai.*``.

``invoke_agent`` repeats the ``gen_ai.usage.*`` of its calls as a total. With the Responses API
``gen_ai.conversation.id`` holds a response id, which is not used as a conversation.
"""

from __future__ import annotations

from typing import Final

from spanpost.model.readings import Finish, Role
from spanpost.readers.dialect import Dialect, ReadSpan

#: Head of the tools by which an agent of a `HandoffBuilder` hands over.
_HANDOFF: Final = '"name": "handoff_to_'


def _refine(span: ReadSpan) -> None:
    name, attributes = span.observation.name, span.attributes
    if "gen_ai.operation.name" in attributes:
        tools = attributes.get("gen_ai.tool.definitions")
        has_ended_on_tools = span.role is Role.AGENT and span.inner.get("finish") is Finish.TOOLS
        if has_ended_on_tools and type(tools) is str and _HANDOFF in tools:
            span.inner.pop("finish")  # its workflow takes the call of such a tool, and no span says so
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
        "the words of an error, unless sensitive data is enabled: its type alone",
    ),
    scopes=("agent_framework",),
    fields={"workflow": ("workflow.name",)},
    refine=_refine,
)
