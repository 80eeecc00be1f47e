"""Spring AI:

``spring.ai.kind`` for all spans but model calls, which use ``gen_ai.*`` with all values as text
(Micrometer), and "none" for a value that is not known.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect

SPRING_AI = Dialect(
    name="spring-ai",
    source="Spring AI 2.0.1",
    cannot_tell=(
        "an agent's name",
        "a tool's failure: the model is given its words, and the span ends well",
        "tokens from the cache of streamed answers",
        "that a `SafeGuardAdvisor` stopped a run: its span ends well",
    ),
    kind="spring.ai.kind",
    roles={"chat_client": Role.WORKFLOW, "tool_call": Role.TOOL, "advisor": Role.STEP, "vector_store": Role.STEP},
    otherwise=Role.STEP,
    fields={
        "tool_name": ("spring.ai.tool.definition.name",),
        "tool_call_id": ("spring.ai.tool.call.id",),
        "conversation_id": ("spring.ai.chat.client.conversation.id",),
    },
)
