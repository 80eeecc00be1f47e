"""Which lanes of the memory store wait: an index as `lanes_heads` is in PostgreSQL, by sort of call, each sort in order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from typing import TypeAlias

from spanpost.model.deliveries import SinkCall, Urgency
from spanpost.routing.delivery_states import RANK

#: Sink and lane.
OrderingKey: TypeAlias = tuple[str, str]
#: Sink, address, the call that comes next, the rank of the lane's most urgent delivery.
Sort: TypeAlias = tuple[str, str, SinkCall, int]
#: When the lane's first delivery is due, that delivery's number, the lane.
Head: TypeAlias = tuple[datetime, int, OrderingKey]


def is_urgent(sort: Sort) -> bool:
    """Tell whether its deliveries may draw on what is kept for the urgent."""
    return sort[3] < RANK[Urgency.NORMAL]


class Waiting:
    """The lanes of which a delivery may be claimed, each with its first delivery."""

    def __init__(self) -> None:
        self._known: dict[OrderingKey, tuple[Sort, Head]] = {}
        #: With heads that are no longer true: passed over when they come first.
        self._heaps: dict[Sort, list[Head]] = {}

    def put(self, ordering_key: OrderingKey, sort: Sort, due_at: datetime, number: int) -> None:
        """Say what comes first in a lane."""
        head = (due_at, number, ordering_key)
        if self._known.get(ordering_key) != (sort, head):
            self._known[ordering_key] = (sort, head)
            heapq.heappush(self._heaps.setdefault(sort, []), head)

    def drop(self, ordering_key: OrderingKey) -> None:
        """Say that nothing of a lane may be claimed."""
        self._known.pop(ordering_key, None)

    def first(self, sort: Sort) -> Head | None:
        """Return the head of a sort that is due first."""
        heap = self._heaps.get(sort, [])
        while heap:
            if self._known.get(heap[0][2]) == (sort, heap[0]):
                return heap[0]
            heapq.heappop(heap)
        self._heaps.pop(sort, None)
        return None

    def firsts(self) -> Iterator[tuple[Sort, Head]]:
        """Return the sorts that wait, each with the head that is due first."""
        for sort in list(self._heaps):
            head = self.first(sort)
            if head is not None:
                yield sort, head
