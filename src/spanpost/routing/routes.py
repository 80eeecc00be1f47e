"""Where checkpoints go, and which of them: from a task and its checkpoint to deliveries.

Rules:

1. Each enabled sink is decided by itself. The first of its routes that matches is taken; without one, the
   sink's default.
2. A route that matches on what changes while a task runs (status, severity, cost, scores) is taken *beside* the
   others and never ends the search: a message must not move when its task's status changes.
3. A task's deliveries are routed by its root task, so that a sub-agent's checkpoints stand in the thread of
   the root task's message.
4. A task that is not announced has no deliveries.
5. Inferred checkpoints pass only with `live`: that a task stalled is also visible in its message.
6. Of a task that a person muted only questions, alerts and its end pass, and its message is still edited.
7. Milestones of one message come at least `Route.interval` apart, and of those that wait the newest is sent
   (`tasks.milestones`). Nothing else waits.
8. In a sink that can edit its checkpoints (`Routes.editing`) a decision is shown where the question stands,
   similar errors are one message with a counter, and an alert that is over is shown where it was posted.
9. An alert that is a task of its own is one message: its start and its end are not posted beside it.
10. What waits, and which ends are no line of a thread: `routing.noise`.
11. Of tasks in a digest only questions and alerts are posted by themselves, failures too where the route
    says so. A message that exists because of that is still edited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode
from spanpost.model.evaluations import scores
from spanpost.model.tasks import Task
from spanpost.routing import noise
from spanpost.routing.matching import Match, MatchIndex, Severity, Wanted, is_wanted, severity_of, severity_of_state
from spanpost.routing.planned import ON_THE_WAY, Again, PlannedDelivery
from spanpost.routing.similarity import likeness
from spanpost.routing.urgency import urgency_of, urgency_of_state
from spanpost.semconv import ERROR, FINAL_STATUSES, WAITING
from spanpost.text.rules import RedactionRule

__all__ = ["Match", "Route", "Routes", "Severity", "Verbosity", "came_by", "chosen", "deliveries", "is_paced"]


Weekday: TypeAlias = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Verbosity(StrEnum):
    """Which checkpoints of a task a route lets through."""

    #: All checkpoints, inferred ones too.
    LIVE = "live"
    #: No starts of child tasks; of an agent's progress the steps, and each fifth.
    MILESTONES = "milestones"
    #: Ends, alerts and questions to people; the message appears with the first of them.
    FINAL = "final"
    MUTE = "mute"


#: The sink whose users and channels a question may be passed on to.
SLACK = "slack"
#: Progress that an agent reports.
_ON_THE_WAY = frozenset({Kind.CHECKPOINT, Kind.MILESTONE, Kind.ARTIFACT})
_FINAL_KINDS = frozenset({Kind.END, Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED, Kind.ALERT})
#: Checkpoints that pass for tasks in a digest, too.
_ALWAYS = _FINAL_KINDS - {Kind.END}
#: The message of an alert that is a task of its own says when it began and ended, and what people did.
_BOUNDS = frozenset({Kind.START, Kind.END})
_SEVERITIES: dict[str | None, Severity] = {None: Severity.INFO, "warning": Severity.WARNING, "error": Severity.ERROR}
_PASSES: dict[Verbosity, frozenset[Kind]] = {
    Verbosity.LIVE: frozenset(Kind),
    # A checkpoint passes where it is a milestone.
    Verbosity.MILESTONES: frozenset(Kind) - {Kind.START, Kind.CHECKPOINT, Kind.STALLED},
    Verbosity.FINAL: _FINAL_KINDS,
    Verbosity.MUTE: frozenset(),
}


@dataclass(frozen=True, kw_only=True)
class Route(Match):
    """One line of the routing table. Sinks may use any of the lower fields; Slack uses all."""

    sink: str
    address: str = ""
    #: Statuses, least severity, least cost and low scores of the tasks: conditions on what changes while a task runs.
    status: Wanted = None
    severity: Literal["warning", "error"] | None = None
    cost_usd: Decimal | None = None
    #: Upper bound of a mean score of the task's evaluations, and the names of those that count.
    score_below: float | None = None
    evaluation: Wanted = None
    verbosity: Verbosity = Verbosity.LIVE
    #: Least time between two milestones of one message.
    interval: timedelta = timedelta(0)
    #: People to mention when a task fails or asks: ids as the sink knows them.
    mention: tuple[str, ...] = ()
    #: Least time that a task runs before it has a message, and before its end is a line of the thread.
    after: timedelta = timedelta(0)
    closing: timedelta = timedelta(0)
    #: Hours without new messages, in `timezone`: begin and end.
    quiet: tuple[time, time] | None = None
    #: Text before the task's name.
    prefix: str = ""
    #: Address for deliveries that this address refuses.
    fallback: str = ""
    #: Whether texts of people and models (questions' details, tool arguments, prompts) may be shown.
    content: bool = True
    #: Nothing is sent; what would be sent is logged.
    dry_run: bool = False
    #: What is hidden in what the route sends, besides what its sink hides.
    redact: tuple[RedactionRule, ...] = ()
    #: Locale of our own texts: a code of `spanpost.text.locales`; empty: the sink's.
    language: str = ""
    #: One message for many tasks in place of theirs; None: each has its own (`routing.summaries`).
    digest: Literal["hourly", "daily", "weekly"] | None = None
    #: Begin of a daily digest's day in this time zone (an IANA name), and of a weekly digest's week.
    digest_at: time = time(9)
    digest_day: Weekday = "monday"
    timezone: str = "UTC"
    #: Whether tasks in a digest that fail get messages of their own, once they have failed.
    digest_failures: bool = False
    #: Whether one message lists the running tasks, and how often it is edited at most.
    board: bool = False
    board_interval: timedelta = timedelta(minutes=1)

    @property
    def is_passing(self) -> bool:
        """True when it matches on something that changes while a task runs."""
        changing = (self.status, self.severity, self.cost_usd, self.score_below)
        return any(condition is not None for condition in changing)

    @property
    def least(self) -> Severity:
        """Least severity of its tasks and their checkpoints."""
        return _SEVERITIES[self.severity]

    @property
    def conditions(self) -> tuple[object, ...]:
        """All conditions on a task."""
        return (
            *(self.tenant, self.agent, self.topic, self.environment, self.service, self.repo),
            *(tuple(sorted(self.attributes.items())), self.status, self.severity, self.cost_usd),
            *(self.score_below, self.evaluation),
        )

    def takes(self, task: Task) -> bool:
        """Return whether the task matches."""
        return (
            super().takes(task)
            and (self.status is None or is_wanted(self.status, task.status))
            and (self.severity is None or severity_of_state(task) >= self.least)
            and (self.cost_usd is None or (task.cost_usd is not None and task.cost_usd >= self.cost_usd))
            and (self.score_below is None or self._is_low(task, self.score_below))
        )

    def _is_low(self, task: Task, bound: float) -> bool:
        return any(
            score < bound and is_wanted(self.evaluation, name) for name, score in scores(task.evaluations).items()
        )


class Routes(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The routing table: the enabled sinks and, in order, the routes to them."""

    sinks: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    #: The sinks that can edit checkpoints after they were shown.
    editing: frozenset[str] = frozenset()
    #: Older checkpoints are recorded and not sent: a drained backlog must not page people. Open approvals
    #: still go out.
    max_age: timedelta = timedelta(minutes=15)

    @property
    def attributes(self) -> frozenset[str]:
        """Names of the attributes that routes match on and that no field of a task holds."""
        return frozenset(name for route in self.routes for name in route.kept)

    @cached_property
    def _index(self) -> MatchIndex:
        return MatchIndex(self.routes)


