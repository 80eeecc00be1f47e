"""strands-agents 1.62:

``gen_ai.*`` with old and new names; a tool that was interrupted has no ``gen_ai.tool.status``.
"""

from __future__ import annotations

from spanpost.model.observations import Part, Status
from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan

#: Bound once: an enum's members are looked up slowly (0.2 µs each in CPython 3.11).
_LLM = Role.LLM
_TOOL = Role.TOOL
_STATUS_ERROR = Status.ERROR
_PART_ENDED = Part.ENDED


def _refine(span: ReadSpan) -> None:
    o = span.observation
    if span.role is _TOOL and o.part is _PART_ENDED and o.status is not _STATUS_ERROR:
        if "gen_ai.tool.status" not in span.attributes:
            span.said["has_no_result"] = True
    elif span.role is _LLM and "model_asked" not in span.inner:
        model = span.attributes.get("model_id")
        if type(model) is str:
            span.inner["model_asked"] = model


STRANDS = Dialect(
    name="strands",
    source="strands-agents 1.62",
    cannot_tell=(
        "a conversation, unless `session.id` is set",
        "the usage of one run on its agent's span: that has the agent's lifetime; calls are counted",
    ),
    scopes=("strands.",),
    has_lifetime_totals=True,
    refine=_refine,
)
