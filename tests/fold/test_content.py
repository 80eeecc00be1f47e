"""Which attributes hold content, by their names."""

from __future__ import annotations

import pytest

from spanpost.fold.content import is_content


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("model_request_parameters", True),
        ("llm.output_messages.0.message.reasoning_content", True),
        ("gen_ai.response.model", False),
        ("gen_ai.response.finish_reasons", False),
        ("gen_ai.usage.output_tokens", False),
        ("llm.model_name", False),
    ],
)
def test_names_that_only_look_like_figures_hold_content(name: str, holds: bool) -> None:
    """A model's name is a figure; its parameters and its reasoning are content."""
    assert is_content(name) is holds
