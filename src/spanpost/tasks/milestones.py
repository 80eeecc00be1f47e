"""Milestones: progress that is worth a line in the thread while a task runs, and how often.

Rules
- A milestone is a step that changed, or progress that crossed 20, 40, 60, 80 or 100. Only the agent's own
  reports count: not steps that were made of its tool calls, nor the prompts of a session. Each is a
  milestone once; the end of a task is none.
- Where the agent sent a checkpoint with it, that checkpoint is the milestone; else one is made. When a run
  is first seen, none is made: its message shows the state, and a live span may already say what its first
  checkpoints will report a moment later.
- Of one message (a root task in one place) milestones come at least `Route.interval` apart. One that comes
  earlier is held, a newer one replaces it, and the held one is sent when its time has come, or before a later
  checkpoint of another kind, so that the thread is in order. The task's end drops it: it says more.

They are judged as context warnings are: each id at most once in any order; for a history in order of time
exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode, Urgency
from spanpost.model.ids import named, uuid_of
from spanpost.model.tasks import Task
from spanpost.routing.planned import Again, PlannedDelivery
from spanpost.tasks.checkpoints import TaskCheckpoint
from spanpost.tasks.facts import time_of, value_of
from spanpost.tasks.records import TaskState
from spanpost.tasks.reported import Held, Reached
from spanpost.tasks.runs import KeyedRun
from spanpost.tasks.times import EPOCH, moment
from spanpost.tasks.work import Key
from spanpost.text.wording import message, worded

#: Progress crosses these, in percent.
EVERY = 20
#: Kinds of timers that the fold handles: of a task, of its held milestones, questions (`asking`) and messages.
TIMERS: Final = (b"g", b"w", b"q", b"h")
#: Messages per task for which the time of the last milestone is kept.
_PLACES = 32


class Milestone(msgspec.Struct, frozen=True, gc=False):
    """What a task has reached now, and the milestone that this is, if it is one."""

    reached: Reached | None
    checkpoint: Checkpoint | None = None


def reached(state: TaskState, task: Task, newest: KeyedRun, *, is_reported: bool) -> Milestone:
    """Return what a task has reached; `is_reported`: its agent sent a checkpoint in this batch."""
    before, root, run = state.reported.reached, newest.root, newest.run
    step = value_of(state.facts.step)
    if step is not None and step.index is None and f"~{step.name}" not in state.facts.steps:
        step = None  # it has its own key: a prompt, and the person who wrote it knows when it began
    place = f"{step.index if step.index is not None else ''}\0{step.name}" if step is not None else ""
    if before is None or before.root != root:
        before = Reached(root)
        if not is_reported:
            return Milestone(before)
    if step is None and task.progress is None:
        return Milestone(state.reported.reached)
    band = _band(task.progress)
    now = Reached(root, max(band, before.band), place or before.step)
    is_new_step = bool(place) and place != before.step
    if band <= before.band and not is_new_step:
        return Milestone(now)
    count = f"{task.step_index}/{task.step_count} " if task.step_index and task.step_count else ""
    if step is not None and task.step_name:
        text, locale_message = worded(f"{count}{task.step_name}")
    elif task.action:
        text, locale_message = task.action, task.messages.get("action")
    else:
        text, locale_message = worded(message("checkpoint.percent_done", percent=band * EVERY))
    checkpoint = Checkpoint(
        id=uuid_of(named(f"milestone\0{root.hex()}\0{'' if is_new_step else band}\0{place}")),
        tenant=state.tenant,
        task_uid=uuid_of(state.uid),
        kind=Kind.MILESTONE,
        status=task.status,
        text=text,
        message=locale_message,
        at=moment(max(time_of(state.facts.step), time_of(state.facts.progress))) or EPOCH,
        trace_id=run.trace_id,
        span_id=run.span_id,
        subtree=run.span_id,
        progress=task.progress,
    )
    return Milestone(now, checkpoint)


def _band(progress: float | None) -> int:
    if progress is None or progress != progress:
        return 0
    return int(min(max(progress, 0.0), 100.0) // EVERY)


def reported_with(checkpoints: Iterable[TaskCheckpoint], key: Key) -> Checkpoint | None:
    """Return the checkpoint by which the agent itself reported its milestone: the newest of this batch."""
    own = [c for c, of, _ in checkpoints if of == key and c.kind is Kind.CHECKPOINT]
    return max(own, key=lambda c: (c.at, c.id), default=None)


class Hold(NamedTuple):
    """The milestones that a root holds now, and the time until which the new one is held; None: deliver it."""

    held_back: dict[str, Held]
    until: datetime | None = None


def hold(held_back: dict[str, Held], planned: PlannedDelivery, checkpoint: Checkpoint, of: Key, now: datetime) -> Hold:
    """Hold a milestone's delivery that comes too early, and keep only the newest."""
    known = held_back.get(planned.ordering_key)
    seconds = now.timestamp()
    if known is None or seconds >= known.reported_at + planned.interval:
        after = dict(held_back)
        if known is None and len(after) >= _PLACES:
            del after[min(after, key=lambda ordering_key: (after[ordering_key].reported_at, ordering_key))]
        after[planned.ordering_key] = Held(reported_at=seconds)
        return Hold(after)
    due_at = known.reported_at + planned.interval
    until = datetime.fromtimestamp(due_at, UTC)
    waits = known.checkpoint
    if waits is not None and (waits.at, waits.id) > (checkpoint.at, checkpoint.id):
        return Hold(held_back, until)
    held = Held(reported_at=known.reported_at, checkpoint=checkpoint, of=of, due_at=due_at)
    return Hold({**held_back, planned.ordering_key: held}, until)


