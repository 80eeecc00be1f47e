"""Requests that cannot be recorded at once are written to a journal, answered, and recorded when their turn comes.

Rules.
1. Requests are written in groups, one transaction each, and their senders are told when it is committed. A request
   that the journal refuses is recorded directly.
2. Rows are recorded by as many readers as there are writers, tenants in turns. Readers and writers share their places
   (`Groups.places`), first come, first served: live requests go on while a backlog is worked off. Requests that wait
   to be written come first: readers wait meanwhile, and record one transaction at a time once rows are `_OLD`.
3. A tenant whose rows take more time than they may is served by a reader of its own, row by row.
4. Gateways share one journal. Any gateway records the rows of one that is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.shares import Sender, SharedBytes
from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.journal import Appended, Backlog, Entry
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.receivers.recording_groups import SLOW, RecordingGroups, RequestPart, WaitingParts

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

#: Groups that are written at once: one is read and redacted while the database writes another.
_AT_ONCE: Final = 2
#: Between two looks at what waits, seconds: with something waiting, and without.
_LOOK, _LOOK_IDLE = 0.5, 2.0
#: After a reader failed it waits so long, seconds.
_PAUSE: Final = 1.0
#: Rows that are older are recorded beside requests that wait to be written; seconds.
_OLD: Final = 5.0
#: Rows older than this hold signs of life of tasks: no task is called stalled meanwhile. Seconds; and how often the
#: stall timeouts are restarted.
_LATE, _LATE_EVERY = 20.0, 10.0
#: What a task that was cancelled is given to end in, seconds.
_CANCELLED: Final = 0.2


class Journal(Protocol):
    """**Protocol:** keeps requests that are answered before they are recorded. All raise `LedgerUnavailable`."""

    async def append(self, entries: Sequence[Entry], /) -> Appended:
        """Make entries durable, all of them but the refused ones, or none."""
        ...

    async def record(self, tenant: str, most: int, /) -> Recorded | None:
        """Take about so many observations of a tenant, record them and delete them, in one transaction.

        None: nothing is left that no other reader holds. Raises `OverBudget` where that takes too long.
        """
        ...

    async def record_alone(self, tenant: str, /) -> Recorded | None:
        """As `record`, of the smallest part that there is; what cannot be recorded is set aside."""
        ...

    async def depth(self) -> Sequence[Backlog]:
        """Return what waits, by tenant."""
        ...

    async def postpone_stalls(self) -> None:
        """Restart the stall timeout of every task: what they said may wait in the journal."""
        ...


class Bounds(Protocol):
    """**Protocol:** how much is written and recorded at once, and how many bytes may wait in the journal."""

    @property
    def group(self) -> int: ...

    @property
    def group_bytes(self) -> int: ...

    @property
    def writers(self) -> int: ...

    @property
    def journal(self) -> int: ...


class JournalQueue:
    """The way through the journal, of one loop. `start`, then `put` for each request, then `close`."""

    def __init__(self, journal: Journal, groups: RecordingGroups, limits: Bounds) -> None:
        self._journal = journal
        self._groups = groups
        self._limits = limits
        self._waiting = WaitingParts(SharedBytes())
        self._news, self._backlog_news, self._slow_news = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
        self._closing = self._is_closed = False
        #: Bytes in the journal by tenant, as seen last, with what was written since.
        self._held = SharedBytes()
        #: Tenants with rows, in the order of their turns.
        self._turns: dict[str, None] = {}
        self._slow_until: dict[str, float] = {}
        #: Writers and readers that have something in hand.
        self._writing = self._reading = 0
        #: Groups that were written.
        self.done = 0
        #: Age of the oldest row as seen last, seconds.
        self.age = 0.0
        self._late_said = 0.0

    @property
    def size(self) -> int:
        """Bytes in the journal."""
        return self._held.total

    @property
    def parts(self) -> int:
        """How many parts of requests wait to be written."""
        return self._waiting.parts

    def has_space(self, tenant: str) -> bool:
        """Tell whether the tenant's share of the journal is not used up. One tenant alone may fill half of it."""
        most = self._limits.journal
        return most > 0 and not self._is_closed and self._held.fits(Sender(tenant, ""), 0, most // 2)

    def is_asked(self, tenant: str) -> bool:
        """Tell whether requests of the tenant wait to be written."""
        return tenant in self._waiting.tenants

    def start(self) -> None:
        """Begin to write and to record what waits, in the running loop."""
        running = [(f"spanpost-journal-writer-{n}", self._write()) for n in range(_AT_ONCE)]
        running += [(f"spanpost-journal-reader-{n}", self._read()) for n in range(self._limits.writers)]
        running.append(("spanpost-journal-reader-slow", self._read_slow()))
        self._tasks = [asyncio.create_task(each, name=name) for name, each in running]
        self._watcher = asyncio.create_task(self._watch(), name="spanpost-journal-watch")

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Write what waits and end what is being recorded, for at most `timeout` seconds.

        False: some senders were told that it was not written. Rows stay in the journal.
        """
        self._closing = True
        for news in (self._news, self._backlog_news, self._slow_news, self._stopping):
            news.set()
        if self._watcher is not None:
            self._watcher.cancel()
        late: set[asyncio.Task[None]] = set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_CANCELLED)
        self._is_closed = True
        is_done = not self._waiting
        for tenant in list(self._waiting.tenants):
            for part in self._waiting.pop_all(tenant):
                part.fail(StoreUnavailable("the gateway stops"))
        return is_done

    def put(self, sender: Sender, observations: Sequence[Observation], size: int) -> RequestPart:
        """Have a request's observations written; the part says when they are durable."""
        part = RequestPart(sender, observations, size, asyncio.get_running_loop().create_future())
        if self._is_closed:
            part.fail(StoreUnavailable("the gateway stops"))
            return part
        self._waiting.put(part)
        self._news.set()
        return part

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._news.clear()
                await self._news.wait()
            parts = self._waiting.take(self._limits.group, self._limits.group_bytes)
            self._writing += 1
            try:
                await self._append(parts)
            except BaseException:
                for part in parts:
                    part.fail(StoreUnavailable("the gateway stops"))
                raise
            finally:
                self._writing -= 1
                self._wake()

    async def _append(self, parts: Sequence[RequestPart]) -> None:
        entries = [Entry(tenant=part.tenant, observations=part.observations) for part in parts]
        try:
            appended = await self._journal.append(entries)
        except Exception as error:
            if isinstance(error, StoreUnavailable):
                self._groups.note_down(error)
            else:
                _limited_log.error("journal", "requests cannot be written to the journal: %s", str(error)[:300], fault=error)
            for part in parts:
                part.fail(StoreUnavailable("it cannot be written now"))
            return
        self._groups.note_up()
        self.done += 1
        for tenant, size in appended.sizes.items():
            self._held.add(Sender(tenant, ""), size)
            self._turns.setdefault(tenant)
        for i, part in enumerate(parts):
            if i in appended.refused:
                self._groups.put_part(part)
            else:
                part.succeed()

    # --- recording ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._backlog_news.set()
        self._slow_news.set()

    def _whose(self, *, is_slow: bool) -> str | None:
        """Return the tenant whose turn it is."""
        now = time.monotonic()
        return next((tenant for tenant in self._turns if (self._slow_until.get(tenant, 0.0) > now) is is_slow), None)

    def _must_wait(self) -> bool:
        """Tell whether requests that wait to be written come first."""
        is_pressed = bool(self._waiting) or self._writing == _AT_ONCE
        return is_pressed and (self.age < _OLD or self._reading > 0 or self._groups.under_way > 0)

    async def _read(self) -> None:
        while not self._closing:
            if self._whose(is_slow=False) is None or self._must_wait():
                self._backlog_news.clear()
                await self._backlog_news.wait()
                continue
            is_well = True
            async with self._groups.places:
                if (tenant := self._whose(is_slow=False)) is not None and not self._closing:
                    self._reading += 1
                    try:
                        is_well = await self._record(tenant, is_slow=False)
                    finally:
                        self._reading -= 1
            self._backlog_news.set()
            if not is_well:
                await self._pause()

    async def _read_slow(self) -> None:
        while not self._closing:
            if (tenant := self._whose(is_slow=True)) is None:
                self._slow_news.clear()
                await self._slow_news.wait()
            elif not await self._record(tenant, is_slow=True):
                await self._pause()

    async def _record(self, tenant: str, *, is_slow: bool) -> bool:
        """Record some rows of a tenant, which is the last to have another turn; False: it failed, try again later."""
        del self._turns[tenant]
        self._turns[tenant] = None
        try:
            try:
                recorded = await self._journal.record(tenant, 1 if is_slow else self._limits.group)
            except OverBudget as error:
                if not is_slow:
                    said = "what waits of tenant %s in the journal is recorded apart for a while: %s"
                    _limited_log.warning(f"slow {tenant}", said, tenant, str(error))
                    self._slow_until[tenant] = time.monotonic() + SLOW
                    self._slow_news.set()
                    return True
                recorded = await self._journal.record_alone(tenant)
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                _limited_log.error("reading", "the journal cannot be recorded: %s", str(error)[:300], fault=error)
            return False
        if recorded is None:
            self._turns.pop(tenant, None)  # rows that other readers hold are seen again if they stay
        return True

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                await self._stopping.wait()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                self._see(await self._journal.depth())
                if self.age > _LATE and time.monotonic() - self._late_said > _LATE_EVERY:
                    self._late_said = time.monotonic()
                    await self._journal.postpone_stalls()
            except StoreUnavailable:
                pass
            except Exception as error:
                _limited_log.error("depth", "the journal's depth cannot be read: %s", str(error)[:300], fault=error)
            await asyncio.sleep(_LOOK if self._turns else _LOOK_IDLE)

    def _see(self, found: Sequence[Backlog]) -> None:
        self._held = SharedBytes()
        self.age = max((each.age for each in found), default=0.0)
        for each in found:
            self._held.add(Sender(each.tenant, ""), each.size)
            self._turns.setdefault(each.tenant)
        now = time.monotonic()
        self._slow_until = {tenant: until for tenant, until in self._slow_until.items() if until > now}
        if self._turns:
            self._wake()
