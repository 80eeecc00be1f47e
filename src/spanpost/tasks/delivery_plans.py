"""Deliveries of one root task: which of its checkpoints go out now, and which are held until later."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import replace

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode
from spanpost.model.tasks import Task
from spanpost.routing import noise
from spanpost.routing.planned import Again, PlannedDelivery
from spanpost.routing.routes import Routes, chosen, deliveries, places
from spanpost.tasks import asking, milestones
from spanpost.tasks.folded import Timer
from spanpost.tasks.reported import Reported
from spanpost.tasks.work import Key


class RootMessage(msgspec.Struct, frozen=True, gc=False):
    """A root task whose message carries deliveries, its row, and the routes and the clock."""

    key: Key
    row: Task | None
    routes: Routes
    now: datetime

    @property
    def places(self) -> tuple[str, ...]:
        """The places where routes show its message."""
        return tuple(places(self.row, self.routes)) if self.row is not None and self.routes.routes else ()

    @property
    def held_until(self) -> datetime | None:
        """When its message is looked at again, because a route holds it now; None: no route does."""
        if self.row is None or not self.row.is_announced:
            return None
        held = [route for route in chosen(self.row, self.routes) if noise.is_held(route, self.row, self.now)]
        due = (noise.held_until(route, self.row, self.now) for route in held)
        return min((one for one in due if one is not None), default=None)

    def may_pass(self, planned: PlannedDelivery, checkpoint: Checkpoint) -> bool:
        """Tell whether a checkpoint may be a line of the thread of a planned delivery now."""
        if self.row is None:
            return False
        here = (r for r in chosen(self.row, self.routes) if (r.sink, r.address) == (planned.sink, planned.address))
        return any(noise.may_pass(route, checkpoint, self.row, self.now) for route in here)

    def planned(
        self, task: Task | None, checkpoint: Checkpoint | None, *, is_milestone: bool = False
    ) -> list[PlannedDelivery]:
        """Return the deliveries of a task's checkpoint, or of its state, that routes ask for."""
        if task is None or self.row is None:
            return []
        return deliveries(task, checkpoint, self.routes, root=self.row, now=self.now, is_milestone=is_milestone)


class RootPlan(msgspec.Struct, frozen=True, gc=False):
    """What is reported of a root task from now on, and the deliveries and timers that follow."""

    after: Reported
    deliveries: list[PlannedDelivery]
    timers: list[Timer]
    #: Its task, where its message may have moved.
    woken: list[UUID]


def plan(
    root: RootMessage, before: Reported, checkpoint: Checkpoint, of: Key, task: Task | None, *, is_milestone: bool
) -> RootPlan:
    """Plan the deliveries of a checkpoint of task `of`; a milestone or a question may have to wait."""
    if (after := asking.hold(before, task, checkpoint, of, root.now)) is not None:
        return RootPlan(after, [], asking.timer(root.key, after), [])
    if checkpoint.kind in asking.LIFE and asking.is_of_questions_alone(task):
        return RootPlan(before, [], [], [])
    held_back, found, timers = before.held_back, list[PlannedDelivery](), list[Timer]()
    for planned in root.planned(task, checkpoint, is_milestone=is_milestone):
        if planned.interval and planned.mode is Mode.CHECKPOINT:
            held_back, until = milestones.hold(held_back, planned, checkpoint, of, root.now)
            if until is not None:
                timers.append(Timer(milestones.timer_key(root.key), until))
                continue
        found.append(planned)
    if checkpoint.kind is Kind.END and of == root.key:
        held_back = milestones.without_held(held_back)
    elif held_back:
        held_back = milestones.before_later(held_back, found, checkpoint, root.now, root.may_pass)
    after = before if held_back is before.held_back else replace(before, held_back=held_back)
    is_posted = any(delivery.mode is Mode.CHECKPOINT for delivery in found)
    if checkpoint.kind is Kind.ERROR and not is_posted and root.held_until is not None:
        after = after.holding(checkpoint)  # until its message is posted
    if after.unasked and after.has_message:
        found = [delivery for delivery in found if delivery.mode is not Mode.STATE]
    return RootPlan(after, found, timers, [])


def _ask(root: RootMessage, before: Reported, row: Callable[[Key], Task | None]) -> RootPlan:
    """Plan the questions whose grace is over; forget those that were closed in it."""
    closed, found = set[str](), list[PlannedDelivery]()
    left = []
    for held in before.unasked:
        task = row(held.of) or root.row
        asked = task.approval_of(held.checkpoint.id) if task is not None else None
        if asked is None or not asked.is_open:
            closed.add(held.checkpoint.ref)
        elif held.due_at <= root.now.timestamp():
            found += root.planned(task, held.checkpoint)
        else:
            left.append(held)
    after = asking.without(replace(before, unasked=tuple(left)), closed)
    return RootPlan(after, found, asking.timer(root.key, after), [])


def plan_root(root: RootMessage, before: Reported, row: Callable[[Key], Task | None], *, is_due: bool) -> RootPlan:
    """Plan what a root task held until it was announced, the milestones that are due, and its state."""
    row_of, used = root.row, root.places
    has_moved = row_of is not None and bool(before.places) and before.places != used
    after, found, timers = before, list[PlannedDelivery](), list[Timer]()
    if before.unasked:
        now = _ask(root, before, row)
        after, found, timers = now.after, now.deliveries, now.timers
    if not found and (after.unasked or (not after.has_message and asking.is_unasked(after, row_of))):
        return RootPlan(after, [], timers, [])
    if not before.has_message or before.places != used or before.held:
        after = replace(after, has_message=True, places=used, held=())
    for checkpoint in before.held:
        planned = plan(root, after, checkpoint, root.key, row_of, is_milestone=True)
        after = planned.after
        found += planned.deliveries
        timers += planned.timers
    if is_due and (due := milestones.due(after.held_back, root.now)):
        for ordering_key, waiting in due.items():
            several = root.planned(row(waiting.of) or row_of, waiting.checkpoint, is_milestone=True)
            found += [delivery for delivery in several if delivery.ordering_key == ordering_key]
        after = replace(after, held_back=milestones.released(after.held_back, due, root.now))
    for asked in asking.newly_reported(after, row_of):
        again = asking.shown_again(asked, row_of, root.now) if row_of is not None else None
        found += [delivery for delivery in root.planned(row_of, again) if delivery.again is Again.CHANGED]
        after = asking.without(after, {asked.id})
    found += root.planned(row_of, None)
    if (held_until := root.held_until) is not None:
        timers = [*timers, Timer(milestones.message_timer_key(root.key), held_until)]
    # A message in a place that routes no longer use is checked.
    return RootPlan(after, found, timers, [row_of.uid] if row_of is not None and has_moved else [])
