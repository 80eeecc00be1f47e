"""Decoded requests are recorded in groups, one transaction each; a sender is answered when its own are
committed.

Rules.
1. A writer takes waiting requests, one of each tenant in turn, as many as fit into one transaction. A large
   request shares its transaction only with requests of its own tenant. Requests that arrive meanwhile wait
   for the next transaction, or until half a group has come together, which another writer then takes.
2. While all writers work for some tenants, one more writer serves the others at once.
3. A group that exceeds its time limit (`OverBudget`) is split by tenant, and recorded smallest first. If one
   tenant's part still takes too long, it goes to the slow queue.
4. The slow queue has its own writer. A tenant's requests go there while it was slow recently. There, the
   store splits a transaction that takes too long by trace, and quarantines a trace that takes too long
   alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.shares import Sender, SharedBytes
from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.recorded import QUARANTINED, Recorded
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.lingering import Lingering
from spanpost.receivers.request_parts import RequestPart, WaitingParts

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

#: Seconds that a cancelled writer gets to end.
_CANCELLED: Final = 0.2
#: Seconds for which a tenant counts as slow after one of its transactions took too long.
SLOW: Final = 600.0


class RecordBatch(Protocol):
    """**Protocol:** commits a batch. Raises `StoreUnavailable`, and with `is_whole` also `OverBudget`."""

    async def __call__(self, batch: Sequence[Observation], /, *, is_whole: bool = False) -> Recorded: ...


#: A part of a request that is recorded directly.
DirectPart = RequestPart[Sequence[Observation]]


class RecordingGroups:
    """Records groups in one event loop.

    Call `start`, then `put` for each request, then `close`. `queue` counts waiting bytes.
    """

    def __init__(self, record: RecordBatch, limits: AdmissionLimits, queue: SharedBytes) -> None:
        self._record_batch = record
        self._limits = limits
        self._queue = queue
        #: Bytes of the requests that are decoded at the moment.
        self._coming = SharedBytes()
        self._waiting, self._slow = (
            WaitingParts[Sequence[Observation]](queue),
            WaitingParts[Sequence[Observation]](queue),
        )
        self._arrived, self._arrived_for_others, self._slow_arrived = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writers: list[asyncio.Task[None]] = []
        self._closing = self._is_closed = False
        self._lingering = Lingering(limits.lingering)
        #: Concurrent transactions of the main queue and of the journal's readers: first come, first served.
        self.places = asyncio.Semaphore(limits.writers)
        #: Until when a tenant's requests go to the slow queue (monotonic seconds).
        self._slow_until: dict[str, float] = {}
        #: Bytes recorded per second, a moving average; None before the first group.
        self.pace: float | None = None
        #: Groups being recorded, from the main and from the slow queue.
        self._busy, self._slow_busy = 0, 0
        #: Tenants in the groups that the main queue's writers are recording.
        self._at_work: Counter[str] = Counter()
        #: Groups finished so far.
        self.done = 0
        #: Why the store records nothing at the moment; empty if it works.
        self.trouble = ""

    @property
    def waiting(self) -> int:
        """Bytes of the waiting requests."""
        return self._waiting.size + self._slow.size

    @property
    def parts(self) -> int:
        """Number of waiting parts."""
        return self._waiting.parts + self._slow.parts

    @property
    def under_way(self) -> int:
        """Groups being recorded."""
        return self._busy + self._slow_busy

    def start(self) -> None:
        """Start recording, in the running loop."""
        writers = [("spanpost-writer-slow", self._write_slow()), ("spanpost-writer-others", self._write_for_others())]
        writers += [(f"spanpost-writer-{n}", self._write()) for n in range(self._limits.writers)]
        self._writers = [asyncio.create_task(writing, name=name) for name, writing in writers]

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Record waiting requests, for at most `timeout` seconds; False: something was left, and its senders got
        an error.
        """
        self._closing = True
        for event in (self._arrived, self._arrived_for_others, self._slow_arrived):
            event.set()
        late: set[asyncio.Task[None]] = set()
        if self._writers:
            _, late = await asyncio.wait(self._writers, timeout=timeout)
        for writer in late:
            writer.cancel()
        if late:
            # A writer that returns a connection to a hanging database does not end when it is cancelled.
            await asyncio.wait(late, timeout=_CANCELLED)
        is_done = not late and not self.parts
        self._is_closed = True
        for turns in (self._waiting, self._slow):
            for tenant in list(turns.tenants):
                for part in turns.pop_all(tenant):
                    part.fail(StoreUnavailable("the gateway stops"))
        return is_done

    def put(self, sender: Sender, observations: Sequence[Observation], size: int) -> list[DirectPart]:
        """Queue a request's observations; return its parts, whose `done` is set when they are recorded."""
        loop = asyncio.get_running_loop()
        most, count = self._limits.group_size, len(observations)
        parts = []
        for start in range(0, count, most):
            share = size * min(most, count - start) // count
            some = observations[start : start + most]
            part = RequestPart(sender, some, len(some), share, loop.create_future())
            parts.append(part)
        if self._is_closed:  # no writer is left
            for part in parts:
                part.fail(StoreUnavailable("the gateway stops"))
            return parts
        self._wait(parts, is_slow=self._is_slow_now(sender.tenant))
        return parts

    @contextmanager
    def coming(self, sender: Sender, size: int) -> Iterator[None]:
        """Count the bytes of a request that is decoded at the moment."""
        self._coming.add(sender, size)
        try:
            yield
        finally:
            self._coming.add(sender, -size)

    def is_long(self, sender: Sender) -> bool:
        """Whether a request would wait: parts of its tenant do, more than are recorded within the limit
        `direct`.
        """
        tenant = (sender.tenant,)
        if not self._queue.held(tenant) and not self._coming.held(tenant):
            return False
        waiting = (self._slow if self._is_slow_now(sender.tenant) else self._waiting).size + self._coming.total
        return waiting > max(self._limits.direct_bytes, (self.pace or 0.0) * self._limits.direct)

    def note_down(self, error: StoreUnavailable) -> None:
        """Note that the store is down."""
        if not self.trouble:
            log.warning("the store is down, senders are asked to come back: %s", error)
        self.trouble = "the store is down"

    def note_up(self) -> None:
        """Note that the store works again."""
        if self.trouble:
            log.info("the store is back")
            self.trouble = ""

    def _is_slow_now(self, tenant: str) -> bool:
        return self._slow_until.get(tenant, 0.0) > time.monotonic()

    def _wait(self, parts: Sequence[DirectPart], *, is_slow: bool) -> None:
        for part in parts:
            part.is_slow = is_slow
            (self._slow if is_slow else self._waiting).put(part)
        for event in (self._slow_arrived,) if is_slow else (self._arrived, self._arrived_for_others):
            event.set()

    # --- writers -----------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            while (left := self._left()) != 0:
                if left is None and self._closing:
                    return
                await self._wait_for(self._arrived, left)
            async with self.places:
                if self._waiting:  # else another writer was faster
                    await self._take_turn(())

    async def _write_for_others(self) -> None:
        while True:
            while self._busy < self._limits.writers or self._at_work.keys() >= self._waiting.tenants:
                if self._closing:
                    return
                await self._wait_for(self._arrived_for_others, None)
            await self._take_turn(self._at_work.keys())

    async def _take_turn(self, but: Collection[str]) -> None:
        group = self._waiting.take(self._limits.group_size, self._limits.group_bytes, but=but)
        tenants = {part.tenant for part in group}
        self._busy += 1
        self._at_work.update(tenants)
        self._arrived_for_others.set()
        try:
            await self._run(group, self._record)
        finally:
            self._busy -= 1
            self._at_work.subtract(tenants)
            self._at_work += Counter()

    async def _write_slow(self) -> None:
        while True:
            while not self._slow:
                if self._closing:
                    return
                await self._wait_for(self._slow_arrived, None)
            group = self._slow.take(self._limits.group_size, self._limits.group_bytes, is_one_tenant=True)
            self._slow_busy = 1
            try:
                await self._run(group, self._record_slow)
            finally:
                self._slow_busy = 0

    @staticmethod
    async def _wait_for(event: asyncio.Event, seconds: float | None) -> None:
        event.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    @staticmethod
    async def _run(group: list[DirectPart], record: Callable[[list[DirectPart]], Awaitable[None]]) -> None:
        try:
            await record(group)
        except BaseException:  # this writer was cancelled
            for part in group:
                part.fail(StoreUnavailable("the gateway stops"))
            raise

    def _left(self) -> float | None:
        """Return the seconds to wait for more requests before recording; None: wait until more arrive."""
        waiting, limits = self._waiting, self._limits
        if not waiting:
            return None
        if self._closing or waiting.count >= limits.group_size:
            return 0.0
        is_small = 2 * waiting.count < limits.group_size and 2 * waiting.size < limits.group_bytes
        if self._busy and is_small and self._at_work.keys() >= waiting.tenants:
            return None  # too little for a second transaction: the busy writer takes it next
        return self._lingering.left(waiting.parts, time.monotonic())

    # --- recording ---------------------------------------------------------------------------------------------------

    async def _record(self, group: list[DirectPart]) -> None:
        """Record a group, by tenant if it takes too long; one tenant's parts that still do go to the slow
        queue.
        """
        try:
            return await self._commit(group, is_whole=True)
        except OverBudget as error:
            self.done += 1
            reason = str(error)
        by_tenant: dict[str, list[DirectPart]] = {}
        for part in group:
            if not part.done.done():
                by_tenant.setdefault(part.tenant, []).append(part)
        if len(by_tenant) == 1:
            [(tenant, parts)] = by_tenant.items()
            _limited_log.warning(
                f"slow {tenant}", "telemetry of tenant %s is recorded apart for a while: %s", tenant, reason
            )
            self._mark_slow(tenant)
            self._wait([*parts, *self._waiting.pop_all(tenant)], is_slow=True)
            return
        for parts in sorted(by_tenant.values(), key=lambda parts: sum(part.count for part in parts)):
            await self._record(parts)

    async def _record_slow(self, group: list[DirectPart]) -> None:
        """Record a slow tenant's group: in one transaction, or part by part if that takes too long."""
        try:
            return await self._commit(group, is_whole=True)
        except OverBudget:
            self._mark_slow(group[0].tenant)
        for part in group:
            if not part.done.done():
                await self._commit([part], is_whole=False)

    def _mark_slow(self, tenant: str) -> None:
        now = time.monotonic()
        self._slow_until = {each: until for each, until in self._slow_until.items() if until > now}
        self._slow_until[tenant] = now + SLOW

    async def _commit(self, group: list[DirectPart], *, is_whole: bool) -> None:
        """Record parts in one transaction and answer their senders.

        With `is_whole` raises `OverBudget` if it takes too long.
        """
        began = time.monotonic()
        batch = [o for part in group for o in part.content] if len(group) > 1 else group[0].content
        try:
            recorded = await self._record_batch(batch, is_whole=is_whole)
        except OverBudget:
            raise
        except StoreUnavailable as error:
            self.note_down(error)
            for part in group:
                part.fail(error)
            return
        except Exception as error:
            return await self._record_singly(group, error, is_whole=is_whole)
        self.note_up()
        self.done += 1
        if not group[0].is_slow:
            self._note(batch, group, max(time.monotonic() - began, 1e-6) / max(self._busy, 1))
        quarantined = sum(recorded.dropped.get(reason, 0) for reason in QUARANTINED)
        for part in group:
            part.succeed(quarantined)

    def _note(self, batch: Sequence[Observation], group: list[DirectPart], took: float) -> None:
        pace = sum(part.size for part in group) / took
        self.pace = pace if self.pace is None else self.pace + 0.1 * (pace - self.pace)
        self._lingering.note(batch, len(group) + self._waiting.parts, took, time.monotonic())

    async def _record_singly(self, group: list[DirectPart], error: Exception, *, is_whole: bool) -> None:
        """Record the parts one by one: an internal error of one must not block the others."""
        kind = type(error).__name__
        if len(group) == 1:
            reason = "a request cannot be recorded, its sender keeps it: %s: %s"
            _limited_log.error(f"fault {kind}", reason, kind, str(error)[:300], fault=error)
            group[0].fail(StoreUnavailable("it cannot be recorded now"))
            return
        for part in group:
            await self._commit([part], is_whole=is_whole)
