"""When a task is announced, and what waits for a timer: settling, the counting of use, a call that failed last."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from spanpost import semconv as c
from spanpost.tasks import requests
from spanpost.tasks.context_use import use_of
from spanpost.tasks.counting import count
from spanpost.tasks.facts import value_of
from spanpost.tasks.folded import Difference, FoldRules, Timer
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.records import TaskState
from spanpost.tasks.reported import Reported
from spanpost.tasks.status import TaskVerdict, judge, quiet_after
from spanpost.tasks.task_rules import TaskRules
from spanpost.tasks.work import Key

#: Time after which a run is announced that did nothing yet and may be one more run of a task with a message.
HELD = timedelta(seconds=60)


def is_sure(states: TaskStates, key: Key, state: TaskState) -> bool:
    """Tell whether a task is announced at once: an explicit task, a live start, a top root span. Others wait.

    An explicit task with events only waits, too: its question may arrive before its start.
    """
    if value_of(state.facts.is_beside) is not None:
        return False
    if state.task_id and (state.has_root_span or _is_seen_at_work(state)):
        return True
    if not state.has_root_span:
        return False
    roots = (key,) if not state.is_conversation else state.runs
    found = [subtree for root in roots if (subtree := states.subtree(root)) is not None]
    return any((subtree.is_live or subtree.is_top) and not subtree.is_held for subtree in found)


def is_root(states: TaskStates, key: Key, state: TaskState) -> bool:
    """Tell whether a task is a root. One task of a cycle is a root too, whatever the order of arrival."""
    return not state.parent or states.root(key, state).key == key


def _is_seen_at_work(state: TaskState) -> bool:
    """Tell whether work is known of a task without a run: a session that was joined in the middle."""
    return state.amounts.calls > 0 or state.tools.calls > 0 or value_of(state.facts.is_session) is not None


def is_worth_a_message(state: TaskState, verdict: TaskVerdict, rules: TaskRules) -> bool:
    """Tell whether to announce a task: never what a coding CLI asks beside a session, for a title."""
    facts = state.facts
    if value_of(facts.is_beside) is not None:
        return False
    request = requests.around(facts, has_root_span=state.has_root_span)
    when = rules.rule_for(value_of(request)).when
    if facts.asks:
        return True
    if when == "nothing":
        return False
    is_agent = state.has_root_span or bool(state.task_id)
    has_calls = state.amounts.calls > 0
    if when == "failures":
        return (is_agent or has_calls) and verdict.is_over and verdict.status == c.ERROR
    if is_agent or (has_calls and when == "model calls"):
        return True
    if request is not None and request.priority and not facts.has_entries(apart_from=("acts", "attributes")):
        return value_of(facts.status) is not None
    return _is_work(state)


def _is_work(state: TaskState) -> bool:
    """Tell whether a trace without an agent is one's work: not a lone model call, nor tools without a model."""
    calls = state.amounts.calls
    if calls > 1 or (calls and state.tools.calls):
        return True
    if calls and value_of(state.facts.failed_turn) is not None:
        return True  # a run whose root never arrives, as smolagents' does not when its model fails
    return state.facts.has_entries(apart_from=("acts", "attributes")) or value_of(state.facts.status) is not None


def watched(state: TaskState, rules: FoldRules) -> timedelta | None:
    """Return after how long more is concluded of a task if nothing comes; None where no timer is needed.

    The root of a failed run may never end, and retries take a while; what a model asked for may be called yet.
    """
    before, newest = state.reported, state.facts.last_ns
    return quiet_after(state, rules) if before.watched_ns != newest and newest > before.quiet_ns else None


class Announced(NamedTuple):
    """What is reported of a task from now on, and what that adds to the reports before."""

    after: Reported
    difference: Difference


def after_delay(key: Key, state: TaskState, rules: FoldRules, now: datetime) -> Announced:
    """Announce a task whose delay is over, if it is worth a message, else count its usage."""
    before, newest = state.reported, state.facts.last_ns
    after, found = replace(before, is_settling=False, is_counting=False), Difference()
    verdict = judge(state, use_of(state.facts, rules), rules)
    if before.is_settling and not before.is_announced and is_worth_a_message(state, verdict, rules.tasks):
        after = replace(after, is_announced=True)
    elif before.is_counting or before.is_settling:  # only counters change, nothing that is shown
        use = count(state)
        after, found = replace(after, counted=use.counted), use.growth or found
    delay = quiet_after(state, rules) if not before.is_over and newest > before.quiet_ns else None
    if delay is not None:
        if before.watched_ns == newest:
            after = replace(after, quiet_ns=newest)
        else:
            after = replace(after, watched_ns=newest)
            found.timers.append(Timer(key, now + delay))
    return Announced(after, found)
