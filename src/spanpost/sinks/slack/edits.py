"""What makes an edit worth a call: something that a person reads has changed.

Rules
- Line 1, line 2, a card, a question and the state of the task count at once.
- Progress counts by steps of five per cent, as does the context from a half on; the cost when it passes 1, 2, 5, 10,
  ... dollars: smaller changes are shown with the next edit.
- A call does not count. Where calls are all that is known of a task, another tool counts, and any call once in `CALLS`.
- Slack itself writes how long ago the task began.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from spanpost.model.tasks import Task
from spanpost.sinks import labels

#: Steps of progress and of the context, in per cent.
_STEP: Final = 5
#: Time during which a message is not edited only for another call.
CALLS: Final = timedelta(seconds=30)
#: Time during which the message of an alert is not edited only for a newer last event.
STEADY: Final = timedelta(minutes=5)


def read(task: Task, children: Sequence[Task]) -> tuple[Task, tuple[Task, ...]]:
    """Return a task and the tasks below it without the changes for which no edit is made."""
    family = (task, *children)
    known = [one.cost_usd for one in family if one.cost_usd is not None]
    steady = _read(task)
    if known and not labels.is_final(task):
        steady = msgspec.structs.replace(steady, cost_usd=_passed(sum(known, Decimal(0))) or None, unpriced_calls=0)
    return steady, tuple(
        msgspec.structs.replace(_read(child), cost_usd=None, unpriced_calls=0) if not labels.is_final(task) else child
        for child in children
    )


def _read(task: Task) -> Task:
    if labels.is_final(task):
        return task
    share, window = task.context_share, task.context_window_tokens
    used = None if share is None or not window else int(share * 100) // _STEP * _STEP * window // 100
    action = task.action
    if task.messages.get("action") is not None:
        at = task.last_activity_at or task.last_event_at
        is_all = not task.step_name and not task.last_checkpoint
        tool = task.steps[-1].name.partition(" ×")[0] if task.steps else ""
        action = f"{int(at.timestamp() // CALLS.total_seconds())} {tool}" if is_all and at is not None else None
    return msgspec.structs.replace(
        task,
        last_event_at=_floor(task),
        progress=None if task.progress is None else task.progress // _STEP * _STEP,
        action=action,
        messages={key: value for key, value in task.messages.items() if key != "action"},
        context_used_tokens=used,
        context_forecast=None,
        input_tokens=None,
        output_tokens=None,
        tool_calls=0,
        tool_errors=0,
        unpriced_calls=0,
    )


def _floor(task: Task) -> datetime | None:
    at = task.last_event_at
    if at is None:
        return None
    floored = at - timedelta(seconds=at.timestamp() % STEADY.total_seconds())
    return max(floored, task.started_at) if task.started_at else floored


def _passed(usd: Decimal) -> Decimal:
    """Return the greatest of 1, 2, 5, 10, 20, ... dollars that a cost has passed; 0 below a dollar."""
    passed, step = Decimal(0), Decimal(1)
    while step <= usd:
        for factor in (1, 2, 5):
            if step * factor <= usd:
                passed = step * factor
        step *= 10
    return passed
