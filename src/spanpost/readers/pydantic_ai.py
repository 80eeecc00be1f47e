"""pydantic-ai before format 3 (1.0.0, and 2.x with ``version=2``): old span names, no operation on agents
and tools.

Its ``agent run`` spans repeat the ``gen_ai.usage.*`` of their calls as totals.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan

_NAMES = {"agent run": Role.AGENT, "running tools": Role.STEP, "running tool": Role.TOOL}


def _refine(span: ReadSpan) -> None:
    role = _NAMES.get(span.observation.name)
    if role is not None and "gen_ai.operation.name" not in span.attributes:
        span.role, span.rule = role, "pydantic-ai: span name"


PYDANTIC_AI = Dialect(
    name="pydantic-ai",
    source="pydantic-ai 1.0.0 and 2.x in format 2",
    cannot_tell=(
        "a conversation",
        "tokens from the cache",
        "a wait for a person: it is concluded from an open tool call",
    ),
    scopes=("pydantic-ai",),
    fields={"agent": ("agent_name",), "model_asked": ("model_name",)},
    refine=_refine,
)
