"""The producer and a topic that takes smaller messages than the settings say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from spanpost.model.errors import StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.receivers.journal_bodies import JournalCipher
from spanpost.receivers.kafka.client import Brokers
from spanpost.receivers.kafka.producer import TopicProducer
from spanpost.testing.observed import ended
from tests.eventually import eventually_async

kafka = pytest.importorskip("confluent_kafka")


class Topic:
    """A topic with a `max.message.bytes`, in place of the client: a report for each message comes later."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken: list[bytes] = []
        self.waiting = 0
        #: While clear, no message is reported.
        self.is_reporting = asyncio.Event()
        self.is_reporting.set()
        self._loop = asyncio.get_running_loop()

    def produce(
        self, topic: str, value: bytes, key: bytes | None, *, headers: object, on_delivery: Callable[[Any, Any], None]
    ) -> None:
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._report(value, on_delivery)))

    async def _report(self, value: bytes, on_delivery: Callable[[Any, Any], None]) -> None:
        self.waiting += 1
        await self.is_reporting.wait()
        if len(value) > self.most:
            on_delivery(kafka.KafkaError(kafka.KafkaError.MSG_SIZE_TOO_LARGE), None)
        else:
            self.taken.append(value)
            on_delivery(None, None)


def producing(topic: Topic, most: int) -> tuple[TopicProducer, list[Observation]]:
    """Return a producer for a topic, and what it puts into quarantine."""
    aside: list[Observation] = []

    async def quarantine(batch: Sequence[Observation], error: Exception) -> None:
        aside.extend(batch)

    producer = TopicProducer(
        Brokers(servers=("nowhere:1",)), "t", JournalCipher(["a secret"]),
        clean=lambda o: o, quarantine=quarantine, most=most,
    )  # fmt: skip
    producer._producer = topic
    return producer, aside


def batch(trace: int, size: int, count: int = 1) -> list[Observation]:
    """Return spans of one trace with incompressible text."""
    noise = random.Random(trace)
    return [
        ended(name=f"s{i}", span=i + 1, trace=trace, attributes={"note": noise.randbytes(size // 2).hex()})
        for i in range(count)
    ]


async def test_batches_that_are_refused_together_halve_the_limit_once() -> None:
    """Eight batches are refused for their size at the same time: the limit is halved once, and no span that the
    topic takes goes into quarantine.
    """
    topic = Topic(100_000)
    producer, aside = producing(topic, 150_000)
    topic.is_reporting.clear()
    records = [asyncio.create_task(producer.record(batch(n, 40_000, 6))) for n in range(1, 9)]
    await eventually_async(lambda: topic.waiting, (8).__eq__)
    topic.is_reporting.set()
    await asyncio.gather(*records)
    assert (aside, producer._most) == ([], 75_000)


async def test_a_batch_is_written_or_refused_however_small_the_topics_messages_are() -> None:
    """A topic that takes no message at all: the sender is refused, and never answered as if it had been taken."""
    producer, _ = producing(Topic(0), 256 * 1024 * 1024)
    with pytest.raises(StoreUnavailable):
        await producer.record(batch(1, 1000))
