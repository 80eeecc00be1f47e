"""What is said of a run while it goes on is not taken back: of no prefix of its telemetry, in order of time."""

from __future__ import annotations

import msgspec
import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.observations import Observation, Part, Status
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from tests.tasks import recorded_runs as rec

#: A status that a run at work does not go back to; a new run of a conversation begins with it.
_BEGINNING = "starting"
_AT_WORK = ("working", "context_warning")
#: The program counts its session half a second after the prompt that began it.
_LATE = {"claude-agent-sdk-ts/maxsteps"}


def live(seen: list[Observation]) -> list[Observation]:
    """Return a run's telemetry as it arrives live, in order of time: each span's start, what happened, its end."""
    starts = [
        msgspec.structs.replace(
            o, part=Part.STARTED, end_ns=0, at_ns=o.start_ns, status=Status.UNSET, status_message="", exceptions=0,
            thrown=(),
        )
        for o in seen
        if o.part is Part.ENDED and o.start_ns
    ]  # fmt: skip
    return sorted([*starts, *seen], key=lambda o: (o.at_ns, o.part is Part.ENDED, o.part))


@pytest.mark.parametrize("run", list(rec.runs(rec.COMMITTED)))
def test_nothing_is_taken_back(run: str) -> None:
    """No end and no wait that is not marked as inferred is taken back later, and no task goes back to its start."""
    store = MemoryStore()
    ends: dict[object, str] = {}
    statuses: dict[str, str] = {}
    taken_back: list[str] = []
    for o in live(rec.observations(rec.COMMITTED / run)):
        store.record_now([o])
        tasks = {t.uid: t for t in store.tasks_now(TaskQuery(limit=99))}
        newest = [c for c in store.checkpoints_now(limit=10**6) if c.kind is Kind.END]
        now = {c.id: c.status for c in newest}
        taken_back += [f"{o.name}: {text} -> {now.get(id)}" for id, text in ends.items() if now.get(id) != text]
        ends |= {
            c.id: c.status
            for c in newest
            if c.task_uid in tasks and tasks[c.task_uid].ended_at is not None and not tasks[c.task_uid].is_inferred
        }
        for task in tasks.values():
            if run not in _LATE and task.status == _BEGINNING and statuses.get(task.task_id, _BEGINNING) in _AT_WORK:
                taken_back.append(f"{o.name}: {task.name} went back to {_BEGINNING}")
            statuses[task.task_id] = task.status
    assert taken_back == []
