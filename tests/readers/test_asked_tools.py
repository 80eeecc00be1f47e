"""The ids of tool calls that a model's answer asks for, and that its input answers, in each form of the messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanpost.model.readings import Finish
from spanpost.readers.asked_tools import read_tools

OPENINFERENCE, TRACELOOP = "llm.output_messages.0.message.tool_calls", "gen_ai.completion.0.tool_calls"


@pytest.mark.parametrize(
    ("attributes", "ids"),
    [
        pytest.param(
            {"gen_ai.output.messages": json.dumps([{"parts": [{"type": "tool_call", "id": "c1", "name": "t"}] * 2}])},
            ("c1",),
            id="parts",
        ),
        pytest.param(
            {"output.value": json.dumps([{"type": "function_call", "id": "fc", "call_id": "c1", "name": "t"}])},
            ("c1",),
            id="items",
        ),
        pytest.param(
            {"gen_ai.completion": json.dumps([{"type": "function", "id": "c1", "function": {"name": "t"}}])},
            ("c1",),
            id="functions",
        ),
        pytest.param(
            {f"{OPENINFERENCE}.0.tool_call.function.name": "t", f"{OPENINFERENCE}.0.tool_call.id": "c1"},
            ("c1",),
            id="OpenInference",
        ),
        pytest.param({f"{TRACELOOP}.0.name": "t", f"{TRACELOOP}.0.id": "c1"}, ("c1",), id="Traceloop"),
        pytest.param({f"{TRACELOOP}.0.name": "final_answer", f"{TRACELOOP}.0.id": "c1"}, None, id="an answer"),
        pytest.param({f"{TRACELOOP}.0.name": "t", f"{TRACELOOP}.0.id": "c 1"}, None, id="no id"),
    ],
)
def test_the_ids_of_the_tool_calls_that_are_asked_for(attributes: dict[str, Any], ids: tuple[str, ...] | None) -> None:
    """An answer that asks for tools gives their calls' ids, each once; one that only answers gives none."""
    said: dict[str, Any] = {}
    read_tools(said, Finish.TOOLS, attributes)
    assert said.get("asked_ids") == ids


@pytest.mark.parametrize(
    ("messages", "ids"),
    [
        pytest.param([{"role": "user"}], None, id="none"),
        pytest.param([{"role": "user"}, {"role": "tool", "tool_call_id": "c1"}], ("c1",), id="one"),
        pytest.param([{"role": "user"}, *({"role": "tool", "tool_call_id": id} for id in "ab")], ("b", "a"), id="two"),
        pytest.param([{"role": "tool", "tool_call_id": "c1"}, {"role": "user"}], None, id="an earlier turn's"),
    ],
)
def test_the_ids_of_the_tool_results_that_end_an_input(
    messages: list[dict[str, str]], ids: tuple[str, ...] | None
) -> None:
    """The results after the last other message are what a call answers; those of earlier turns are history."""
    for head in ("llm.input_messages.{}.message.", "gen_ai.prompt.{}."):
        said: dict[str, Any] = {}
        read_tools(said, None, {head.format(n) + k: v for n, one in enumerate(messages) for k, v in one.items()})
        assert said == ({"answered_ids": ids} if ids else {})