def deliveries(
    task: Task,
    checkpoint: Checkpoint | None,
    routes: Routes,
    *,
    root: Task | None = None,
    now: datetime | None = None,
    is_milestone: bool = False,
) -> list[PlannedDelivery]:
    """Return the deliveries of a task's change and, when there is one, of its checkpoint.

    `root` is the task whose message carries this one (left out: the task itself, or it is not loaded). `now`
    is the store's clock; without it no checkpoint is too old. `is_milestone`: the checkpoint is one,
    whatever its kind.
    """
    carrier = task if root is None else root
    if not (task.is_announced and carrier.is_announced):
        return []
    root_uid = (task.root_uid or task.uid) if root is None else root.uid
    message_uid = carrier.message_uid or root_uid
    answer: dict[tuple[str, str], PlannedDelivery] = {}
    for route in chosen(carrier, routes):
        ordering_key = f"{route.sink}|{route.address}|{message_uid}"
        passed = None
        is_muted = carrier.is_muted and checkpoint is not None and checkpoint.kind not in _FINAL_KINDS
        is_editing = route.sink in routes.editing
        if (
            checkpoint is not None
            and not is_muted
            and _passes(task, checkpoint, route, now, routes.max_age, is_milestone=is_milestone)
            and noise.may_pass(route, checkpoint, carrier, now)
            and not (
                is_editing
                and noise.is_said_by_its_message(
                    route, task, checkpoint, carrier, is_live=route.verbosity is Verbosity.LIVE
                )
            )
        ):
            passed = checkpoint
        urgency = urgency_of(passed, is_root=task.uid == carrier.uid)
        is_quiet = (bool(route.digest) or noise.is_held(route, carrier, now)) and not (
            passed or carrier.open_approvals or carrier.is_alert
        )
        if (
            is_quiet
            or route.verbosity in (Verbosity.LIVE, Verbosity.MILESTONES)
            or passed
            or _is_worth_a_message(carrier, route)
        ):
            state = PlannedDelivery(
                sink=route.sink,
                address=route.address,
                ordering_key=ordering_key,
                mode=Mode.STATE,
                key=ordering_key,
                urgency=urgency_of_state(task, checkpoint, carrier, urgency),
                task_uid=root_uid,
                is_quiet=is_quiet,
            )
            answer.setdefault((state.sink, state.key), state)
        if passed is not None:
            is_spaced = bool(route.interval)
            for key, id, again in _keys_of(task, passed, ordering_key, is_editing=is_editing, is_spaced=is_spaced):
                planned = PlannedDelivery(
                    sink=route.sink,
                    address=route.address,
                    ordering_key=ordering_key,
                    mode=Mode.CHECKPOINT,
                    key=key or (f"{id}@{route.address}" if route.address else str(id)),
                    urgency=urgency,
                    task_uid=task.uid,
                    checkpoint_id=id,
                    again=again,
                    interval=route.interval.total_seconds() if is_paced(passed) else 0.0,
                )
                answer.setdefault((planned.sink, planned.key), planned)
    return list(answer.values())


