"""Spring AI:

``spring.ai.kind`` for all spans but model calls, which use ``gen_ai.*`` with all values as text
(Micrometer).
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect

SPRING_AI = Dialect(
    name="spring-ai",
    source="Spring AI 1.1, its reference on observability (2026-10)",
    cannot_tell=("an agent's name", "ids of tool calls", "tokens from the cache"),
    kind="spring.ai.kind",
    roles={"chat_client": Role.WORKFLOW, "tool_call": Role.TOOL, "advisor": Role.STEP, "vector_store": Role.STEP},
    otherwise=Role.STEP,
    fields={
        "tool_name": ("spring.ai.tool.definition.name",),
        "conversation_id": ("spring.ai.chat.client.conversation.id",),
    },
)
