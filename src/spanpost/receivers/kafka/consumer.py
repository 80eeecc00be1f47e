"""Owns partitions of topics, as a member of a consumer group, and has their messages recorded.

Rules.
1. The database keeps the offsets (`store.consuming`): a partition that is assigned continues from there. Kafka's
   own offsets of the group are written for tools that show lag, and never read.
2. A thread of its own talks to the brokers. It hands messages to the event loop, where each partition records
   its own in order (`partition`), several partitions at once.
3. A partition whose messages wait is paused, so that memory is bounded.
4. A partition that is taken away finishes its transaction first, for a bounded time. If it does not, the next
   owner and this process compete for the offset's row, and one of them records.
5. While the database is down, messages wait in Kafka, and partitions stay where they are.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
import threading
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.model.consumption import PartitionOffset
from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.receivers.kafka.client import ASK, Brokers
from spanpost.receivers.kafka.contents import Contents, RawMessage
from spanpost.receivers.kafka.partition import ROLLBACK, Consumption, Partition

log = logging.getLogger("spanpost.runtime.kafka")
_limited_log = RateLimitedLog(log)
T = TypeVar("T")

#: Bytes of messages that wait, of all partitions; a partition may have so many in any case.
_WAITING, _LEAST = 32 * 1024 * 1024, 1024 * 1024
#: Messages taken from the client at once, and seconds that the thread waits for one.
_TAKEN, _POLL = 500, 0.1
#: Seconds that a transaction may take to end when its partition is taken away.
_RELEASE: Final = 8.0
#: Seconds between two looks at the newest offsets, and at those of paused partitions; between two commits for
#: tools.
_LOOK, _LOOK_PAUSED, _COMMIT = 1.0, 5.0, 5.0
#: Lag from which no task counts as stalled, and how often their timeouts are restarted. Seconds.
_LATE, _LATE_EVERY = 20.0, 10.0
#: Seconds to leave the group at the end.
_LEAVE: Final = 0.5
#: Seconds that the thread waits for the event loop.
_LOOP: Final = 60.0
#: Seconds between two attempts to read offsets while the database is down.
_PAUSE: Final = 1.0

Where = tuple[str, int]


class ConsumerMetrics(Protocol):
    """**Protocol:** shows lag and counts losses; implemented by `spanpost.metrics.Metrics`."""

    def count_dropped(self, component: str, reason: str, n: int = 1) -> None: ...

    def consuming(self, topics: Sequence[tuple[str, int, int, float]], /) -> None: ...


class TopicConsumer:
    """Records topics. Call `start`, then `close`, in one loop. `group_size`: observations of a transaction;
    `session`: seconds without a sign of life after which others get the partitions."""

    def __init__(
        self,
        brokers: Brokers,
        topics: Sequence[str],
        group: str,
        *,
        consumption: Consumption,
        contents: Contents,
        watch: ConsumerMetrics | None,
        writers: int,
        group_size: int,
        session: float = 10.0,
    ) -> None:
        self._brokers = brokers
        self._topics = list(topics)
        self._group = group
        self._consumption = consumption
        self._contents = contents
        self._watch = watch
        self._writers = writers
        self._most = group_size
        self._session = round(session * 1000)
        self._consumer: Any = None
        self._thread: threading.Thread | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._is_over = threading.Event()
        #: Partitions that are owned; and of the thread alone, those that are paused, and wishes to seek.
        self.partitions: dict[Where, Partition] = {}
        self._owned: set[Where] = set()
        self._paused: dict[Where, float] = {}
        self._seeks: queue.SimpleQueue[tuple[Partition, int]] = queue.SimpleQueue()
        self._looked_at = self._committed_at = 0.0

    def start(self) -> None:
        """Join the group. Raises `ConfigError` if the client refuses its options."""
        from confluent_kafka import Consumer, KafkaException

        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(self._writers)
        try:
            self._consumer = Consumer(
                {
                    **self._brokers.options(),
                    "group.id": self._group,
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "partition.assignment.strategy": "cooperative-sticky",
                    "session.timeout.ms": self._session,
                    "heartbeat.interval.ms": min(self._session // 4, 3000),
                    "fetch.wait.max.ms": 100,
                    "fetch.max.bytes": 16 * 1024 * 1024,
                    "queued.max.messages.kbytes": 16 * 1024,
                    "error_cb": self._trouble,
                },
                logger=log,
            )
            self._consumer.subscribe(
                self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
        except (KafkaException, ValueError) as error:
            raise ConfigError(f"kafka: the client refuses its settings: {error}") from None
        self._thread = threading.Thread(target=self._read, name="spanpost-kafka-consumer", daemon=True)
        self._thread.start()
        self._watcher = asyncio.create_task(self._observe(), name="spanpost-kafka-lag")

    async def close(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Finish transactions in progress and leave the group, within `timeout` seconds. What could not be recorded is
        recorded by the next owner of its partition. False: a transaction was neither committed nor rolled back.
        """
        until = time.monotonic() + timeout
        self._is_over.set()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._thread is None:
            return True
        is_done = await self._release(list(self.partitions), max(timeout - ROLLBACK - _LEAVE, 0.0))
        await asyncio.to_thread(self._thread.join, max(until - time.monotonic(), 0.0))
        if self._thread.is_alive():
            log.info("the brokers did not answer in time: others get the partitions after kafka.session_timeout")
        return is_done

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        while not self._is_over.is_set():
            try:
                self._take()
                self._steer()
            except Exception as error:
                _limited_log.error("consumer", "Kafka cannot be read: %s", str(error)[:300], fault=error)
                self._is_over.wait(_PAUSE)
        with suppress(Exception):
            self._commit()
            self._consumer.close()

    def _take(self) -> None:
        first = self._consumer.poll(_POLL)
        if first is None:
            return
        found: dict[Where, list[RawMessage]] = {}
        for each in (first, *self._consumer.consume(_TAKEN, 0)):
            if (error := each.error()) is not None:
                self._trouble(error)
                continue
            where = (each.topic(), each.partition())
            found.setdefault(where, []).append(
                RawMessage(*where, each.offset(), each.timestamp()[1] / 1000, each.headers() or (), each.value() or b"")
            )
        for where, messages in found.items():
            low, high = self._ends(where)
            self._hand_over(self._add, where, messages, low, high)

    def _hand_over(self, call: Any, *given: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(partial(call, *given))

    def _ends(self, where: Where) -> tuple[int, int]:
        """Return the oldest offset of a partition and the one after the newest, as the client knows them."""
        from confluent_kafka import TopicPartition

        low, high = self._consumer.get_watermark_offsets(TopicPartition(*where), cached=True)
        return max(low, 0), max(high, 0)

    def _steer(self) -> None:
        """Pause and resume partitions, seek, and look at the newest offsets."""
        from confluent_kafka import KafkaException, TopicPartition

        while not self._seeks.empty():
            part, offset = self._seeks.get()
            where = (part.at.topic, part.at.partition)
            try:
                self._consumer.seek(TopicPartition(*where, offset))
                self._hand_over(part.sought)
            except KafkaException as error:
                log.warning("%s cannot be read from offset %d yet: %s", part.name, offset, error)
                if where in self._owned:
                    self._seeks.put((part, offset))
                break
        most = max(_WAITING // max(len(self._owned), 1), _LEAST)
        for where in list(self._owned):
            one = self.partitions.get(where)
            if one is None:
                continue
            if where not in self._paused and one.size > most:
                self._consumer.pause([TopicPartition(*where)])
                self._paused[where] = 0.0
            elif where in self._paused and 2 * one.size < most:
                self._consumer.resume([TopicPartition(*where)])
                del self._paused[where]
        now = time.monotonic()
        if now - self._looked_at > _LOOK:
            self._looked_at = now
            for where in list(self._owned):
                _, high = self._ends(where)
                if now - self._paused.get(where, now) > _LOOK_PAUSED:  # it gets no newer offsets
                    self._paused[where] = now
                    with suppress(KafkaException):
                        _, high = self._consumer.get_watermark_offsets(TopicPartition(*where), timeout=ASK)
                self._hand_over(self._note_high, where, high)
        if now - self._committed_at > _COMMIT:
            self._committed_at = now
            self._commit()

    def _commit(self) -> None:
        """Write the recorded offsets to Kafka, for tools that show lag."""
        from confluent_kafka import KafkaException, TopicPartition

        parts = [self.partitions.get(where) for where in self._owned]
        offsets = [TopicPartition(p.at.topic, p.at.partition, p.position) for p in parts if p is not None]
        if offsets:
            with suppress(KafkaException):
                self._consumer.commit(offsets=offsets, asynchronous=True)

    @staticmethod
    def _trouble(error: Any) -> None:
        _limited_log.warning(f"kafka {error.code()}", "Kafka: %s", error.str())

    # --- rebalances, in the thread -----------------------------------------------------------------------------------

    def _assigned(self, consumer: Any, assigned: Sequence[Any]) -> None:
        from confluent_kafka import TopicPartition

        wheres = [(each.topic, each.partition) for each in assigned]
        stored = self._stored(wheres) if wheres else {}
        if stored is None:  # this process stops
            return
        begins: list[tuple[Where, int | None, int]] = []
        for where in wheres:
            begins.append((where, stored.get(where), self._start_of(where, stored.get(where))))
        self._in_loop(self._begin(begins), _LOOP)
        consumer.incremental_assign([TopicPartition(*where, start) for where, _, start in begins])
        self._owned.update(wheres)
        if wheres:
            log.info("reading %s", _named(wheres))

    def _stored(self, wheres: Sequence[Where]) -> dict[Where, int] | None:
        """Return the offsets of the database; wait while it is down. None: this process stops."""
        while not self._is_over.is_set():
            try:
                return self._in_loop(self._consumption.offsets(self._group, wheres), _LOOP)
            except (StoreUnavailable, concurrent.futures.TimeoutError) as error:
                _limited_log.warning("offsets", "the offsets of %s cannot be read yet: %s", _named(wheres), error)
                self._is_over.wait(_PAUSE)
        return None

    def _start_of(self, where: Where, stored: int | None) -> int:
        """Return the first offset to read; count messages that Kafka has deleted before they were recorded."""
        from confluent_kafka import KafkaException, TopicPartition

        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*where), timeout=ASK)
        except KafkaException as error:
            log.warning("the newest offsets of %s are not known: %s", _named([where]), error)
            return stored or 0
        if stored is None:
            return int(low)
        if stored > high:
            log.error(
                "%s ends at offset %d, before offset %d, which was recorded: was the topic made anew? It is read from "
                "its beginning",
                _named([where]), high, stored,
            )  # fmt: skip
            return int(low)
        if low > stored:
            self._hand_over(self._count_expired, where, low - stored)
        return max(int(low), stored)

    def _revoked(self, consumer: Any, revoked: Sequence[Any]) -> None:
        self._let_go(revoked, _RELEASE)
        consumer.incremental_unassign(list(revoked))

    def _lost(self, consumer: Any, lost: Sequence[Any]) -> None:
        log.warning("the group has given %s away", _named((each.topic, each.partition) for each in lost))
        self._let_go(lost, 0.0)
        consumer.incremental_unassign(list(lost))

    def _let_go(self, partitions: Sequence[Any], timeout: float) -> None:
        wheres = [(each.topic, each.partition) for each in partitions]
        with suppress(concurrent.futures.TimeoutError, RuntimeError):
            self._in_loop(self._release(wheres, timeout), timeout + 2.0)
        self._owned.difference_update(wheres)
        for where in wheres:
            self._paused.pop(where, None)
        if wheres and not self._is_over.is_set():
            log.info("not reading %s any more", _named(wheres))

    def _in_loop(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    # --- in the loop -------------------------------------------------------------------------------------------------

    async def _begin(self, begins: Iterable[tuple[Where, int | None, int]]) -> None:
        for where, stored, start in begins:
            if (before := self.partitions.pop(where, None)) is not None:
                await before.release(0.0)
            topic, number = where
            self.partitions[where] = part = Partition(
                PartitionOffset(group=self._group, topic=topic, partition=number, next=stored),
                start,
                consumption=self._consumption,
                contents=self._contents,
                places=self._places,
                most=self._most,
                seek=lambda offset, where=where: self._seeks.put((self.partitions[where], offset)),  # type: ignore[misc]
                expired=partial(self._count_expired, where),
            )
            part.high = start

    async def _release(self, wheres: Iterable[Where], timeout: float) -> bool:  # noqa: ASYNC109
        gone = [part for where in wheres if (part := self.partitions.pop(where, None)) is not None]
        return all(await asyncio.gather(*(part.release(timeout) for part in gone)))

    def _add(self, where: Where, messages: Sequence[RawMessage], low: int, high: int) -> None:
        if (part := self.partitions.get(where)) is not None:
            part.high = max(part.high, high)
            part.add(messages, low)

    def _note_high(self, where: Where, high: int) -> None:
        if (part := self.partitions.get(where)) is not None:
            part.high = max(part.high, high)

    def _count_expired(self, where: Where, count: int) -> None:
        log.error("%d messages of %s were deleted by Kafka before they were recorded", count, _named([where]))
        if self._watch is not None:
            self._watch.count_dropped("kafka", "expired", count)

    @property
    def lag(self) -> list[tuple[str, int, int, float]]:
        """For each topic: its partitions here, messages that are not recorded, and the age of the oldest."""
        found: dict[str, tuple[int, int, float]] = dict.fromkeys(self._topics, (0, 0, 0.0))
        for (topic, _), part in self.partitions.items():
            messages, seconds = part.lag
            count, total, oldest = found[topic]
            found[topic] = count + 1, total + messages, max(oldest, seconds)
        return [(topic, *figures) for topic, figures in found.items()]

    async def _observe(self) -> None:
        """Show the lag; and while it is long, restart the stall timeouts of tasks."""
        postponed_at = 0.0
        while True:
            lag = self.lag
            if self._watch is not None:
                self._watch.consuming(lag)
            if max(seconds for *_, seconds in lag) > _LATE and time.monotonic() - postponed_at > _LATE_EVERY:
                postponed_at = time.monotonic()
                with suppress(StoreUnavailable):
                    await self._consumption.postpone_stalls()
            await asyncio.sleep(_LOOK)


def _named(wheres: Iterable[Where]) -> str:
    topics: dict[str, list[int]] = {}
    for topic, number in wheres:
        topics.setdefault(topic, []).append(number)
    return "; ".join(f"topic {topic}, partitions {', '.join(map(str, sorted(n)))}" for topic, n in topics.items())
