"""AgentScope: it speaks ``gen_ai.*``, and names on the agent the tools that wait for somebody's permission."""

from __future__ import annotations

from spanpost.fold.read import values as v
from spanpost.fold.read.dialect import Dialect, Look

_PENDING = "agentscope.agent.hitl_pending_tools"


def _refine(look: Look) -> None:
    pending = v.text(look.attributes.get(_PENDING))
    if pending is not None and pending not in ("[]", "null") and look.role.is_box:
        look.said["is_interrupt"] = True


AGENTSCOPE = Dialect(
    name="agentscope",
    source="agentscope 2.0.10, its TracingMiddleware",
    cannot_tell=("that a tool failed: what it gave says so in words alone", "what kind of error it was"),
    scopes=("agentscope",),
    marks=frozenset({_PENDING}),
    refine=_refine,
)
