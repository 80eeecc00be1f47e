"""The close of a batch: judge the touched tasks, report their runs, write their rows, plan the deliveries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from spanpost import semconv as c
from spanpost.model.budgets import Growth
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode
from spanpost.model.ids import end_id, start_id, uuid_of
from spanpost.model.messages import LocaleMessage
from spanpost.model.recorded import FinalizedUsage
from spanpost.model.tasks import Task
from spanpost.routing.planned import PlannedDelivery
from spanpost.routing.routes import deliveries, places
from spanpost.tasks import checkpoints, milestones
from spanpost.tasks.amounts import ZERO, Amounts, Models, as_usage, dollars, minus, models_minus
from spanpost.tasks.approvals import seconds_to_answer
from spanpost.tasks.context_use import ContextUse, use_of
from spanpost.tasks.folded import Folded, FoldRules, Timer
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.records import NOWHERE, ChildTasks, Run, Seen, TaskState, seen_key
from spanpost.tasks.runs import newest_keyed_run, newest_run, runs_of
from spanpost.tasks.status import TaskVerdict, as_task, judge, may_be_given_up, of_past_run
from spanpost.tasks.succession import HELD_CAP, is_shown, pass_on_held, successor_of
from spanpost.tasks.times import EPOCH, moment
from spanpost.tasks.usage import by_model, counter_growth, figures, is_counted, unpriced, used
from spanpost.tasks.work import Key, RecordSet
from spanpost.text.wording import message, worded

#: Time without events after which a task whose last call failed counts as failed without an end of its root.
GIVEN_UP_AFTER = timedelta(seconds=60)
#: At equal times a start comes first and an end last.
_TURN = {Kind.START: 0, Kind.END: 2}

#: A checkpoint and the key of its task.
Item = tuple[Checkpoint, Key]


class Closing:
    """The close of one batch."""

    def __init__(self, states: TaskStates, rules: FoldRules, now: datetime, out: Folded, seen: RecordSet[Seen]) -> None:
        self.seen = seen
        self.states = states
        self.rules = rules
        self.now = now
        self.out = out
        #: Context use of each judged task.
        self._uses: dict[Key, ContextUse] = {}
        #: Tasks whose held milestones may be due.
        self._due: set[Key] = set()

    def judge(self, reported: list[Item]) -> None:
        """Judge every touched task and the tasks above them; then plan the deliveries of the checkpoints."""
        states, out = self.states, self.out
        for before, after, tenant, moved in states.moved_use:
            back: Models = {model: minus(ZERO, amounts) for model, amounts in moved.items()}
            out.used += used(before, tenant, back) + (used(after, tenant, moved) if after else [])
        verdicts: dict[Key, TaskVerdict] = {}
        states.touch_all_below()
        waiting, at = list(states.touched), 0
        while at < len(waiting) or (more := states.touch_all_below()):
            if at == len(waiting):
                waiting += more
            states.tick()
            key, at = waiting[at], at + 1  # grows while walked: a child's failure touches its parent
            state = states.state(key)
            if state is None:
                continue
            use = self._uses[key] = use_of(state.facts, self.rules)
            verdict = verdicts[key] = judge(state, use, self.rules)
            if not state.has_started and state.has_root_span:
                state.has_started = True
                out.started.append(uuid_of(state.uid))
            is_final = verdict.is_over and verdict.status in c.FINAL_STATUSES
            if is_final and self._is_first_end(state):
                out.ended.append(uuid_of(state.uid))
            state.is_over = is_final
            has_failed = verdict.status == c.ERROR and verdict.is_over
            is_at_work = not verdict.is_over and verdict.status in (c.WORKING, c.CONTEXT_WARNING)
            siblings = states.child_tasks(state.parent) if state.parent else ChildTasks()
            if has_failed != state.is_failed or (state.parent and is_at_work != (key in siblings.at_work)):
                state.is_failed = has_failed
                if state.parent:
                    siblings.tasks[key] = has_failed
                    siblings.at_work.pop(key, None)
                    if is_at_work:
                        siblings.at_work[key] = True
                    states.put_child_tasks(state.parent, siblings)
                    if state.parent not in states.touched:
                        states.touched[state.parent] = None
                        waiting.append(state.parent)
            self._announce(key, state)
            self._watch_usage(key, state)
            if not verdict.is_over and not (state.is_counting or state.is_settling):
                self._watch_stall(key, state)
            self.states.states.put(key, state)
        for key, verdict in verdicts.items():
            state = states.state(key)
            if state is not None and is_shown(state):
                self._runs(key, state, verdict, reported)
        self._plan_deliveries(verdicts, reported)

    @staticmethod
    def _is_first_end(state: TaskState) -> bool:
        """Tell whether to count the end of the newest run: each run once, under its first end status."""
        run = newest_run(state)
        if run is None:
            return not state.is_over
        is_first, run.is_counted = not run.is_counted, True
        return is_first

    def _announce(self, key: Key, state: TaskState) -> None:
        """Announce an explicit task, a live start and a top root span at once; let other tasks settle first.

        An explicit task with events only settles, too: its question may arrive before its start.
        """
        if state.is_announced:
            return
        is_sure = bool(state.task_id) and (state.has_root_span or _is_seen_at_work(state))
        if state.has_root_span and not is_sure:
            subtree = self.states.subtree(key)
            is_sure = subtree is not None and (subtree.is_live or subtree.is_top) and not subtree.is_held
        if is_sure:
            state.is_announced = True
            self.states.touch_below(key)
        elif not state.is_settling and is_shown(state) and self._is_root(key, state):
            state.is_settling = True
            self.out.timers.append(Timer(key, self.now + self.rules.settle))

    def _is_root(self, key: Key, state: TaskState) -> bool:
        """Tell whether a task is a root. One task of a cycle is a root too, whatever the order of arrival."""
        return not state.parent or self.states.root(key, state)[0] == key

    def _runs(self, key: Key, state: TaskState, verdict: TaskVerdict, reported: list[Item]) -> None:
        """Report the start and the end of each run, and revise them when the verdict changed."""
        if not state.has_root_span and not state.is_announced:
            return
        newest = newest_run(state)
        facts = state.facts
        known_as = facts.value("name") or facts.value("agent_label") or facts.value("service") or facts.value("model")
        uid = uuid_of(state.uid)
        known = runs_of(state)
        for root, run in state.runs.items():
            if root not in known:
                if run.reported_start or run.reported_end:
                    run.reported_start = run.reported_end = ""
                    self.out.retracted += [start_id(root), end_id(root)]
                continue
            started_ns = run.start_ns or state.facts.first_ns
            what = "checkpoint.resumed" if run.goes_on else "checkpoint.started"
            if run.reported_start != f"{what}\0{known_as}\0{started_ns}":
                run.reported_start = f"{what}\0{known_as}\0{started_ns}"
                start = message(what, name=str(known_as) if known_as else message("checkpoint.task"))
                reported.append(
                    (self._checkpoint(start_id(root), state, uid, Kind.START, c.STARTING, start, started_ns, run), key)
                )
            own = verdict if run is newest else of_past_run(run)
            if own is not None and own.is_over:
                end = checkpoints.end(own, started_ns)
                said = f"{own.status}\0{worded(end)[0]}\0{own.ended_ns}"
                if run.reported_end != said:
                    run.reported_end = said
                    reported.append(
                        (self._checkpoint(end_id(root), state, uid, Kind.END, own.status, end, own.ended_ns, run), key)
                    )
            elif run.reported_end:
                run.reported_end = ""
                self.out.retracted.append(end_id(root))
        self.states.states.put(key, state)

    @staticmethod
    def _checkpoint(
        id: UUID, state: TaskState, uid: UUID, kind: Kind, status: str, words: LocaleMessage, at_ns: int, run: Run
    ) -> Checkpoint:
        text, rendered = worded(words)
        return Checkpoint(
            id=id,
            tenant=state.tenant,
            task_uid=uid,
            kind=kind,
            status=status,
            text=text,
            message=rendered,
            at=moment(at_ns) or EPOCH,
            trace_id=run.trace_id or state.trace_id,
            span_id=run.span_id,
            subtree=run.span_id,
        )

    def _plan_deliveries(self, verdicts: dict[Key, TaskVerdict], reported: list[Item]) -> None:
        """Build the rows of the tasks and plan the deliveries that carry them."""
        out = self.out
        tasks: dict[Key, Task] = {}

        def row(key: Key) -> Task | None:
            known = tasks.get(key)
            if known is not None:
                return known
            state = self.states.state(key)
            if state is None:
                return None
            use = self._uses.get(key) or use_of(state.facts, self.rules)
            verdict = verdicts.get(key) or judge(state, use, self.rules)
            _, root = self.states.root(key, state)
            parent = self.states.state(state.parent) if state.parent else None
            child_tasks = self.states.child_tasks(key)
            doing = self._agents_at_work(child_tasks) if not verdict.is_over else None
            tasks[key] = as_task(
                state,
                verdict,
                use,
                self.rules,
                parent=parent,
                root=root,
                children=child_tasks.tasks,
                agents_at_work=doing,
            )
            return tasks[key]

        roots: dict[Key, TaskState] = {}
        for key in verdicts:
            self.states.tick()
            state = self.states.state(key)
            if state is None:
                continue
            if not is_shown(state):
                if state.status:
                    state.status, state.shown_below = "", NOWHERE
                    self.states.states.put(key, state)
                    successor = successor_of(self.states, key)[1]
                    out.gone.append((uuid_of(state.uid), uuid_of(successor.uid) if successor is not None else None))
                continue
            task = row(key)
            assert task is not None
            if state.status != task.status:
                state.status = task.status
                self.states.states.put(key, state)
            out.tasks.append(task)
            root_key, root = self.states.root(key, state)
            roots[root_key] = root
            if state.shown_below != (at := root.uid if root.is_announced else NOWHERE):
                if state.has_message and state.shown_below:
                    out.woken.append(task.uid)
                if at == NOWHERE and state.shown_below:
                    state.has_message = True  # the former root's: checkpoints may still be on their way there
                state.shown_below = at
                self.states.states.put(key, state)
            if root is not state and (state.held or state.held_back):
                pass_on_held(state, root)
                self.states.states.put(key, state)
                self.states.states.put(root_key, root)
        reached = self._milestones(verdicts, reported, row)
        for checkpoint, key in sorted(reported, key=_in_order):
            out.checkpoints.append(checkpoint)
            state = self.states.state(key)
            if state is None:
                continue
            if checkpoint.kind is Kind.APPROVAL_RESOLVED:
                wait = seconds_to_answer(state.facts, checkpoint.ref, checkpoint.trace_id.hex())
                if wait is not None:
                    out.waits[checkpoint.id] = wait
            root_key, root = self.states.root(key, state)
            if not is_shown(state):  # it has no row to show a checkpoint of
                state.held = [*state.held, checkpoint][-HELD_CAP:]
                self.states.states.put(key, state)
            elif root.is_announced and is_shown(root):
                self._plan(
                    checkpoint, key, row(key), row(root_key), (root_key, root), is_milestone=checkpoint.id in reached
                )
            else:
                root.held = [*root.held, checkpoint][-HELD_CAP:]
                self.states.states.put(root_key, root)
        for root_key, root in roots.items():
            if not root.is_announced or not is_shown(root):
                continue
            self._keep_place(root_key, root, row(root_key))
            if root.held:
                held, root.held = root.held, []
                self.states.states.put(root_key, root)
                for checkpoint in held:
                    self._plan(checkpoint, root_key, row(root_key), row(root_key), (root_key, root), is_milestone=True)
            for ordering_key, due in milestones.take_due(root, self.now) if root_key in self._due else ():
                self.states.states.put(root_key, root)
                assert due.checkpoint is not None
                plans = self._planned(row(due.of) or row(root_key), row(root_key), due.checkpoint, is_milestone=True)
                out.deliveries += [planned for planned in plans if planned.ordering_key == ordering_key]
            out.deliveries += self._planned(row(root_key), row(root_key), None)

    def _keep_place(self, key: Key, root: TaskState, task: Task | None) -> None:
        """Store where a root task's message is shown; check messages in places that routes no longer use."""
        found = places(task, self.rules.routes) if task is not None and self.rules.routes.routes else []
        if root.has_message and root.places == found:
            return
        if task is not None and root.places and root.places != found:
            self.out.woken.append(task.uid)
        root.has_message, root.places = True, found
        self.states.states.put(key, root)

    def _agents_at_work(self, child_tasks: ChildTasks) -> LocaleMessage | None:
        """Return the working agents of a task: "2 of 8 agents at work: planner, writer"."""
        if not child_tasks.at_work:
            return None
        names = []
        for key in sorted(child_tasks.at_work)[:3]:
            child = self.states.state(key)
            name = child.facts.value("name") if child is not None else None
            if name:
                names.append(str(name))
        many = len(child_tasks.tasks)
        some = (
            message("task.agents_at_work", open=len(child_tasks.at_work), all=many)
            if many > 1
            else message("task.agent_at_work")
        )
        return message("checkpoint.with_words", text=some, words=", ".join(sorted(names))) if names else some

    def _milestones(
        self, verdicts: dict[Key, TaskVerdict], reported: list[Item], row: Callable[[Key], Task | None]
    ) -> set[UUID]:
        """Add the milestones that were reached; return the ids of all milestones among the checkpoints."""
        found: set[UUID] = set()
        for key, verdict in verdicts.items():
            state = self.states.state(key)
            # A step or progress that is known only at the end is no milestone.
            if state is None or not state.has_root_span or verdict.is_over:
                continue
            run, task = newest_keyed_run(state), row(key)
            before, own = state.milestone, milestones.reported_with(reported, key)
            if (
                run is None
                or task is None
                or (milestone := milestones.reached(state, task, *run, is_reported=own is not None)) is None
            ):
                if state.milestone != before:
                    self.states.states.put(key, state)
                continue
            self.states.states.put(key, state)
            seen = seen_key(run[0][:16], milestone.id.bytes)
            if self.seen.get(seen) is not None:
                continue
            self.seen.put(seen, Seen())
            if own is None:
                reported.append((milestone, key))
            found.add(milestone.id if own is None else own.id)
        return found

    def _plan(
        self,
        checkpoint: Checkpoint,
        key: Key,
        task: Task | None,
        shown: Task | None,
        root: tuple[Key, TaskState],
        *,
        is_milestone: bool,
    ) -> None:
        """Plan the deliveries of a checkpoint; a milestone may have to wait for its interval."""
        root_key, state = root
        for planned in self._planned(task, shown, checkpoint, is_milestone=is_milestone):
            if planned.interval and planned.mode is Mode.CHECKPOINT:
                until = milestones.hold(state, planned, checkpoint, key, self.now)
                self.states.states.put(root_key, state)
                if until is not None:
                    self.out.timers.append(Timer(milestones.timer_key(root_key), until))
                    continue
            self.out.deliveries.append(planned)
        if checkpoint.kind is Kind.END and key == root_key and state.held_back:
            milestones.drop_held(state)
            self.states.states.put(root_key, state)

    def _planned(
        self, task: Task | None, root: Task | None, checkpoint: Checkpoint | None, *, is_milestone: bool = False
    ) -> list[PlannedDelivery]:
        if task is None or root is None:
            return []
        return deliveries(task, checkpoint, self.rules.routes, root=root, now=self.now, is_milestone=is_milestone)

    # --- time --------------------------------------------------------------------------------------------------------

    def mark_due(self, key: Key) -> None:
        """Mark a root task whose held milestone is due."""
        state = self.states.state(key)
        if state is not None:
            self._due.add(key)
            self.states.touch(key, state)

    def finalize(self, key: Key) -> None:
        """Announce a task whose settling time is over, if it is worth a message, and count its usage."""
        state = self.states.state(key)
        if state is None:
            return
        if state.is_settling and not state.is_announced:
            if _is_worth_a_message(state):
                state.is_announced = True
                self.states.touch_below(key)
                self.states.touch(key, state)
            else:  # judging it again would restart the settling, for ever
                self._count_usage(state)
        elif state.is_counting or state.is_settling:
            self._count_usage(state)  # only counters change, nothing that is shown
        state.is_settling = state.is_counting = False
        if may_be_given_up(state) and not state.is_over and state.facts.last_ns > state.quiet_ns:
            if state.watched_ns == state.facts.last_ns:
                state.quiet_ns = state.watched_ns
                self.states.touch(key, state)
            else:
                self._watch_stall(key, state)
        self.states.states.put(key, state)

    def _watch_stall(self, key: Key, state: TaskState) -> None:
        """Set a timer for a task whose last call failed: its root may never end, and retries take a while."""
        newest = state.facts.last_ns
        if state.watched_ns != newest and newest > state.quiet_ns and may_be_given_up(state):
            state.watched_ns = newest
            self.out.timers.append(Timer(key, self.now + GIVEN_UP_AFTER))

    # --- figures for counters ----------------------------------------------------------------------------------------

    def _count_usage(self, state: TaskState) -> None:
        """Hand the growth of the figures to the counters."""
        if is_counted(state):
            return
        whole = figures(state)
        grown, now = minus(whole, state.counted), by_model(state, whole)
        by = models_minus(now, state.counted_models)
        self.out.used += used(state.uid, state.tenant, by)
        if self.rules.budgets and grown is not ZERO:
            self._spend(state, whole, grown)
        before = state.counted_most
        state.counted, state.counted_models = whole, now
        state.counted_most = tuple(map(max, before, whole))  # type: ignore[assignment]
        if min(grown) < 0:
            self.out.corrections += 1
        facts = state.facts
        agent = facts.value("agent_name") or facts.value("agent_label")
        for model, more in counter_growth(whole, before, by).items():
            self.out.finalized.append(
                FinalizedUsage(
                    agent_name=agent,
                    tenant=state.tenant,
                    environment=facts.value("environment"),
                    model=model or facts.value("model"),
                    calls=more[0],
                    usage=as_usage(more),
                    unpriced=unpriced(more),
                )
            )

    def _spend(self, state: TaskState, whole: Amounts, grown: Amounts) -> None:
        """Hand the growth, or the decrease, of the figures to the budgets."""
        use = use_of(state.facts, self.rules)
        verdict = judge(state, use, self.rules)
        self.out.growths.append(
            Growth(
                # Budgets need the task that spends and its message, not its parent or children.
                task=as_task(state, verdict, use, self.rules, parent=None, root=state, children={}),
                calls=grown[0],
                unpriced=unpriced(whole) - unpriced(state.counted),
                tokens=grown[2] + grown[4],
                cost_usd=dollars(grown[12]),
            )
        )

    def _watch_usage(self, key: Key, state: TaskState) -> None:
        """Have the figures counted: now when the run has ended, else when they have settled."""
        if state.is_over:
            self._count_usage(state)
        elif not is_counted(state) and not (state.is_counting or state.is_settling):
            state.is_counting = True
            self.out.timers.append(Timer(key, self.now + self.rules.usage_settles))


def _is_seen_at_work(state: TaskState) -> bool:
    """Tell whether work is known of a task without a run: a session that was joined in the middle."""
    return state.amounts[0] > 0 or any(state.tools) or state.facts.value("is_session") is not None


def _is_worth_a_message(state: TaskState) -> bool:
    """Tell whether to announce a task: not a lone model call, nor tools without a model (a tool server)."""
    if state.has_root_span or state.task_id or state.amounts[0] > 1 or (state.amounts[0] and any(state.tools)):
        return True
    if state.amounts[0] and state.facts.value("failed_turn") is not None:
        return True  # a run whose root never arrives, as smolagents\' does not when its model fails
    return bool(state.facts.maps.keys() - {"acts", "attributes"}) or state.facts.value("status") is not None


def _in_order(item: Item) -> tuple[datetime, int, UUID]:
    """Sort by time; at equal times a start comes first and an end last."""
    checkpoint = item[0]
    return checkpoint.at, _TURN.get(checkpoint.kind, 1), checkpoint.id
