"""Progress as attributes of the conventions, from the helpers' arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from spanpost import semconv as c

#: One of the nine statuses (`spanpost.semconv.STATUSES`).
StatusWord = Literal[
    "starting", "working", "waiting", "paused", "stalled", "context_warning", "error", "complete", "cancelled"
]


def progress_attributes(
    *,
    progress: float | None = None,
    status: str | None = None,
    action: str | None = None,
    step: str | None = None,
    step_index: int | None = None,
    step_count: int | None = None,
    context_used: int | None = None,
    context_window: int | None = None,
) -> dict[str, Any]:
    """Return the attributes of the given arguments.

    A malformed number is left out: a helper never fails its agent.
    """
    attributes: dict[str, Any] = {}
    for name, words in ((c.STATUS, status), (c.ACTION, action), (c.STEP_NAME, step)):
        if words is not None:
            attributes[name] = str(words)
    try:
        if progress is not None:
            attributes[c.PROGRESS] = float(progress)
    except (TypeError, ValueError, OverflowError):
        pass
    for name, number in (
        (c.STEP_INDEX, step_index),
        (c.STEP_COUNT, step_count),
        (c.CONTEXT_USED, context_used),
        (c.CONTEXT_WINDOW, context_window),
    ):
        try:
            if number is not None:
                attributes[name] = int(number)
        except (TypeError, ValueError, OverflowError):
            continue
    return attributes


def without_none(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the attributes that have a value."""
    return {k: v for k, v in (attributes or {}).items() if v is not None}
