"""Shared state of a process's event streams: recent checkpoints, current tasks, one reader of the store.

Checkpoints are exact: each stream has its own position in the store's order, and reads what it has not seen
from the store, or from the recent checkpoints kept here. Tasks are states: only the newest of each matters.
There are no queues, so a slow client costs nothing. Records of this process wake the reader at once;
records of others are polled while there is a stream.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from spanpost.http.shares import Full, Holder, SharedPlaces
from spanpost.model.errors import StoreUnavailable
from spanpost.model.queries import Position, StreamedCheckpoint
from spanpost.model.tasks import Task
from spanpost.store.protocols import CheckpointStream

log = logging.getLogger("spanpost.interactions")

#: Recent checkpoints that are kept, and tasks whose newest state is.
_KEPT_CHECKPOINTS, _KEPT_TASKS = 2_000, 5_000
#: Seconds between polls: for checkpoints, for tasks, and for checkpoints after a record of this process.
_POLL, _POLL_TASKS, _SOON = 0.5, 1.0, 0.05
#: A change may be committed this much later than its time.
_OVERLAP: Final = timedelta(seconds=20)
_PAGE: Final = 500


class Joined:
    """The membership of one stream."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        #: The place was given to another stream: this one ends, and its client reconnects.
        self.is_over = False


