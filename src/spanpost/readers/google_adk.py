"""Google's Agent Development Kit, in Python and Go: a tool that must be confirmed has a span like any other.

Its result says so, where content is captured. Without results a run that ends on a tool, with no model turn after
it, may wait for a person: the kit asks the model after every other tool, but for those that end a run.
"""

from __future__ import annotations

from spanpost.model.observations import Part, Status
from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan

_TOOL, _ENDED, _ERROR = Role.TOOL, Part.ENDED, Status.ERROR


def _refine(span: ReadSpan) -> None:
    o, a = span.observation, span.attributes
    if (
        span.role is _TOOL
        and o.part is _ENDED
        and o.status is not _ERROR
        and "gen_ai.tool.call.result" not in a
        and a.get("gcp.vertex.agent.tool_response") in (None, "", "{}", "<not specified>")
    ):
        span.said["may_wait"] = True


GOOGLE_ADK = Dialect(
    name="google-adk",
    source="google-adk 2.13.0",
    cannot_tell=(
        "a wait for a confirmation, where tool results are not captured: it is concluded from a tool that no model "
        "turn follows",
    ),
    scopes=("gcp.vertex.agent",),
    refine=_refine,
)
