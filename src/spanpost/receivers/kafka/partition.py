"""One partition that this process owns: its messages wait here, and are recorded in order, in the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.model.consumption import ConsumedMessage, PartitionOffset
from spanpost.model.errors import OffsetMoved, StoreUnavailable
from spanpost.receivers.kafka.contents import Contents, RawMessage
from spanpost.receivers.kafka.messages import UnknownKey

log = logging.getLogger("spanpost.runtime.kafka")
_limited_log = RateLimitedLog(log)

#: Bytes that one message counts beside its value.
_EACH: Final = 512
#: Bytes of the messages that are read at once.
_AT_ONCE: Final = 4 * 1024 * 1024
#: Seconds that a transaction has to be rolled back when its partition is released.
ROLLBACK: Final = 1.0
#: Seconds before another attempt: while the database is down, and for a message that cannot be decrypted.
_PAUSE, _LONG_PAUSE = 1.0, 5.0


class Consumption(Protocol):
    """**Protocol:** records messages together with their offset. All methods raise `StoreUnavailable`."""

    async def offsets(self, group: str, partitions: Sequence[tuple[str, int]], /) -> dict[tuple[str, int], int]:
        """Return the offsets of a group's partitions; a partition that was never read is left out."""
        ...

    async def record(self, at: PartitionOffset, messages: Sequence[ConsumedMessage], /) -> int:
        """Record the first of these messages, at least one; return the offset after them. Raises `OffsetMoved`."""
        ...

    async def postpone_stalls(self) -> None:
        """Restart the stall timeout of every task: its telemetry may wait in a topic."""
        ...


