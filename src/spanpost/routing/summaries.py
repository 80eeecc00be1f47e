"""Digests and boards: when one is due, its key, and its content.

Rules
- A digest's period is an hour, or a day or a week from a time of day in the route's zone to the next. It is made
  `GRACE` after the period's end, by the store's clock, so that records of the last moment are committed.
  Each end counts in the period in which it was recorded, whatever the sender's clock says. A period without
  ends, after which no task needs a person, has no digest.
- A board is computed once in each interval of `Route.board_interval` seconds; it is sent when it has changed.
- Each is an order (`model.launch_orders`) whose id is made of the route and the period or interval: it is
  placed once, whichever process makes it. Orders of one route go in turn, by one ordering key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Final, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from spanpost.model.ids import named
from spanpost.model.launch_orders import Order
from spanpost.model.summaries import SUMMARY, Board, Digest, Summary
from spanpost.model.tasks import RESTING, Task
from spanpost.model.totals import together
from spanpost.routing.routes import Route, Routes, Weekday, chosen
from spanpost.semconv import CONTEXT_WARNING, ERROR, FINAL_STATUSES, PAUSED, STALLED, WAITING

#: Wait after the end of a period.
GRACE: Final = timedelta(seconds=30)
#: An end that was recorded this much later than it happened is too old, and is in no digest.
LATEST: Final = timedelta(days=1)
#: Tasks named per list of a digest; and on a board.
NAMED: Final = 10
LISTED: Final = 20
#: Days of a week, from Monday.
WEEK: Final = get_args(Weekday)
#: Order on a board: the most in need of a person first.
_NEED: Final = {WAITING: 0, STALLED: 1, CONTEXT_WARNING: 3, PAUSED: 5, RESTING: 6}
_FAILING, _AT_WORK = 2, 4


def route_key(route: Route) -> str:
    """Return the key of a route, the same as long as it takes the same tasks to the same place."""
    return named(f"{route.sink}\0{route.address}\0{route.conditions!r}").hex()


def period(route: Route, now: datetime) -> tuple[datetime, datetime]:
    """Return the last completed period of a route's digest, in UTC."""
    until = now.astimezone(UTC) - GRACE
    if route.digest == "hourly":
        ends = until.replace(minute=0, second=0, microsecond=0)
        return ends - timedelta(hours=1), ends
    zone, days = ZoneInfo(route.timezone), 7 if route.digest == "weekly" else 1
    day = until.astimezone(zone)
    if route.digest == "weekly":
        day -= timedelta(days=(day.weekday() - WEEK.index(route.digest_day)) % 7)
    ends = at_time(day, route.digest_at, zone)
    if ends > until:
        ends = at_time(ends.astimezone(zone) - timedelta(days=days), route.digest_at, zone)
    return at_time(ends.astimezone(zone) - timedelta(days=days), route.digest_at, zone), ends


def at_time(day: datetime, at: time, zone: ZoneInfo) -> datetime:
    """Return a time of day in a zone, in UTC. A time that the clocks skip is taken as if they had not."""
    return datetime.combine(day, at, zone).astimezone(UTC)


def digest(
    route: Route, began: datetime, ends: datetime, ended: Iterable[Task], living: Iterable[Task], routes: Routes
) -> Digest | None:
    """Return the digest of a period; None where it is empty.

    `ended` and `living` are any root tasks: the route's are selected.
    """
    over = [task for task in _of(route, ended, routes) if task.status in FINAL_STATUSES]
    open_ = _of(route, living, routes)
    needy = sorted((task for task in open_ if task.waits_for_person or task.status == STALLED), key=_started)
    if not over and not needy:
        return None
    sums = together(over)
    failed = sorted((task for task in over if task.status == ERROR), key=_started, reverse=True)
    return Digest(
        route=route_key(route),
        began_at=began,
        ends_at=ends,
        ended=dict(Counter(task.status for task in over)),
        living=dict(Counter(task.shown_status for task in open_)),
        input_tokens=sums.usage.input,
        output_tokens=sums.usage.output,
        cost_usd=sums.usage.cost_usd,
        unpriced=sums.unpriced_calls,
        failed=tuple(map(_short, failed[:NAMED])),
        needy=tuple(map(_short, needy[:NAMED])),
    )


