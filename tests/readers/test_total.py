"""`read` is total: it returns a reading for any attributes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.model.readings import Reading
from spanpost.readers import read
from spanpost.readers.events import _EVENTS
from spanpost.readers.known_dialects import DIALECTS
from tests.thorough import thorough

KEYS = sorted(
    {a for d in DIALECTS for names in d.fields.values() for a in names}
    | {d.kind for d in DIALECTS if d.kind}
    | {
        "metadata",
        "output.value",
        "graph.node.id",
        "success",
        "agent_id",
        "agent.link.x",
        "agent.result.x",
        "agent.open_roots",
    }
    | {
        "agent.approval.options",
        "agent.artifact.uri",
        "exception.type",
        "exception.message",
        "event.sequence",
        "mcp.method.name",
    }
)
WORDS = sorted(
    {word for d in DIALECTS for word in d.roles} | {"interrupt", "resp_1", "NaN", "-1", "1e999", '{"lc_agent_name": "a'}
)
SCOPES = [
    "",
    "pydantic-ai",
    "strands.telemetry.tracer",
    "com.anthropic.claude_code.tracing",
    "com.anthropic.claude_code.events",
]
SCOPES += ["openinference.instrumentation.openai_agents", "openinference.instrumentation.langchain"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=8)
    | st.sampled_from(WORDS)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
names = st.text(max_size=20) | st.sampled_from(
    [*_EVENTS, "claude_code.api_request", "api_error", "user_prompt", "tool_result", "agent run"]
)


@st.composite
def anything(draw: st.DrawFn) -> Observation:
    return Observation(
        part=draw(st.sampled_from(Part)),
        trace_id=b"t" * 16,
        span_id=draw(st.sampled_from([b"", b"s" * 8])),
        parent_id=draw(st.sampled_from([b"", b"p" * 8])),
        name=draw(names),
        status=draw(st.sampled_from(Status)),
        status_message=draw(st.text(max_size=30)),
        attributes=draw(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=12), values, max_size=10)),
        origin=Origin(
            scope=draw(st.sampled_from(SCOPES)),
            resource=draw(st.dictionaries(st.sampled_from(KEYS), values, max_size=3)),
        ),
        body=draw(values),
    )


@pytest.mark.slow
@pytest.mark.proves("one-bad-span", "changing-types")
@thorough(300)
@given(anything())
def test_read_answers_whatever_the_attributes_hold(observation: Observation) -> None:
    """Any attributes give a reading of the declared types, and the same one on a repeat."""
    reading = read(observation)
    assert reading == read(observation)
    types: dict[str, Any] = msgspec.to_builtins(reading, builtin_types=(bytes,))
    types["stands_for"] = reading.stands_for
    types["open_roots"] = reading.open_roots
    assert msgspec.convert(types, Reading, strict=False, builtin_types=(bytes,)).role is reading.role
    if reading.progress is not None:
        assert 0 <= reading.progress <= 100
    for usage in (reading.usage, reading.aggregate):
        if usage is not None:
            figures = (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning)
            assert all(type(figure) is int and figure >= 0 for figure in figures if figure is not None)


@pytest.mark.slow
@thorough(300)
@given(anything())
def test_no_rule_raises(observation: Observation) -> None:
    """The guard of `read` hides no error of ours: no rule raises on values that a receiver accepts."""
    from spanpost import readers as rules
    from spanpost.text.repair import mend, mend_value

    mended = msgspec.structs.replace(
        observation,
        attributes=mend(observation.attributes)[0],
        body=mend_value(observation.body)[0],
        origin=Origin(scope=observation.origin.scope, resource=mend(observation.origin.resource)[0]),
    )
    if mended.part <= Part.STARTED:
        tables = rules._tables_for(mended.origin.scope)
        rules._read_span(mended, tables, rules.plan_for(tables, mended.attributes))
    elif mended.part is not Part.LINK:
        rules.read_event(mended)
