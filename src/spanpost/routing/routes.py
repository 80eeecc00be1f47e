"""Where news goes, and how much of it: from a task and its checkpoint to deliveries.

Rules:

1. Each enabled sink is asked by itself. Of its routes the first that matches is taken; without one, the sink's default.
2. A route that matches by what changes while a task runs (status, severity, cost) is taken *beside* the others and never ends
   the search: a message must not move when its task's status changes.
3. A task's deliveries are routed by its root task, so that a sub-agent's news stands in the thread of the message that
   carries it.
4. Nothing is told of a task that is not announced.
5. What was only inferred is told in `live` alone: a task that fell silent is seen in its message.
6. Of a task that a person muted only its questions, alerts and its end are told, and its message goes on.
7. Milestones of one message come at least `Route.interval` apart, and of those that wait the newest is told (`fold.milestones`).
   Nothing else waits.
8. In a sink that can edit its news (`Routes.editing`) a decision is shown where the question stands, and errors that are alike
   are one piece of news with a counter, and an alert that is over is shown where it was told.
9. An alert that is a task of its own is one message: its beginning and its end are no news beside it.
10. Of tasks that a digest tells of, only questions and alerts are told by themselves, failures too where the route says so. What has a
   message by that goes on in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Mode, Urgency
from spanpost.model.tasks import Task
from spanpost.routing.matching import Match, Severity, severity_of
from spanpost.routing.planned import ON_THE_WAY, Again, PlannedDelivery
from spanpost.routing.similarity import likeness
from spanpost.semconv import ERROR, FINAL_STATUSES

__all__ = ["Match", "Route", "Routes", "Severity", "Verbosity", "came_by", "chosen", "deliveries", "is_paced"]


class Verbosity(StrEnum):
    """How much of a task a route lets through."""

    #: Everything that was told, and what was inferred.
    LIVE = "live"
    #: No starts of parts; of what an agent says on its way the steps, and each fifth of its progress.
    MILESTONES = "milestones"
    #: Ends, alerts and questions to people; the message appears with the first of them.
    FINAL = "final"
    MUTE = "mute"


#: What an agent tells on its way.
_ON_THE_WAY = frozenset({Kind.CHECKPOINT, Kind.MILESTONE, Kind.ARTIFACT})
_FINAL_KINDS = frozenset({Kind.END, Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED, Kind.ALERT})
#: Of tasks that a digest tells of, too.
_ALWAYS = _FINAL_KINDS - {Kind.END}
#: Of an alert that is a task of its own its message says when it began and ended.
_BOUNDS = frozenset({Kind.START, Kind.END})
_PASSES: dict[Verbosity, frozenset[Kind]] = {
    Verbosity.LIVE: frozenset(Kind),
    # A checkpoint passes where it is a milestone.
    Verbosity.MILESTONES: frozenset(Kind) - {Kind.START, Kind.CHECKPOINT, Kind.STALLED},
    Verbosity.FINAL: _FINAL_KINDS,
    Verbosity.MUTE: frozenset(),
}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the routing table. What a sink makes of the lower half is the sink's affair; Slack makes use of all."""

    sink: str
    address: str = ""
    match: Match = Match()
    verbosity: Verbosity = Verbosity.LIVE
    #: News older than this is recorded and not told: a drained backlog must not page anyone. Open approvals still go out.
    max_age: timedelta = timedelta(minutes=15)
    #: Between two milestones of one message, at least.
    interval: timedelta = timedelta(0)
    #: Who is mentioned when a task fails or asks: ids as the sink knows them.
    mention: tuple[str, ...] = ()
    #: Stands before the task's name.
    prefix: str = ""
    #: Where deliveries go that this address refuses.
    fallback: str = ""
    #: What people and models said (questions' details, tool arguments, prompts) may be shown.
    shows_content: bool = True
    #: Nothing leaves: what would be sent is written down.
    is_dry: bool = False
    #: What we say is said in it: a code of `spanpost.text.locales`; empty: as the sink has it.
    language: str = ""
    #: One message for many tasks in place of theirs: ``hourly``, ``daily``; empty: each has its own (`fold.summaries`).
    digest: str = ""
    #: When a day of it begins: minutes after midnight in this zone (an IANA name).
    digest_at: int = 0
    zone: str = "UTC"
    #: Of those tasks the ones that fail have their messages all the same, when they have failed.
    tells_failures: bool = False
    #: One message that lists what is under way, edited at most so often.
    has_board: bool = False
    board_interval: timedelta = timedelta(minutes=1)


class Routes(msgspec.Struct, frozen=True, kw_only=True):
    """The routing table: the enabled sinks and, in order, the routes to them."""

    sinks: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    #: Those of the sinks that can edit news which they have shown.
    editing: frozenset[str] = frozenset()

    @property
    def attributes(self) -> frozenset[str]:
        """Names of the attributes that routes ask for and that no field of a task holds."""
        return frozenset(name for route in self.routes for name in route.match.kept)


