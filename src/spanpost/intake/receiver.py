"""What all doors of the gateway share: bodies become observations, observations are recorded in groups, and a sender is
answered when its own are committed.

A writer takes everything that waits into one transaction. What comes in meanwhile is decoded and waits for the next one, or for
half a group to have come together, which another writer takes then. A request of many observations is recorded in several groups
and answered after the last. What is refused, is refused before it was read where that is possible: by the bytes under way, by how
long recording them would take at the pace of late, and at once while the ledger is known to be away.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from spanpost.domain.errors import LedgerUnavailable
from spanpost.domain.observations import Observation
from spanpost.intake.company import Company
from spanpost.intake.decoded import Decoded, Undecodable
from spanpost.intake.encodings import TooLarge, inflate
from spanpost.intake.pieces import WHOLE, Piece, pieces
from spanpost.intake.seldom import Seldom

log = logging.getLogger("spanpost.gateway")
_seldom = Seldom(log)

#: What is kept of a body that cannot be decoded.
KEPT: Final = 64 * 1024
#: Inflated in the loop; what grows beyond it is inflated in a thread.
_INLINE: Final = 1024 * 1024
#: What a writer that was cancelled is given to end in, seconds.
_CANCELLED: Final = 0.2
_RANDOM = random.Random()

#: Losses that mean a whole span or record.
_REJECTED: Final = ("bad_span", "bad_record", "bad_point")


class Busy(Exception):
    """Not now: the sender keeps what it has and tries again after `retry_after` seconds (1 to 5)."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request that was taken: all of it is committed but what was rejected."""

    rejected: int = 0
    message: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much at once, and how long."""

    #: Bytes of one body, after decompression.
    body: int = 64 * 1024 * 1024
    #: Bytes of all requests under way. One request alone is always taken.
    in_flight: int = 64 * 1024 * 1024
    #: Observations of one transaction; and the bytes whose requests it takes together.
    group: int = 2048
    group_bytes: int = 4 * 1024 * 1024
    #: Groups recorded at once: one is folded while the database writes another (with ten senders 15 to 24 % more, 2026-11).
    writers: int = 2
    #: How long a writer lets others come in whose requests may bring parts of the same traces: a share of its last transaction.
    company: float = 0.1
    #: Seconds of work that may wait, at the pace of late, before more is sent away; and the bytes that may always wait.
    queue: float = 1.0
    queue_bytes: int = 1024 * 1024
    #: Seconds without any commit after which those who wait are sent away. What they sent may be recorded all the same: its
    #: repeat is then nothing new.
    patience: float = 4.0


class Record(Protocol):
    """**Protocol:** commits a batch; raises `LedgerUnavailable` when it could not be."""

    async def __call__(self, batch: Sequence[Observation], /) -> object: ...


class Keep(Protocol):
    """**Protocol:** keeps a body that cannot be decoded; raises `LedgerUnavailable`."""

    async def __call__(self, tenant: str, source: str, error: str, body: bytes, /) -> None: ...


class Watches(Protocol):
    """**Protocol:** counts losses, and data points that nobody reads; `spanpost.metrics.Metrics` is it."""

    def lost(self, room: str, reason: str, n: int = 1) -> None: ...

    def passed_points(self, n: int) -> None: ...


class Seat:
    """The memory that a request was given: `grow` while it is read, `leave` when it goes without having been taken."""

    __slots__ = ("_is_left", "_receiver", "size")

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._is_left = False
        self.size = 0

    def grow(self, size: int) -> None:
        """Take room for `size` bytes more; raises `Busy` when others have it. Who is alone is always given it."""
        others = self._receiver.in_flight - self.size
        if others and others + self.size + size > self._receiver.limits.in_flight:
            raise Busy("more is under way than fits into memory", _jitter(1, 3))
        self.size += size
        self._receiver.in_flight += size

    def leave(self) -> None:
        """Give it all back. Safe to repeat."""
        if not self._is_left:
            self._is_left = True
            self._receiver.in_flight -= self.size


class _Part:
    """Observations of one request that are recorded together."""

    __slots__ = ("done", "observations", "size")

    def __init__(self, observations: Sequence[Observation], size: int, done: asyncio.Future[None]) -> None:
        self.observations = observations
        self.size = size
        self.done = done


class Receiver:
    """Takes requests from the doors of one loop. `start`, then `admit`, `take` and `release` for each, then `close`."""

    def __init__(
        self, record: Record, keep: Keep | None = None, watch: Watches | None = None, limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._record_batch = record
        self._keep = keep
        self._watch = watch
        self._waiting: deque[_Part] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._writers: list[asyncio.Task[None]] = []
        self._under_way = 0
        self._closing = False
        #: A small body may become a large one: one at a time, so that not all of them do before it is known.
        self._inflating = asyncio.Lock()
        self._commits = 0
        self._company = Company(self.limits.company)
        #: Bytes recorded per second, of late; None before the first group.
        self._pace: float | None = None
        self.in_flight = 0
        #: Why the ledger does not take anything, while it does not.
        self.trouble = ""

    def start(self) -> None:
        """Begin to record, in the running loop."""
        self._writers = [asyncio.create_task(self._write(), name=f"spanpost-writer-{n}") for n in range(self.limits.writers)]

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Record what waits, for at most `timeout` seconds; False when something was left, whose senders were told so."""
        self._closing = True
        self._news.set()
        late: set[asyncio.Task[None]] = set()
        if self._writers:
            _, late = await asyncio.wait(self._writers, timeout=timeout)
        for writer in late:
            writer.cancel()
        if late:
            # One that gives a connection back of a database that hangs does not end by being cancelled.
            await asyncio.wait(late, timeout=_CANCELLED)
        is_done = not late and not self._waiting
        while self._waiting:
            self._fail(self._waiting.popleft(), LedgerUnavailable("the gateway stops"))
        return is_done

    @property
    def waiting(self) -> int:
        """Bytes of requests that wait for their turn."""
        return self._waiting_bytes

    @property
    def pace(self) -> float | None:
        """Bytes recorded per second, of late."""
        return self._pace

    # --- admission --------------------------------------------------------------------------------------------------

    def admit(self, size: int) -> Seat:
        """Let a request of `size` bytes in, before it is read; raises `Busy`. `size` is 0 where nobody knows it yet."""
        if self._closing:
            raise Busy("the gateway stops", 1)
        if self.trouble and (self._waiting or self._under_way):
            raise Busy(self.trouble, _jitter(2, 5))  # somebody is trying already
        self._check_queue(size)
        seat = Seat(self)
        seat.grow(size)
        return seat

    def _check_queue(self, size: int) -> None:
        most = max(self.limits.queue_bytes, (self._pace or 0.0) * self.limits.queue)
        if self._waiting and self._waiting_bytes + size > most:
            raise Busy("more comes in than can be recorded", _jitter(1, 3))

    # --- taking -----------------------------------------------------------------------------------------------------

    async def inflate(self, seat: Seat, raw: bytes, encoding: str) -> bytes:
        """Return a body as it was before it was encoded; raises as `encodings.inflate` does, and `Busy`."""
        limit = self.limits.body
        try:
            body = inflate(raw, encoding, min(limit, max(_INLINE, len(raw))))
        except TooLarge:
            if limit <= _INLINE:
                raise
            async with self._inflating:
                body = await asyncio.to_thread(inflate, raw, encoding, limit)
                seat.grow(max(len(body) - seat.size, 0))
            return body
        seat.grow(max(len(body) - seat.size, 0))
        return body

    async def take(self, seat: Seat, signal: str, body: bytes, *, tenant: str, is_json: bool) -> Taken:
        """Decode a body, record it and return when all of it is committed. The seat is free when all is settled.

        Raises `Busy`, `TooLarge` for JSON that would become too much, and `Undecodable` after the body's beginning was kept for
        those who look.
        """
        under_way: list[asyncio.Future[list[None]]] = []
        rejected = 0
        try:
            self._check_queue(len(body))
            coming = pieces(signal, body, tenant, is_json=is_json)
            while (piece := await self._next(coming, is_json and len(body) > WHOLE)) is not None:
                for single, error in piece.spoiled:
                    await self.keep(signal, tenant, error, single)
                self._count(piece.decoded)
                rejected += len(piece.spoiled) + sum(piece.decoded.lost.get(reason, 0) for reason in _REJECTED)
                if piece.decoded.observations:
                    under_way.append(self._enqueue(piece.decoded.observations, piece.size))
                # A large body is decoded no further ahead than the writers can follow.
                if len(under_way) > 2 * self.limits.writers:
                    await self._committed(under_way[-2 * self.limits.writers - 1])
                    under_way = [each for each in under_way if not each.done() or each.exception() is not None]
            for each in under_way:
                await self._committed(each)
        except Undecodable as error:
            await self.keep(signal, tenant, str(error), body)
            raise
        except MemoryError:
            raise Busy("there is not enough memory for it now", _jitter(2, 5)) from None
        finally:
            _leave_after(under_way, seat)
        return Taken(rejected=rejected, message=f"{rejected} could not be read and were left out" if rejected else "")

    @staticmethod
    async def _next(coming: Iterator[Piece], is_long: bool) -> Piece | None:
        if is_long:
            return await asyncio.to_thread(next, coming, None)
        await asyncio.sleep(0)  # others may go between two pieces
        return next(coming, None)

    def _count(self, decoded: Decoded) -> None:
        if self._watch is not None:
            if decoded.metric_points:
                self._watch.passed_points(decoded.metric_points)
            for reason, count in decoded.lost.items():
                self._watch.lost("intake", reason, count)

    async def keep(self, signal: str, tenant: str, error: str, body: bytes) -> None:
        """Keep the beginning of a body that is refused for good, where the ledger can; raises `Busy` when it is away."""
        if self._watch is not None:
            self._watch.lost("intake", "undecodable")
        _seldom.warning("undecodable", "a %s request of tenant %s cannot be decoded: %s", signal, tenant, error[:300])
        if self._keep is None or not body:
            return
        try:
            async with asyncio.timeout(self.limits.patience):
                await self._keep(tenant, f"otlp {signal}", error, body[:KEPT])
        except (LedgerUnavailable, TimeoutError):
            raise Busy("the ledger is away", _jitter(2, 5)) from None

    def _enqueue(self, observations: Sequence[Observation], size: int) -> asyncio.Future[list[None]]:
        loop = asyncio.get_running_loop()
        most, count = self.limits.group, len(observations)
        parts = [
            _Part(observations[start : start + most], size * min(most, count - start) // count, loop.create_future())
            for start in range(0, count, most)
        ]
        self._waiting.extend(parts)
        self._waiting_bytes += sum(part.size for part in parts)
        self._news.set()
        return asyncio.gather(*(part.done for part in parts))

    async def _committed(self, whole: asyncio.Future[list[None]]) -> None:
        """Wait for a commit, as long as there are commits at all."""
        commits = -1
        while not whole.done():
            if commits == self._commits:
                self.trouble = self.trouble or f"nothing could be committed for {self.limits.patience:g} s"
                raise Busy(self.trouble, _jitter(2, 5))
            commits = self._commits
            await asyncio.wait((whole,), timeout=self.limits.patience)
        try:
            await whole
        except LedgerUnavailable as error:
            raise Busy("the ledger is away", _jitter(2, 5)) from error

    # --- recording --------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            while (left := self._left()) != 0:
                if left is None and self._closing:
                    return
                self._news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._news.wait()
            group = self._gather()
            self._under_way += 1
            try:
                await self._record(group)
            finally:
                self._under_way -= 1
                for part in group:  # of a writer that was cancelled
                    self._fail(part, LedgerUnavailable("the gateway stops"))

    def _left(self) -> float | None:
        """Return for how many seconds more requests are awaited before what waits is recorded; None: until more come."""
        if not self._waiting:
            return None
        count, limits = sum(len(part.observations) for part in self._waiting), self.limits
        if self._closing or count >= limits.group:
            return 0.0
        if self._under_way and 2 * count < limits.group and 2 * self._waiting_bytes < limits.group_bytes:
            return None  # too little for a transaction beside the other one: who is at that takes it next
        return self._company.left(len(self._waiting), time.monotonic())

    def _gather(self) -> list[_Part]:
        """Take everything that waits, up to the bounds of one transaction."""
        group = [self._waiting.popleft()]
        count, size = len(group[0].observations), group[0].size
        while self._waiting:
            part = self._waiting[0]
            count, size = count + len(part.observations), size + part.size
            if count > self.limits.group or size > self.limits.group_bytes:
                break
            group.append(self._waiting.popleft())
        self._waiting_bytes -= sum(part.size for part in group)
        return group

    async def _record(self, group: list[_Part]) -> None:
        began = time.monotonic()
        batch = [o for part in group for o in part.observations] if len(group) > 1 else group[0].observations
        try:
            await self._record_batch(batch)
        except LedgerUnavailable as error:
            if not self.trouble:
                log.warning("the ledger is away, senders are asked to come back: %s", error)
            self.trouble = "the ledger is away"
            for part in group:
                self._fail(part, error)
            return
        except Exception as error:
            await self._apart(group, error)
            return
        if self.trouble:
            log.info("the ledger is back")
            self.trouble = ""
        self._commits += 1
        took = max(time.monotonic() - began, 1e-6) / max(self._under_way, 1)
        pace = sum(part.size for part in group) / took
        self._pace = pace if self._pace is None else self._pace + 0.1 * (pace - self._pace)
        self._company.note(batch, len(group) + len(self._waiting), took, time.monotonic())
        for part in group:
            if not part.done.done():
                part.done.set_result(None)

    async def _apart(self, group: list[_Part], error: Exception) -> None:
        """Find the request that a fault of ours strikes at, so that its neighbours are recorded."""
        kind = type(error).__name__
        if len(group) == 1:
            said = "a request cannot be recorded, its sender keeps it: %s: %s"
            _seldom.error(f"fault {kind}", said, kind, str(error)[:300], fault=error)
            self._fail(group[0], LedgerUnavailable("it cannot be recorded now"))
            return
        for part in group:
            await self._record([part])

    @staticmethod
    def _fail(part: _Part, error: LedgerUnavailable) -> None:
        if not part.done.done():
            with suppress(asyncio.InvalidStateError):
                part.done.set_exception(error)


def _leave_after(under_way: Sequence[asyncio.Future[list[None]]], seat: Seat) -> None:
    """Give memory back when all is settled: until then it is used, whether or not somebody still waits for it."""
    if all(each.done() for each in under_way):
        seat.leave()
    whole = asyncio.gather(*under_way, return_exceptions=True)  # which takes note of what went wrong, where nobody else does
    whole.add_done_callback(lambda _: seat.leave())


def _jitter(least: int, most: int) -> int:
    return _RANDOM.randint(least, most)
