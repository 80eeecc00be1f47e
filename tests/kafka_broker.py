"""A real Kafka broker (KRaft, one node) as a process, which can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, find
from tests.eventually import eventually, free_port

#: Seconds for the two starts of a JVM on a machine that does much else.
STARTS_WITHIN = 240.0


class Broker:
    """One broker. Call `start`."""

    def __init__(self, directory: Path, *, ports: Callable[[], int] = free_port) -> None:
        find("kafka")
        self._directory = directory
        self.port, self._controller = ports(), ports()
        self._log = directory / "broker.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def _admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def start(self) -> None:
        """Start, and wait until the broker answers."""
        from confluent_kafka import KafkaException

        with self._log.open("ab") as log:
            self.process = process = subprocess.Popen(
                [ROOT / "scripts" / "start-kafka", self._directory / "kafka", str(self.port), str(self._controller)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        admin = self._admin

        def answers() -> bool:
            assert process.poll() is None, self._log.read_text()[-4000:]
            try:
                return bool(admin.list_topics(timeout=1).brokers)
            except KafkaException:
                return False

        eventually(answers, limit=STARTS_WITHIN)

    def kill(self) -> None:
        """End at once, as by a crash."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def make_topic(self, name: str, partitions: int = 1, **config: str) -> None:
        """Make a topic."""
        from confluent_kafka.admin import NewTopic

        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin = self._admin  # the answers end with it
        for made in admin.create_topics([NewTopic(name, partitions, 1, config=settings)]).values():
            made.result(60)

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its messages, and wait until it is gone."""
        admin = self._admin
        for deleted in admin.delete_topics([name]).values():
            deleted.result(60)
        eventually(lambda: name not in admin.list_topics(timeout=5).topics)

    def send(self, topic: str, *values: bytes, headers: Sequence[tuple[str, bytes]] = (), partition: int = 0) -> None:
        """Write messages, as a program that is not spanpost."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.address, "acks": "all"})
        for value in values:
            producer.produce(topic, value, headers=list(headers), partition=partition)
        assert producer.flush(60) == 0

    def messages(self, topic: str) -> list[Any]:
        """Return all messages of a topic."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "test", "enable.auto.commit": False})
        try:
            partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
            count = 0
            for number in partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=60)
                count += high - low
            consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
            found: list[Any] = []
            while len(found) < count:
                more = consumer.consume(count - len(found), 10)
                assert more, f"{len(found)} of {count} messages came"
                found += more
            return found
        finally:
            consumer.close()


@contextmanager
def run_broker(directory: Path) -> Iterator[Broker]:
    """Run a broker until the end of the block."""
    broker = Broker(directory)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
