"""The close of a batch: from what was reported before and what is known now to what is reported from now on.

Rules. The tasks are judged first (`judging`), then their rows are shown, then milestones are found, then the
checkpoints are planned in order of time, each for the message of its root task. A checkpoint of a task that
is not announced yet is held.

Theory. `close` reads records and changes none. The result says what is reported of each task from now on,
and the difference to before; `Fold.close` writes both. So the same records, checkpoints and clock give the
same result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import replace

from spanpost.model.budgets import Growth
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode
from spanpost.model.ids import uuid_of
from spanpost.model.tasks import Task
from spanpost.routing.planned import PlannedDelivery
from spanpost.tasks import milestones
from spanpost.tasks.announcing import is_root, is_worth_a_message
from spanpost.tasks.approvals import seconds_to_answer
from spanpost.tasks.budget_draws import Draws, given_back, inherited
from spanpost.tasks.checkpoints import TaskCheckpoint
from spanpost.tasks.context_use import use_of
from spanpost.tasks.counting import draw, moved_use
from spanpost.tasks.delivery_plans import RootMessage, RootPlan, plan, plan_root
from spanpost.tasks.folded import Difference, FoldRules, Timer
from spanpost.tasks.hierarchy import KeyedTask
from spanpost.tasks.judging import Judgements, judge_all
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.record_keys import seen_key
from spanpost.tasks.records import ChildTasks, Seen, TaskState
from spanpost.tasks.reported import NOT_REPORTED, NOWHERE, Reached, Reported
from spanpost.tasks.runs import is_loose, newest_keyed_run
from spanpost.tasks.status import judge
from spanpost.tasks.succession import gone_to, is_shown, successor_of
from spanpost.tasks.task_rows import agents_at_work, as_task
from spanpost.tasks.work import Key, RecordSet

#: At equal times a start comes first and an end last.
_TURN = {Kind.START: 0, Kind.END: 2}
_Order = tuple[datetime, int, UUID]
_NO_ID = UUID(int=0)

#: Length of the key of a subtree below a span.
_SUBTREE = 16 + 1 + 8


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What the close of a batch reads."""

    states: TaskStates
    seen: RecordSet[Seen]
    #: The checkpoints that the batch reports itself.
    reported: Sequence[TaskCheckpoint]
    #: Root tasks whose held milestones may be due.
    due: Collection[Key]
    rules: FoldRules
    now: datetime


class Closed(msgspec.Struct, frozen=True, gc=False):
    """What is reported of tasks from now on, the changed records of child tasks, and the difference to before."""

    after: dict[Key, Reported]
    child_tasks: dict[Key, ChildTasks]
    #: Keys of the milestones that were reached.
    milestones: list[Key]
    difference: Difference


class Rows:
    """The rows of tasks as a batch leaves them: each is made when it is first asked for."""

    def __init__(self, batch: Batch, judged: Judgements) -> None:
        self._batch, self._judged = batch, judged
        self._rows: dict[Key, Task | None] = {}

    def __call__(self, key: Key) -> Task | None:
        """Return the row of a task; None: there is no such task."""
        if key not in self._rows:
            state = self._batch.states.state(key)
            self._rows[key] = self._row(key, state) if state is not None else None
        return self._rows[key]

    def is_announced(self, task: KeyedTask) -> bool:
        """Tell whether a task is announced from now on."""
        judged = self._judged.tasks.get(task.key)
        return judged.after.is_announced if judged is not None else task.state.reported.is_announced

    def _is_below_many(self, task: KeyedTask) -> bool:
        """Tell whether a task is a root only because no more levels are followed, and is worth a message.

        It is never announced itself: the root above it is.
        """
        states = self._batch.states
        known = self._judged.tasks.get(task.key)
        rules = self._batch.rules
        verdict = known.verdict if known is not None else judge(task.state, use_of(task.state.facts, rules), rules)
        return not is_root(states, task.key, task.state) and is_worth_a_message(task.state, verdict, rules.tasks)

    def _row(self, key: Key, state: TaskState) -> Task:
        states, rules = self._batch.states, self._batch.rules
        known = self._judged.tasks.get(key)
        use = known.use if known is not None else use_of(state.facts, rules)
        children = self._judged.child_tasks.get(key) or states.child_tasks(key)
        verdict = known.verdict if known is not None else judge(state, use, rules, has_children=bool(children.tasks))
        root = states.root(key, state)
        return as_task(
            state,
            verdict,
            use,
            rules,
            parent=states.state(state.parent) if state.parent else None,
            root=root.state,
            is_announced=self.is_announced(root) or self._is_below_many(root),
            children=children.tasks,
            agents=self._judged.levels.below(key, children),
            team=_team(states, state),
            agents_at_work=agents_at_work(children, states.state) if not verdict.is_over else None,
        )


def _team(states: TaskStates, state: TaskState) -> Collection[str]:
    """Return the agents directly below the root of a task's newest run, not as its tools."""
    newest = newest_keyed_run(state)
    if newest is None or is_loose(newest.root):
        return ()
    return states.tree(newest.root[:16]).child_roots(newest.root[17:]).names


