"""Digests and boards: made when due, ordered once by any process, and sent to the sink like other messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from spanpost.model.deliveries import Delivery, Mode, RateLimit, Receipt, SinkCall
from spanpost.model.errors import DeliveryError, Rejected
from spanpost.model.launch_orders import Order, OrderQuery, Taken
from spanpost.model.queries import TaskFilter
from spanpost.model.summaries import SUMMARY, Board, Summary
from spanpost.model.tasks import Task
from spanpost.routing import summaries
from spanpost.routing.launch_orders import KEPT
from spanpost.routing.routes import Route, Routes
from spanpost.runtime.background import Rounds
from spanpost.semconv import FINAL_STATUSES, STATUSES
from spanpost.sinks.base import Sink
from spanpost.store.protocols import LaunchOrders, Reader

log = logging.getLogger("spanpost.runtime.summaries")

_UNDER_WAY: Final = tuple(status for status in STATUSES if status not in FINAL_STATUSES)
#: Tasks per query.
_PAGE: Final = 500


class Summaries(Rounds):
    """Digests and boards of one process. All processes on a database make the same ones, and each is
    ordered once.
    """

    _name, _interval, _purpose = "spanpost-summaries", 5.0, "digests and boards could not be made"

    def __init__(
        self,
        reader: Reader,
        launch_orders: LaunchOrders,
        sinks: Mapping[str, Sink],
        routes: Callable[[], Routes],
        tenant: str,
        wake: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._launch_orders = launch_orders
        self._routes = routes
        self._tenant = tenant
        self._wake = wake
        self._done: dict[str, datetime] = {}
        self._turns: dict[str, int] = {}
        self.carriers = self.carriers_to(sinks)

    def carriers_to(self, sinks: Mapping[str, Sink]) -> dict[str, SummaryCarrier]:
        """Return the carriers of summaries to sinks."""
        return {SUMMARY + name: SummaryCarrier(self._launch_orders, sink) for name, sink in sinks.items()}

    async def _round(self) -> None:
        if any(route.digest or route.board for route in self._routes().routes):
            await self.scan()

    async def scan(self, now: datetime | None = None) -> int:
        """Order the summaries that are due; return the number of messages. `now` is the store's clock. Raises
        `StoreUnavailable`.
        """
        now, routes = now or await self._reader.now(), self._routes()
        living: list[Task] | None = None
        placed = 0
        for route in routes.routes:
            key = summaries.route_key(route)
            if route.digest and self._done.get(key) != (period := summaries.period(route, now))[0]:
                if not await self._launch_orders.listed(OrderQuery(id=summaries.digest_id(route, period[0]), limit=1)):
                    living = await self._living() if living is None else living
                    placed += await self._digest(route, *period, living, routes)
                self._done[key] = period[0]
            turn = int(now.timestamp() // route.board_interval.total_seconds())
            if route.board and self._turns.get(key) != turn:
                living = await self._living() if living is None else living
                placed += await self._board(route, living, routes, now)
                self._turns[key] = turn
        if placed:
            self._wake()
        return placed

    async def _digest(
        self, route: Route, began: datetime, ends: datetime, living: Sequence[Task], routes: Routes
    ) -> int:
        ended = await self._reader.ended(began, ends, summaries.LATEST)
        digest = summaries.digest(route, began, ends, ended, living, routes)
        return (
            0
            if digest is None
            else await self._place(summaries.digest_order(route, digest, summaries.tenant_of(route, self._tenant)))
        )

    async def _board(self, route: Route, living: Sequence[Task], routes: Routes, now: datetime) -> int:
        board = summaries.board(route, living, routes)
        last = await self._launch_orders.listed(OrderQuery(task_uid=summaries.board_id(route), limit=1))
        shown = summaries.summary_of(last[0].order) if last else None
        before = shown.content if shown is not None and isinstance(shown.content, Board) else None
        if before is None and not board.tasks:
            return 0  # a board begins with the first task
        if before is not None and before == board:
            return 0
        return await self._place(summaries.board_order(route, board, summaries.tenant_of(route, self._tenant), now))

    async def _place(self, order: Order) -> int:
        return int(await self._launch_orders.place(order) is Taken.NEW)

    async def _living(self) -> list[Task]:
        found: list[Task] = []
        after: Any = None
        while True:
            page = await self._reader.tasks(TaskFilter(statuses=_UNDER_WAY, is_root=True), after, _PAGE)
            found += page.items
            if page.next is None:
                return found
            after = page.next


class SummaryCarrier:
    """Sends summaries to one sink, as the state of a message: a board is edited, a digest is posted once."""

    def __init__(self, launch_orders: LaunchOrders, sink: Sink) -> None:
        self.name = SUMMARY + sink.name
        self._launch_orders = launch_orders
        self._sink = sink

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Post or edit it. A board with a newer successor is skipped. Raises the sink's errors."""
        order, summary = delivery.order, _summary(delivery)
        if order is None or summary is None:
            raise Rejected("a delivery that carries no digest or board", reason="no_summary")
        stands, newest = await self._stands(order, summary)
        if newest is not None and newest.at > order.at:
            return Receipt(ref=stands.ref if stands is not None else {}, skipped="a newer one follows")
        return await self._sink.deliver(self._state(delivery, summary, stands))

    async def reconcile(self, deliveries: Sequence[Delivery]) -> Mapping[int, Receipt | DeliveryError | None]:
        """Let the sink look up messages that may have arrived; known boards are edited again."""
        answers: dict[int, Receipt | DeliveryError | None] = {}
        doubtful: list[Delivery] = []
        for delivery in deliveries:
            order, summary = delivery.order, _summary(delivery)
            stands = (await self._stands(order, summary))[0] if order is not None and summary is not None else None
            if summary is None or stands is not None:
                answers[delivery.id] = None
            else:
                doubtful.append(self._state(delivery, summary, None))
        return answers | dict(await self._sink.reconcile(doubtful)) if doubtful else answers

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return the sink's rate limits: the calls are the sink's."""
        return self._sink.rate_limits(address, call)

    async def _stands(self, order: Order, summary: Summary) -> tuple[Receipt | None, Order | None]:
        """Return the receipt of a board's message and its newest order; for a digest neither."""
        if not isinstance(summary.content, Board):
            return None, None
        rows = await self._launch_orders.listed(OrderQuery(task_uid=order.task_uid, limit=KEPT))
        ref = next((row.ref for row in rows if row.ref), None)
        return Receipt(ref=ref) if ref else None, rows[0].order if rows else None

    def _state(self, delivery: Delivery, summary: Summary, stands: Receipt | None) -> Delivery:
        return msgspec.structs.replace(
            delivery,
            sink=self._sink.name,
            mode=Mode.STATE,
            key=summary.key,
            summary=summary,
            checkpoint=None,
            order=None,
            message_receipt=stands,
            receipt=None,
        )


def _summary(delivery: Delivery) -> Summary | None:
    return summaries.summary_of(delivery.order) if delivery.order is not None else None
