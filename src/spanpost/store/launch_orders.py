"""Launch orders in PostgreSQL: each is placed with its delivery, in the transaction of its cause."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.launch_orders import Order, OrderQuery, OrderRow, Taken
from spanpost.model.summaries import SUMMARY
from spanpost.model.tasks import Task
from spanpost.readers.redaction import Redaction
from spanpost.routing import launch_orders as rules
from spanpost.routing.launch_orders import Join, Launches
from spanpost.store import intervention_rows, outbox
from spanpost.store.launch_order_rows import PLACE, SELECT, known, of_row, values_of
from spanpost.store.rows import task_of
from spanpost.store.transactions import Transact
from spanpost.tasks.folded import Folded

log = logging.getLogger(__name__)

_DELIVERY = "LEFT JOIN deliveries d ON d.sink = o.carrier AND d.key = o.id::text AND d.mode = 'checkpoint'"
#: Orders to retry a run whose delivery is waiting or arrived a short while ago.
_STANDING = f"""
SELECT {SELECT} FROM launch_orders o {_DELIVERY}
WHERE o.task_uid = $1 AND o.run = $2 AND o.retry_of <> '' AND coalesce(d.state, '') <> 'dead'
  AND (d.state IN ('waiting', 'sending') OR coalesce(d.finalized_at, o.recorded_at) > clock_timestamp() - $3::interval)
ORDER BY o.recorded_at, o.id LIMIT 1"""
_LISTED = f"""
SELECT {SELECT}, coalesce(d.state, '') AS state, coalesce(d.reason, '') AS reason, coalesce(d.error, '') AS error,
  coalesce(d.receipt -> 'ref', '{{}}')::text AS ref
FROM launch_orders o {_DELIVERY}
WHERE ($1::text IS NULL OR o.tenant = $1) AND ($2::text IS NULL OR o.carrier = $2)
  AND ($3::uuid IS NULL OR o.task_uid = $3)
  AND ($4::uuid IS NULL OR o.id = $4)
ORDER BY o.recorded_at DESC, o.id LIMIT $5"""
_HOURLY = "SELECT count(*) FROM launch_orders WHERE rule = $1 AND recorded_at > clock_timestamp() - $2::interval"
_TIDY_DELIVERIES = """
DELETE FROM deliveries d WHERE d.sink = $1 AND d.ordering_key = $2 AND d.state IN ('delivered', 'dead') AND d.id < (
  SELECT min(newest.id) FROM (
    SELECT id FROM deliveries WHERE sink = $1 AND ordering_key = $2 ORDER BY id DESC LIMIT $3
  ) AS newest)"""
_TIDY_ORDERS = """
DELETE FROM launch_orders o WHERE o.task_uid = $2 AND o.carrier = $1
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.sink = o.carrier AND d.key = o.id::text AND d.mode = 'checkpoint')"""
_HOUR = timedelta(hours=1)
#: First key of the advisory lock of a join (arbitrary, fixed). Two tasks whose ends are recorded at once would
#: otherwise not see each other.
_JOIN = 0x5354
_LOCK_JOIN = "SELECT pg_advisory_xact_lock($1, hashtext($2))"
_JOINED = """
SELECT t.doc FROM agent_tasks t
WHERE t.tenant = $1 AND t.{field} = $2 AND t.ended_at IS NOT NULL AND t.started_at > $3
ORDER BY t.ended_at DESC LIMIT 1000"""


async def place(connection: Any, orders: Iterable[Order]) -> list[Order]:
    """Write orders with the deliveries that carry them; return the new orders."""
    new = []
    for order in sorted(orders, key=lambda order: order.id):
        if await connection.fetchval(PLACE, *values_of(order)):
            new.append(order)
    if new:
        await outbox.put(connection, [rules.planned_of(order) for order in new], [])
    for order in new:
        if (act := rules.act_of(order)) is not None:
            await intervention_rows.write_act(connection, *act, None, is_repeatable=True)
        if order.carrier.startswith(SUMMARY):
            # Each summary holds a whole message, and there may be one a minute: keep the newest only.
            await connection.execute(_TIDY_DELIVERIES, order.carrier, rules.planned_of(order).ordering_key, rules.KEPT)
            await connection.execute(_TIDY_ORDERS, order.carrier, order.task_uid)
    return new


async def standing(connection: Any, task: Task) -> Order | None:
    """Return the order that is retrying this run of a task, if any."""
    row = await connection.fetchrow(_STANDING, task.uid, task.runs, rules.STANDS)
    return of_row(row) if row is not None else None


async def first(connection: Any, task: Task) -> Order | None:
    """Return the order that started a task, if the task names it."""
    named = order_ids([task])
    return (await known(connection, named.values())).get(named[task.uid]) if named else None


def order_ids(tasks: Iterable[Task]) -> dict[UUID, UUID]:
    """Return the ids of the orders that tasks name as their start, by the task's uid."""
    found = {}
    for task in tasks:
        try:
            found[task.uid] = UUID(task.order_id or "")
        except ValueError:
            continue
    return found


