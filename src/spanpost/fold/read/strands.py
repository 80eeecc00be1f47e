"""strands-agents 1.62: ``gen_ai.*`` with old and new names; a tool that was interrupted has no ``gen_ai.tool.status``."""

from __future__ import annotations

from spanpost.domain.observations import Part, Status
from spanpost.domain.readings import Role
from spanpost.fold.read.dialect import Dialect, Look


def _refine(look: Look) -> None:
    o = look.observation
    if look.role is Role.TOOL and o.part is Part.ENDED and o.status is not Status.ERROR:
        if "gen_ai.tool.status" not in look.attributes:
            look.said["has_no_result"] = True
    elif look.role is Role.LLM and "model_asked" not in look.inner:
        model = look.attributes.get("model_id")
        if type(model) is str:
            look.inner["model_asked"] = model


STRANDS = Dialect(name="strands", scopes=("strands.",), refine=_refine)
