"""A dialect for a framework with names of its own, and one call read by it, without recording anything."""

from __future__ import annotations

from spanpost.model.observations import Observation, Origin, Part
from spanpost.model.readings import Role
from spanpost.readers import try_out
from spanpost.readers.dialect import Dialect

ACME = Dialect(
    name="acme",
    source="acme-agents 3.1",
    scopes=("acme.agents",),
    kind="acme.kind",
    roles={"run": Role.AGENT, "llm": Role.LLM, "tool": Role.TOOL},
    otherwise=Role.STEP,
    fields={
        "agent": ("acme.agent",),
        "model_answered": ("acme.model",),
        "input": ("acme.usage.in",),
        "output": ("acme.usage.out",),
        "tool_name": ("acme.tool.name",),
    },
)

SPANS = [
    {"acme.kind": "run", "acme.agent": "librarian"},
    {"acme.kind": "llm", "acme.model": "gpt-4o", "acme.usage.in": 120, "acme.usage.out": 8},
    {"acme.kind": "tool", "acme.tool.name": "search"},
]

if __name__ == "__main__":
    for number, attributes in enumerate(SPANS, 1):
        span = Observation(
            part=Part.ENDED,
            trace_id=bytes(15) + b"1",
            span_id=number.to_bytes(8, "big"),
            origin=Origin(scope="acme.agents"),
            attributes=attributes,
        )
        read = try_out(ACME, span)
        said = [read.agent_name, read.model, read.tool_name]
        used = f"{read.usage.input} in, {read.usage.output} out" if read.usage else ""
        print(" ".join(str(one) for one in (read.role.name.lower(), *filter(None, said), used) if one))
