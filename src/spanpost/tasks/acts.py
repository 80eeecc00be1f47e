"""What people asked of a task beside decisions, as facts: the newest of each kind stands."""

from __future__ import annotations

from typing import Any

from spanpost.model.interventions import Verb
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Act
from spanpost.tasks.facts import Facts
from spanpost.tasks.records import TaskState
from spanpost.tasks.runs import newest_run
from spanpost.text.wording import message

#: The fact under which a verb is kept. A message is kept by none: the agent fetches it.
_FACTS = {
    Verb.CANCEL: "cancel_asked",
    Verb.PAUSE: "pause_asked",
    Verb.RESUME: "pause_asked",
    Verb.MUTE: "mute_asked",
    Verb.UNMUTE: "mute_asked",
}


def enter(facts: Facts, act: Act, at: int, key: bytes) -> None:
    """Take in an act."""
    fact = _FACTS.get(Verb(act.verb))
    if fact is not None:
        facts.note(fact, 0, at, key, [act.verb, act.by, act.seen_ns])


def cancel_by(state: TaskState) -> LocaleMessage | str:
    """Return who asked last to stop the run that goes on: what was asked of one that has ended since is over with it."""
    said = _since_last_run(state, "cancel_asked")
    return said[1] or message("task.a_person") if said is not None else ""


def paused_by(state: TaskState) -> LocaleMessage | str:
    """Return who asked to pause the run, if nobody asked to go on since."""
    said = _since_last_run(state, "pause_asked")
    return said[1] or message("task.a_person") if said is not None and said[0] == Verb.PAUSE else ""


def is_muted(state: TaskState) -> bool:
    """Tell whether somebody asked to be told less of it, and nobody asked for more since."""
    said = state.facts.value("mute_asked")
    return said is not None and said[0] == Verb.MUTE


def _since_last_run(state: TaskState, fact: str) -> Any:
    """Return what was asked, unless a run that ended since was asked it: by what was known then of the task, not by our clock."""
    said = state.facts.value(fact)
    if said is None or len(state.runs) < 2:
        return said
    newest = newest_run(state)
    ends = [s.ending.closed[0] for s in state.runs.values() if s is not newest and s.ending.closed is not None]
    seen_ns = said[2]
    # What was seen is known to the microsecond.
    return said if (seen_ns + 999 if seen_ns else state.facts.at(fact) - 1) >= max(ends, default=0) else None
