"""Where news goes: from a task and its checkpoint to letters.

Rules:

1. Each enabled sink is asked by itself. Of its routes the first that matches is taken; without one, the sink's default.
2. A route that matches by status is taken *beside* the others and never ends the search: a message must not move when
   its task's status changes.
3. A task's letters are routed by its root task, so that a sub-agent's news stands in the thread of the message that
   carries it.
4. Nothing is told of a task that is not announced.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from spanpost.conventions import FINAL_STATUSES
from spanpost.domain.checkpoints import Checkpoint, Kind
from spanpost.domain.deliveries import Mode, Urgency
from spanpost.domain.tasks import Task
from spanpost.fold.letters import Letter


class Verbosity(StrEnum):
    """How much of a task a route lets through."""

    LIVE = "live"
    #: No starts of parts.
    MILESTONES = "milestones"
    #: Ends and questions to people; the message appears with the first of them.
    FINAL = "final"
    MUTE = "mute"


_FINAL_KINDS = frozenset({Kind.END, Kind.APPROVAL_REQUESTED, Kind.APPROVAL_RESOLVED})
_PASSES: dict[Verbosity, frozenset[Kind]] = {
    Verbosity.LIVE: frozenset(Kind),
    Verbosity.MILESTONES: frozenset(Kind) - {Kind.START},
    Verbosity.FINAL: _FINAL_KINDS,
    Verbosity.MUTE: frozenset(),
}


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """What a route asks of a task: each field that is given must be equal. An empty match takes everything."""

    tenant: str | None = None
    agent: str | None = None
    topic: str | None = None
    environment: str | None = None
    status: str | None = None

    def takes(self, task: Task) -> bool:
        """Say whether the task is the route's."""
        return (
            (self.tenant is None or self.tenant == task.tenant)
            and (self.agent is None or self.agent == task.agent_name)
            and (self.topic is None or self.topic == task.topic)
            and (self.environment is None or self.environment == task.environment)
            and (self.status is None or self.status == task.status)
        )


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the routing table."""

    sink: str
    address: str = ""
    match: Match = Match()
    verbosity: Verbosity = Verbosity.LIVE
    #: News older than this is recorded and not told: a drained backlog must not page anyone. Open approvals still go out.
    max_age: timedelta = timedelta(minutes=15)


class Routes(msgspec.Struct, frozen=True, kw_only=True):
    """The routing table: the enabled sinks and, in order, the routes to them."""

    sinks: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()


def letters(
    task: Task, checkpoint: Checkpoint | None, routes: Routes, *, root: Task | None = None, now: datetime | None = None
) -> list[Letter]:
    """Return who is told of a task's change and, when there is one, of its checkpoint.

    `root` is the task whose message carries this one (left out: the task itself, or it is not at hand). `now` is the
    ledger's clock; without it no news is too old.
    """
    carrier = task if root is None else root
    if not (task.is_announced and carrier.is_announced):
        return []
    root_uid = (task.root_uid or task.uid) if root is None else root.uid
    message_uid = carrier.message_uid or root_uid
    answer: dict[tuple[str, str], Letter] = {}
    for route in _chosen(carrier, routes):
        lane = f"{route.sink}|{route.address}|{message_uid}"
        news = checkpoint if checkpoint is not None and _passes(task, checkpoint, route, now) else None
        urgency = _urgency(news)
        if (
            route.verbosity is Verbosity.LIVE
            or route.verbosity is Verbosity.MILESTONES
            or news
            or _is_worth_a_message(carrier, route)
        ):
            state = Letter(
                sink=route.sink,
                address=route.address,
                lane=lane,
                mode=Mode.STATE,
                key=lane,
                urgency=Urgency.END if urgency is Urgency.NORMAL and carrier.status in FINAL_STATUSES else urgency,
                task_uid=root_uid,
            )
            answer.setdefault((state.sink, state.key), state)
        if news is not None:
            key = f"{news.id}@{route.address}" if route.address else str(news.id)
            letter = Letter(
                sink=route.sink,
                address=route.address,
                lane=lane,
                mode=Mode.NEWS,
                key=key,
                urgency=urgency,
                task_uid=task.uid,
                checkpoint_id=news.id,
            )
            answer.setdefault((letter.sink, letter.key), letter)
    return list(answer.values())


def _chosen(task: Task, routes: Routes) -> Iterator[Route]:
    for sink in routes.sinks:
        found = False
        for route in routes.routes:
            if route.sink != sink or not route.match.takes(task):
                continue
            if route.match.status is not None:
                yield route
            elif not found:
                found = True
                yield route
        if not found:
            yield Route(sink=sink)


def _passes(task: Task, checkpoint: Checkpoint, route: Route, now: datetime | None) -> bool:
    if checkpoint.kind not in _PASSES[route.verbosity]:
        return False
    if now is None or now - checkpoint.at <= route.max_age:
        return True
    return checkpoint.kind is Kind.APPROVAL_REQUESTED and any(a.id == checkpoint.ref for a in task.open_approvals)


def _is_worth_a_message(task: Task, route: Route) -> bool:
    return route.verbosity is Verbosity.FINAL and (task.status in FINAL_STATUSES or bool(task.open_approvals))


def _urgency(checkpoint: Checkpoint | None) -> Urgency:
    if checkpoint is None:
        return Urgency.NORMAL
    match checkpoint.kind:
        case Kind.APPROVAL_REQUESTED | Kind.APPROVAL_RESOLVED:
            return Urgency.APPROVAL
        case Kind.END:
            return Urgency.END
        case Kind.ERROR:
            return Urgency.ERROR
        case _:
            return Urgency.NORMAL
