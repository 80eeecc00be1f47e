"""What was decoded is recorded in groups, one transaction each, and each sender is told when its own are committed.

Rules.
1. A writer takes what waits, one request of each tenant in turn, as far as that fits into one transaction; a large request shares
   it with its own tenant's alone. What comes in meanwhile waits for the next one, or for half a group to have come together, which
   another writer takes then.
2. While all writers are at work for some tenants, one more is there for others: it takes what they send at once.
3. A group that takes more time than it may (`OverBudget`) is taken apart: each tenant's requests by themselves, the smallest first;
   what is one tenant's and takes too long goes to the lane of slow ones.
4. That lane has one writer of its own. What a tenant sends goes there as long as it was slow lately. There the store takes apart
   what takes too long, trace by trace, and keeps aside what does by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence, Set
from contextlib import suppress
from typing import Final, Protocol

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.shares import Sender, SharedBytes
from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.recorded import OVER_BUDGET, Recorded
from spanpost.receivers.lingering import Lingering

log = logging.getLogger("spanpost.runtime.gateway")
_limited_log = RateLimitedLog(log)

#: What a writer that was cancelled is given to end in, seconds.
_CANCELLED: Final = 0.2
#: Observations of a request that may share a transaction with other tenants'.
SHARED: Final = 256
#: For so long a tenant is slow after something of it took too much time, seconds.
SLOW: Final = 600.0


class RecordBatch(Protocol):
    """**Protocol:** commits a batch; raises `LedgerUnavailable` when it could not be, and with `is_whole` `OverBudget`."""

    async def __call__(self, batch: Sequence[Observation], /, *, is_whole: bool = False) -> Recorded: ...


class Bounds(Protocol):
    """**Protocol:** how much is recorded at once."""

    @property
    def group(self) -> int: ...

    @property
    def group_bytes(self) -> int: ...

    @property
    def writers(self) -> int: ...

    @property
    def lingering(self) -> float: ...

    @property
    def direct(self) -> float: ...

    @property
    def direct_bytes(self) -> int: ...


class RequestPart:
    """Observations of one request that are recorded together. `done` tells how many of them are kept aside."""

    __slots__ = ("done", "is_slow", "observations", "sender", "size")

    def __init__(self, sender: Sender, observations: Sequence[Observation], size: int, done: asyncio.Future[int]) -> None:
        self.sender = sender
        self.observations = observations
        self.size = size
        self.done = done
        self.is_slow = False

    @property
    def tenant(self) -> str:
        """Whose they are."""
        return self.sender.tenant

    def fail(self, error: Exception) -> None:
        """Tell the sender that it is not recorded."""
        if not self.done.done():
            with suppress(asyncio.InvalidStateError):
                self.done.set_exception(error)

    def succeed(self, kept_aside: int = 0) -> None:
        """Tell the sender that it is recorded, but for those that are kept aside."""
        if not self.done.done():
            self.done.set_result(kept_aside)


class WaitingParts:
    """Parts that wait, of each tenant in the order in which they came; tenants take turns."""

    def __init__(self, queue: SharedBytes) -> None:
        self._of: dict[str, deque[RequestPart]] = {}
        self._queue = queue
        self.parts = self.count = self.size = 0

    def __bool__(self) -> bool:
        return bool(self._of)

    @property
    def tenants(self) -> Set[str]:
        """Who has something waiting."""
        return self._of.keys()

    def put(self, part: RequestPart) -> None:
        """Have a part wait for its turn."""
        self._of.setdefault(part.tenant, deque()).append(part)
        self._note(part, 1)

    def pop_all(self, tenant: str) -> Sequence[RequestPart]:
        """Take all parts of a tenant."""
        waiting = self._of.pop(tenant, ())
        for part in waiting:
            self._note(part, -1)
        return waiting

    def take(self, most: int, most_bytes: int, *, but: Collection[str] = (), is_of_one: bool = False) -> list[RequestPart]:
        """Take parts in turn as far as they fit into one transaction; one always does. None of the tenants in `but`.

        With `is_of_one`, and after a large part, only those of one tenant.
        """
        group: list[RequestPart] = []
        whose: set[str] = set()
        count = size = 0
        turns = deque(tenant for tenant in self._of if tenant not in but)
        while turns:
            tenant = turns[0]
            part = self._of[tenant][0]
            count, size = count + len(part.observations), size + part.size
            if group and (count > most or size > most_bytes):
                break
            is_alone = is_of_one or len(part.observations) > SHARED
            if is_alone and whose - {tenant}:
                count, size = count - len(part.observations), size - part.size
                turns.popleft()  # it is the first of a later group
                continue
            self._pop(tenant)
            group.append(part)
            whose.add(tenant)
            if is_alone:
                turns = deque((tenant,))
            turns.rotate(-1)
            if tenant not in self._of:
                turns.remove(tenant)
        return group

    def _pop(self, tenant: str) -> None:
        """Take a tenant's first part; it is the last to have another turn."""
        waiting = self._of.pop(tenant)
        self._note(waiting.popleft(), -1)
        if waiting:
            self._of[tenant] = waiting

    def _note(self, part: RequestPart, by: int) -> None:
        self.parts += by
        self.count += by * len(part.observations)
        self.size += by * part.size
        self._queue.add(part.sender, by * part.size)