def _keys_of(
    task: Task, checkpoint: Checkpoint, ordering_key: str, *, is_editing: bool, is_spaced: bool
) -> Iterator[tuple[str, UUID, Again]]:
    """Return the keys under which a checkpoint is sent (empty: its id), the checkpoint to show, and the
    effect of a repeat.
    """
    if is_spaced and is_paced(checkpoint):
        yield f"{ordering_key}{ON_THE_WAY}", checkpoint.id, Again.NEWEST
    elif not is_editing:
        yield "", checkpoint.id, Again.NEVER
    elif checkpoint.kind is Kind.ERROR:
        yield f"{ordering_key}|{likeness(checkpoint)}", checkpoint.id, Again.COUNTED
    elif checkpoint.kind is Kind.ALERT:
        yield f"{ordering_key}|alert|{checkpoint.ref}", checkpoint.id, Again.CHANGED
    elif checkpoint.kind in (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED):
        asked = task.approval_of(checkpoint.id)
        id = asked.id if asked is not None else checkpoint.ref
        # All closed wordings of the question that were sent: one is decided, another void.
        others = [
            t
            for a in task.approvals
            if a.id == id and (not a.is_open or a.approved_by)
            for t in (a.reported_by, a.escalated_by)
            if t is not None
        ]
        if checkpoint.kind is Kind.APPROVAL_REQUESTED or not others:
            yield "", checkpoint.id, Again.NEVER
        yield from (("", other, Again.CHANGED) for other in others if other != checkpoint.id)
    else:
        yield "", checkpoint.id, Again.NEVER


