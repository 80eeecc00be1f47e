"""Logfire's own instrumentations of model clients: a streamed answer is a second span, a *log*, that
completes the call.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect, ReadSpan


def _refine(span: ReadSpan) -> None:
    if span.role is Role.LLM and span.attributes.get("logfire.span_type") == "log":
        span.said["is_same_call"] = True


LOGFIRE = Dialect(
    name="logfire",
    source="logfire 5.4: instrument_openai, instrument_anthropic",
    cannot_tell=("an agent", "the call that a streamed answer belongs to"),
    scopes=("logfire",),
    refine=_refine,
)