def board(route: Route, living: Iterable[Task], routes: Routes) -> Board:
    """Return the running tasks of a route: those that need a person first, then those that run longest."""
    open_ = sorted(_of(route, living, routes), key=lambda task: (_need(task), *_started(task)))
    return Board(
        route=route_key(route),
        tasks=tuple(map(_short, open_[:LISTED])),
        more=max(len(open_) - LISTED, 0),
        living=dict(Counter(task.shown_status for task in open_)),
    )


def _need(task: Task) -> int:
    if task.shown_status in _NEED:
        return _NEED[task.shown_status]
    return _FAILING if task.error_count or task.child_failed else _AT_WORK


def _of(route: Route, tasks: Iterable[Task], routes: Routes) -> list[Task]:
    return [
        task
        for task in tasks
        if task.is_announced and not task.is_alert and route in chosen(task, routes, sink=route.sink)
    ]


def _started(task: Task) -> tuple[datetime, UUID]:
    return task.started_at or datetime.min.replace(tzinfo=UTC), task.uid


def _short(task: Task) -> Task:
    """Return the part of a task that a summary shows or makes links of: other changes do not change a board."""
    return Task(
        uid=task.uid,
        tenant=task.tenant,
        task_id=task.task_id,
        parent_uid=task.parent_uid,
        trace_id=task.trace_id,
        span_id=task.span_id,
        name=task.name,
        type=task.type,
        agent_name=task.agent_name,
        service=task.service,
        environment=task.environment,
        repo=task.repo,
        topic=task.topic,
        session_id=task.session_id,
        status=task.status,
        rule=task.rule if task.shown_status == RESTING else "",
        end_reason=task.end_reason,
        action=task.action,
        step_name=task.step_name,
        step_index=task.step_index,
        step_count=task.step_count,
        started_at=task.started_at,
        ended_at=task.ended_at,
        child_count=task.child_count,
        child_failed=task.child_failed,
        approvals=task.open_approvals[:1],
        links=dict(list(task.links.items())[:3]),
        error=msgspec.structs.replace(task.error, log_tail="") if task.error is not None else None,
    )


# --- as orders ------------------------------------------------------------------------------------------------------


def board_id(route: Route) -> UUID:
    """Return the permanent id of a route's board."""
    return UUID(bytes=named(f"board\0{route_key(route)}"))


def digest_id(route: Route, began: datetime) -> UUID:
    """Return the id of a period's digest."""
    return UUID(bytes=named(f"digest\0{route_key(route)}\0{route.digest}\0{began.isoformat()}"))


def tenant_of(route: Route, otherwise: str) -> str:
    """Return the tenant of a summary: the route's tenant, so that its workspace accepts it, else `otherwise`."""
    own = route.tenant
    return own if isinstance(own, str) and "*" not in own else otherwise


def digest_order(route: Route, summary: Digest, tenant: str) -> Order:
    """Return the order that carries a digest."""
    ordering_key = UUID(bytes=named(f"digests\0{summary.route}"))
    return _order(digest_id(route, summary.began_at), ordering_key, route, summary, tenant, summary.ends_at)


def board_order(route: Route, summary: Board, tenant: str, now: datetime) -> Order:
    """Return the order that carries a board in its current state: one for each interval of time."""
    interval = int(now.timestamp() // route.board_interval.total_seconds())
    ordering_key = board_id(route)
    return _order(UUID(bytes=named(f"{ordering_key}\0{interval}")), ordering_key, route, summary, tenant, now)


def _order(id: UUID, ordering_key: UUID, route: Route, summary: Digest | Board, tenant: str, at: datetime) -> Order:
    return Order(
        id=id,
        tenant=tenant,
        carrier=SUMMARY + route.sink,
        task_uid=ordering_key,
        parameters={"address": route.address},
        source="schedule",
        body=msgspec.json.encode(summary),
        at=at,
    )


def summary_of(order: Order) -> Summary | None:
    """Return the summary that an order carries; None where it cannot be decoded."""
    try:
        summary = msgspec.json.decode(order.body, type=Digest | Board)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
    return Summary(
        id=order.id, key=f"summary|{order.task_uid if isinstance(summary, Board) else order.id}", content=summary
    )


def came_from(summary: Digest | Board, routes: Sequence[Route]) -> Route | None:
    """Return the route of a summary; None where it no longer exists."""
    return next((route for route in routes if route_key(route) == summary.route), None)
