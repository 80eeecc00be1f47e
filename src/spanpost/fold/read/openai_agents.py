"""OpenAI Agents SDK 0.24, as five instrumentations tell it.

None of them says that a run waits for a person: the tool that needs approval is told at once, without a result, and the resumed
run begins with the same tool and the same arguments. No tool call has an id; tool, arguments and service stand for one.
"""

from __future__ import annotations

from hashlib import blake2b

from spanpost.domain.observations import Part, Status
from spanpost.domain.readings import Role
from spanpost.fold.read.dialect import Dialect, Look

_TOOL = Role.TOOL
_ARGUMENTS = ("gen_ai.tool.call.arguments", "input.value", "traceloop.entity.input")


def _refine(look: Look) -> None:
    if look.role is not _TOOL:
        return
    o, a = look.observation, look.attributes
    # Written for every tool that gave something, where content is captured at all.
    if (
        "gen_ai.tool.call.arguments" in a
        and "gen_ai.tool.call.result" not in a
        and o.part is Part.ENDED
        and o.status is not Status.ERROR
    ):
        look.said["has_no_result"] = True
    if "tool_call_id" not in look.said:
        given = next((a[name] for name in _ARGUMENTS if type(a.get(name)) is str), None)
        if given is not None:
            whose = f"{o.origin.resource.get('service.name')}\0{look.said.get('tool_name') or o.name}\0{given}"
            look.said["tool_call_id"] = "like:" + blake2b(whose.encode("utf-8", "replace"), digest_size=12).hexdigest()


OPENAI_AGENTS = Dialect(
    name="openai-agents",
    scopes=(
        "opentelemetry.instrumentation.genai.openai_agents",
        "opentelemetry.instrumentation.openai_agents",
        "openinference.instrumentation.openai_agents",
        "logfire.openai_agents",
    ),
    refine=_refine,
)
