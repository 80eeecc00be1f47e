"""Milestones: progress that is worth a line in the thread while a task runs, and how often.

Rules
- A milestone is a step that changed, or progress that crossed 20, 40, 60, 80 or 100. Only the agent's own
  reports count: not steps that were made of its tool calls, nor the prompts of a session. Each is a
  milestone once; the end of a task is none.
- Where the agent sent a checkpoint with it, that checkpoint is the milestone; else one is made. When a run
  is first seen, none is made: its message shows the state, and a live span may already say what its first
  checkpoints will report a moment later.
- Of one message (a root task in one place) milestones come at least `Route.interval` apart. One that comes
  earlier is held, a newer one replaces it, and the held one is sent when its time has come. The task's end
  drops it: it says more.

They are judged as context warnings are: each id at most once in any order; for a history in order of time
exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.ids import named, uuid_of
from spanpost.model.tasks import Task
from spanpost.routing.planned import PlannedDelivery
from spanpost.tasks.records import Held, Run, TaskState
from spanpost.tasks.times import EPOCH, moment
from spanpost.tasks.work import Key
from spanpost.text.wording import message, worded

#: Progress crosses these, in percent.
EVERY = 20
#: Messages per task for which the time of the last milestone is kept.
_PLACES = 32


def reached(state: TaskState, task: Task, root: Key, run: Run, *, is_reported: bool) -> Checkpoint | None:
    """Return the milestone that a task has newly reached, and remember it; None when there is none.

    `is_reported`: its agent sent a checkpoint in this batch.
    """
    step = state.facts.value("step") if state.facts.latest else None
    if step is not None and step[1] is None and f"~{step[0]}" not in state.facts.maps.get("steps", {}):
        step = None  # it has its own key: a prompt, and the person who wrote it knows when it began
    place = f"{step[1] if step[1] is not None else ''}\0{step[0]}" if step is not None else ""
    band = _band(task.progress)
    known_root, known_band, known_place = state.milestone or ("", 0, "")
    if known_root != root.hex():
        known_band, known_place = 0, ""
        if not is_reported:
            state.milestone = (root.hex(), 0, "")
            return None
    if step is None and task.progress is None:
        return None
    at_ns = max(state.facts.at("step"), state.facts.at("progress"))
    is_new = band > known_band or (place != known_place and bool(place))
    state.milestone = (root.hex(), max(band, known_band), place or known_place)
    if not is_new:
        return None
    count = f"{task.step_index}/{task.step_count} " if task.step_index and task.step_count else ""
    if step is not None and task.step_name:
        text, locale_message = worded(f"{count}{task.step_name}")
    elif task.action:
        text, locale_message = task.action, task.messages.get("action")
    else:
        text, locale_message = worded(message("checkpoint.percent_done", percent=band * EVERY))
    return Checkpoint(
        id=uuid_of(named(f"milestone\0{root.hex()}\0{band if not place or place == known_place else ''}\0{place}")),
        tenant=state.tenant,
        task_uid=uuid_of(state.uid),
        kind=Kind.MILESTONE,
        status=task.status,
        text=text,
        message=locale_message,
        at=moment(at_ns) or EPOCH,
        trace_id=run.trace_id,
        span_id=run.span_id,
        subtree=run.span_id,
        progress=task.progress,
    )


def _band(progress: float | None) -> int:
    if progress is None or progress != progress:
        return 0
    return int(min(max(progress, 0.0), 100.0) // EVERY)


def reported_with(checkpoints: Iterable[tuple[Checkpoint, Key]], key: Key) -> Checkpoint | None:
    """Return the checkpoint by which the agent itself reported its milestone: the newest of this batch."""
    own = [c for c, of in checkpoints if of == key and c.kind is Kind.CHECKPOINT]
    return max(own, key=lambda c: (c.at, c.id), default=None)


def hold(state: TaskState, planned: PlannedDelivery, checkpoint: Checkpoint, of: Key, now: datetime) -> datetime | None:
    """Hold a milestone's delivery that comes too early, and keep only the newest.

    Return the time until which it is held; None: deliver it now.
    """
    known = state.held_back.get(planned.ordering_key)
    seconds = now.timestamp()
    if known is None or seconds >= known.reported_at + planned.interval:
        if known is None and len(state.held_back) >= _PLACES:
            oldest = min(
                state.held_back, key=lambda ordering_key: (state.held_back[ordering_key].reported_at, ordering_key)
            )
            del state.held_back[oldest]
        state.held_back[planned.ordering_key] = Held(reported_at=seconds)
        return None
    due_at = known.reported_at + planned.interval
    waits = known.checkpoint
    if waits is None or (waits.at, waits.id) <= (checkpoint.at, checkpoint.id):
        held = Held(reported_at=known.reported_at, checkpoint=checkpoint, of=of, due_at=due_at)
        state.held_back[planned.ordering_key] = held
    return datetime.fromtimestamp(due_at, UTC)


def drop_held(state: TaskState) -> None:
    """Drop held milestones: the task's end was reported."""
    for ordering_key, held in state.held_back.items():
        if held.checkpoint is not None:
            state.held_back[ordering_key] = Held(reported_at=held.reported_at)


def take_due(state: TaskState, now: datetime) -> list[tuple[str, Held]]:
    """Return the held milestones whose time has come, by ordering key, and hold them no longer."""
    seconds = now.timestamp()
    found = [(key, h) for key, h in sorted(state.held_back.items()) if h.checkpoint is not None and h.due_at <= seconds]
    for ordering_key, _ in found:
        state.held_back[ordering_key] = Held(reported_at=seconds)
    return found


def timer_key(state: Key) -> Key:
    """Return the key of the timer that releases held milestones; `state_of` is the way back."""
    return state[:16] + b"w" + state[17:]


def state_of(timer: Key) -> Key:
    """Return the key of the task state of a milestone timer; the key of any other timer is returned as it is."""
    return timer[:16] + b"g" + timer[17:] if timer[16:17] == b"w" else timer
