"""AgentScope uses ``gen_ai.*``; the agent's span names the tools that wait for permission."""

from __future__ import annotations

from spanpost.readers import values as v
from spanpost.readers.dialect import Dialect, ReadSpan

_PENDING = "agentscope.agent.hitl_pending_tools"


def _refine(span: ReadSpan) -> None:
    pending = v.text(span.attributes.get(_PENDING))
    if pending is not None and pending not in ("[]", "null") and span.role.is_root_span:
        span.said["is_interrupt"] = True


AGENTSCOPE = Dialect(
    name="agentscope",
    source="agentscope 2.0.10, its TracingMiddleware",
    cannot_tell=("the failure of a tool: only the text of its result says it", "the type of an error"),
    scopes=("agentscope",),
    marks=frozenset({_PENDING}),
    refine=_refine,
)