class RecordingGroups:
    """The groups of one loop. `start`, then `put` for each request, then `close`. `queue` counts what waits, by sender."""

    def __init__(self, record: RecordBatch, limits: Bounds, queue: SharedBytes) -> None:
        self._record_batch = record
        self._limits = limits
        self._queue = queue
        self._waiting, self._slow = WaitingParts(queue), WaitingParts(queue)
        self._news, self._news_for_others, self._slow_news = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writers: list[asyncio.Task[None]] = []
        self._closing = self._is_closed = False
        self._lingering = Lingering(limits.lingering)
        #: Transactions of the first lane at once, and of what is recorded from the journal: first come, first served.
        self.places = asyncio.Semaphore(limits.writers)
        #: Until when what a tenant sends is recorded in the lane of slow ones.
        self._slow_until: dict[str, float] = {}
        #: Bytes recorded per second, of late; None before the first group.
        self.pace: float | None = None
        #: Groups that a writer has in hand, in either lane, and how often one was done with.
        self._busy, self._slow_busy = 0, 0
        #: Whose groups the writers of the first lane have in hand.
        self._at_work: Counter[str] = Counter()
        self.done = 0
        #: Why the store does not take anything, while it does not.
        self.trouble = ""

    @property
    def waiting(self) -> int:
        """Bytes of requests that wait for their turn."""
        return self._waiting.size + self._slow.size

    @property
    def parts(self) -> int:
        """How many parts of requests wait for their turn."""
        return self._waiting.parts + self._slow.parts

    @property
    def under_way(self) -> int:
        """Groups that a writer has in hand."""
        return self._busy + self._slow_busy

    def start(self) -> None:
        """Begin to record, in the running loop."""
        writers = [("spanpost-writer-slow", self._write_slow()), ("spanpost-writer-others", self._write_for_others())]
        writers += [(f"spanpost-writer-{n}", self._write()) for n in range(self._limits.writers)]
        self._writers = [asyncio.create_task(writing, name=name) for name, writing in writers]

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Record what waits, for at most `timeout` seconds; False when something was left, whose senders were told so."""
        self._closing = True
        for news in (self._news, self._news_for_others, self._slow_news):
            news.set()
        late: set[asyncio.Task[None]] = set()
        if self._writers:
            _, late = await asyncio.wait(self._writers, timeout=timeout)
        for writer in late:
            writer.cancel()
        if late:
            # One that gives a connection back of a database that hangs does not end by being cancelled.
            await asyncio.wait(late, timeout=_CANCELLED)
        is_done = not late and not self.parts
        self._is_closed = True
        for turns in (self._waiting, self._slow):
            for tenant in list(turns.tenants):
                for part in turns.pop_all(tenant):
                    part.fail(StoreUnavailable("the gateway stops"))
        return is_done

    def put(self, sender: Sender, observations: Sequence[Observation], size: int) -> list[RequestPart]:
        """Have a request's observations recorded; return its parts, each of which says when."""
        loop = asyncio.get_running_loop()
        most, count = self._limits.group, len(observations)
        parts = []
        for start in range(0, count, most):
            share = size * min(most, count - start) // count
            part = RequestPart(sender, observations[start : start + most], share, loop.create_future())
            parts.append(part)
        if self._is_closed:  # no writer is left that would take them
            for part in parts:
                part.fail(StoreUnavailable("the gateway stops"))
            return parts
        self._wait(parts, is_slow=self._is_slow_now(sender.tenant))
        return parts

    def put_part(self, part: RequestPart) -> None:
        """Have a part recorded that the journal refused."""
        if self._is_closed:
            part.fail(StoreUnavailable("the gateway stops"))
            return
        self._wait([part], is_slow=self._is_slow_now(part.tenant))

    def is_long(self, sender: Sender) -> bool:
        """Tell whether a request would wait: parts of its tenant do, and more of them than are recorded in a moment."""
        if not self._queue.held((sender.tenant,)):
            return False
        ordering_key = self._slow if self._is_slow_now(sender.tenant) else self._waiting
        return ordering_key.size > max(self._limits.direct_bytes, (self.pace or 0.0) * self._limits.direct)

    def is_away(self, error: StoreUnavailable) -> None:
        """Note that the store takes nothing."""
        if not self.trouble:
            log.warning("the store is away, senders are asked to come back: %s", error)
        self.trouble = "the store is away"

    def is_back(self) -> None:
        """Note that the store took something."""
        if self.trouble:
            log.info("the store is back")
            self.trouble = ""

    def _is_slow_now(self, tenant: str) -> bool:
        return self._slow_until.get(tenant, 0.0) > time.monotonic()

    def _wait(self, parts: Sequence[RequestPart], *, is_slow: bool) -> None:
        for part in parts:
            part.is_slow = is_slow
            (self._slow if is_slow else self._waiting).put(part)
        for news in (self._slow_news,) if is_slow else (self._news, self._news_for_others):
            news.set()

    # --- writers ------------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            while (left := self._left()) != 0:
                if left is None and self._closing:
                    return
                await self._wait_for(self._news, left)
            async with self.places:
                if self._waiting:  # else somebody took it meanwhile
                    await self._take_turn(())

    async def _write_for_others(self) -> None:
        while True:
            while self._busy < self._limits.writers or self._at_work.keys() >= self._waiting.tenants:
                if self._closing:
                    return
                await self._wait_for(self._news_for_others, None)
            await self._take_turn(self._at_work.keys())

    async def _take_turn(self, but: Collection[str]) -> None:
        group = self._waiting.take(self._limits.group, self._limits.group_bytes, but=but)
        tenants = {part.tenant for part in group}
        self._busy += 1
        self._at_work.update(tenants)
        self._news_for_others.set()
        try:
            await self._do(group, self._record)
        finally:
            self._busy -= 1
            self._at_work.subtract(tenants)
            self._at_work += Counter()

    async def _write_slow(self) -> None:
        while True:
            while not self._slow:
                if self._closing:
                    return
                await self._wait_for(self._slow_news, None)
            group = self._slow.take(self._limits.group, self._limits.group_bytes, is_of_one=True)
            self._slow_busy = 1
            try:
                await self._do(group, self._record_slow)
            finally:
                self._slow_busy = 0

    @staticmethod
    async def _wait_for(news: asyncio.Event, seconds: float | None) -> None:
        news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()

    @staticmethod
    async def _do(group: list[RequestPart], record: Callable[[list[RequestPart]], Awaitable[None]]) -> None:
        try:
            await record(group)
        except BaseException:  # this writer was cancelled
            for part in group:
                part.fail(StoreUnavailable("the gateway stops"))
            raise

    def _left(self) -> float | None:
        """Return for how many seconds more requests are awaited before what waits is recorded; None: until more come."""
        waiting, limits = self._waiting, self._limits
        if not waiting:
            return None
        if self._closing or waiting.count >= limits.group:
            return 0.0
        is_little = 2 * waiting.count < limits.group and 2 * waiting.size < limits.group_bytes
        if self._busy and is_little and self._at_work.keys() >= waiting.tenants:
            return None  # too little for a transaction beside the other one: who is at that takes it next
        return self._lingering.left(waiting.parts, time.monotonic())

    # --- recording ----------------------------------------------------------------------------------------------------

    async def _record(self, group: list[RequestPart]) -> None:
        """Record a group, or each tenant's part of it; what is one tenant's and takes too long goes to the lane of slow ones."""
        try:
            return await self._commit(group, is_whole=True)
        except OverBudget as error:
            self.done += 1
            said = str(error)
        of: dict[str, list[RequestPart]] = {}
        for part in group:
            if not part.done.done():
                of.setdefault(part.tenant, []).append(part)
        if len(of) == 1:
            [(tenant, parts)] = of.items()
            _limited_log.warning(f"slow {tenant}", "what tenant %s sends is recorded apart for a while: %s", tenant, said)
            self._is_slow(tenant)
            self._wait([*parts, *self._waiting.pop_all(tenant)], is_slow=True)
            return
        for parts in sorted(of.values(), key=lambda parts: sum(len(part.observations) for part in parts)):
            await self._record(parts)

    async def _record_slow(self, group: list[RequestPart]) -> None:
        """Record a group of a tenant that was slow: together if that is soon done, else one by one, as the store can."""
        try:
            return await self._commit(group, is_whole=True)
        except OverBudget:
            self._is_slow(group[0].tenant)
        for part in group:
            if not part.done.done():
                await self._commit([part], is_whole=False)

    def _is_slow(self, tenant: str) -> None:
        now = time.monotonic()
        self._slow_until = {each: until for each, until in self._slow_until.items() if until > now}
        self._slow_until[tenant] = now + SLOW

    async def _commit(self, group: list[RequestPart], *, is_whole: bool) -> None:
        """Record parts in one go and tell their senders; raises `OverBudget` where `is_whole` and that takes too long."""
        began = time.monotonic()
        batch = [o for part in group for o in part.observations] if len(group) > 1 else group[0].observations
        try:
            recorded = await self._record_batch(batch, is_whole=is_whole)
        except OverBudget:
            raise
        except StoreUnavailable as error:
            self.is_away(error)
            for part in group:
                part.fail(error)
            return
        except Exception as error:
            return await self._apart(group, error, is_whole=is_whole)
        self.is_back()
        self.done += 1
        if not group[0].is_slow:
            self._note(batch, group, max(time.monotonic() - began, 1e-6) / max(self._busy, 1))
        kept_aside = recorded.lost.get(OVER_BUDGET, 0)
        for part in group:
            part.succeed(kept_aside)

    def _note(self, batch: Sequence[Observation], group: list[RequestPart], took: float) -> None:
        pace = sum(part.size for part in group) / took
        self.pace = pace if self.pace is None else self.pace + 0.1 * (pace - self.pace)
        self._lingering.note(batch, len(group) + self._waiting.parts, took, time.monotonic())

    async def _apart(self, group: list[RequestPart], error: Exception, *, is_whole: bool) -> None:
        """Find the request that a fault of ours strikes at, so that its neighbours are recorded."""
        kind = type(error).__name__
        if len(group) == 1:
            said = "a request cannot be recorded, its sender keeps it: %s: %s"
            _limited_log.error(f"fault {kind}", said, kind, str(error)[:300], fault=error)
            group[0].fail(StoreUnavailable("it cannot be recorded now"))
            return
        for part in group:
            await self._commit([part], is_whole=is_whole)
