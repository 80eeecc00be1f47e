"""Milestones: what is worth a line in the thread while a task is on its way, and how often.

Rules
- A milestone is a step that changed, or progress that crossed 20, 40, 60, 80 or 100. Only what an agent said counts: steps that
  were made up from its tool calls do not, nor a session's prompts. Each is one once; the end of a task is none.
- Where the agent told a checkpoint with it, that checkpoint is the milestone; else one is made. When a run is first heard of, none is
  made: its message shows where it is, and a live span may say already what its first checkpoints, a moment later, will tell.
- Of one message (a root task in one place) they come at least `Route.interval` apart. One that comes earlier is held, a newer takes
  its place, and what is held is told when its time has come. An end lets go of it: it says more.

Judged, as context warnings are: each id at most once in any order; for a history in order of time exactly those.
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
#: Messages of one task of which a pace is kept.
_PLACES = 32


def reached(state: TaskState, task: Task, root: Key, run: Run, *, is_told: bool) -> Checkpoint | None:
    """Return the milestone that a task has reached and that was not told before, and remember it.

    `is_told`: its agent told a checkpoint just now.
    """
    step = state.facts.value("step") if state.facts.latest else None
    if step is not None and step[1] is None and f"~{step[0]}" not in state.facts.maps.get("steps", {}):
        step = None  # known by a key of its own: a prompt, whose beginning a person knows
    place = f"{step[1] if step[1] is not None else ''}\0{step[0]}" if step is not None else ""
    band = _band(task.progress)
    known_root, known_band, known_place = state.milestone or ("", 0, "")
    if known_root != root.hex():
        known_band, known_place = 0, ""
        if not is_told:
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
        text, saying = worded(f"{count}{task.step_name}")
    elif task.action:
        text, saying = task.action, task.messages.get("action")
    else:
        text, saying = worded(message("checkpoint.percent_done", percent=band * EVERY))
    return Checkpoint(
        id=uuid_of(named(f"milestone\0{root.hex()}\0{band if not place or place == known_place else ''}\0{place}")),
        tenant=state.tenant,
        task_uid=uuid_of(state.uid),
        kind=Kind.MILESTONE,
        status=task.status,
        text=text,
        message=saying,
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


def told_with(news: Iterable[tuple[Checkpoint, Key]], key: Key) -> Checkpoint | None:
    """Return the checkpoint by which an agent itself told of its milestone: the newest of this batch."""
    own = [c for c, of in news if of == key and c.kind is Kind.CHECKPOINT]
    return max(own, key=lambda c: (c.at, c.id), default=None)


def is_held(state: TaskState, planned: PlannedDelivery, checkpoint: Checkpoint, of: Key, now: datetime) -> datetime | None:
    """Hold a delivery about something on the way when it comes too early, the newest alone; return until when, None: it may go."""
    known = state.held_back.get(planned.ordering_key)
    seconds = now.timestamp()
    if known is None or seconds >= known.reported_at + planned.interval:
        if known is None and len(state.held_back) >= _PLACES:
            del state.held_back[min(state.held_back, key=lambda ordering_key: (state.held_back[ordering_key].reported_at, ordering_key))]
        state.held_back[planned.ordering_key] = Held(reported_at=seconds)
        return None
    due_at = known.reported_at + planned.interval
    waits = known.checkpoint
    if waits is None or (waits.at, waits.id) <= (checkpoint.at, checkpoint.id):
        state.held_back[planned.ordering_key] = Held(reported_at=known.reported_at, checkpoint=checkpoint, of=of, due_at=due_at)
    return datetime.fromtimestamp(due_at, UTC)


def let_go(state: TaskState) -> None:
    """Forget what is held: an end was told."""
    for ordering_key, held in state.held_back.items():
        if held.checkpoint is not None:
            state.held_back[ordering_key] = Held(reported_at=held.reported_at)


def due(state: TaskState, now: datetime) -> list[tuple[str, Held]]:
    """Return what is held and may be told now, by lane, and hold it no more."""
    seconds = now.timestamp()
    found = [(ordering_key, h) for ordering_key, h in sorted(state.held_back.items()) if h.checkpoint is not None and h.due_at <= seconds]
    for ordering_key, _ in found:
        state.held_back[ordering_key] = Held(reported_at=seconds)
    return found


def timer_key(state: Key) -> Key:
    """Return the key of the timer at whose end held milestones are told; `group_of` is the way back."""
    return state[:16] + b"w" + state[17:]


def state_of(timer: Key) -> Key:
    """Return the task of a timer of ours; of another timer the key itself."""
    return timer[:16] + b"g" + timer[17:] if timer[16:17] == b"w" else timer
