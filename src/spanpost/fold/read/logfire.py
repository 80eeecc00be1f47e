"""Logfire's own instrumentations of model clients: a streamed answer is a second span, a *log*, that ends what the call began."""

from __future__ import annotations

from spanpost.domain.readings import Role
from spanpost.fold.read.dialect import Dialect, Look


def _refine(look: Look) -> None:
    if look.role is Role.LLM and look.attributes.get("logfire.span_type") == "log":
        look.said["is_same_call"] = True


LOGFIRE = Dialect(
    name="logfire",
    source="logfire 5.4: instrument_openai, instrument_anthropic",
    cannot_tell=("an agent", "which call a streamed answer belongs to"),
    scopes=("logfire",),
    refine=_refine,
)
