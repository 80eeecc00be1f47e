"""Two recordings of a framework are compared."""

from __future__ import annotations

from tests.recorders.compare import changes
from tests.tasks.recorded_runs import COMMITTED


def test_what_changed_is_named() -> None:
    """Equal telemetry has no difference; other sorts of spans, attributes and readings are each a line."""
    assert not list(changes(COMMITTED / "adk-go-1", COMMITTED / "adk-go"))
    found = list(changes(COMMITTED / "adk-go", COMMITTED / "adk-java"))
    assert "+ ok: ended gcp.vertex.agent call_llm is llm" in found
    assert "- ok: ended gcp.vertex.agent execute_tool get_weather has gen_ai.tool.call.id (str)" in found
    assert "+ ok: ended gcp.vertex.agent execute_tool get_weather has gen_ai.tool_call.id (str)" in found
    assert not [line for line in found if " ok: task " in line]
