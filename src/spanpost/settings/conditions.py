"""Conditions on tasks, the same in routes, budgets and launch rules."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from spanpost.routing.matching import Match
from spanpost.settings.section import Section


def _is_something(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not value or (not isinstance(value, str) and any(not one for one in value)):
        raise ValueError("matches nothing: give a word to match, or leave it out")
    return value


#: A word or a list of words; ``*`` stands for anything.
Words: TypeAlias = Annotated[str | tuple[str, ...], AfterValidator(_is_something)]


class ConditionSettings(Section, Match):
    """Conditions on a task. A condition is a word, or a list of words of which one must match; `*` matches
    any text. A condition that is not given matches every task.
    """

    tenant: Words | None = Field(default=None, description="Matches tasks of this tenant.")
    agent: Words | None = Field(default=None, description="Matches tasks of the agent with this name.")
    topic: Words | None = Field(default=None, description="Matches tasks with this `agent.topic`.")
    environment: Words | None = Field(default=None, description="Matches tasks of this `deployment.environment.name`.")
    service: Words | None = Field(default=None, description="Matches tasks of this `service.name`.")
    repo: Words | None = Field(default=None, description="Matches tasks with this `agent.repo`.")
    attributes: dict[str, Words] = Field(
        default={},
        description='Matches tasks with these attributes of their spans or their resource: `{"team.name" = '
        '"payments"}`. '
        "Attributes that are named here are kept with the task, 200 characters of each; no others are kept.",
    )
