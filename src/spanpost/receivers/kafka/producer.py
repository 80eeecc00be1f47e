"""Writes batches of observations to the gateway's topic, in place of the store.

Rules.
1. A batch is one message for each trace (`messages`). `record` returns when all in-sync replicas have all of
   them (``acks=all``); otherwise it raises `StoreUnavailable`, and the sender repeats the request. Messages that
   arrived all the same are recognised as duplicates when they are recorded.
2. The client's threads send; a thread of ours collects their reports. The event loop never waits for either.
3. What is in flight is bounded by the receiver, which has at most `writers` batches under way.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from spanpost.model.errors import ConfigError, MessageTooLarge, OverBudget, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.recorded import TOO_LARGE, Recorded
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.kafka.client import Brokers, why_missing
from spanpost.receivers.kafka.messages import OVERHEAD, Clean, TopicMessage, messages_of

log = logging.getLogger("spanpost.runtime.kafka")

#: Milliseconds until a message that no broker confirmed is given up: the time after which the receiver
#: answers 503 anyway (`AdmissionLimits.commit_timeout`).
_GIVE_UP: Final = 4000
#: Kilobytes that the client holds at most; the receiver's limits are reached before.
_HELD: Final = 256 * 1024
#: Smallest limit that is tried after a broker has refused a message for its size.
_LEAST: Final = 4096

#: Keeps an observation that no message can hold. Raises `StoreUnavailable`.
Quarantine = Callable[[Sequence[Observation], Exception], Awaitable[None]]


class TopicProducer:
    """Writes to one topic. Call `start`, then `record` for each batch, then `close`, in one loop.

    `clean` takes secrets out of an observation; `quarantine` keeps what is too large for a message.
    """

    def __init__(
        self, brokers: Brokers, topic: str, cipher: JournalCipher, *, clean: Clean, quarantine: Quarantine, most: int
    ) -> None:
        self._brokers = brokers
        self._topic = topic
        self._cipher = cipher
        self._clean = clean
        self._quarantine = quarantine
        #: Bytes of a message. At most half of what a broker has refused for its size.
        self._most = most
        self._producer: Any = None
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        #: Number of messages that all in-sync replicas have.
        self.sent = 0

    def start(self) -> None:
        """Start sending. Raises `ConfigError` if the client refuses its options."""
        from confluent_kafka import KafkaException, Producer

        try:
            self._producer = Producer(
                {
                    **self._brokers.options(),
                    "acks": "all",
                    "enable.idempotence": True,
                    "partitioner": "murmur2_random",
                    "linger.ms": 2,
                    "message.timeout.ms": _GIVE_UP,
                    "request.timeout.ms": _GIVE_UP - 500,
                    "message.max.bytes": max(self._most, _LEAST) + OVERHEAD,
                    "queue.buffering.max.kbytes": _HELD,
                    "error_cb": lambda error: log.debug("kafka: %s", error),
                },
                logger=log,
            )
        except (KafkaException, ValueError) as error:
            raise ConfigError(f"kafka: the client refuses its settings: {error}") from None
        self._thread = threading.Thread(target=self._collect, name="spanpost-kafka-producer", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while not self._is_over.is_set():
            self._producer.poll(0.1)

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109
        """Send what was given, for at most `timeout` seconds."""
        if self._producer is None:
            return
        await asyncio.to_thread(self._producer.flush, timeout)
        self._is_over.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 1.0)

    async def why_not(self) -> str:
        """Return why nothing can be written now; empty if it can."""
        return await asyncio.to_thread(why_missing, self._producer, self._topic)

    async def record(self, batch: Sequence[Observation], *, is_whole: bool = False) -> Recorded:
        """Write a batch, and return when it is durable in Kafka. See `RecordBatch`.

        An observation that no message can hold goes to `quarantine`; with `is_whole` the batch raises
        `OverBudget` instead, so that its sender alone learns of it.
        """
        from confluent_kafka import KafkaError

        while True:
            most = self._most  # another batch may lower it meanwhile
            messages = await asyncio.to_thread(self._messages, batch, most)
            whole = [each for each in messages if _fits(each, most)]
            too_large = [o for each in messages if not _fits(each, most) for o in each.observations]
            if too_large and is_whole:
                raise OverBudget(f"a span or record is larger than a message may be, {most} bytes")
            sending = _Sending(len(whole))
            await asyncio.to_thread(self._send, whole, sending)
            error = await sending.done
            if error is None:
                self.sent += len(whole)
                break
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE or most <= _LEAST:
                raise StoreUnavailable(f"Kafka does not take it: {error.str()}")
            if (half := max(most // 2, _LEAST)) < self._most:
                self._most = half
                log.warning(
                    "topic %s refuses a message for its size; messages have at most %d bytes from now on: set "
                    "kafka.max_message_bytes to the topic's max.message.bytes",
                    self._topic, half,
                )  # fmt: skip
        if too_large:
            refusal = MessageTooLarge(f"a message of topic {self._topic} may have {most} bytes")
            await self._quarantine(too_large, refusal)
        return Recorded(dropped={TOO_LARGE: len(too_large)} if too_large else {})

    def _messages(self, batch: Sequence[Observation], most: int) -> list[TopicMessage]:
        return list(messages_of(batch, self._cipher, self._clean, most))

    def _send(self, messages: Sequence[TopicMessage], sending: _Sending) -> None:
        from confluent_kafka import KafkaException

        for position, each in enumerate(messages):
            try:
                self._producer.produce(
                    self._topic, each.value, each.key or None, headers=each.headers, on_delivery=sending.report
                )
            except (BufferError, KafkaException) as error:
                sending.give_up(len(messages) - position, error)
                return


def _fits(message: TopicMessage, most: int) -> bool:
    return len(message.value) + len(message.headers[0][1]) + OVERHEAD <= most


class _Sending:
    """The messages of one batch that were not reported yet. `done` is the first error, or None."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._left = count
        self._error: Any = None
        self.done: asyncio.Future[Any] = self._loop.create_future()
        if not count:
            self.done.set_result(None)

    def report(self, error: Any, message: Any) -> None:
        """Count one report of the client, in its thread."""
        self._count(1, error)

    def give_up(self, count: int, error: Exception) -> None:
        """Count messages that the client does not take."""
        from confluent_kafka import KafkaError

        known = error.args[0] if error.args and isinstance(error.args[0], KafkaError) else None
        self._count(count, known if known is not None else KafkaError(KafkaError._QUEUE_FULL, str(error)))

    def _count(self, count: int, error: Any) -> None:
        with self._lock:
            self._left -= count
            self._error = self._error or error
            is_done = not self._left
        if is_done:
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.done.done():  # the sender is gone
            self.done.set_result(self._error)
