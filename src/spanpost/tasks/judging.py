"""The first part of the close: judge the touched tasks, and those above and below that this changes.

Theory. The verdict on a task is a function of its own facts and of what was reported of it before. It reads
no verdict on another task, so the order of the tasks does not matter.
"""

from __future__ import annotations

from datetime import datetime
from heapq import heapify, heappop, heappush

import msgspec
from msgspec.structs import replace

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.ids import uuid_of
from spanpost.tasks import agents_below
from spanpost.tasks.agents_below import Levels
from spanpost.tasks.announcing import HELD, is_root, is_sure, is_worth_a_message, watched
from spanpost.tasks.context_use import ContextUse, use_of
from spanpost.tasks.counting import count, is_counted
from spanpost.tasks.folded import Difference, FoldRules, Timer
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.records import DEPTH, ChildTasks, TaskState
from spanpost.tasks.reported import Reported
from spanpost.tasks.run_reports import count_end, report_runs
from spanpost.tasks.status import TaskVerdict, judge
from spanpost.tasks.succession import is_shown
from spanpost.tasks.work import Key


class JudgedTask(msgspec.Struct, frozen=True, gc=False):
    """A task and the verdict on it, what is reported of it from now on, and what that adds to the reports before."""

    state: TaskState
    use: ContextUse
    verdict: TaskVerdict
    after: Reported
    #: The start and the end of its runs.
    checkpoints: list[Checkpoint]
    difference: Difference

    @property
    def is_at_work(self) -> bool:
        return not self.verdict.is_over and self.verdict.status in (c.WORKING, c.CONTEXT_WARNING)


class Judgements(msgspec.Struct, frozen=True, gc=False):
    """The judged tasks of a batch, and the changed records of child tasks, by the key of their parent."""

    tasks: dict[Key, JudgedTask]
    child_tasks: dict[Key, ChildTasks]
    levels: Levels


def judge_all(states: TaskStates, rules: FoldRules, now: datetime) -> Judgements:
    """Judge the touched tasks, their parents where they failed or began to work, and those below announced ones."""
    found = Judgements({}, {}, Levels(states.state))
    states.touch_all_below()
    waiting = list(states.touched)
    while waiting:
        parents = []
        for key in waiting:
            states.tick()
            state = states.state(key)
            if state is None:
                continue
            judged = found.tasks[key] = judge_task(states, key, state, rules, now)
            if judged.after.is_announced and not state.reported.is_announced:
                states.touch_below(key)
            if state.parent and _changes_parent(states, key, judged, found.child_tasks):
                parents.append(state.parent)
        waiting = [key for key in dict.fromkeys(parents) if key not in states.touched]
        states.touched.update(dict.fromkeys(waiting))
        waiting = waiting or states.touch_all_below()
    _pass_up(states, found, rules, now)
    return found


def _pass_up(states: TaskStates, found: Judgements, rules: FoldRules, now: datetime) -> None:
    """Enter what each judged task passes up, the lowest first; judge the tasks above for which that is new."""
    levels = found.levels
    waiting = [(-levels.of(key), key) for key, judged in found.tasks.items() if judged.state.parent]
    entered = {key for _, key in waiting}
    heapify(waiting)
    while waiting:
        states.tick()
        level, key = heappop(waiting)
        judged = found.tasks[key]
        parent = judged.state.parent
        above = states.state(parent) if parent else None
        siblings = found.child_tasks.get(parent) or states.child_tasks(parent)
        if above is None or key not in siblings.tasks:
            continue
        agents = None
        if -level <= DEPTH:
            own = found.child_tasks.get(key) or states.child_tasks(key)
            agents = agents_below.plus(agents_below.itself(judged.state, judged.verdict, rules), levels.below(key, own))
        if siblings.agents.get(key) == agents:
            continue
        if parent not in found.child_tasks:
            siblings = found.child_tasks[parent] = _copy(siblings)
        if agents is None:
            del siblings.agents[key]
        else:
            siblings.agents[key] = agents
        if parent not in found.tasks:
            states.touched[parent] = None
            found.tasks[parent] = judge_task(states, parent, above, rules, now)
        if parent not in entered and above.parent:
            entered.add(parent)
            heappush(waiting, (-levels.of(parent), parent))


def _copy(known: ChildTasks) -> ChildTasks:
    return ChildTasks(dict(known.tasks), dict(known.at_work), dict(known.agents))


def _changes_parent(states: TaskStates, key: Key, judged: JudgedTask, changed: dict[Key, ChildTasks]) -> bool:
    """Enter in `changed` whether a child task failed and works; return whether that is new."""
    state, after = judged.state, judged.after
    siblings = changed.get(state.parent) or states.child_tasks(state.parent)
    if after.is_failed == state.reported.is_failed and judged.is_at_work == (key in siblings.at_work):
        return False
    if state.parent not in changed:
        siblings = changed[state.parent] = _copy(siblings)
    siblings.tasks[key] = after.is_failed
    siblings.at_work.pop(key, None)
    if judged.is_at_work:
        siblings.at_work[key] = True
    return True


def judge_task(states: TaskStates, key: Key, state: TaskState, rules: FoldRules, now: datetime) -> JudgedTask:
    """Judge one task: announce it, report its runs, count its use, and set its timer."""
    before, uid = state.reported, uuid_of(state.uid)
    use = use_of(state.facts, rules)
    verdict = judge(state, use, rules, has_children=bool(states.child_tasks(key).tasks))
    is_final = verdict.is_over and verdict.status in c.FINAL_STATUSES
    checkpoints, found = list[Checkpoint](), Difference()
    has_row = is_shown(state)
    is_announced = before.is_announced or (
        is_sure(states, key, state) and is_worth_a_message(state, verdict, rules.tasks)
    )
    is_delayed = not (is_announced or before.is_settling) and has_row and is_root(states, key, state)
    after = replace(
        before,
        has_started=before.has_started or state.has_root_span,
        is_over=is_final,
        is_failed=verdict.is_over and verdict.status == c.ERROR,
        is_announced=is_announced,
        is_settling=before.is_settling or is_delayed,
    )
    if after.has_started and not before.has_started:
        found.started.append(uid)
    if state.has_root_span or is_announced or not has_row:
        reports = report_runs(state, verdict, before.runs, has_row=has_row)
        if reports.after is not before.runs:
            after = replace(after, runs=reports.after)
        checkpoints, found.retracted = reports.checkpoints, reports.retracted
    if is_final and (runs := count_end(state, before, after.runs)) is not None:
        after = replace(after, runs=runs)
        found.ended.append(uid)
    if is_final:
        use_now = count(state)
        if use_now.growth is not None:
            after = replace(after, counted=use_now.counted)
            found.add(use_now.growth)
    elif not (after.is_counting or after.is_settling or is_counted(state)):
        after = replace(after, is_counting=True)
    if is_delayed:
        is_held = state.has_root_span and (own := states.subtree(key)) is not None and own.is_held
        found.timers.append(Timer(key, now + (HELD if is_held else rules.announce_delay)))
    elif (
        not (verdict.is_over or after.is_settling)
        and (delay := watched(state, rules)) is not None
        and (not after.is_counting or delay < rules.usage_delay)
    ):
        # The same timer counts its figures: of what has ended no more are expected.
        after = replace(after, watched_ns=state.facts.last_ns)
        found.timers.append(Timer(key, now + delay))
    elif after.is_counting and not before.is_counting:
        found.timers.append(Timer(key, now + rules.usage_delay))
    return JudgedTask(state, use, verdict, after, checkpoints, found)