def close(batch: Batch) -> Closed:
    """Return what is reported of the touched tasks, and of those around them that this changes."""
    judged = judge_all(batch.states, batch.rules, batch.now)
    rows = Rows(batch, judged)
    shown = _show_all(batch, judged, rows)
    items = list(batch.reported)
    for key, one in judged.tasks.items():
        items += [TaskCheckpoint(checkpoint, key) for checkpoint in one.checkpoints]
    growths = _draw_all(batch, judged, rows, shown.after) if batch.rules.budgets else []
    found = _milestones(batch, judged, rows, items)
    after = {key: replace(shown.after[key], reached=reached) for key, reached in found.reached.items()}
    planned = _plan_all(batch, rows, {**shown.after, **after}, [*items, *found.made], found.ids, shown.roots)
    difference = Difference(
        used=moved_use(batch.states.moved_use),
        growths=growths,
        tasks=shown.tasks,
        gone=shown.gone,
        checkpoints=planned.checkpoints,
        waits=planned.waits,
        deliveries=planned.deliveries,
        timers=planned.timers,
        woken=shown.woken + planned.woken,
    )
    for one in judged.tasks.values():
        difference.add(one.difference)
    return Closed(planned.after, judged.child_tasks, found.seen, difference)


# --- rows ---------------------------------------------------------------------------------------------------------


class Shown(msgspec.Struct, frozen=True, gc=False):
    """The rows that are shown, what is reported of tasks then, and their root tasks."""

    after: dict[Key, Reported]
    roots: dict[Key, TaskState]
    tasks: list[Task]
    #: Tasks that are no longer shown and their successors; tasks whose messages may have moved.
    gone: list[tuple[UUID, UUID | None]]
    woken: list[UUID]


def _show_all(batch: Batch, judged: Judgements, rows: Rows) -> Shown:
    """Show the rows of the judged tasks; pass what they hold on to their roots."""
    states = batch.states
    found = Shown({key: one.after for key, one in judged.tasks.items()}, {}, [], [], [])
    after = found.after
    for key, one in judged.tasks.items():
        states.tick()
        state = one.state
        if not is_shown(state):
            if one.after.status:
                after[key] = replace(after[key], status="", shown_below=NOWHERE)
                found.gone.append(gone_to(states, key, state.uid))
            continue
        task = rows(key)
        assert task is not None
        found.tasks.append(task)
        root = states.root(key, state)
        found.roots[root.key] = root.state
        at = root.state.uid if rows.is_announced(root) else NOWHERE
        before, after[key] = after[key], show(after[key], task.status, at)
        if before.has_message and before.shown_below not in (b"", at):
            found.woken.append(task.uid)
        if root.state is not state and (waits := after[key].waits):
            after[root.key] = after.get(root.key, root.state.reported).taking(waits)
            after[key] = after[key].holding_nothing()
    return found


def show(before: Reported, status: str, below: bytes) -> Reported:
    """Return what is reported of a task after its row is shown below a root; `NOWHERE`: that is not announced."""
    if before.shown_below == below:
        return before if before.status == status else replace(before, status=status)
    # The former root's message shows it: checkpoints may still be on their way there.
    has_message = before.has_message or (below == NOWHERE and bool(before.shown_below))
    return replace(before, status=status, shown_below=below, has_message=has_message)


# --- budgets ------------------------------------------------------------------------------------------------------


def _draw_all(batch: Batch, judged: Judgements, rows: Rows, after: dict[Key, Reported]) -> list[Growth]:
    """Draw from budgets what the judged tasks are seen to have used; return the growth of the budgets' rows."""
    states, rules, now = batch.states, batch.rules, batch.now
    growths: list[Growth] = []
    passed_on: dict[Key, Draws] = {}
    for key, former in sorted(states.dropped.items()):
        draws = former.reported.drawn
        successor = successor_of(states, key) if draws else None
        if successor is not None and successor.key in judged.tasks:
            own = passed_on.get(successor.key, successor.state.reported.drawn)
            passed_on[successor.key], draws = inherited(own, draws)
        if draws:
            gone = Task(uid=uuid_of(former.uid), tenant=former.tenant, task_id="")
            growths += given_back(former.tenant, gone, draws, now)
    for key, one in judged.tasks.items():
        task = rows(key)
        if task is not None:
            task = _addressed(states, key, task)
            before = passed_on.get(key, one.state.reported.drawn)
            draws, grown = draw(one.state, task, before, rules, now, is_over=one.verdict.is_over)
            growths += grown
            if draws != one.state.reported.drawn:
                after[key] = replace(after[key], drawn=draws)
    return growths


def _addressed(states: TaskStates, key: Key, task: Task) -> Task:
    """Return a task whose root span is not known yet with another span of it: what a budget does is recorded there."""
    if task.span_id or task.task_id != task.trace_id.hex():
        return task
    spans = [own[17:] for own in states.members(key) if len(own) == _SUBTREE]
    return replace(task, span_id=min(spans)) if spans else task