def deliveries(
    task: Task,
    checkpoint: Checkpoint | None,
    routes: Routes,
    *,
    root: Task | None = None,
    now: datetime | None = None,
    is_milestone: bool = False,
) -> list[PlannedDelivery]:
    """Return who is told of a task's change and, when there is one, of its checkpoint.

    `root` is the task whose message carries this one (left out: the task itself, or it is not at hand). `now` is the
    store's clock; without it no news is too old. `is_milestone`: the checkpoint is one, whatever its kind.
    """
    carrier = task if root is None else root
    if not (task.is_announced and carrier.is_announced):
        return []
    root_uid = (task.root_uid or task.uid) if root is None else root.uid
    message_uid = carrier.message_uid or root_uid
    answer: dict[tuple[str, str], PlannedDelivery] = {}
    for route in chosen(carrier, routes):
        ordering_key = f"{route.sink}|{route.address}|{message_uid}"
        news = None
        is_muted = carrier.is_muted and checkpoint is not None and checkpoint.kind not in _FINAL_KINDS
        if checkpoint is not None and not is_muted and _passes(task, checkpoint, route, now, is_milestone=is_milestone):
            news = checkpoint
        urgency = _urgency(news)
        is_quiet = bool(route.digest) and not (news or carrier.open_approvals or carrier.is_alert)
        if is_quiet or route.verbosity in (Verbosity.LIVE, Verbosity.MILESTONES) or news or _is_worth_a_message(carrier, route):
            state = PlannedDelivery(
                sink=route.sink,
                address=route.address,
                ordering_key=ordering_key,
                mode=Mode.STATE,
                key=ordering_key,
                urgency=Urgency.END if urgency is Urgency.NORMAL and carrier.status in FINAL_STATUSES else urgency,
                task_uid=root_uid,
                is_quiet=is_quiet,
            )
            answer.setdefault((state.sink, state.key), state)
        if news is not None:
            for key, id, again in _tellings(task, news, ordering_key, is_editing=route.sink in routes.editing, is_spaced=bool(route.interval)):
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
                    interval=route.interval.total_seconds() if is_paced(news) else 0.0,
                )
                answer.setdefault((planned.sink, planned.key), planned)
    return list(answer.values())


def _tellings(task: Task, news: Checkpoint, ordering_key: str, *, is_editing: bool, is_spaced: bool) -> Iterator[tuple[str, UUID, Again]]:
    """Return under which keys news is told (empty: its checkpoint's), by which checkpoint, and what a repeat does."""
    if is_spaced and is_paced(news):
        yield f"{ordering_key}{ON_THE_WAY}", news.id, Again.NEWEST
    elif not is_editing:
        yield "", news.id, Again.NEVER
    elif news.kind is Kind.ERROR:
        yield f"{ordering_key}|{likeness(news)}", news.id, Again.COUNTED
    elif news.kind is Kind.ALERT:
        yield f"{ordering_key}|alert|{news.ref}", news.id, Again.CHANGED
    elif news.kind in (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED):
        told = task.approval_of(news.id)
        id = told.id if told is not None else news.ref
        # Every wording of the question that was told: one is decided, another void.
        others = [t for a in task.approvals if a.id == id and not a.is_open for t in (a.reported_by, a.escalated_by) if t is not None]
        if news.kind is Kind.APPROVAL_REQUESTED or not others:
            yield "", news.id, Again.NEVER
        yield from (("", other, Again.CHANGED) for other in others if other != news.id)
    else:
        yield "", news.id, Again.NEVER


def chosen(task: Task, routes: Routes, *, sink: str = "") -> Iterator[Route]:
    """Return the routes that a root task's deliveries take; of one sink where that is named."""
    for name in routes.sinks:
        if sink not in ("", name):
            continue
        found = False
        for route in routes.routes:
            if route.sink != name or not route.match.takes(task):
                continue
            if route.match.is_passing:
                yield route
            elif not found:
                found = True
                yield route
        if not found:
            yield Route(sink=name)


def came_by(routes: Sequence[Route], address: str, task: Task) -> Route | None:
    """Return the route by which a delivery came: of those to its address the first that takes its task."""
    same = [route for route in routes if route.address == address]
    return next((route for route in same if route.match.takes(task)), same[0] if same else None)


def places(task: Task, routes: Routes) -> list[str]:
    """Return where the message of a root task stands for good, sink and address."""
    return [f"{route.sink}|{route.address}" for route in chosen(task, routes) if not route.match.is_passing]


def is_paced(checkpoint: Checkpoint) -> bool:
    """Tell whether news is something on the way, of which the newest is enough."""
    return checkpoint.kind in _ON_THE_WAY


def _passes(task: Task, checkpoint: Checkpoint, route: Route, now: datetime | None, *, is_milestone: bool) -> bool:
    is_allowed = checkpoint.kind in _PASSES[route.verbosity] and not (task.is_alert and checkpoint.kind in _BOUNDS)
    if route.verbosity is Verbosity.MILESTONES:
        is_allowed = (is_allowed or (is_milestone and checkpoint.kind is Kind.CHECKPOINT)) and not (
            checkpoint.kind is Kind.COMPACTION and not checkpoint.is_told
        )
    if route.digest:
        has_failed = checkpoint.kind is Kind.END and checkpoint.status == ERROR
        is_allowed = is_allowed and (checkpoint.kind in _ALWAYS or (route.tells_failures and has_failed))
    if not is_allowed or severity_of(checkpoint) < route.match.least:
        return False
    if now is None or now - checkpoint.at <= route.max_age:
        return True
    return checkpoint.kind is Kind.APPROVAL_REQUESTED and any(a.id == checkpoint.ref for a in task.open_approvals)


def _is_worth_a_message(task: Task, route: Route) -> bool:
    is_calling = task.status in FINAL_STATUSES or bool(task.open_approvals) or task.is_alert
    return route.verbosity is Verbosity.FINAL and is_calling


def _urgency(checkpoint: Checkpoint | None) -> Urgency:
    if checkpoint is None:
        return Urgency.NORMAL
    match checkpoint.kind:
        case Kind.APPROVAL_REQUESTED | Kind.APPROVAL_RESOLVED:
            return Urgency.APPROVAL
        case Kind.END:
            return Urgency.END
        case Kind.ERROR | Kind.ALERT:
            return Urgency.ERROR
        case _:
            return Urgency.NORMAL