async def on_end(connection: Any, folded: Folded, launches: Launches, now: datetime) -> int:
    """Place the orders that rules make when runs end, for this batch; return how many are new."""
    if not launches.rules or not folded.ended:
        return 0
    ended = set(folded.ended)
    tasks = [task for task in folded.tasks if task.uid in ended]
    named = order_ids(tasks)
    by = await known(connection, named.values())
    complete = await _complete(connection, tasks, launches, now)
    wanted = [order for task in tasks for order in rules.on_end(task, launches, _own(by, named, task), now, complete)]
    may, deep = rules.too_deep(wanted, launches)
    for order in deep:
        log.warning(
            "launcher %s is not started after %s: %d rules deep, a loop?",
            order.name,
            order.caused_by,
            order.depth,
            extra=rules.log_fields(order),
        )
    placed = 0
    for order in may:
        if await connection.fetchval(_HOURLY, order.rule, _HOUR) >= launches.max_hourly:
            log.warning(
                "launcher %s is not started after %s: its rule has started enough in this hour",
                order.name,
                order.caused_by,
                extra=rules.log_fields(order),
            )
            continue
        placed += len(await place(connection, [order]))
    return placed


async def _complete(connection: Any, tasks: Sequence[Task], launches: Launches, now: datetime) -> set[Join]:
    """Return those joins of ended tasks whose other tasks have ended, too. Hold their locks until the commit."""
    found = set()
    for join, rule in rules.joins(tasks, launches, now):
        await connection.execute(_LOCK_JOIN, _JOIN, "\0".join(join).replace("\0", "\x1f"))
        asked = join.tenant, join.value, now - rule.within
        rows = await connection.fetch(_JOINED.format(field=join.field), *asked)
        if rule.is_complete(task_of(row["doc"]) for row in rows):
            found.add(join)
    return found


def _own(by: Mapping[UUID, Order], named: Mapping[UUID, UUID], task: Task) -> Order | None:
    order = by.get(named[task.uid]) if task.uid in named else None
    return order if order is not None and order.tenant == task.tenant else None


async def listed(connection: Any, query: OrderQuery) -> list[OrderRow]:
    """List orders, newest first."""
    found: Sequence[Any] = await connection.fetch(
        _LISTED, query.tenant, query.carrier, query.task_uid, query.id, query.limit
    )
    return [
        OrderRow(
            order=of_row(row),
            state=row["state"],
            reason=row["reason"],
            error=row["error"],
            ref=msgspec.json.decode(row["ref"]),
        )
        for row in found
    ]


class PostgresLaunchOrders:
    """The launch orders of a `PostgresStore`. `redaction` returns the current one."""

    def __init__(self, run: Transact, redaction: Callable[[], Redaction | None]) -> None:
        self._run = run
        self._redaction = redaction

    async def place(self, order: Order, *, signature: str = "") -> Taken:
        """Place a launch order with the delivery that carries it. See `LaunchOrders.place`."""
        redaction = self._redaction()
        clean = order if redaction is None else redaction.order(order)

        async def work(connection: Any) -> Taken:
            if signature and not await intervention_rows.is_first(connection, signature):
                return Taken.REPLAYED
            return Taken.NEW if await place(connection, [clean]) else Taken.KNOWN

        return await self._run(work)

    async def listed(self, query: OrderQuery) -> list[OrderRow]:
        """List launch orders, newest first."""
        return await self._run(lambda c: listed(c, query))
