"""How a batch closes: every task that was touched is judged, its segments told, its row made and its news addressed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from spanpost import conventions as c
from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.deliveries import Mode
from spanpost.domain.messages import Saying
from spanpost.domain.records import Settled
from spanpost.domain.spend import Growth
from spanpost.domain.tasks import Task
from spanpost.fold import milestones, tell
from spanpost.fold.approvals import seconds_to_answer
from spanpost.fold.batch import Folded, Rules, Timer
from spanpost.fold.figures import by_model, figures, is_counted, told_more, unpriced, used
from spanpost.fold.flow import ZERO, Flow, Models, as_usage, dollars, minus, models_minus
from spanpost.fold.groups import Groups
from spanpost.fold.handover import HELD_CAP, heir_of, is_shown, pass_on_held
from spanpost.fold.ids import end_id, start_id, uuid_of
from spanpost.fold.letters import Letter
from spanpost.fold.moments import EPOCH, moment
from spanpost.fold.records import NOWHERE, Group, Offspring, Seen, Segment, seen_key
from spanpost.fold.routes import letters, places
from spanpost.fold.segments import newest_run, newest_segment, runs
from spanpost.fold.tasks import Verdict, as_task, judge, may_be_given_up, of_past_segment
from spanpost.fold.use import Use, use_of
from spanpost.fold.wording import message, worded
from spanpost.fold.work import Key, Shelf

#: How long a task whose last call failed may be silent before it counts as failed without its root.
GIVEN_UP_AFTER = timedelta(seconds=60)
#: Of one moment a start comes first and an end last.
_TURN = {Kind.START: 0, Kind.END: 2}

#: News and the task that it is of.
Item = tuple[Checkpoint, Key]


class Closing:
    """The judging of one batch's tasks."""

    def __init__(self, groups: Groups, rules: Rules, now: datetime, out: Folded, seen: Shelf[Seen]) -> None:
        self.seen = seen
        self.groups = groups
        self.rules = rules
        self.now = now
        self.out = out
        #: How full the context of each task is that was judged.
        self._uses: dict[Key, Use] = {}
        #: Tasks of which held milestones may be due.
        self._due: set[Key] = set()

    def judge(self, news: list[Item]) -> None:
        """Judge every task that was touched, and those above them; then address the news."""
        groups, out = self.groups, self.out
        for before, after, tenant, moved in groups.moved_use:
            back: Models = {model: minus(ZERO, flow) for model, flow in moved.items()}
            out.used += used(before, tenant, back) + (used(after, tenant, moved) if after else [])
        verdicts: dict[Key, Verdict] = {}
        groups.touch_all_below()
        waiting, at = list(groups.touched), 0
        while at < len(waiting) or (more := groups.touch_all_below()):
            if at == len(waiting):
                waiting += more
            groups.tick()
            key, at = waiting[at], at + 1  # it grows while it is walked: a child's failure touches its parent
            group = groups.group(key)
            if group is None:
                continue
            use = self._uses[key] = use_of(group.facts, self.rules)
            verdict = verdicts[key] = judge(group, use, self.rules)
            if not group.has_started and group.has_box:
                group.has_started = True
                out.started.append(uuid_of(group.uid))
            is_final = verdict.is_over and verdict.status in c.FINAL_STATUSES
            if is_final and self._is_first_end(group):
                out.ended.append(uuid_of(group.uid))
            group.is_over = is_final
            has_failed = verdict.status == c.ERROR and verdict.is_over
            is_at_work = not verdict.is_over and verdict.status in (c.WORKING, c.CONTEXT_WARNING)
            siblings = groups.offspring(group.parent) if group.parent else Offspring()
            if has_failed != group.is_failed or (group.parent and is_at_work != (key in siblings.at_work)):
                group.is_failed = has_failed
                if group.parent:
                    siblings.tasks[key] = has_failed
                    siblings.at_work.pop(key, None)
                    if is_at_work:
                        siblings.at_work[key] = True
                    groups.put_offspring(group.parent, siblings)
                    if group.parent not in groups.touched:
                        groups.touched[group.parent] = None
                        waiting.append(group.parent)
            self._announce(key, group)
            self._watch_usage(key, group)
            if not verdict.is_over and not (group.is_counting or group.is_settling):
                self._watch_silence(key, group)
            self.groups.groups.put(key, group)
        for key, verdict in verdicts.items():
            group = groups.group(key)
            if group is not None and is_shown(group):
                self._segments(key, group, verdict, news)
        self._address(verdicts, news)

    @staticmethod
    def _is_first_end(group: Group) -> bool:
        """Tell whether the run that ended is to be counted: each is once, under the status that it ended in first."""
        run = newest_segment(group)
        if run is None:
            return not group.is_over
        is_first, run.is_counted = not run.is_counted, True
        return is_first

    def _announce(self, key: Key, group: Group) -> None:
        """Announce at once an explicit task, a live start of a box, a parentless box; give the rest time to settle.

        An explicit task of which only events are known settles, too: its question may have come by a faster way than its start.
        """
        if group.is_announced:
            return
        is_sure = bool(group.task_id) and (group.has_box or _is_seen_at_work(group))
        if group.has_box and not is_sure:
            unit = self.groups.unit(key)
            is_sure = unit is not None and (unit.is_live or unit.is_top) and not unit.is_held
        if is_sure:
            group.is_announced = True
            self.groups.touch_below(key)
        elif not group.is_settling and is_shown(group) and self._is_root(key, group):
            group.is_settling = True
            self.out.timers.append(Timer(key, self.now + self.rules.settle))

    def _is_root(self, key: Key, group: Group) -> bool:
        """Of tasks that hang in a circle one is the root too: else it would depend on the order whether it was ever announced."""
        return not group.parent or self.groups.root(key, group)[0] == key

    def _segments(self, key: Key, group: Group, verdict: Verdict, news: list[Item]) -> None:
        """Tell the start and the end of each segment, and revise what was told when the verdict changed."""
        if not group.has_box and not group.is_announced:
            return
        newest = newest_segment(group)
        facts = group.facts
        known_as = facts.value("name") or facts.value("agent_label") or facts.value("service") or facts.value("model")
        uid = uuid_of(group.uid)
        known = runs(group)
        for root, segment in group.segments.items():
            if root not in known:
                if segment.told_start or segment.told_end:
                    segment.told_start = segment.told_end = ""
                    self.out.retracted += [start_id(root), end_id(root)]
                continue
            started_ns = segment.start_ns or group.facts.first_ns
            what = "checkpoint.resumed" if segment.goes_on else "checkpoint.started"
            if segment.told_start != f"{what}\0{known_as}\0{started_ns}":
                segment.told_start = f"{what}\0{known_as}\0{started_ns}"
                start = message(what, name=str(known_as) if known_as else message("checkpoint.task"))
                news.append((self._news(start_id(root), group, uid, Kind.START, c.STARTING, start, started_ns, segment), key))
            own = verdict if segment is newest else of_past_segment(segment)
            if own is not None and own.is_over:
                end = tell.end(own, started_ns)
                said = f"{own.status}\0{worded(end)[0]}\0{own.ended_ns}"
                if segment.told_end != said:
                    segment.told_end = said
                    news.append((self._news(end_id(root), group, uid, Kind.END, own.status, end, own.ended_ns, segment), key))
            elif segment.told_end:
                segment.told_end = ""
                self.out.retracted.append(end_id(root))
        self.groups.groups.put(key, group)

    @staticmethod
    def _news(id: UUID, group: Group, uid: UUID, kind: Kind, status: str, said: Saying, at_ns: int, segment: Segment) -> Checkpoint:
        text, saying = worded(said)
        return Checkpoint(
            id=id,
            tenant=group.tenant,
            task_uid=uid,
            kind=kind,
            status=status,
            text=text,
            message=saying,
            at=moment(at_ns) or EPOCH,
            trace_id=segment.trace_id or group.trace_id,
            span_id=segment.span_id,
            unit=segment.span_id,
        )

    def _address(self, verdicts: dict[Key, Verdict], news: list[Item]) -> None:
        """Make the rows of the tasks and the letters that carry them."""
        out = self.out
        tasks: dict[Key, Task] = {}

        def row(key: Key) -> Task | None:
            known = tasks.get(key)
            if known is not None:
                return known
            group = self.groups.group(key)
            if group is None:
                return None
            use = self._uses.get(key) or use_of(group.facts, self.rules)
            verdict = verdicts.get(key) or judge(group, use, self.rules)
            _, root = self.groups.root(key, group)
            parent = self.groups.group(group.parent) if group.parent else None
            offspring = self.groups.offspring(key)
            doing = self._agents_at_work(offspring) if not verdict.is_over else None
            tasks[key] = as_task(
                group, verdict, use, self.rules, parent=parent, root=root, children=offspring.tasks, agents_at_work=doing
            )
            return tasks[key]

        roots: dict[Key, Group] = {}
        for key in verdicts:
            self.groups.tick()
            group = self.groups.group(key)
            if group is None:
                continue
            if not is_shown(group):
                if group.status:
                    group.status, group.shown_below = "", NOWHERE
                    self.groups.groups.put(key, group)
                    heir = heir_of(self.groups, key)[1]
                    out.gone.append((uuid_of(group.uid), uuid_of(heir.uid) if heir is not None else None))
                continue
            task = row(key)
            assert task is not None
            if group.status != task.status:
                group.status = task.status
                self.groups.groups.put(key, group)
            out.tasks.append(task)
            root_key, root = self.groups.root(key, group)
            roots[root_key] = root
            if group.shown_below != (at := root.uid if root.is_announced else NOWHERE):
                if group.has_message and group.shown_below:
                    out.woken.append(task.uid)
                if at == NOWHERE and group.shown_below:
                    group.has_message = True  # the root's that it left told of it: some news may still be on its way there
                group.shown_below = at
                self.groups.groups.put(key, group)
            if root is not group and (group.held or group.held_back):
                pass_on_held(group, root)
                self.groups.groups.put(key, group)
                self.groups.groups.put(root_key, root)
        reached = self._milestones(verdicts, news, row)
        for checkpoint, key in sorted(news, key=_in_order):
            out.checkpoints.append(checkpoint)
            group = self.groups.group(key)
            if group is None:
                continue
            if checkpoint.kind is Kind.APPROVAL_RESOLVED:
                wait = seconds_to_answer(group.facts, checkpoint.ref, checkpoint.trace_id.hex())
                if wait is not None:
                    out.waits[checkpoint.id] = wait
            root_key, root = self.groups.root(key, group)
            if not is_shown(group):  # it has no row of which anything could be told
                group.held = [*group.held, checkpoint][-HELD_CAP:]
                self.groups.groups.put(key, group)
            elif root.is_announced and is_shown(root):
                self._tell(checkpoint, key, row(key), row(root_key), (root_key, root), is_milestone=checkpoint.id in reached)
            else:
                root.held = [*root.held, checkpoint][-HELD_CAP:]
                self.groups.groups.put(root_key, root)
        for root_key, root in roots.items():
            if not root.is_announced or not is_shown(root):
                continue
            self._keep_place(root_key, root, row(root_key))
            if root.held:
                held, root.held = root.held, []
                self.groups.groups.put(root_key, root)
                for checkpoint in held:
                    self._tell(checkpoint, root_key, row(root_key), row(root_key), (root_key, root), is_milestone=True)
            for lane, due in milestones.due(root, self.now) if root_key in self._due else ():
                self.groups.groups.put(root_key, root)
                assert due.checkpoint is not None
                told = self._addressed(row(due.of) or row(root_key), row(root_key), due.checkpoint, is_milestone=True)
                out.letters += [letter for letter in told if letter.lane == lane]
            out.letters += self._addressed(row(root_key), row(root_key), None)

    def _keep_place(self, key: Key, root: Group, task: Task | None) -> None:
        """Remember that a root task has a message and where; what stands where it is not sent any more is to be looked at."""
        found = places(task, self.rules.routes) if task is not None and self.rules.routes.routes else []
        if root.has_message and root.places == found:
            return
        if task is not None and root.places and root.places != found:
            self.out.woken.append(task.uid)
        root.has_message, root.places = True, found
        self.groups.groups.put(key, root)

    def _agents_at_work(self, offspring: Offspring) -> Saying | None:
        """Return which of a task's agents are at work: "2 of 8 agents at work: planner, writer"."""
        if not offspring.at_work:
            return None
        names = []
        for key in sorted(offspring.at_work)[:3]:
            child = self.groups.group(key)
            name = child.facts.value("name") if child is not None else None
            if name:
                names.append(str(name))
        many = len(offspring.tasks)
        some = message("task.agents_at_work", open=len(offspring.at_work), all=many) if many > 1 else message("task.agent_at_work")
        return message("checkpoint.with_words", text=some, words=", ".join(sorted(names))) if names else some

    def _milestones(self, verdicts: dict[Key, Verdict], news: list[Item], row: Callable[[Key], Task | None]) -> set[UUID]:
        """Add the milestones that were reached to the news; return which of the news are some."""
        found: set[UUID] = set()
        for key, verdict in verdicts.items():
            group = self.groups.group(key)
            # What follows comes later: what is known only at the end is no news of the way.
            if group is None or not group.has_box or verdict.is_over:
                continue
            run, task = newest_run(group), row(key)
            before, told = group.milestone, milestones.told_with(news, key)
            if (
                run is None
                or task is None
                or (milestone := milestones.reached(group, task, *run, is_told=told is not None)) is None
            ):
                if group.milestone != before:
                    self.groups.groups.put(key, group)
                continue
            self.groups.groups.put(key, group)
            seen = seen_key(run[0][:16], milestone.id.bytes)
            if self.seen.get(seen) is not None:
                continue
            self.seen.put(seen, Seen())
            if told is None:
                news.append((milestone, key))
            found.add(milestone.id if told is None else told.id)
        return found

    def _tell(
        self, news: Checkpoint, key: Key, task: Task | None, shown: Task | None, root: tuple[Key, Group], *, is_milestone: bool
    ) -> None:
        """Address news; what is only on the way may have to wait for its time."""
        root_key, group = root
        for letter in self._addressed(task, shown, news, is_milestone=is_milestone):
            if letter.every and letter.mode is Mode.NEWS:
                until = milestones.is_held(group, letter, news, key, self.now)
                self.groups.groups.put(root_key, group)
                if until is not None:
                    self.out.timers.append(Timer(milestones.timer_key(root_key), until))
                    continue
            self.out.letters.append(letter)
        if news.kind is Kind.END and key == root_key and group.held_back:
            milestones.let_go(group)
            self.groups.groups.put(root_key, group)

    def _addressed(
        self, task: Task | None, root: Task | None, checkpoint: Checkpoint | None, *, is_milestone: bool = False
    ) -> list[Letter]:
        if task is None or root is None:
            return []
        return letters(task, checkpoint, self.rules.routes, root=root, now=self.now, is_milestone=is_milestone)

    # --- time ---------------------------------------------------------------------------------------------------------

    def tell_held(self, key: Key) -> None:
        """The time of a milestone has come that was held."""
        group = self.groups.group(key)
        if group is not None:
            self._due.add(key)
            self.groups.touch(key, group)

    def settled(self, key: Key) -> None:
        """The settling time of a task is over: announce it if there is something to announce."""
        group = self.groups.group(key)
        if group is None:
            return
        if group.is_settling and not group.is_announced:
            if _is_worth_a_message(group):
                group.is_announced = True
                self.groups.touch_below(key)
                self.groups.touch(key, group)
            else:  # judged again it would settle again, and so for ever
                self._count_usage(group)
        elif group.is_counting or group.is_settling:
            self._count_usage(group)  # for the counters alone: nothing that anybody is shown has changed
        group.is_settling = group.is_counting = False
        if may_be_given_up(group) and not group.is_over and group.facts.last_ns > group.quiet_ns:
            if group.watched_ns == group.facts.last_ns:
                group.quiet_ns = group.watched_ns
                self.groups.touch(key, group)
            else:
                self._watch_silence(key, group)
        self.groups.groups.put(key, group)

    def _watch_silence(self, key: Key, group: Group) -> None:
        """Look again at a task whose last call failed: roots of failed runs are lost, and retries take a while."""
        newest = group.facts.last_ns
        if group.watched_ns != newest and newest > group.quiet_ns and may_be_given_up(group):
            group.watched_ns = newest
            self.out.timers.append(Timer(key, self.now + GIVEN_UP_AFTER))

    # --- figures for counters -----------------------------------------------------------------------------------------

    def _count_usage(self, group: Group) -> None:
        """Hand what the figures grew by to the counters."""
        if is_counted(group):
            return
        whole = figures(group)
        grown, now = minus(whole, group.counted), by_model(group, whole)
        by = models_minus(now, group.counted_models)
        self.out.used += used(group.uid, group.tenant, by)
        if self.rules.budgets and grown is not ZERO:
            self._spend(group, whole, grown)
        before = group.told
        group.counted, group.counted_models = whole, now
        group.told = tuple(map(max, before, whole))  # type: ignore[assignment]
        if min(grown) < 0:
            self.out.corrections += 1
        facts = group.facts
        agent = facts.value("agent_name") or facts.value("agent_label")
        for model, more in told_more(whole, before, by).items():
            self.out.settled.append(
                Settled(
                    agent_name=agent,
                    tenant=group.tenant,
                    environment=facts.value("environment"),
                    model=model or facts.value("model"),
                    calls=more[0],
                    usage=as_usage(more),
                    unpriced=unpriced(more),
                )
            )

    def _spend(self, group: Group, whole: Flow, grown: Flow) -> None:
        """Hand what the figures grew by, or shrank, to the budgets."""
        use = use_of(group.facts, self.rules)
        verdict = judge(group, use, self.rules)
        self.out.growths.append(
            Growth(
                # Who spends, and where it is told of: of its family nothing is asked.
                task=as_task(group, verdict, use, self.rules, parent=None, root=group, children={}),
                calls=grown[0],
                unpriced=unpriced(whole) - unpriced(group.counted),
                tokens=grown[2] + grown[4],
                cost_usd=dollars(grown[12]),
            )
        )

    def _watch_usage(self, key: Key, group: Group) -> None:
        """Have the figures counted: now when the run has ended, else in a while."""
        if group.is_over:
            self._count_usage(group)
        elif not is_counted(group) and not (group.is_counting or group.is_settling):
            group.is_counting = True
            self.out.timers.append(Timer(key, self.now + self.rules.usage_settles))


def _is_seen_at_work(group: Group) -> bool:
    """Tell whether more than news is known of a task of which no run is: a session that is met in the middle."""
    return group.flow[0] > 0 or any(group.tools) or group.facts.value("is_session") is not None


def _is_worth_a_message(group: Group) -> bool:
    """A lone model call, or tools that no model asked for (a server of tools), are recorded and not announced."""
    if group.has_box or group.task_id or group.flow[0] > 1 or (group.flow[0] and any(group.tools)):
        return True
    if group.flow[0] and group.facts.value("failed_turn") is not None:
        return True  # a run whose root is lost, as smolagents' is when its model fails
    return bool(group.facts.maps.keys() - {"acts", "attributes"}) or group.facts.value("status") is not None


def _in_order(news: Item) -> tuple[datetime, int, UUID]:
    """Sort news by time; of one moment a start comes first and an end last."""
    checkpoint = news[0]
    return checkpoint.at, _TURN.get(checkpoint.kind, 1), checkpoint.id
