"""Ordering keys of the memory store that have a delivery to claim, by kind of call and in order of time.

It does what an index does in PostgreSQL.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from typing import TypeAlias

from spanpost.model.deliveries import SinkCall
from spanpost.routing.delivery_states import URGENT

#: Sink and ordering key.
OrderingKey: TypeAlias = tuple[str, str]
#: Sink, address, the next call, the rank of the ordering key's most urgent delivery.
CallKind: TypeAlias = tuple[str, str, SinkCall, int]
#: When the first delivery of the ordering key is due, the number of that delivery, the ordering key.
Head: TypeAlias = tuple[datetime, int, OrderingKey]


def is_urgent(kind: CallKind) -> bool:
    """Tell whether these deliveries may use the reserve of a rate limit."""
    return kind[3] < URGENT


class Waiting:
    """Ordering keys with a delivery to claim, each with its first delivery."""

    def __init__(self) -> None:
        self._known: dict[OrderingKey, tuple[CallKind, Head]] = {}
        #: May hold outdated heads; they are skipped when they come first.
        self._heaps: dict[CallKind, list[Head]] = {}

    def put(self, ordering_key: OrderingKey, kind: CallKind, due_at: datetime, number: int) -> None:
        """Set the first delivery of an ordering key."""
        head = (due_at, number, ordering_key)
        if self._known.get(ordering_key) != (kind, head):
            self._known[ordering_key] = (kind, head)
            heapq.heappush(self._heaps.setdefault(kind, []), head)

    def drop(self, ordering_key: OrderingKey) -> None:
        """Remove an ordering key: nothing of it may be claimed."""
        self._known.pop(ordering_key, None)

    def first(self, kind: CallKind) -> Head | None:
        """Return the head of this kind that is due first."""
        heap = self._heaps.get(kind, [])
        while heap:
            if self._known.get(heap[0][2]) == (kind, heap[0]):
                return heap[0]
            heapq.heappop(heap)
        self._heaps.pop(kind, None)
        return None

    def firsts(self) -> Iterator[tuple[CallKind, Head]]:
        """Return the kinds that wait, each with the head that is due first."""
        for kind in list(self._heaps):
            head = self.first(kind)
            if head is not None:
                yield kind, head
