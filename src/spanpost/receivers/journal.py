"""The journal: requests that cannot be recorded at once are written to it, answered, and recorded later.

Rules.
1. Request bodies are written as they came, encrypted (`journal_bodies`), in groups of one transaction each.
   Senders are answered after the commit.
2. Rows are recorded by as many readers as there are writers, tenants in turns. Readers and writers share
   their places (`RecordingGroups.places`), first come, first served: live requests continue while a backlog
   is recorded. Requests that wait to be written come first: readers wait, and record one transaction at a
   time once rows are `_OLD`. During a burst (`Pressure`) they wait until rows are `_BURST`.
3. A tenant whose rows exceed the time limit, or the memory, is served by the slow reader, row by row.
4. Gateways share one journal. Any gateway records the rows of one that is gone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.shares import Sender, SharedBytes
from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.journal import Backlog
from spanpost.model.recorded import Recorded
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.pieces import WHOLE
from spanpost.receivers.pressure import Pressure
from spanpost.receivers.recording_groups import SLOW, RecordingGroups
from spanpost.receivers.request_parts import Body, RequestPart, WaitingParts

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

#: Groups that are written at once: one is read and redacted while the database writes another.
_AT_ONCE: Final = 2
#: Seconds between two checks of the backlog: with a backlog, and without.
_CHECK, _CHECK_IDLE = 0.5, 2.0
#: Seconds that a reader waits after a failure.
_PAUSE: Final = 1.0
#: Rows that are older are recorded beside requests that wait to be written; seconds.
_OLD: Final = 5.0
#: The same during a burst: recording meanwhile would shorten the backlog little, and delay answers. Seconds.
_BURST: Final = 70.0
#: Rows older than this may hold recent telemetry of tasks, so no task counts as stalled meanwhile. Seconds;
#: and the interval at which stall timeouts are restarted.
_LATE, _LATE_EVERY = 20.0, 10.0
#: Seconds that a cancelled asyncio task gets to end.
_CANCELLED: Final = 0.2


class Journal(Protocol):
    """**Protocol:** stores requests that are answered before they are recorded.

    All methods raise `StoreUnavailable`.
    """

    async def append(self, parts: Sequence[RequestPart[Body]], /) -> Mapping[str, int]:
        """Make bodies durable, all or none; return the bytes that were written, by tenant."""
        ...

    async def record(self, tenant: str, most: int, /) -> Recorded | None:
        """Record and delete about `most` observations of a tenant, in one transaction.

        None: nothing is left that another reader does not hold. Raises `OverBudget` if it takes too long.
        """
        ...

    async def record_alone(self, tenant: str, /) -> Recorded | None:
        """Like `record`, for one row; observations that cannot be recorded are quarantined."""
        ...

    async def depth(self) -> Sequence[Backlog]:
        """Return the backlog, by tenant."""
        ...

    async def postpone_stalls(self) -> None:
        """Restart the stall timeout of every task: its telemetry may wait in the journal."""
        ...


class JournalQueue:
    """Writes to the journal and records from it, in one event loop.

    Call `start`, then `put` for each request, then `close`.
    """

    def __init__(self, journal: Journal, groups: RecordingGroups, limits: AdmissionLimits) -> None:
        self._journal = journal
        self._groups = groups
        self._limits = limits
        self._waiting = WaitingParts[Body](SharedBytes())
        self._pressure = Pressure()
        self._arrived, self._backlog_changed, self._slow_changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
        self._closing = self._is_closed = False
        #: Bytes in the journal by tenant, at the last check, plus bytes written since.
        self._held = SharedBytes()
        #: Tenants with rows, in the order of their turns.
        self._turns: dict[str, None] = {}
        self._slow_until: dict[str, float] = {}
        #: Busy writers and readers.
        self._writing = self._reading = 0
        #: Number of groups written.
        self.done = 0
        #: Age of the oldest row at the last check that succeeded, seconds.
        self.age = 0.0
        #: The same of the rows that can be decrypted here. The others delay nothing.
        self._own_age = 0.0
        self._is_age_known = True
        self._postponed_at = 0.0

    @property
    def size(self) -> int:
        """Bytes in the journal."""
        return self._held.total

    @property
    def lag(self) -> float | None:
        """Age of the oldest row, seconds; None: the last check failed."""
        return self.age if self._is_age_known else None

    @property
    def parts(self) -> int:
        """Number of parts that wait to be written."""
        return self._waiting.parts

    def has_space(self, tenant: str) -> bool:
        """Whether the tenant has space left in the journal. One tenant alone may fill half of it."""
        most = self._limits.journal_bytes
        return most > 0 and not self._is_closed and self._held.fits(Sender(tenant, ""), 0, most // 2)

    def start(self) -> None:
        """Start writing and recording, in the running loop."""
        loops = [(f"spanpost-journal-writer-{n}", self._write()) for n in range(_AT_ONCE)]
        loops += [(f"spanpost-journal-reader-{n}", self._read()) for n in range(self._limits.writers)]
        loops.append(("spanpost-journal-reader-slow", self._read_slow()))
        self._tasks = [asyncio.create_task(each, name=name) for name, each in loops]
        self._watcher = asyncio.create_task(self._watch(), name="spanpost-journal-watch")

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Write waiting requests and finish current transactions, for at most `timeout` seconds.

        False: some senders got an error, because their requests were not written. Rows stay in the journal.
        """
        self._closing = True
        for event in (self._arrived, self._backlog_changed, self._slow_changed, self._stopping):
            event.set()
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

    def takes(self, sender: Sender, size: int) -> bool:
        """Whether a request is written to the journal: it would wait too long, and there is space.

        A request of several pieces is also written if recording it would take too long.
        """
        tenant, pace, now = sender.tenant, self._groups.pace or 0.0, time.monotonic()
        if not self.has_space(tenant):
            return False
        if self._pressure.is_on(tenant, size, pace, now):
            return True
        is_long = self._groups.is_long(sender) or size > max(WHOLE, pace * self._limits.direct)
        if is_long:
            self._pressure.begin(tenant, size, now)
        return is_long

    def put(self, sender: Sender, body: Body, count: int) -> RequestPart[Body]:
        """Queue a body of about `count` entries to be written; the part's `done` is set when it is durable."""
        part = RequestPart(sender, body, count, len(body.body), asyncio.get_running_loop().create_future())
        if self._is_closed:
            part.fail(StoreUnavailable("the gateway stops"))
            return part
        self._waiting.put(part)
        self._arrived.set()
        return part

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            parts = self._waiting.take(math.inf, self._limits.group_bytes)
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

    async def _append(self, parts: Sequence[RequestPart[Body]]) -> None:
        try:
            sizes = await self._journal.append(parts)
        except Exception as error:
            if isinstance(error, StoreUnavailable):
                self._groups.note_down(error)
            else:
                _limited_log.error(
                    "journal", "requests cannot be written to the journal: %s", str(error)[:300], fault=error
                )
            for part in parts:
                part.fail(StoreUnavailable("it cannot be written now"))
            return
        self._groups.note_up()
        self.done += 1
        for tenant, size in sizes.items():
            self._held.add(Sender(tenant, ""), size)
            self._turns.setdefault(tenant)
        for part in parts:
            part.succeed()

    # --- recording ---------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._backlog_changed.set()
        self._slow_changed.set()

    def _next_tenant(self, *, is_slow: bool) -> str | None:
        """Return the tenant whose turn it is; None: no rows wait."""
        now = time.monotonic()
        return next((tenant for tenant in self._turns if (self._slow_until.get(tenant, 0.0) > now) is is_slow), None)

    def _must_wait(self) -> bool:
        """Whether waiting writes come before reading."""
        if self._pressure.is_burst(self._groups.pace or 0.0, time.monotonic()) and self._own_age < _BURST:
            return True
        is_pressed = bool(self._waiting) or self._writing == _AT_ONCE
        return is_pressed and (self._own_age < _OLD or self._reading > 0 or self._groups.under_way > 0)

    async def _read(self) -> None:
        while not self._closing:
            if self._next_tenant(is_slow=False) is None or self._must_wait():
                self._backlog_changed.clear()
                await self._backlog_changed.wait()
                continue
            is_well = True
            async with self._groups.places:
                if (tenant := self._next_tenant(is_slow=False)) is not None and not self._closing:
                    self._reading += 1
                    try:
                        is_well = await self._record(tenant, is_slow=False)
                    finally:
                        self._reading -= 1
            self._backlog_changed.set()
            if not is_well:
                await self._pause()

    async def _read_slow(self) -> None:
        while not self._closing:
            if (tenant := self._next_tenant(is_slow=True)) is None:
                self._slow_changed.clear()
                await self._slow_changed.wait()
            elif not await self._record(tenant, is_slow=True):
                await self._pause()

    async def _record(self, tenant: str, *, is_slow: bool) -> bool:
        """Record some rows of a tenant and move the tenant to the end; False: it failed, try again later."""
        del self._turns[tenant]
        self._turns[tenant] = None
        try:
            try:
                recorded = await self._journal.record(tenant, 1 if is_slow else self._limits.group_size)
            except (OverBudget, MemoryError) as error:
                if not is_slow:
                    message = "the journal's rows of tenant %s are recorded apart for a while: %s"
                    _limited_log.warning(f"slow {tenant}", message, tenant, str(error))
                    self._slow_until[tenant] = time.monotonic() + SLOW
                    self._slow_changed.set()
                    return True
                recorded = await self._journal.record_alone(tenant)
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                _limited_log.error("reading", "the journal cannot be recorded: %s", str(error)[:300], fault=error)
            return False
        if recorded is None:
            self._turns.pop(tenant, None)  # rows that other readers hold are found again if they stay
        return True

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                await self._stopping.wait()

    # --- watching ----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                self._update(await self._journal.depth())
                if self._own_age > _LATE and time.monotonic() - self._postponed_at > _LATE_EVERY:
                    self._postponed_at = time.monotonic()
                    await self._journal.postpone_stalls()
            except StoreUnavailable:
                self._is_age_known = False
            except Exception as error:
                self._is_age_known = False
                _limited_log.error("depth", "the journal's depth cannot be read: %s", str(error)[:300], fault=error)
            await asyncio.sleep(_CHECK if self._turns else _CHECK_IDLE)

    def _update(self, backlog: Sequence[Backlog]) -> None:
        self._held = SharedBytes()
        self._is_age_known = True
        self.age = max((each.age for each in backlog), default=0.0)
        self._own_age = max((each.own_age for each in backlog), default=0.0)
        for each in backlog:
            self._held.add(Sender(each.tenant, ""), each.size)
            if each.undecryptable < each.rows:
                self._turns.setdefault(each.tenant)
        if self.age > _LATE and (count := sum(each.undecryptable for each in backlog)):
            _limited_log.warning(
                "keys",
                "%d rows of the journal wait for a key that this gateway does not have: put the secret that they were "
                "encrypted with into gateway.journal_keys",
                count,
            )
        now = time.monotonic()
        self._slow_until = {tenant: until for tenant, until in self._slow_until.items() if until > now}
        if self._turns:
            self._wake()
