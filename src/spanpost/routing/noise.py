"""Which messages wait, and which lines a thread does without. Pure: the clock is an argument.

Rules
- With `Route.after` a task has no message before it has run that long; one that ends before has none at all.
- In `Route.quiet` hours no new message and no line is posted. Messages that exist are edited, which notifies no
  person. A message that waited is posted when the hours are over, in its state then.
- Questions, alerts and failures never wait, nor does the message of a task that asks or has failed.
- In a sink that edits, the message itself says how a task ended: its end is a line of the thread only where it failed,
  or ran `Route.closing` or longer. A sub-agent's end is one only where it failed, below an alert, or in `live`.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.tasks import Task
from spanpost.semconv import ERROR, FINAL_STATUSES

if TYPE_CHECKING:
    from spanpost.routing.routes import Route

_NEVER_WAIT = frozenset({Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED, Kind.ALERT})


def is_held(route: Route, task: Task, now: datetime | None) -> bool:
    """Tell whether the message of a root task is not posted yet, or at all."""
    if task.is_alert or task.open_approvals or task.open_child_approvals or task.status == ERROR or now is None:
        return False
    return _is_short(route, task, now) or quiet_until(route, now) is not None


def held_until(route: Route, task: Task, now: datetime) -> datetime | None:
    """Return when a held message is to be looked at again; None: never."""
    due = quiet_until(route, now)
    if route.after and task.started_at is not None and _is_short(route, task, now):
        if task.status in FINAL_STATUSES:
            return None
        due = max(task.started_at + route.after, due or now)
    return due


def may_pass(route: Route, task: Task, checkpoint: Checkpoint, root: Task, now: datetime | None) -> bool:
    """Tell whether a checkpoint is a line of its thread though its task's message is held."""
    is_failure = checkpoint.kind is Kind.END and checkpoint.status == ERROR and task.uid == root.uid
    return checkpoint.kind in _NEVER_WAIT or is_failure or not is_held(route, root, now)


def is_said_by_its_message(route: Route, task: Task, checkpoint: Checkpoint, root: Task, *, is_live: bool) -> bool:
    """Tell whether the message of the root task alone says that a task has ended."""
    if checkpoint.kind is not Kind.END or checkpoint.status == ERROR or is_live:
        return False
    if task.uid != root.uid:
        return not root.is_alert
    if not route.closing or task.started_at is None:
        return False
    return (task.ended_at or checkpoint.at) - task.started_at < route.closing


def quiet_until(route: Route, now: datetime) -> datetime | None:
    """Return the end of the quiet hours, in UTC; None outside of them."""
    if route.quiet is None:
        return None
    zone = ZoneInfo(route.timezone)
    local = now.astimezone(zone)
    begin, end = route.quiet
    at = local.timetz().replace(tzinfo=None)
    if begin <= at < end or (end < begin and (at >= begin or at < end)):
        day = local if at < end else local + timedelta(days=1)
        return datetime.combine(day, end, zone).astimezone(UTC)
    return None


def hours(said: str) -> tuple[time, time]:
    """Read ``22:00-07:00``. Raises ValueError for anything else."""
    begin, dash, end = (part.strip() for part in said.partition("-"))
    found = time.fromisoformat(begin), time.fromisoformat(end)
    if not dash or found[0] == found[1] or len(begin) != 5 or len(end) != 5:
        raise ValueError("two different times of a day")
    return found


def _is_short(route: Route, task: Task, now: datetime) -> bool:
    if not route.after or task.started_at is None:
        return False
    end = task.ended_at if task.status in FINAL_STATUSES and task.ended_at is not None else now
    # A sender whose clock is ahead has its message at once.
    return timedelta(0) <= end - task.started_at < route.after
