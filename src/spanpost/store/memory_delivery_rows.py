"""Rows of the memory store's deliveries, indexed by ordering key, by what waits first and by task."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from spanpost.model.deliveries import RateLimit, Receipt
from spanpost.model.launch_orders import Order
from spanpost.model.tasks import Task
from spanpost.routing import claiming
from spanpost.routing.delivery_states import GONE, OutboxEntry
from spanpost.routing.delivery_transitions import DeliveryState
from spanpost.routing.message_owner import carries
from spanpost.routing.rate_limiting import Bucket
from spanpost.store.memory_heartbeats import MemoryHeartbeats
from spanpost.store.memory_queue import OrderingKey, Waiting
from spanpost.store.memory_tables import MemoryTables

K = TypeVar("K")
V = TypeVar("V")


class DeliveryRows:
    """Deliveries, ordering keys and rate limits of one process, with the functions that all layers share."""

    def __init__(
        self, tables: MemoryTables, heartbeats: MemoryHeartbeats, lease: timedelta, jitter: Callable[[], float]
    ) -> None:
        self._tables = tables
        self._heartbeats = heartbeats
        self._clock = tables.clock
        self.lease = lease
        self._jitter = jitter
        self._deliveries: dict[int, OutboxEntry] = {}
        self._ids: dict[tuple[str, str], int] = {}
        #: State deliveries by task.
        self._states: dict[UUID, dict[int, None]] = {}
        #: Deliveries that wait or are under way.
        self._open: dict[OrderingKey, dict[int, OutboxEntry]] = {}
        self._sending: dict[int, OutboxEntry] = {}
        self._waiting = Waiting()
        self._receipts: dict[OrderingKey, Receipt] = {}
        self._buckets: dict[str, Bucket] = {}
        self._rate_limits: dict[str, RateLimit] = {}
        self._numbers = itertools.count(1)
        #: Parked checkpoints: their messages do not exist. First those found by the current claim, which may
        #: have another address.
        self._parked: list[OutboxEntry] = []
        self._set_aside: dict[int, None] = {}
        #: Since the last `take_coalesced`: new waiting states, and ordering keys whose unsent state was
        #: replaced by a newer one.
        self._fresh: set[int] = set()
        self._coalesced: set[OrderingKey] = set()

    def _store(self, entry: OutboxEntry) -> None:
        """Store a delivery and update the indexes."""
        before = self._deliveries.get(entry.id)
        if before is not None:
            self._unlist(before)
        self._deliveries[entry.id] = entry
        self._ids[entry.sink, entry.key] = entry.id
        if entry.is_state:
            self._states.setdefault(entry.task_uid, {})[entry.id] = None
        if entry.state in (DeliveryState.WAITING, DeliveryState.SENDING):
            self._open.setdefault(ordering_key_of(entry), {})[entry.id] = entry
        if entry.state is DeliveryState.SENDING:
            self._sending[entry.id] = entry
        if entry.state is DeliveryState.DEAD and entry.reason == GONE and entry.is_unseen:
            self._set_aside[entry.id] = None
        if before is not None and ordering_key_of(before) != ordering_key_of(entry):
            self._place(ordering_key_of(before))
        self._place(ordering_key_of(entry))

    def _forget(self, entry: OutboxEntry) -> None:
        self._unlist(entry)
        del self._deliveries[entry.id], self._ids[entry.sink, entry.key]
        self._place(ordering_key_of(entry))

    def _unlist(self, entry: OutboxEntry) -> None:
        _drop(self._open, ordering_key_of(entry), entry.id)
        if entry.is_state:
            _drop(self._states, entry.task_uid, entry.id)
        self._sending.pop(entry.id, None)
        self._set_aside.pop(entry.id, None)

    def _place(self, ordering_key: OrderingKey) -> None:
        """Update the first waiting delivery of an ordering key."""
        entries = self._open.get(ordering_key, {}).values()
        is_held = any(entry.state is DeliveryState.SENDING for entry in entries)
        head = claiming.first(entries, has_message_receipt=ordering_key in self._receipts) if not is_held else None
        if head is None:
            self._waiting.drop(ordering_key)
        else:
            rank = min(entry.rank for entry in entries)
            call = claiming.call_of(head, has_message_receipt=ordering_key in self._receipts)
            self._waiting.put(ordering_key, (head.sink, head.address, call, rank), head.due_at, head.id)

    def _order(self, checkpoint_id: UUID | None) -> Order | None:
        return self._tables.orders.get(checkpoint_id) if checkpoint_id is not None else None

    def _root(self, task: Task | None) -> Task | None:
        return (self._tables.task(task.root_uid) or task) if task is not None and task.root_uid is not None else task

    def _carrier(self, entry: OutboxEntry) -> tuple[Task | None, Task | None]:
        """Return the task whose message the ordering key carries (None if it ended), and the root where it goes on."""
        root = self._root(self._tables.task(entry.task_uid))
        if root is None or not carries(entry.ordering_key, entry.sink, entry.address, root, self._tables.rules.routes):
            return None, root
        return root, root


def ordering_key_of(entry: OutboxEntry) -> OrderingKey:
    """Return the ordering key of a delivery."""
    return entry.sink, entry.ordering_key


def _drop(known: dict[K, dict[int, V]], key: K, number: int) -> None:
    if (found := known.get(key)) is not None:
        found.pop(number, None)
        if not found:
            del known[key]
