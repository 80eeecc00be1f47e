"""Deliveries are posted, moved and withdrawn in memory: the same rules as `outbox` and `takeovers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.model.deliveries import Mode
from spanpost.routing import delivery_states
from spanpost.routing.delivery_states import OutboxEntry
from spanpost.routing.delivery_transitions import DeliveryState
from spanpost.routing.message_owner import anew
from spanpost.routing.planned import PlannedDelivery
from spanpost.store.memory_delivery_rows import DeliveryRows, ordering_key_of


class Posting(DeliveryRows):
    """Changes of deliveries by recording."""

    def post(self, delivery: PlannedDelivery, *, is_new: bool) -> None:
        """Put a delivery into the outbox.

        A known checkpoint is not sent again; a state replaces the one that waits.

        `is_new`: its checkpoint was not recorded before.
        """
        now = self._clock()
        known = self._deliveries.get(self._ids.get((delivery.sink, delivery.key), 0))
        if known is None:
            if not delivery.is_quiet:
                subject = self._tables.task(delivery.task_uid) or self._order(delivery.checkpoint_id)
                entry = delivery_states.begin(
                    delivery, now, tenant=subject.tenant if subject is not None else "default"
                )
                entry = msgspec.structs.replace(entry, id=next(self._numbers))
                self._fresh.add(entry.id)
                self._store(entry)
            return
        is_newer = delivery_states.comes_after(
            self._position_of(delivery.checkpoint_id), self._position_of(known.checkpoint_id)
        )
        entry = delivery_states.put(known, delivery, now, is_newer=is_newer, is_recorded_now=is_new)
        if entry is known:
            return
        if known.state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
            self._fresh.add(entry.id)
        elif entry.is_state and entry.id not in self._fresh:
            self._coalesced.add(ordering_key_of(entry))
        self._store(entry)

    def _position_of(self, checkpoint_id: UUID | None) -> tuple[datetime, UUID] | None:
        checkpoint = self._tables.checkpoints.get(checkpoint_id) if checkpoint_id is not None else None
        return (checkpoint.at, checkpoint.id) if checkpoint is not None else None

    def inherit(self, uid: UUID, successor: UUID) -> None:
        """Give the messages of a merged task to its successor."""
        for number in list(self._states.get(uid, ())):
            self._store(msgspec.structs.replace(self._deliveries[number], task_uid=successor))

    def wake(self, woken: Iterable[UUID]) -> None:
        """Update the messages of tasks, and move unsent checkpoints away from messages that ended."""
        uids, now = set(woken), self._clock()
        unsent = [number for number in self._set_aside if self._is_of(self._deliveries[number], uids)] if uids else []
        for entry in [self._deliveries[number] for uid in uids for number in self._states.get(uid, ())]:
            if self._carrier(entry)[0] is None:
                waiting = self._open.get(ordering_key_of(entry), {}).values()
                unsent += [x.id for x in waiting if x.is_unseen and x.state is DeliveryState.WAITING]
            self._store(delivery_states.wake(entry, now))
        for number in sorted(unsent):
            self._redirect(self._deliveries[number])

    def _is_of(self, entry: OutboxEntry, uids: Collection[UUID]) -> bool:
        task = self._tables.task(entry.task_uid)
        return task is not None and task.uid in uids

    def _redirect(self, entry: OutboxEntry) -> None:
        """Send a checkpoint where its task's checkpoints go now; without such an address it stays."""
        task = self._tables.task(entry.task_uid)
        checkpoint = self._tables.checkpoints.get(entry.checkpoint_id) if entry.checkpoint_id is not None else None
        root = self._root(task)
        if task is None or root is None or checkpoint is None or not root.is_announced:
            return
        self._forget(entry)
        for found in anew(checkpoint, entry.sink, task, root, self._tables.rules.routes):
            if found.mode is Mode.CHECKPOINT:
                self.post(found, is_new=False)
                number = self._ids[found.sink, found.key]
                self._store(delivery_states.count_more(self._deliveries[number], entry.revision))
            elif not self._is_begun(found):
                self.post(found, is_new=False)

    def _is_begun(self, state: PlannedDelivery) -> bool:
        """Tell whether a message exists or is about to be posted."""
        known = self._deliveries.get(self._ids.get((state.sink, state.key), 0))
        return (state.sink, state.ordering_key) in self._receipts or (
            known is not None and known.state in (DeliveryState.WAITING, DeliveryState.SENDING)
        )

    def withdraw(self, retracted: Collection[UUID]) -> None:
        """Delete deliveries of retracted checkpoints that were not sent yet."""
        taken = set(retracted)
        for entry in [entry for entries in self._open.values() for entry in entries.values()] if taken else ():
            if (
                entry.checkpoint_id in taken
                and entry.state is DeliveryState.WAITING
                and entry.receipt is None
                and not entry.is_unsure
            ):
                self._forget(entry)

    def forget(self, tasks: Collection[UUID]) -> None:
        """Drop the delivered and dead deliveries of these tasks."""
        for entry in list(self._deliveries.values()):
            if entry.task_uid in tasks and entry.state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
                self._receipts.pop(ordering_key_of(entry), None)
                self._forget(entry)

    def tidy(self, sink: str, ordering_key: str, kept: int) -> None:
        """Drop delivered and dead deliveries of an ordering key, except the newest `kept`."""
        entries = [entry for entry in self._deliveries.values() if ordering_key_of(entry) == (sink, ordering_key)]
        for entry in entries[:-kept]:
            if entry.state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
                self._forget(entry)

    def take_coalesced(self) -> dict[str, int]:
        """Return how many states were replaced by newer ones since the last call, by sink."""
        taken = dict(Counter(sink for sink, _ in self._coalesced))
        self._coalesced.clear()
        self._fresh.clear()
        return taken