def without_held(held_back: dict[str, Held]) -> dict[str, Held]:
    """Return the same without the held milestones: the task's end was reported."""
    return {ordering_key: Held(reported_at=held.reported_at) for ordering_key, held in held_back.items()}


def due(held_back: dict[str, Held], now: datetime) -> dict[str, Held]:
    """Return the held milestones whose time has come, by ordering key."""
    seconds = now.timestamp()
    return {key: h for key, h in sorted(held_back.items()) if h.checkpoint is not None and h.due_at <= seconds}


def released(held_back: dict[str, Held], due: Iterable[str], now: datetime) -> dict[str, Held]:
    """Return the same after the due milestones were delivered."""
    return {**held_back, **{ordering_key: Held(reported_at=now.timestamp()) for ordering_key in due}}


def timer_key(state: Key) -> Key:
    """Return the key of the timer that releases held milestones; `state_of` is the way back."""
    return state[:16] + b"w" + state[17:]


def message_timer_key(state: Key) -> Key:
    """Return the key of the timer that looks at a held message again (`routing.noise`)."""
    return state[:16] + b"h" + state[17:]


def before_later(
    held_back: dict[str, Held],
    found: list[PlannedDelivery],
    checkpoint: Checkpoint,
    now: datetime,
    may_pass: Callable[[PlannedDelivery, Checkpoint], bool],
) -> dict[str, Held]:
    """Put held milestones before the deliveries of a later checkpoint, so that a thread is in order of time.

    One that may not pass now (quiet hours) stays held. Changes `found`; returns what is still held.
    """
    for place, planned in reversed(list(enumerate(found))):
        held = held_back.get(planned.ordering_key)
        waits = held.checkpoint if held is not None else None
        if planned.mode is not Mode.CHECKPOINT or waits is None or waits.at > checkpoint.at:
            continue
        if not may_pass(planned, waits):
            continue
        key = f"{waits.id}@{planned.address}" if planned.address else str(waits.id)
        earlier = msgspec.structs.replace(
            planned,
            key=key,
            urgency=Urgency.NORMAL,
            task_uid=waits.task_uid,
            checkpoint_id=waits.id,
            again=Again.NEVER,
            interval=0.0,
        )
        found.insert(place, earlier)
        held_back = released(held_back, [planned.ordering_key], now)
    return held_back


def state_of(timer: Key) -> Key:
    """Return the key of the task state of a timer of held deliveries; the key of any other is returned as it is."""
    return timer[:16] + b"g" + timer[17:] if timer[16:17] in TIMERS[1:] else timer