class Hub:
    """Reads for at most `most` streams of a process, and `most_of_tenant` of each tenant (0: no limit of its own).

    It runs between the first `join` and the last `leave`.
    """

    def __init__(self, stream: CheckpointStream, *, most: int, most_of_tenant: int = 0) -> None:
        self._stream = stream
        self._streams: SharedPlaces[Joined] = SharedPlaces(most)
        self._most_of_tenant = most_of_tenant or most
        self._own: dict[str, SharedPlaces[Joined]] = {}
        #: The gateway stops: all streams end.
        self.is_ended = False
        #: Incremented when all streams must reconnect (tokens were revoked).
        self.era = 0
        self.changes = 0
        self._changed = asyncio.Event()
        self._hint = asyncio.Event()
        self._joining = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._checkpoints: list[StreamedCheckpoint] = []
        self._places: list[Position] = []
        #: The position before the first kept checkpoint, and the position that was read up to.
        self.kept_from: Position | None = None
        self.read_to: Position | None = None
        self._states: OrderedDict[UUID, tuple[int, Task]] = OrderedDict()
        self.version = 0
        #: Newest version of a dropped state.
        self.dropped = 0
        self._seen: dict[UUID, datetime] = {}
        #: When something was last erased from the store, as far as this process knows.
        self._erased_at: datetime | None = None

    # --- streams ------------------------------------------------------------------------------------------

    async def join(self, holder: Holder) -> Joined:
        """Add a stream of this holder. Raises `Full` and `StoreUnavailable`."""
        joined = Joined(holder[0])
        own = self._own.setdefault(holder[0], SharedPlaces(self._most_of_tenant))
        try:
            for places in (own, self._streams):
                if (over := places.take(holder, joined)) is not None:
                    over.is_over = True
                    self._give_back(over)
                    self._notify()
        except Full:
            self._give_back(joined)
            raise
        try:
            # One at a time: two simultaneous streams would start two readers, and duplicate all events.
            async with self._joining:
                if self.read_to is None or self._reader is None or self._reader.done():
                    self.read_to = self.kept_from = await self._stream.head()
                    self._checkpoints, self._places = [], []
                    self._erased_at = await self._stream.erased_at()
                    self._reader = asyncio.create_task(self._read(), name="spanpost-streams")
        except BaseException:
            self.leave(joined)
            raise
        return joined

    def leave(self, joined: Joined) -> None:
        """Remove a stream, and stop the reader after the last."""
        self._give_back(joined)
        if not self._streams:
            if self._reader is not None:
                self._reader.cancel()
            self._reader, self.read_to = None, None
            self._states.clear()
            self._seen.clear()

    def _give_back(self, joined: Joined) -> None:
        self._streams.leave(joined)
        own = self._own.get(joined.tenant)
        if own is not None:
            own.leave(joined)
            if not own:
                del self._own[joined.tenant]

    def end(self) -> None:
        """End all streams."""
        self.is_ended = True
        self._notify()

    def check(self) -> None:
        """Make all streams check now whether their callers are still known."""
        self._notify()

    def renew(self) -> None:
        """Make all streams reconnect, so that their callers are checked again."""
        self.era += 1
        self._notify()

    async def wait(self, seen: int, seconds: float) -> None:
        """Return once `changes` differs from `seen`, or after that time."""
        if self.changes != seen:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _notify(self) -> None:
        # Waiting streams hold the old event, which is set once for all of them.
        self.changes += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def checkpoints_after(self, place: Position) -> list[StreamedCheckpoint] | None:
        """Return the kept checkpoints after a position; None if earlier ones were dropped."""
        if self.kept_from is None or place < self.kept_from:
            return None
        return self._checkpoints[bisect_right(self._places, place) :]

    def states_after(self, version: int) -> list[Task]:
        """Return the tasks that changed after a version, oldest change first."""
        found: list[Task] = []
        for changed, task in reversed(self._states.values()):
            if changed <= version:
                break
            found.append(task)
        return found[::-1]

    # --- reading ------------------------------------------------------------------------------------------

    def add(self, tasks: Iterable[Task]) -> None:
        """Add this process's new records. Must run in the loop."""
        if not self._streams:
            return
        self._keep(tasks)
        self._hint.set()
        self._notify()

    def _keep(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            known = self._states.get(task.uid)
            if known is not None and known[1] == task:
                continue
            self.version += 1
            self._states[task.uid] = (self.version, task)
            self._states.move_to_end(task.uid)
        while len(self._states) > _KEPT_TASKS:
            _, (self.dropped, _) = self._states.popitem(last=False)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        changed_at: datetime | None = None
        tasks_due = loop.time()
        soon = 0
        while True:
            pause = _POLL
            try:
                has_more = await self._read_checkpoints()
                if loop.time() >= tasks_due:
                    began = loop.time()
                    await self._forget_erased()
                    changed_at = await self._read_tasks(changed_at)
                    # With very many running tasks a poll takes long: then poll less often.
                    tasks_due = loop.time() + max(_POLL_TASKS, 20 * (loop.time() - began))
                pause = 0.0 if has_more else _SOON if soon > 0 else _POLL
            except StoreUnavailable as error:
                log.info("event streams wait for the store: %s", error)
            soon -= 1
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hint.wait()
                self._hint.clear()
                soon = 4  # another transaction may hide the row that was just committed

    async def _read_checkpoints(self) -> bool:
        """Read a page of checkpoints; True if there may be more."""
        assert self.read_to is not None
        found = await self._stream.streamed(self.read_to, _PAGE)
        if not found:
            return False
        self._checkpoints += found
        self._places += [one.position for one in found]
        self.read_to = found[-1].position
        if (excess := len(self._checkpoints) - _KEPT_CHECKPOINTS) > 0:
            self.kept_from = self._places[excess - 1]
            del self._checkpoints[:excess], self._places[:excess]
        # The other poll does not return tasks that have ended.
        self._keep({one.task.uid: one.task for one in found}.values())
        self._notify()
        return len(found) == _PAGE

    async def _forget_erased(self) -> None:
        """Forget everything that was read when something was erased since: clients ask for the tasks anew."""
        erased_at = await self._stream.erased_at()
        if erased_at == self._erased_at:
            return
        self._erased_at = erased_at
        self._checkpoints, self._places, self.kept_from = [], [], self.read_to
        self._states.clear()
        self._seen.clear()
        self.version += 1
        self.dropped = self.version
        self._notify()

    async def _read_tasks(self, since: datetime | None) -> datetime:
        """Read the tasks that other processes changed; return the time to continue from."""
        if since is None:
            return await self._stream.now()
        found = await self._stream.changed(since - _OVERLAP, _KEPT_TASKS)
        new = [uid for uid, at in found if self._seen.get(uid) != at]
        self._seen = dict(found)
        if new:
            before = self.version
            self._keep(await self._stream.those(new))
            if self.version != before:
                self._notify()
        return max((at for _, at in found), default=since)
