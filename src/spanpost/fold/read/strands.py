"""strands-agents 1.62: ``gen_ai.*`` with old and new names; a tool that was interrupted has no ``gen_ai.tool.status``."""

from __future__ import annotations

from spanpost.domain.observations import Part, Status
from spanpost.domain.readings import Role
from spanpost.fold.read.dialect import Dialect, Look

#: Bound once: an enum's members are looked up slowly (0.2 µs each in CPython 3.11).
_LLM = Role.LLM
_TOOL = Role.TOOL
_STATUS_ERROR = Status.ERROR
_PART_ENDED = Part.ENDED


def _refine(look: Look) -> None:
    o = look.observation
    if look.role is _TOOL and o.part is _PART_ENDED and o.status is not _STATUS_ERROR:
        if "gen_ai.tool.status" not in look.attributes:
            look.said["has_no_result"] = True
    elif look.role is _LLM and "model_asked" not in look.inner:
        model = look.attributes.get("model_id")
        if type(model) is str:
            look.inner["model_asked"] = model


STRANDS = Dialect(
    name="strands",
    source="strands-agents 1.62",
    cannot_tell=(
        "a conversation, unless `session.id` is set",
        "what one run used, by its agent's span: it holds the agent's lifetime; calls are counted",
    ),
    scopes=("strands.",),
    has_lifetime_totals=True,
    refine=_refine,
)