def chosen(task: Task, routes: Routes, *, sink: str = "") -> Iterator[Route]:
    """Return the routes of a root task's deliveries; only those to `sink` where it is named."""
    candidates = [routes.routes[number] for number in routes._index.candidates(task)]
    for name in routes.sinks:
        if sink not in ("", name):
            continue
        found = False
        for route in candidates:
            if route.sink != name or not route.takes(task):
                continue
            if route.is_passing:
                yield route
            elif not found:
                found = True
                yield route
        if not found:
            yield Route(sink=name)
        if name == SLACK:
            yield from _asked(task, candidates)


def _asked(task: Task, candidates: Iterable[Route]) -> Iterator[Route]:
    """Return routes to the places of the task's questions that were asked: they stay while the task has them."""
    if not any(approval.asked for approval in task.approvals):
        return
    own = next((route for route in candidates if route.sink == SLACK and route.takes(task)), Route(sink=SLACK))
    space = own.address.rpartition("/")[0]
    for place in dict.fromkeys(place for approval in task.approvals for place in approval.asked):
        yield Route(
            sink=SLACK,
            address=f"{space}/{place}" if space else place,
            status=WAITING,
            verbosity=Verbosity.FINAL,
            content=own.content,
            dry_run=own.dry_run,
            language=own.language,
        )


def came_by(routes: Sequence[Route], address: str, task: Task) -> Route | None:
    """Return the route of a delivery: the first to its address that matches its task, else the first to its address."""
    same = [route for route in routes if route.address == address]
    return next((route for route in same if route.takes(task)), same[0] if same else None)


def places(task: Task, routes: Routes) -> list[str]:
    """Return the permanent places of a root task's message: sink and address."""
    return [f"{route.sink}|{route.address}" for route in chosen(task, routes) if not route.is_passing]


def is_paced(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint is progress, of which the newest is enough."""
    return checkpoint.kind in _ON_THE_WAY


def _passes(
    task: Task, checkpoint: Checkpoint, route: Route, now: datetime | None, max_age: timedelta, *, is_milestone: bool
) -> bool:
    is_allowed = checkpoint.kind in _PASSES[route.verbosity] and not _is_in_its_message(task, checkpoint)
    if route.verbosity is Verbosity.MILESTONES:
        is_allowed = (is_allowed or (is_milestone and checkpoint.kind is Kind.CHECKPOINT)) and not (
            checkpoint.kind is Kind.COMPACTION and not checkpoint.is_reported
        )
    if route.digest:
        has_failed = checkpoint.kind is Kind.END and checkpoint.status == ERROR
        is_allowed = is_allowed and (checkpoint.kind in _ALWAYS or (route.digest_failures and has_failed))
    if not is_allowed or severity_of(checkpoint) < route.least:
        return False
    if now is None or now - checkpoint.at <= max_age:
        return True
    return checkpoint.kind is Kind.APPROVAL_REQUESTED and any(a.id == checkpoint.ref for a in task.open_approvals)


def _is_in_its_message(task: Task, checkpoint: Checkpoint) -> bool:
    """Return whether the message of an alert that is a task of its own says it."""
    if not task.is_alert:
        return False
    return checkpoint.kind in _BOUNDS or (
        checkpoint.kind is Kind.ALERT and checkpoint.ref.replace("-", "") == task.trace_id.hex()
    )


def _is_worth_a_message(task: Task, route: Route) -> bool:
    is_worth = task.status in FINAL_STATUSES or bool(task.open_approvals) or task.is_alert
    return route.verbosity is Verbosity.FINAL and is_worth
