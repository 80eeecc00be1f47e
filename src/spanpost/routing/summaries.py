"""Digests and boards: when one is due, what it is known by, and what stands in it.

Rules
- A digest's period is an hour, or a day from a time of the day in the route's zone to the next. It is made `GRACE` after the period's
  end, by the store's clock, so that what was recorded at the last moment is committed. Each end is told in the period in which it
  was recorded, whatever the sender's clock says. Of a period in which nothing ended and at whose end nothing needs anybody, nothing
  is told.
- A board is looked at once in each span of `Route.board_interval` seconds; it is sent where it has changed.
- Each is an order (`domain.orders`) whose id is made of the route and the period or span: whoever makes it, it is placed once. Orders of
  one route go in turn, by one lane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from spanpost.model.ids import named
from spanpost.model.launch_orders import Order
from spanpost.model.summaries import SUMMARY, Board, Digest, Summary
from spanpost.model.tasks import Task
from spanpost.model.totals import together
from spanpost.routing.routes import Route, Routes, chosen
from spanpost.semconv import CONTEXT_WARNING, ERROR, FINAL_STATUSES, PAUSED, STALLED, WAITING

#: After the end of a period.
GRACE: Final = timedelta(seconds=30)
#: An end that is told this much later than it was is no news any more, and is in no digest.
LATEST: Final = timedelta(days=1)
#: Named in a digest, of a kind; and on a board.
NAMED: Final = 10
LISTED: Final = 20
#: Neediest first.
_NEED: Final = {WAITING: 0, STALLED: 1, CONTEXT_WARNING: 3, PAUSED: 5}
_FAILING, _AT_WORK = 2, 4


def route_key(route: Route) -> str:
    """Return what a route is known by, as long as it leads the same tasks to the same place."""
    return named(f"{route.sink}\0{route.address}\0{route.match!r}").hex()


def period(route: Route, now: datetime) -> tuple[datetime, datetime]:
    """Return the last period of a route's digest that is over, in UTC."""
    until = now.astimezone(UTC) - GRACE
    if route.digest == "hourly":
        ends = until.replace(minute=0, second=0, microsecond=0)
        return ends - timedelta(hours=1), ends
    zone = ZoneInfo(route.zone)
    ends = _at(until.astimezone(zone), route.digest_at, zone)
    if ends > until:
        ends = _at(ends.astimezone(zone) - timedelta(days=1), route.digest_at, zone)
    return _at(ends.astimezone(zone) - timedelta(days=1), route.digest_at, zone), ends


def _at(day: datetime, minutes: int, zone: ZoneInfo) -> datetime:
    """Return a time of a day in a zone, in UTC; one that the clocks leap over is as long after midnight as it would be."""
    return datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=zone).astimezone(UTC)


def digest(
    route: Route, began: datetime, ends: datetime, ended: Iterable[Task], living: Iterable[Task], routes: Routes
) -> Digest | None:
    """Return what is told of a period; None where there is nothing. `ended` and `living` are any root tasks: the route's are chosen."""
    over = [task for task in _of(route, ended, routes) if task.status in FINAL_STATUSES]
    open_ = _of(route, living, routes)
    needy = sorted((task for task in open_ if task.status in (WAITING, STALLED)), key=_started)
    if not over and not needy:
        return None
    sums = together(over)
    failed = sorted((task for task in over if task.status == ERROR), key=_started, reverse=True)
    return Digest(
        route=route_key(route),
        began_at=began,
        ends_at=ends,
        ended=dict(Counter(task.status for task in over)),
        living=dict(Counter(task.status for task in open_)),
        input_tokens=sums.usage.input,
        output_tokens=sums.usage.output,
        cost_usd=sums.usage.cost_usd,
        unpriced=sums.unpriced_calls,
        failed=tuple(map(_short, failed[:NAMED])),
        needy=tuple(map(_short, needy[:NAMED])),
    )


def board(route: Route, living: Iterable[Task], routes: Routes) -> Board:
    """Return what is under way on a route: what needs somebody first, then the longest."""
    open_ = sorted(_of(route, living, routes), key=lambda task: (_need(task), *_started(task)))
    return Board(
        route=route_key(route),
        tasks=tuple(map(_short, open_[:LISTED])),
        more=max(len(open_) - LISTED, 0),
        living=dict(Counter(task.status for task in open_)),
    )


def _need(task: Task) -> int:
    if task.status in _NEED:
        return _NEED[task.status]
    return _FAILING if task.error_count or task.child_failed else _AT_WORK


def _of(route: Route, tasks: Iterable[Task], routes: Routes) -> list[Task]:
    return [task for task in tasks if task.is_announced and not task.is_alert and route in chosen(task, routes, sink=route.sink)]


def _started(task: Task) -> tuple[datetime, UUID]:
    return task.started_at or datetime.min.replace(tzinfo=UTC), task.uid


def _short(task: Task) -> Task:
    """Return of a task what a summary shows and links are made of: what else moves changes no board."""
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


# --- as orders --------------------------------------------------------------------------------------------------------


def board_id(route: Route) -> UUID:
    """Return what a route's board is known by for good."""
    return UUID(bytes=named(f"board\0{route_key(route)}"))


def digest_id(route: Route, began: datetime) -> UUID:
    """Return what the digest of a period is known by."""
    return UUID(bytes=named(f"digest\0{route_key(route)}\0{route.digest}\0{began.isoformat()}"))


def tenant_of(route: Route, otherwise: str) -> str:
    """Return whose a summary is: of a route of one tenant that one's, so that its workspace takes it."""
    own = route.match.tenant
    return own if isinstance(own, str) and "*" not in own else otherwise


def digest_order(route: Route, told: Digest, tenant: str) -> Order:
    """Return the order that carries a digest."""
    ordering_key = UUID(bytes=named(f"digests\0{told.route}"))
    return _order(digest_id(route, told.began_at), ordering_key, route, told, tenant, told.ends_at)


def board_order(route: Route, told: Board, tenant: str, now: datetime) -> Order:
    """Return the order that carries a board as it is in this span of time: one for all who look."""
    duplicates = int(now.timestamp() // route.board_interval.total_seconds())
    ordering_key = board_id(route)
    return _order(UUID(bytes=named(f"{ordering_key}\0{duplicates}")), ordering_key, route, told, tenant, now)


def _order(id: UUID, ordering_key: UUID, route: Route, told: Digest | Board, tenant: str, at: datetime) -> Order:
    return Order(
        id=id,
        tenant=tenant,
        carrier=SUMMARY + route.sink,
        task_uid=ordering_key,
        parameters={"address": route.address},
        source="schedule",
        body=msgspec.json.encode(told),
        at=at,
    )


def summary_of(order: Order) -> Summary | None:
    """Return what an order of ours carries; None where it cannot be read."""
    try:
        told = msgspec.json.decode(order.body, type=Digest | Board)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
    return Summary(id=order.id, key=f"summary|{order.task_uid if isinstance(told, Board) else order.id}", told=told)


def came_from(told: Digest | Board, routes: Sequence[Route]) -> Route | None:
    """Return the route of a summary, where it is still there."""
    return next((route for route in routes if route_key(route) == told.route), None)
