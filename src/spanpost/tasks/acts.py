"""What people asked of a task, other than decisions, as facts: the newest of each kind counts."""

from __future__ import annotations

from spanpost.model.interventions import Verb
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Act
from spanpost.tasks.fact_values import ActFact
from spanpost.tasks.facts import Fact, Facts, newest, value_of
from spanpost.tasks.records import TaskState
from spanpost.tasks.runs import newest_run, runs_of
from spanpost.text.wording import message

#: The fact in which a verb is kept. A message is in none: the agent fetches it.
_FACTS = {
    Verb.CANCEL: "cancel_asked",
    Verb.PAUSE: "pause_asked",
    Verb.RESUME: "pause_asked",
    Verb.MUTE: "mute_asked",
    Verb.UNMUTE: "mute_asked",
}


def enter(facts: Facts, act: Act, at: int, key: bytes) -> None:
    """Add a person's act to the facts."""
    if act.verb == Verb.DISMISS and act.finding:
        facts.enter("dismissed", act.finding, act.count, at, key, act.count)
    fact = _FACTS.get(Verb(act.verb))
    if fact is not None:
        setattr(facts, fact, newest(getattr(facts, fact), 0, at, key, ActFact(act.verb, act.by, act.seen_ns)))


def cancel_by(state: TaskState) -> LocaleMessage | str:
    """Return who last asked to stop the current run.

    A request for a run that has ended since does not count.
    """
    request = _since_last_run(state, state.facts.cancel_asked)
    return request.by or message("task.a_person") if request is not None else ""


def paused_by(state: TaskState) -> LocaleMessage | str:
    """Return who asked to pause the current run, unless someone has asked to resume it since; empty: no one."""
    request = _since_last_run(state, state.facts.pause_asked)
    return request.by or message("task.a_person") if request is not None and request.verb == Verb.PAUSE else ""


def is_muted(state: TaskState) -> bool:
    """Return whether someone muted the task's notifications and no one has unmuted them since."""
    request = value_of(state.facts.mute_asked)
    return request is not None and request.verb == Verb.MUTE


def _since_last_run(state: TaskState, asked: Fact[ActFact] | None) -> ActFact | None:
    """Return the request, unless it was made of a run that has ended since.

    The comparison uses what the person had seen of the task, not our clock.
    """
    runs = runs_of(state)
    if asked is None or len(runs) < 2:
        return value_of(asked)
    newest = newest_run(state)
    ends = [s.ending.closed.at_ns for s in runs.values() if s is not newest and s.ending.closed is not None]
    seen_ns = asked.value.seen_ns
    # `seen_ns` is exact to the microsecond.
    return asked.value if (seen_ns + 999 if seen_ns else asked.at_ns - 1) >= max(ends, default=0) else None
