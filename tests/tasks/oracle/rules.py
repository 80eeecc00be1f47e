"""The input and the result of the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from spanpost.model.checkpoints import Checkpoint
from spanpost.model.context import Forecast
from spanpost.model.tasks import Task

#: A model call as a forecast looks at it: its end, its start (ns) and the tokens that it was given.
Point = tuple[int, int, int]


@dataclass
class Rules:
    """Settings, and the formulas that tables of their own prove."""

    #: A model's name without its service.
    canonical: Callable[[str], str]
    #: Tokens and source of a window, by model, by the reported window and by the largest accepted input.
    window: Callable[[str | None, int | None, int], tuple[int, str] | None]
    #: The most that a model writes in one answer.
    most_output: Callable[[str | None], int | None]
    #: When the window will be full, by what is used, the window's tokens and the newest calls.
    forecast: Callable[[int, int | None, Sequence[Point]], Forecast | None]
    #: Whether a use of a window has a warning, and whether a forecast has one.
    is_full: Callable[[int, int | None], bool]
    is_near: Callable[[Forecast], bool]
    #: Attributes that routes ask for.
    attributes: frozenset[str] = frozenset()
    #: The turns of a conversation are one task.
    has_conversations: bool = True


@dataclass
class Outcome:
    """The result of a history."""

    tasks: list[Task]
    checkpoints: list[Checkpoint]
    #: Calls and input tokens by model, and input tokens by task.
    by_model: dict[str, int] = field(default_factory=dict)
    by_task: dict[UUID, int] = field(default_factory=dict)