# --- milestones ---------------------------------------------------------------------------------------------------


class Milestones(msgspec.Struct, frozen=True, gc=False):
    """What tasks have newly reached.

    The ids of all milestones, those that were made, and the keys by which they are known.
    """

    reached: dict[Key, Reached | None]
    ids: set[UUID]
    made: list[TaskCheckpoint]
    seen: list[Key]


def _milestones(batch: Batch, judged: Judgements, rows: Rows, items: Sequence[TaskCheckpoint]) -> Milestones:
    """Find the milestones that were reached: the agent's own checkpoints, else new ones."""
    found = Milestones({}, set(), [], [])
    for key, one in judged.tasks.items():
        # A step or progress that is known only at the end is no milestone.
        if not one.state.has_root_span or one.verdict.is_over:
            continue
        run, task = newest_keyed_run(one.state), rows(key)
        if run is None or task is None:
            continue
        own = milestones.reported_with(items, key)
        milestone = milestones.reached(one.state, task, run, is_reported=own is not None)
        if milestone.reached != one.after.reached:
            found.reached[key] = milestone.reached
        if milestone.checkpoint is None:
            continue
        seen = seen_key(run.root[:16], milestone.checkpoint.id.bytes)
        if batch.seen.get(seen) is not None:
            continue
        found.seen.append(seen)
        if own is None:
            found.made.append(TaskCheckpoint(milestone.checkpoint, key))
        found.ids.add(milestone.checkpoint.id if own is None else own.id)
    return found


# --- deliveries ---------------------------------------------------------------------------------------------------


class Planned(msgspec.Struct, frozen=True, gc=False):
    """The checkpoints in order of time and their deliveries, and what is reported of tasks then."""

    after: dict[Key, Reported]
    checkpoints: list[Checkpoint]
    #: By checkpoint: seconds from a question to its answer.
    waits: dict[UUID, float]
    deliveries: list[PlannedDelivery]
    timers: list[Timer]
    #: Tasks whose messages may have moved.
    woken: list[UUID]


def _plan_all(
    batch: Batch,
    rows: Rows,
    before: Mapping[Key, Reported],
    items: Sequence[TaskCheckpoint],
    milestones: Collection[UUID],
    roots: Mapping[Key, TaskState],
) -> Planned:
    """Plan the deliveries of the checkpoints, in order of time, and of the root tasks' states; hold the others."""
    states, after = batch.states, dict(before)
    found = Planned(after, [], {}, [], [], [])

    def carrier(key: Key) -> RootMessage:
        return RootMessage(key, rows(key), batch.rules.routes, batch.now)

    def keep(key: Key, more: RootPlan) -> None:
        after[key] = more.after
        found.deliveries.extend(more.deliveries)
        found.timers.extend(more.timers)
        found.woken.extend(more.woken)

    for checkpoint, key, is_reworded in sorted(items, key=lambda item: _in_order(item.checkpoint)):
        found.checkpoints.append(checkpoint)
        state = states.state(key)
        if state is None:
            continue
        if checkpoint.kind is Kind.APPROVAL_RESOLVED:
            wait = seconds_to_answer(state.facts, checkpoint.ref, checkpoint.trace_id.hex())
            if wait is not None:
                found.waits[checkpoint.id] = wait
        root = states.root(key, state)
        own = after.get(root.key, root.state.reported)
        if not is_shown(state):  # it has no row to show a checkpoint of
            after[key] = after.get(key, state.reported).holding(checkpoint)
        elif rows.is_announced(root) and is_shown(root.state):
            if is_reworded:
                continue
            is_milestone = checkpoint.id in milestones
            keep(root.key, plan(carrier(root.key), own, checkpoint, key, rows(key), is_milestone=is_milestone))
        else:
            after[root.key] = own.holding(checkpoint)
    for key, state in roots.items():
        if rows.is_announced(KeyedTask(key, state)) and is_shown(state):
            own = after.get(key, state.reported)
            keep(key, plan_root(carrier(key), own, rows, is_due=key in batch.due))
    held = (one for key in roots for one in before.get(key, NOT_REPORTED).held)
    order = {one.id: _in_order(one) for one in (*held, *(item.checkpoint for item in items))}
    return replace(found, deliveries=_in_thread_order(found.deliveries, order))


def _in_thread_order(deliveries: list[PlannedDelivery], order: Mapping[UUID, _Order]) -> list[PlannedDelivery]:
    """Return the deliveries with the lines of threads in order: what was held may be the cause of what is new."""

    def is_line(one: PlannedDelivery) -> bool:
        return one.mode is Mode.CHECKPOINT and one.checkpoint_id in order

    lines = iter(sorted(filter(is_line, deliveries), key=lambda one: order[one.checkpoint_id or _NO_ID]))
    return [next(lines) if is_line(one) else one for one in deliveries]


def _in_order(checkpoint: Checkpoint) -> _Order:
    """Sort by time; at equal times a start comes first and an end last."""
    return checkpoint.at, _TURN.get(checkpoint.kind, 1), checkpoint.id