class Partition:
    """Records the messages of one partition until `release`. Only `size` is read by another thread.

    `at.next` is the offset that the database has, `start` the first one to record. `seek(offset)` asks for
    messages from there on; `sought` reports that they come.

    Offsets that go back are other messages: the topic was made anew, or its newest messages were lost with a
    broker. They are recorded after those that wait; what was recorded before is recognised as duplicates.
    """

    def __init__(
        self,
        at: PartitionOffset,
        start: int,
        *,
        consumption: Consumption,
        contents: Contents,
        places: asyncio.Semaphore,
        most: int,
        seek: Callable[[int], None],
        expired: Callable[[int], None],
    ) -> None:
        self.at = at
        #: Offset of the first message that is not recorded, and of the next one to arrive.
        self.position = self._next = start
        self._consumption = consumption
        self._contents = contents
        self._places = places
        self._most = most
        self._seek = seek
        self._expired = expired
        self._is_seeking = False
        #: Offset after the last message of the client; and the one it went back to, until it is read from there.
        self._arrived_next = 0
        self._went_back_to: int | None = None
        self._raw: deque[RawMessage] = deque()
        #: Messages that were read and are not recorded yet: as they came, and their contents.
        self._read: deque[tuple[RawMessage, ConsumedMessage]] = deque()
        #: Bytes that wait.
        self.size = 0
        #: Offset after the newest message of the partition, as far as the client knows.
        self.high = start
        #: Time of the newest recorded message, Unix seconds; 0: none was.
        self._recorded_at = 0.0
        self._arrived, self._is_over = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"spanpost-kafka-{at.topic}-{at.partition}")

    @property
    def name(self) -> str:
        return f"partition {self.at.partition} of topic {self.at.topic}"

    @property
    def lag(self) -> tuple[int, float]:
        """Messages that are not recorded yet, and the age of the oldest in seconds."""
        oldest = self._read[0][0] if self._read else self._raw[0] if self._raw else None
        behind = max(self.high - self.position, len(self._read) + len(self._raw))
        if not behind:
            return 0, 0.0
        at = oldest.at if oldest is not None else self._recorded_at
        return behind, max(time.time() - at, 0.0) if at else 0.0

    def add(self, messages: Sequence[RawMessage], low: int) -> None:
        """Take messages that have arrived; `low` is the oldest offset that the brokers have."""
        if self._is_seeking or self._went_back_to is not None:
            return
        for each in messages:
            if each.offset < self._arrived_next:
                self._went_back_to = each.offset
                log.error(
                    "%s goes on at offset %d after offset %d: was it made anew, or did a broker lose its end? It is "
                    "read again from there",
                    self.name, each.offset, self._arrived_next - 1,
                )  # fmt: skip
                break
            self._arrived_next = each.offset + 1
            if each.offset < self._next:
                continue
            if each.offset > self._next and low > self._next:
                self._expired(min(low, each.offset) - self._next)
            self._next = each.offset + 1
            self._raw.append(each)
            self.size += len(each.value) + _EACH
        self.high = max(self.high, self._next)
        self._arrived.set()

    def sought(self) -> None:
        """Note that messages come from the wanted offset on."""
        self._is_seeking = False
        self._arrived_next = 0

    async def release(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Finish the transaction in progress, for at most `timeout` seconds, and record nothing more.

        A transaction that takes longer is rolled back: its messages are in Kafka, for the next owner. False: it did
        not end even then. A commit that arrives all the same moves the offset, which the next owner sees.
        """
        self._is_over.set()
        self._arrived.set()
        _, late = await asyncio.wait((self._task,), timeout=timeout)
        if late:
            self._task.cancel()
            _, late = await asyncio.wait((self._task,), timeout=ROLLBACK)
        return not late

    # --- recording ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                await self._record_some()
            except StoreUnavailable as error:
                _limited_log.warning("down", "messages wait in Kafka: %s", error)
                await self._wait(_PAUSE)
            except UnknownKey as error:
                _limited_log.error(
                    f"key {self.name}",
                    "%s waits at offset %d: the message is encrypted with key %s, which is none of this process's: add "
                    "its secret to gateway.journal_keys",
                    self.name, self.position, error,
                )  # fmt: skip
                await self._wait(_LONG_PAUSE)
            except Exception as error:
                message = "%s waits, its messages cannot be recorded: %s: %s"
                _limited_log.error(
                    f"fault {self.name}", message, self.name, type(error).__name__, str(error)[:300], fault=error
                )
                await self._wait(_LONG_PAUSE)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_over.wait()

    async def _record_some(self) -> None:
        while not self._raw and not self._read:
            if self._went_back_to is not None:
                self._read_from(self._went_back_to)
            self._arrived.clear()
            await self._arrived.wait()
            if self._is_over.is_set():
                return
        await self._read_more()
        if not self._read or self._is_over.is_set():
            return
        try:
            async with self._places:
                if self._is_over.is_set():
                    return
                end = await self._consumption.record(self.at, [contents for _, contents in self._read])
        except OffsetMoved as moved:
            log.warning("%s; reading the offset again", moved)
            await self._reposition()
            return
        self.at = msgspec.structs.replace(self.at, next=end)
        self._forget(end)

    async def _read_more(self) -> None:
        """Read messages that wait, about as many as are recorded in one transaction."""
        count = sum(len(contents.observations) for _, contents in self._read)
        some: list[RawMessage] = []
        size = 0
        for each in self._raw:
            if (some and size + len(each.value) > _AT_ONCE) or len(some) + len(self._read) >= self._most:
                break
            some.append(each)
            size += len(each.value)
        if not some or count >= self._most:
            return

        def read() -> tuple[list[ConsumedMessage], UnknownKey | None]:
            found: list[ConsumedMessage] = []
            left = self._most - count
            for each in some:
                if left <= 0:
                    break
                try:
                    found.append(self._contents.read(each))
                except UnknownKey as error:
                    return found, error
                left -= max(len(found[-1].observations), 1)
            return found, None

        found, error = await asyncio.to_thread(read)
        for contents in found:
            self._read.append((self._raw.popleft(), contents))
        if error is not None and not self._read:
            raise error

    def _forget(self, end: int) -> None:
        """Drop messages before an offset."""
        for waiting in (self._read, self._raw):
            while waiting:
                first = waiting[0]
                raw = first if isinstance(first, RawMessage) else first[0]
                if raw.offset >= end:
                    break
                waiting.popleft()
                self.size -= len(raw.value) + _EACH
                self._recorded_at = raw.at
        self.position = max(self.position, end)
        self._next = max(self._next, end)

    async def _reposition(self) -> None:
        """Continue from the offset that the database has now."""
        where = (self.at.topic, self.at.partition)
        found = (await self._consumption.offsets(self.at.group, [where])).get(where)
        self.at = msgspec.structs.replace(self.at, next=found)
        if found is None or found >= self.position:
            self._forget(self.position if found is None else found)
            return
        self._read_from(found)

    def _read_from(self, offset: int) -> None:
        """Continue from an earlier offset, without what waits."""
        self._read.clear()
        self._raw.clear()
        self.size = 0
        self.position = self._next = self.high = offset
        self._went_back_to = None
        self._is_seeking = True
        self._seek(offset)
