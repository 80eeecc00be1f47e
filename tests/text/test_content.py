"""Which attributes hold content, by their names."""

from __future__ import annotations

import pytest

from spanpost.testing.observed import ended
from spanpost.text.content import is_content, without_content


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("model_request_parameters", True),
        ("llm.output_messages.0.message.reasoning_content", True),
        ("gen_ai.response.model", False),
        ("gen_ai.response.finish_reasons", False),
        ("gen_ai.usage.output_tokens", False),
        ("llm.model_name", False),
        ("mlflow.spanInputs", True),
        ("genkit:output", True),
        ("smolagents.task", True),
        ("ai.usage.inputTokens", False),
        ("crew_task_name", False),
    ],
)
def test_names_that_only_look_like_figures_hold_content(name: str, holds: bool) -> None:
    """A model's name is a figure; its parameters and its reasoning are content."""
    assert is_content(name) is holds


def test_a_long_document_is_content_whatever_its_name() -> None:
    """JSON in an attribute of any name is removed as content; a short one, a figure and our names stay."""
    document = '{"said": "' + "word " * 60 + '"}'
    kept = without_content(
        ended(
            trace=1,
            span=1,
            name="step",
            attributes={
                "vendor.tracing": document,
                "vendor.flags": '{"a": 1}',
                "llm.token_details": document,
                "agent.link.x": document,
            },
        )
    )
    assert kept.attributes == {
        "vendor.tracing": f"[content not kept: {len(document)} characters]",
        "vendor.flags": '{"a": 1}',
        "llm.token_details": document,
        "agent.link.x": document,
    }
