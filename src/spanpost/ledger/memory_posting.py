"""Letters are put, change hands and are taken back, in memory: the same rules as `outbox` and `handovers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.dispatch import states
from spanpost.dispatch.states import DeliveryState, OutboxEntry
from spanpost.domain.deliveries import Mode
from spanpost.fold.carrying import anew
from spanpost.fold.letters import Letter
from spanpost.ledger.memory_shelf import Shelf, lane_of


class Posting(Shelf):
    """What recording does with letters."""

    def post(self, letter: Letter, *, is_new: bool) -> None:
        """Put a letter into its lane; news that was told before is nothing new, a state replaces the one that waits.

        `is_new`: its checkpoint was not recorded before.
        """
        now = self._clock()
        known = self._letters.get(self._ids.get((letter.sink, letter.key), 0))
        if known is None:
            if not letter.is_quiet:
                about = self._knows.task(letter.task_uid) or self._order(letter.checkpoint_id)
                entry = states.begin(letter, now, tenant=about.tenant if about is not None else "default")
                entry = msgspec.structs.replace(entry, id=next(self._numbers))
                self._fresh.add(entry.id)
                self._store(entry)
            return
        is_newer = states.comes_after(self._told(letter.checkpoint_id), self._told(known.checkpoint_id))
        entry = states.put(known, letter, now, is_newer=is_newer, is_recorded_now=is_new)
        if entry is known:
            return
        if known.state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
            self._fresh.add(entry.id)
        elif entry.is_state and entry.id not in self._fresh:
            self._coalesced.add(lane_of(entry))
        self._store(entry)

    def _told(self, checkpoint_id: UUID | None) -> tuple[datetime, UUID] | None:
        checkpoint = self._knows.checkpoint(checkpoint_id) if checkpoint_id is not None else None
        return (checkpoint.at, checkpoint.id) if checkpoint is not None else None

    def inherit(self, uid: UUID, heir: UUID) -> None:
        """Have the messages of a task that is no more be its heir's."""
        for number in list(self._states.get(uid, ())):
            self._store(msgspec.structs.replace(self._letters[number], task_uid=heir))

    def wake(self, woken: Iterable[UUID]) -> None:
        """Look at the messages of tasks anew, and take news that was never sent out of those that ended."""
        uids, now = set(woken), self._clock()
        left = [number for number in self._aside if self._is_of(self._letters[number], uids)] if uids else []
        for entry in [self._letters[number] for uid in uids for number in self._states.get(uid, ())]:
            if self._carrier(entry)[0] is None:
                news = self._open.get(lane_of(entry), {}).values()
                left += [x.id for x in news if x.is_unseen and x.state is DeliveryState.WAITING]
            self._store(states.wake(entry, now))
        for number in sorted(left):
            self._lead_on(self._letters[number])

    def _is_of(self, entry: OutboxEntry, uids: Collection[UUID]) -> bool:
        task = self._knows.task(entry.task_uid)
        return task is not None and task.uid in uids

    def _lead_on(self, entry: OutboxEntry) -> None:
        """Send news where the news of its task goes now; where that is nowhere it stays."""
        task = self._knows.task(entry.task_uid)
        checkpoint = self._knows.checkpoint(entry.checkpoint_id) if entry.checkpoint_id is not None else None
        root = self._root(task)
        if task is None or root is None or checkpoint is None or not root.is_announced:
            return
        self._forget(entry)
        for found in anew(checkpoint, entry.sink, task, root, self._knows.rules.routes):
            if found.mode is Mode.NEWS:
                self.post(found, is_new=False)
                number = self._ids[found.sink, found.key]
                self._store(states.count_more(self._letters[number], entry.revision))
            elif not self._is_begun(found):
                self.post(found, is_new=False)

    def _is_begun(self, state: Letter) -> bool:
        """Tell whether a message stands, or is about to."""
        known = self._letters.get(self._ids.get((state.sink, state.key), 0))
        return (state.sink, state.lane) in self._receipts or (
            known is not None and known.state in (DeliveryState.WAITING, DeliveryState.SENDING)
        )

    def withdraw(self, retracted: Collection[UUID]) -> None:
        """Take back news that was not sent yet."""
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
        """Let go of what was delivered or given up of these tasks."""
        for entry in list(self._letters.values()):
            if entry.task_uid in tasks and entry.state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
                self._receipts.pop(lane_of(entry), None)
                self._forget(entry)

    def tidy(self, sink: str, lane: str, kept: int) -> None:
        """Let go of what was delivered or given up in a lane, the newest letters excepted."""
        entries = [entry for entry in self._letters.values() if lane_of(entry) == (sink, lane)]
        for entry in entries[:-kept]:
            if entry.state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
                self._forget(entry)

    def take_coalesced(self) -> dict[str, int]:
        """Return how many states gave way to newer ones since this was asked last, by sink."""
        taken = dict(Counter(sink for sink, _ in self._coalesced))
        self._coalesced.clear()
        self._fresh.clear()
        return taken
