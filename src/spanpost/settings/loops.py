"""Settings of the section `loops`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spanpost.settings.section import Section
from spanpost.tasks.loops import LoopRules

Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class LoopSettings(Section, LoopRules):
    """When an agent counts as repeating itself. The newest 64 tool calls of an agent run are looked at."""

    enabled: bool = Field(default=True, description="False: loops are not looked for.")
    same_call: int = Field(
        default=LoopRules.same_call,
        ge=3,
        le=32,
        description="One call with the same arguments, so many times without anything new between. Six times as many "
        "where results are not captured.",
    )
    same_outcome: int = Field(
        default=LoopRules.same_outcome,
        ge=3,
        le=32,
        description="One tool with the same error, or the same long result, whatever its arguments.",
    )
    rounds: int = Field(
        default=LoopRules.rounds,
        ge=3,
        le=16,
        description="Rounds of two to four calls in turn. Twice as many where results are not captured.",
    )
    calls: int = Field(
        default=LoopRules.calls, ge=10, le=48, description="Calls that were all made before, while the context grows."
    )
    patient_tools: tuple[Pattern, ...] = Field(
        default=LoopRules.patient_tools,
        max_length=200,
        description="Tools that wait or step by their nature, by their names in lower case; `*` stands for any text.",
    )
    patient_calls: int = Field(
        default=LoopRules.patient_calls, ge=3, le=60, description="Equal calls that those tools may make."
    )
    ignore_agents: tuple[Pattern, ...] = Field(
        default=(), description="Agents that are not judged, by name; `*` stands for any text."
    )
    ignore_types: tuple[Pattern, ...] = Field(
        default=(), description="Types of tasks (`agent.task.type`) that are not judged."
    )
